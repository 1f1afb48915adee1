"""compile, Codec, WireCodec: any Avro record, exact or an error, on every engine."""

import io
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import pytest

from k2_schemas import (
    FieldError,
    FrameError,
    RecordDecodeError,
    SchemaError,
    SchemaParseError,
    UnknownSchemaError,
    UnsupportedSchemaError,
    WireCodec,
    compile,
)

MOMENT = datetime(2026, 9, 26, 18, 7, 54, 626190, tzinfo=UTC)
EVERY_TYPE = {
    "type": "record",
    "name": "Every",
    "fields": [
        {"name": "s", "type": "string"},
        {"name": "l", "type": "long"},
        {"name": "i", "type": "int"},
        {"name": "b", "type": "boolean"},
        {"name": "y", "type": "bytes"},
        {"name": "d", "type": "double"},
        {"name": "e", "type": {"type": "enum", "name": "Side", "symbols": ["BUY", "SELL"]}},
        {
            "name": "p",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 8},
        },
        {
            "name": "u",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 2},
        },
        {"name": "m", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "k", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "g", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "a", "type": {"type": "array", "items": "long"}},
        {"name": "o", "type": {"type": "map", "values": ["null", "string"]}},
        {"name": "n", "type": ["null", "Side"], "default": None},
        {
            "name": "r",
            "type": {
                "type": "record",
                "name": "Inner",
                "fields": [
                    {"name": "x", "type": "long"},
                    {"name": "t", "type": "string", "default": "z"},
                ],
            },
        },
    ],
}
RECORD: dict[str, Any] = {
    "s": "Grüße",
    "l": -(2**63),
    "i": 2**31 - 1,
    "b": True,
    "y": b"\x00\xff",
    "d": float("-inf"),
    "e": "SELL",
    "p": Decimal("-9999999999.99999999"),
    "u": Decimal("9999999999999999999999999999.99"),
    "m": MOMENT,
    "k": datetime(1900, 1, 1, 0, 0, 0, 1000, tzinfo=UTC),
    "g": UUID("ea3f6f07-a4f9-50ef-a49e-dfd2af51e7fa"),
    "a": [1, -1],
    "o": {"k": None, "v": "w"},
    "n": "BUY",
    "r": {"x": 5, "t": "y"},
}


def one_field(kind: object) -> dict[str, Any]:
    """Return a record schema whose one field `f` has this type."""
    return {"type": "record", "name": "One", "fields": [{"name": "f", "type": kind}]}


def write_with_fastavro(schema: Any, record: Any) -> bytes:
    """Return the body that fastavro writes."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema, named_schemas={}), record)
    return out.getvalue()


def test_every_supported_type_goes_both_ways(engine: str):
    """Bytes are fastavro's; what comes back is what went in."""
    codec = compile(EVERY_TYPE)

    assert codec.engine == engine
    assert codec.encode(RECORD) == write_with_fastavro(EVERY_TYPE, RECORD)
    assert codec.decode(codec.encode(RECORD)) == RECORD
    assert list(codec.decode(codec.encode(RECORD))) == [f["name"] for f in EVERY_TYPE["fields"]]
    assert isinstance(codec.decode(codec.encode(RECORD))["g"], UUID)


def test_a_schema_may_be_text(engine: str):
    """As registries and files hold it."""
    body = compile(json.dumps(EVERY_TYPE)).encode(RECORD)

    assert body == compile(EVERY_TYPE).encode(RECORD)


def test_many_are_as_one_by_one(engine: str):
    """encode_many and decode_many are the same functions, over a list."""
    codec = compile(EVERY_TYPE)
    records = [RECORD | {"l": number} for number in range(5)]
    bodies = codec.encode_many(records)

    assert bodies == [codec.encode(record) for record in records]
    assert codec.decode_many(bodies) == records
    assert codec.encode_many(iter(records)) == bodies


