"""Random schemas and values, seeded: our bytes and values against fastavro's, engine by engine."""

import io
import random
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

import fastavro
import pytest

import k2_schemas
from k2_schemas import RecordDecodeError, compile
from k2_schemas._backend import native
from k2_schemas._plan import plan_schema
from k2_schemas._python import PythonEngine

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_US = (datetime.min.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
LAST_US = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
EXACT = Context(prec=60)
LONG_EDGES = [0, 1, -1, 63, 64, -64, -65, 2**31 - 1, -(2**31), 2**62, 2**63 - 1, -(2**63)]
TEXTS = ["", "a", "BTC/USDT", "é", "漢字", "\U0001f600", "x" * 63, "y" * 64, "z" * 300, "\x00"]


class Generator:
    """Makes schemas and records from a seed; every edge of every range comes up."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.names = 0

    def record_schema(self, depth: int = 0) -> dict[str, Any]:
        """Return a record schema of 1 to 8 fields."""
        self.names += 1
        name = f"R{self.names}"
        count = self.random.randint(1, 8 if depth == 0 else 3)
        fields = [{"name": f"f{n}", "type": self.type_schema(depth)} for n in range(count)]
        return {"type": "record", "name": name, "fields": fields}

    def type_schema(self, depth: int) -> Any:
        """Return a schema of any supported type."""
        kinds = ["string", "long", "int", "boolean", "bytes", "double", "enum", "decimal"]
        kinds += ["micros", "millis", "uuid", "nullable"]
        kinds += ["array", "map", "record"] if depth < 3 else []
        kind = self.random.choice(kinds)
        match kind:
            case "enum":
                self.names += 1
                symbols = [f"S{n}" for n in range(self.random.randint(1, 70))]
                return {"type": "enum", "name": f"E{self.names}", "symbols": symbols}
            case "decimal":
                precision = self.random.choice([1, 2, 9, 17, 18, 19, 38])
                scale = self.random.randint(0, precision)
                return {
                    "type": "bytes",
                    "logicalType": "decimal",
                    "precision": precision,
                    "scale": scale,
                }
            case "micros" | "millis":
                return {"type": "long", "logicalType": f"timestamp-{kind}"}
            case "uuid":
                return {"type": "string", "logicalType": "uuid"}
            case "nullable":
                inner = self.type_schema(depth + 1)
                while isinstance(inner, list):
                    inner = self.type_schema(depth + 1)
                return self.random.choice([["null", inner], [inner, "null"]])
            case "array":
                return {"type": "array", "items": self.type_schema(depth + 1)}
            case "map":
                return {"type": "map", "values": self.type_schema(depth + 1)}
            case "record":
                return self.record_schema(depth + 1)
        return kind

    def value(self, schema: Any) -> Any:
        """Return a value of a schema, as fastavro takes it."""
        pick = self.random
        if isinstance(schema, list):
            inner = next(branch for branch in schema if branch != "null")
            return None if pick.random() < 0.3 else self.value(inner)
        kind = schema if isinstance(schema, str) else schema.get("logicalType") or schema["type"]
        match kind:
            case "string":
                return pick.choice(TEXTS)
            case "long":
                return pick.choice([pick.choice(LONG_EDGES), pick.getrandbits(63)])
            case "int":
                return max(-(2**31), min(2**31 - 1, pick.choice(LONG_EDGES)))
            case "boolean":
                return pick.random() < 0.5
            case "bytes":
                return pick.randbytes(pick.choice([0, 1, 5, 200]))
            case "double":
                return pick.choice([0.0, -0.0, 1.5, 1e308, 5e-324, float("inf"), pick.random()])
            case "enum":
                return pick.choice(schema["symbols"])
            case "decimal":
                limit = 10 ** schema["precision"] - 1
                edges = [0, 1, -1, 127, 128, -127, -129, limit, -limit, pick.randint(-limit, limit)]
                units = max(-limit, min(limit, pick.choice(edges)))
                sign, digits = int(units < 0), tuple(map(int, str(abs(units))))
                return Decimal((sign, digits, -schema["scale"]))
            case "timestamp-micros":
                edges = [0, -1, 1, FIRST_US, LAST_US, pick.randint(FIRST_US, LAST_US)]
                return EPOCH + timedelta(microseconds=pick.choice(edges))
            case "timestamp-millis":
                ms = pick.choice([0, -1, 1, pick.randint(FIRST_US // 1000, LAST_US // 1000)])
                return EPOCH + timedelta(milliseconds=ms)
            case "uuid":
                return UUID(int=pick.getrandbits(128))
            case "array":
                return [self.value(schema["items"]) for _ in range(pick.choice([0, 1, 3]))]
            case "map":
                keys = pick.sample(TEXTS, pick.choice([0, 1, 3]))
                return {key: self.value(schema["values"]) for key in keys}
        return {field["name"]: self.value(field["type"]) for field in schema["fields"]}


def to_units(value: Any, schema: Any) -> Any:
    """Return a value in the form of units=True."""
    if isinstance(schema, list):
        inner = next(branch for branch in schema if branch != "null")
        return None if value is None else to_units(value, inner)
    if isinstance(value, Decimal):
        return int(value.scaleb(schema["scale"], EXACT))
    if isinstance(value, datetime):
        micros = (value - EPOCH) // timedelta(microseconds=1)
        return micros // 1000 if schema["logicalType"] == "timestamp-millis" else micros
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, list):
        return [to_units(item, schema["items"]) for item in value]
    if isinstance(value, dict) and schema["type"] == "map":
        return {key: to_units(item, schema["values"]) for key, item in value.items()}
    if isinstance(value, dict):
        return {f["name"]: to_units(value[f["name"]], f["type"]) for f in schema["fields"]}
    return value


def compare(seed: int, records: int) -> int:
    """Hold the engines to fastavro over the records of one seeded schema; return how many."""
    generator = Generator(seed)
    schema = generator.record_schema()
    parsed = fastavro.parse_schema(schema, named_schemas={})
    exact, units = compile(schema), compile(schema, units=True)
    python = PythonEngine(plan_schema(parsed))  # type: ignore[arg-type]
    for _ in range(records):
        record = generator.value(schema)
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, record)
        expected = out.getvalue()
        body = exact.encode(record)
        assert body == expected, (schema, record)
        assert python.encode(record) == expected
        assert units.encode(to_units(record, schema)) == expected
        theirs = fastavro.schemaless_reader(io.BytesIO(expected), parsed, None)
        assert exact.decode(body) == theirs == python.decode(body), (schema, record)
        assert units.decode(body) == to_units(record, schema)
        compare_damaged(generator.random, exact, python, body)
    return records


def compare_damaged(pick: random.Random, codec: Any, python: PythonEngine, body: bytes) -> None:
    """A random cut and a random flipped bit end alike on both engines."""
    if not body:
        return
    flipped = bytearray(body)
    flipped[pick.randrange(len(body))] ^= 1 << pick.randrange(8)
    for damaged in (body[: pick.randrange(len(body))], bytes(flipped)):
        assert outcome(codec, damaged) == outcome(python, damaged)


def outcome(codec: Any, body: bytes) -> str:
    """Return what decoding ends in, as text (NaN equals itself there)."""
    try:
        return repr(codec.decode(body))
    except RecordDecodeError as error:
        return str(error)


@pytest.mark.parametrize("first_seed", range(0, 400, 40))
def test_random_records_of_random_schemas_are_fastavros(first_seed: int):
    """Equal bytes, equal values, equal errors for damaged bytes; both engines, both forms."""
    compared = sum(compare(seed, 10) for seed in range(first_seed, first_seed + 40))

    assert compared == 400


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_million_random_records_are_fastavros():
    """The long form of the same."""
    compared = sum(compare(seed, 100) for seed in range(1_000, 11_000))

    assert compared == 1_000_000


@pytest.mark.skipif(k2_schemas.backend != "cython", reason="built without a compiler here")
def test_the_compiled_engine_does_the_common_forms_itself():
    """It asks the Python plan about rare forms only: otherwise it would be fast for nobody."""
    assert native is not None
    for seed in range(100):
        generator = Generator(seed)
        schema = generator.record_schema()
        plan = plan_schema(fastavro.parse_schema(schema, named_schemas={}))
        if any(word in str(schema) for word in ("decimal", "micros", "millis")):
            continue
        engine = native.NativeEngine(PythonEngine(plan))  # type: ignore[arg-type]
        record = generator.value(schema)
        assert engine.decline_decode(engine.decline_encode(record)) == record


@pytest.mark.parametrize("units", [-128, -32768, -(2**55), -(2**47)])
def test_decimals_at_a_byte_edge_are_as_short_as_javas(units: int):
    """fastavro writes -128 in two bytes, Java's Avro in one: both are read, ours is Java's."""
    kind = {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 0}
    schema = {"type": "record", "name": "D", "fields": [{"name": "d", "type": kind}]}
    parsed = fastavro.parse_schema(schema, named_schemas={})
    body = compile(schema, units=True).encode({"d": units})
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed, {"d": Decimal(units)})

    assert len(body) == len(out.getvalue()) - 1
    assert body[1:] == units.to_bytes(len(body) - 1, "big", signed=True)
    assert fastavro.schemaless_reader(io.BytesIO(body), parsed, None) == {"d": Decimal(units)}
    assert compile(schema, units=True).decode(out.getvalue()) == {"d": units}