def test_a_record_may_be_a_tuple_of_all_its_values(engine: str):
    """The batch form: no keys to look up."""
    codec = compile(EVERY_TYPE)

    assert codec.encode(tuple(RECORD.values())) == codec.encode(RECORD)
    with pytest.raises(FieldError, match="has 2 values, the schema 16 fields"):
        codec.encode(("a", 1))


def test_keys_in_another_order_are_the_same_record(engine: str):
    """A mapping is a mapping, whatever its order and type."""
    codec = compile(EVERY_TYPE)
    turned = dict(reversed(RECORD.items()))

    assert codec.encode(turned) == codec.encode(RECORD)


def test_units_are_scaled_integers_and_texts(engine: str):
    """The fast form: decimals in units of 10^-scale, times as the schema counts them."""
    exact, fast = compile(EVERY_TYPE), compile(EVERY_TYPE, units=True)
    body = exact.encode(RECORD)
    units = {
        "p": -(10**18) + 1,
        "u": 10**30 - 1,
        "m": 1_790_446_074_626_190,
        "k": -2_208_988_799_999,
        "g": "ea3f6f07-a4f9-50ef-a49e-dfd2af51e7fa",
    }

    assert fast.decode(body) == RECORD | units
    assert fast.encode(RECORD | units) == body
    assert fast.encode(RECORD) == body


@pytest.mark.parametrize("text", ["61837.63", "0.00000001", "-0.5", "1e-8", "9999999999.99999999"])
def test_decimal_text_is_taken_as_it_is(engine: str, text: str):
    """What an exchange wrote needs no Decimal on its way to the bytes."""
    codec = compile(EVERY_TYPE)

    assert codec.decode(codec.encode(RECORD | {"p": text}))["p"] == Decimal(text)


@pytest.mark.parametrize("moment", [datetime.min, datetime(1969, 12, 31, 23, 59, 59, 999999)])
@pytest.mark.parametrize("offset_h", [0, 5.5, -11])
def test_times_of_any_zone_are_the_same_instant(engine: str, moment: datetime, offset_h: float):
    """An aware time is a moment; its zone is not stored."""
    zone = timezone(timedelta(hours=offset_h))
    aware = max(moment.replace(tzinfo=zone), datetime.min.replace(tzinfo=UTC) + timedelta(days=1))
    codec = compile(EVERY_TYPE)

    assert codec.decode(codec.encode(RECORD | {"m": aware}))["m"] == aware


DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 8}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
UUID_TEXT = {"type": "string", "logicalType": "uuid"}
SIDE = {"type": "enum", "name": "Side", "symbols": ["BUY", "SELL"]}


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("long", True, "not an int"),
        ("long", 1.0, "not an int"),
        ("long", "1", "not an int"),
        ("long", 2**63, "beyond the 64 bits"),
        ("int", 2**31, "beyond the 32 bits"),
        ("int", -(2**31) - 1, "beyond the 32 bits"),
        ("boolean", 1, "not a bool"),
        ("double", "1.5", "not a float"),
        ("double", 2**53 + 1, "would be rounded"),
        ("double", True, "not a float"),
        ("double", Decimal(1), "not a float"),
        ("string", b"x", "not a str"),
        ("string", "\ud800", "cannot be written as UTF-8"),
        ("bytes", "x", "not bytes"),
        (SIDE, "HOLD", "not one of BUY, SELL"),
        (SIDE, 0, "not one of BUY, SELL"),
        (SIDE, ["BUY"], "not one of BUY, SELL"),
        (DECIMAL, 1.5, "not a Decimal or text"),
        (DECIMAL, 5, "may mean whole ones or units"),
        (DECIMAL, True, "not a Decimal or text"),
        (DECIMAL, Decimal("0.000000001"), "more than 8 fraction digits"),
        (DECIMAL, "0.123456789", "more than 8 fraction digits"),
        (DECIMAL, Decimal("10000000000"), "beyond decimal"),
        (DECIMAL, Decimal("95000000000"), "beyond decimal"),
        (DECIMAL, "95000000000", "beyond decimal"),
        (DECIMAL, "184467440737.09551616", "beyond decimal"),
        (DECIMAL, Decimal("1E+999999"), "beyond decimal"),
        (DECIMAL, Decimal("NaN"), "not a finite Decimal"),
        (DECIMAL, Decimal("-Infinity"), "not a finite Decimal"),
        (DECIMAL, "", "not a decimal number"),
        (DECIMAL, "1_0", "not a decimal number"),
        (DECIMAL, "\u0661", "not a decimal number"),
        (MICROS, datetime(2026, 1, 1), "without time zone"),
        (MICROS, 5, "not an aware datetime"),
        (MICROS, "2026-01-01", "not an aware datetime"),
        (MILLIS, MOMENT, "finer than the schema's unit of 1 ms"),
        (UUID_TEXT, "ea3f6f07a4f950efa49edfd2af51e7fa", "not a UUID"),
        (UUID_TEXT, "{ea3f6f07-a4f9-50ef-a49e-dfd2af51e7fa}", "not a UUID"),
        (UUID_TEXT, "ga3f6f07-a4f9-50ef-a49e-dfd2af51e7fa", "not a UUID"),
        (UUID_TEXT, 7, "not a UUID"),
        ({"type": "array", "items": "long"}, {1}, "not a list or tuple"),
        ({"type": "array", "items": "long"}, "12", "not a list or tuple"),
        ({"type": "map", "values": "long"}, [("a", 1)], "not a mapping"),
        (["null", "long"], False, "not an int"),
        ("long", None, "not an int"),
    ],
    ids=repr,
)
def test_what_a_type_cannot_hold_is_refused(engine: str, kind: Any, value: object, reason: str):
    """Nothing is rounded, guessed or cut; the error carries field, value and reason."""
    with pytest.raises(FieldError, match=reason) as caught:
        compile(one_field(kind)).encode({"f": value})

    assert caught.value.field == "f"
    assert caught.value.value is value or caught.value.value == value
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"r": {"x": "5"}}, "r.x"),
        ({"r": {"x": 5, "q": 1}}, "r.q"),
        ({"r": {"t": "y"}}, "r.x"),
        ({"a": [1, 2, None]}, "a[2]"),
        ({"o": {"k": 5}}, "o['k']"),
        ({"o": {7: "x"}}, "o[7]"),
        ({"zz": 1}, "zz"),
    ],
    ids=str,
)
def test_the_error_names_the_way_to_the_value(engine: str, changes: dict[str, Any], field: str):
    """Inside records, arrays and maps too, unknown and missing fields included."""
    with pytest.raises(FieldError) as caught:
        compile(EVERY_TYPE).encode(RECORD | changes)

    assert caught.value.field == field


def test_a_missing_field_takes_its_default_or_is_refused(engine: str):
    """A default is what the schema says; no default is an error."""
    codec = compile(EVERY_TYPE)
    without = {name: value for name, value in RECORD.items() if name != "n"}
    missing = {name: value for name, value in RECORD.items() if name != "s"}

    assert codec.decode(codec.encode(without))["n"] is None
    assert codec.decode(codec.encode(RECORD | {"r": {"x": 1}}))["r"] == {"x": 1, "t": "z"}
    with pytest.raises(FieldError, match="lacks this field") as caught:
        codec.encode(missing)
    assert caught.value.field == "s"


def test_defaults_of_every_type_are_fastavros(engine: str):
    """Each field left out has the bytes that fastavro gives it."""
    defaults = {
        "s": "é",
        "l": -5,
        "i": 7,
        "b": True,
        "y": "\u00ff\u0000",
        "d": 1.5,
        "e": "SELL",
        "p": "\u0001",
        "m": 5,
        "a": [1, 2],
        "o": {"k": None},
        "n": None,
        "r": {"x": 1},
    }
    schema = {
        **EVERY_TYPE,
        "fields": [
            field | ({"default": defaults[field["name"]]} if field["name"] in defaults else {})
            for field in EVERY_TYPE["fields"]
        ],
    }
    rest = {name: RECORD[name] for name in RECORD if name not in defaults}
    full = rest | {
        **{name: defaults[name] for name in "slibdeaon"},
        "y": b"\xff\x00",
        "p": Decimal("0.00000001"),
        "m": datetime(1970, 1, 1, 0, 0, 0, 5, tzinfo=UTC),
        "r": {"x": 1, "t": "z"},
    }

    assert compile(schema).encode(rest) == write_with_fastavro(schema, full)


def test_every_truncation_and_every_flipped_bit_is_an_error_or_a_record(engine: str):
    """Corrupt bytes raise our error with its offset, and nothing else."""
    codec = compile(EVERY_TYPE)
    body = codec.encode(RECORD)
    for size in range(len(body)):
        with pytest.raises(RecordDecodeError) as caught:
            codec.decode(body[:size])
        assert 0 <= caught.value.offset <= size
    for bit in range(len(body) * 8):
        flipped = bytearray(body)
        flipped[bit // 8] ^= 1 << bit % 8
        with suppress(RecordDecodeError):
            codec.decode(bytes(flipped))


def test_trailing_bytes_are_refused(engine: str):
    """A record with something behind it is not the record its schema says."""
    codec = compile(one_field("long"))
    with pytest.raises(RecordDecodeError, match="2 trailing bytes") as caught:
        codec.decode(codec.encode({"f": 1}) + b"\x00\x00")

    assert caught.value.offset == 1


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        ("long", b"\xff" * 10 + b"\x01", "more than 10 bytes"),
        ("long", b"\xff" * 9 + b"\x7f", "more than 64 bits"),
        ("int", b"\x80\x80\x80\x80\x10", "beyond the 32 bits"),
        ("boolean", b"\x02", "no boolean"),
        ("string", b"\x01", "length -1"),
        ("string", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "bytes left"),
        ("string", b"\x02\xff", "not UTF-8"),
        (SIDE, b"\x04", "enum index 2 of 2"),
        (SIDE, b"\x01", "enum index -1"),
        (DECIMAL, b"\x00", "beyond decimal"),
        (DECIMAL, b"\x10" + b"\x7f" * 8, "beyond decimal"),
        (DECIMAL, b"\x12" + b"\x01" * 9, "beyond decimal"),
        (UUID_TEXT, b"\x02x", "no UUID"),
        (MICROS, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "not within the years"),
        (["null", "long"], b"\x04", "union branch 2"),
        ({"type": "array", "items": "long"}, b"\xfe\xff\xff\xff\x0f", "items with"),
        ({"type": "map", "values": "long"}, b"\xff" * 9 + b"\x01\x02", "items with"),
    ],
    ids=repr,
)
def test_bytes_that_no_writer_makes_are_refused(engine: str, kind: Any, body: bytes, reason: str):
    """Lengths, counts, branches and numbers that lie are found before they cost anything."""
    with pytest.raises(RecordDecodeError, match=reason):
        compile(one_field(kind)).decode(body)


@pytest.mark.parametrize("body", [None, "text", 7, [1]])
def test_what_is_no_bytes_is_no_record(engine: str, body: Any):
    """A tombstone's None is not a crash."""
    with pytest.raises(RecordDecodeError, match="instead of bytes"):
        compile(one_field("long")).decode(body)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_bytes_like_bodies_are_bodies(engine: str, make: Callable[[bytes], Any]):
    """Slices of a larger buffer need no copy by the caller."""
    assert compile(one_field("long")).decode(make(b"\x02")) == {"f": 1}


def test_blocks_with_sizes_are_read(engine: str):
    """Other writers may split an array, and say each block's size."""
    codec = compile(one_field({"type": "array", "items": "long"}))

    assert codec.decode(b"\x02\x02" + b"\x03\x04\x04\x06" + b"\x00") == {"f": [1, 2, 3]}


def test_four_threads_share_a_codec(engine: str):
    """No state is shared: every thread gets the bytes and records it would get alone."""
    codec = compile(EVERY_TYPE)
    expected = {n: codec.encode(RECORD | {"l": n, "s": "x" * n}) for n in range(200)}
    wrong: list[object] = []

    def work(first: int) -> None:
        for turn in range(2_000):
            number = (first + turn) % 200
            record = RECORD | {"l": number, "s": "x" * number}
            body = codec.encode(record)
            if body != expected[number] or codec.decode(body) != record:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(50 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_a_record_larger_than_the_stack_buffer_is_whole(engine: str):
    """Big records go to the heap and come back."""
    codec = compile(EVERY_TYPE)
    record = RECORD | {"s": "é" * 100_000, "a": list(range(10_000)), "y": b"z" * 70_000}

    assert codec.encode(record) == write_with_fastavro(EVERY_TYPE, record)
    assert codec.decode(codec.encode(record)) == record


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("float", 1.5),
        ({"type": "fixed", "name": "F", "size": 2}, b"ab"),
        (["null", "long", "string"], "x"),
        ({"type": "int", "logicalType": "date"}, MOMENT.date()),
        (["long", "string"], 7),
    ],
    ids=repr,
)
def test_other_types_fall_back_to_fastavro(kind: Any, value: object):
    """The codec says so, and is as strict."""
    codec = compile(one_field(kind))
    body = codec.encode({"f": value})

    assert codec.engine == "fastavro"
    assert body == write_with_fastavro(one_field(kind), {"f": value})
    assert codec.decode(body) == {"f": value}
    with pytest.raises(RecordDecodeError, match="trailing"):
        codec.decode(body + b"\x00")
    with pytest.raises(FieldError):
        codec.encode({"f": value, "g": 1})
    with pytest.raises(FieldError):
        codec.encode({})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("long", True),
        ("long", 2**63),
        (DECIMAL, Decimal("10000000000")),
        (DECIMAL, 1.5),
        (MICROS, datetime(2026, 1, 1)),
        (UUID_TEXT, "x"),
        (["null", "long", "string"], 1.5),
        ({"type": "array", "items": "long"}, [True]),
        ({"type": "map", "values": "string"}, {"a": 1}),
    ],
    ids=repr,
)
def test_the_fallback_is_as_strict(kind: Any, value: object):
    """What fastavro alone would take and change is refused beside a float field too."""
    schema = one_field(kind)
    schema["fields"].append({"name": "beside", "type": "float", "default": 0.0})
    with pytest.raises(FieldError) as caught:
        compile(schema).encode({"f": value})

    assert caught.value.field.startswith("f")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (MILLIS, datetime(2026, 1, 1, 0, 0, 0, 1999, tzinfo=UTC)),
        ("double", 2**60 + 1),
        ("float", 1e300),
        (["null", "long", "string"], ("long", True)),
        (["null", "long", "string"], ("date", 1)),
        ({"type": "int", "logicalType": "date"}, True),
        ({"type": "int", "logicalType": "time-millis"}, time(1, 2, 3, 4567)),
    ],
    ids=repr,
)
def test_the_fallback_rounds_nothing(kind: Any, value: object):
    """fastavro alone cuts microseconds, rounds ints and makes 1 of True."""
    schema = one_field(kind)
    schema["fields"].append({"name": "beside", "type": "float", "default": 0.0})
    with pytest.raises(FieldError):
        compile(schema).encode({"f": value})


def test_the_fallback_writes_defaults():
    """A field left out has its default there too."""
    schema = one_field("float")
    schema["fields"].append({"name": "beside", "type": "long", "default": 7})
    codec = compile(schema)

    assert codec.decode(codec.encode({"f": 1.5})) == {"f": 1.5, "beside": 7}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (SIDE, b"\x01"),
        ({**DECIMAL, "precision": 4, "scale": 2}, b"\x08\x7f\xff\xff\xff"),
        ("boolean", b"\x07"),
        ("int", b"\x80\x80\x80\x80\x80\x01"),
    ],
    ids=repr,
)
def test_a_reader_schema_is_as_strict(kind: Any, body: bytes):
    """Bytes are judged as their writer's before they are resolved."""
    new = one_field(kind)
    new["fields"].append({"name": "note", "type": "string", "default": ""})
    with pytest.raises(RecordDecodeError):
        compile(one_field(kind), reader=new).decode(body)


def test_a_schema_that_contains_itself_is_refused():
    """fastavro follows a frame as deep as it says: five kilobytes crash the process."""
    link = {
        "type": "record",
        "name": "Link",
        "fields": [{"name": "next", "type": ["null", "Link"]}],
    }
    with pytest.raises(UnsupportedSchemaError, match="contains itself"):
        compile(link)


def test_a_schema_that_doubles_at_every_step_compiles_at_once():
    """Two kilobytes of named types within named types must not cost a gigabyte."""
    kind: Any = {"type": "record", "name": "R0", "fields": [{"name": "x", "type": "long"}]}
    for depth in range(1, 30):
        fields = [{"name": "a", "type": kind}, {"name": "b", "type": f"R{depth - 1}"}]
        kind = {"type": "record", "name": f"R{depth}", "fields": fields}

    assert compile(kind).engine == "fastavro"


@pytest.mark.parametrize(
    "schema",
    [
        one_field({"type": "long", "logicalType": ["a"]}),
        {
            "type": "record",
            "name": "R",
            "fields": [
                {"name": "f", "type": {"type": "array", "items": "double"}, "default": ["abc"]}
            ],
        },
        one_field({"type": "string", "logicalType": "decimal"}),
    ],
    ids=str,
)
def test_odd_schemas_compile_or_are_a_schema_error(schema: Any):
    """Whatever a registry serves, nothing else escapes."""
    with suppress(SchemaError):
        compile(schema).encode({"f": "x"})


class Odd(tzinfo):
    """A time zone that cannot say what it is."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """Fail."""
        raise RuntimeError("no idea")


def nest(depth: int) -> list[Any]:
    """Return lists within lists."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("long", 10**5000),
        ("long", nest(50_000)),
        (MICROS, datetime(2026, 1, 1, tzinfo=Odd())),
        ({**DECIMAL, "precision": 150, "scale": 0}, "1" * 5_000),
    ],
    ids=["huge", "deep", "odd zone", "long"],
)
def test_a_value_that_cannot_even_be_printed_is_a_field_error(engine: str, kind: Any, value: Any):
    """Refusing must not raise something else."""
    with pytest.raises(FieldError) as caught:
        compile(one_field(kind)).encode({"f": value})

    assert len(str(caught.value)) < 400


def test_decimals_too_long_for_the_plan_go_both_ways():
    """What is written can be read, at any precision."""
    codec = compile(one_field({**DECIMAL, "precision": 200, "scale": 0}))
    value = {"f": Decimal(10**199)}

    assert codec.decode(codec.encode(value)) == value


def test_the_fallback_refuses_arrays_that_cost_nothing():
    """A frame of ten bytes must not count to 2^60."""
    empty = {"type": "record", "name": "Empty", "fields": []}
    with pytest.raises(UnsupportedSchemaError, match="without bytes"):
        compile(one_field({"type": "array", "items": empty}))


def test_units_need_a_schema_that_the_plan_covers():
    """The error says how to go on."""
    with pytest.raises(UnsupportedSchemaError, match="compile it without units"):
        compile(one_field("float"), units=True)


def test_a_reader_schema_resolves_what_a_writer_wrote(engine: str):
    """Fields added since have their default, fields dropped are skipped."""
    old = one_field("int")
    new = {
        "type": "record",
        "name": "One",
        "fields": [{"name": "f", "type": "long"}, {"name": "g", "type": "string", "default": "z"}],
    }
    codec = compile(old, reader=new)

    assert codec.decode(compile(old).encode({"f": 3})) == {"f": 3, "g": "z"}
    assert codec.encode({"f": 3}) == compile(old).encode({"f": 3})
    assert compile(old, reader=old).engine == engine


@pytest.mark.parametrize(
    "text",
    [
        *["", "{", "7", '"nothing"', '{"type":"record"}'],
        '{"type":"record","name":"R","fields":[{}]}',
        json.dumps(one_field({**DECIMAL, "scale": 20})),
    ],
)
def test_what_is_no_schema_is_one_error(text: str):
    """Whatever json and fastavro raise, the user sees one kind."""
    with pytest.raises(SchemaParseError, match="not an Avro schema"):
        compile(text)


def test_a_wire_codec_frames_under_one_id(engine: str):
    """0x00, four bytes of id, body; another id is named, no header is an error."""
    wire = WireCodec(compile(one_field("long")), 259)
    frame = wire.encode({"f": 1})

    assert frame == b"\x00\x00\x00\x01\x03\x02"
    assert wire.decode(frame) == {"f": 1}
    assert wire.decode_many(wire.encode_many([{"f": 1}, {"f": 2}])) == [{"f": 1}, {"f": 2}]
    with pytest.raises(UnknownSchemaError) as caught:
        wire.decode(b"\x00\x00\x00\x00\x01\x02")
    assert (caught.value.wanted, caught.value.known) == (1, (259,))
    for junk in (b"", b"\x00", frame[:5], b"\x01" + frame[1:], None):
        with pytest.raises(FrameError):
            wire.decode(junk)  # type: ignore[arg-type]


def test_ids_that_do_not_fit_are_refused():
    """Four bytes are four bytes."""
    with pytest.raises(FrameError, match="does not fit"):
        WireCodec(compile(one_field("long")), 2**32)


def test_arrow_batches_have_arrows_own_types(engine: str):
    """Decimals stay decimals, times times, nulls nulls; values are the records'."""
    pyarrow = pytest.importorskip("pyarrow")
    codec = compile(EVERY_TYPE)
    records = [RECORD, RECORD | {"n": None, "p": Decimal("0.00000001"), "o": {}, "a": []}]
    batch = codec.decode_arrow(codec.encode_many(records))

    assert batch.schema.field("p").type == pyarrow.decimal128(18, 8)
    assert batch.schema.field("m").type == pyarrow.timestamp("us", "UTC")
    for found, record in zip(batch.to_pylist(maps_as_pydicts="strict"), records, strict=True):
        assert found == record | {"g": str(record["g"])}
    assert codec.decode_arrow([]).num_rows == 0
    with pytest.raises(RecordDecodeError):
        codec.decode_arrow([b"\x00"])


def test_arrow_takes_uuids_and_decimals_within_arrays(engine: str):
    """At any depth, as text and as decimals."""
    pytest.importorskip("pyarrow")
    schema = one_field({"type": "array", "items": UUID_TEXT})
    schema["fields"].append({"name": "d", "type": {"type": "array", "items": DECIMAL}})
    codec = compile(schema)
    record = {"f": [RECORD["g"]], "d": [Decimal("1.50000000")]}
    batch = codec.decode_arrow([codec.encode(record)])

    assert batch.to_pylist() == [{"f": [str(RECORD["g"])], "d": [Decimal("1.50000000")]}]


def test_arrow_needs_a_schema_that_the_plan_covers():
    """The error names what to use instead."""
    pytest.importorskip("pyarrow")
    with pytest.raises(UnsupportedSchemaError, match="use decode_many"):
        compile(one_field("float")).decode_arrow([])
