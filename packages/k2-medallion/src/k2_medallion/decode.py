"""Decode: wire frames of a topic into the contract's columns, or the reason why not. Never raises.

Spark's own Avro reader is looser than the contract: it wraps a decimal that does not fit, and it
ignores bytes after the body. Here every looseness is closed, without a UDF: what
`k2_schemas.TradeCodec` refuses, this refuses.
"""

from __future__ import annotations

import json
import secrets
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro

from k2_schemas.frame import HEADER_BYTES
from k2_schemas.trade import MESSAGE_ID_NAMESPACE

from .trade_contract import TradeContract

_SEAL = "k2_seal"
_SECRET = secrets.token_hex(16)
_RAW = "bronze.raw_bytes"


def decode(bronze: DataFrame, contract: TradeContract) -> DataFrame:
    """Decode Bronze rows (batch or streaming).

    Returns `bronze` (the whole row as a struct), `schema_id`, the contract's columns (NULL where a
    row does not decode or a value does not fit; an older schema's frame has the default of a field
    that it lacks), and `frame_error` (NULL where the contract holds).
    """
    rows = bronze.select(F.struct("*").alias("bronze"))
    rows = rows.select("bronze", _read_schema_id(contract).alias("schema_id"))
    rows = rows.select("*", _decode_body(contract).alias("trade"))
    return rows.select(
        "bronze",
        "schema_id",
        *(_bounded(column).alias(column[0]) for column in contract.columns),
        _name_error(contract).alias("frame_error"),
    )


def _read_schema_id(contract: TradeContract) -> Column:
    """Return the id of a frame's header; NULL where there is no header and body."""
    header = F.substring(_RAW, 1, HEADER_BYTES)
    # Known headers are compared as they are: making a number of each costs as much as decoding.
    spelled = F.conv(F.hex(F.substring(_RAW, 2, 4)), 16, 10).try_cast("int")
    found = F.when(F.substring(_RAW, 1, 1) == _binary(b"\0"), spelled)
    for schema_id in contract.ids:
        known = _binary(b"\0" + schema_id.to_bytes(4, "big"))
        found = F.when(header == known, schema_id).otherwise(found)
    return F.when(F.octet_length(_RAW) > HEADER_BYTES, found)


def _decode_body(contract: TradeContract) -> Column:
    """Decode each known schema id with its own writer's schema; NULL for any other id.

    The body is sealed with a secret of this process, as one more text field: bytes after the body
    would be read in its place, and nobody who writes them knows it.
    """
    body = F.expr(f"substring(bronze.raw_bytes, {HEADER_BYTES + 1})")
    # Avro's text: its length, doubled, then its bytes.
    sealed = F.concat(body, _binary(bytes([2 * len(_SECRET)]) + _SECRET.encode()))
    decoded = F.lit(None)
    for schema_id in contract.ids:
        text = _seal_schema(contract.schemas[schema_id].text)
        options = {"mode": "PERMISSIVE", "avroSchema": _seal_schema(contract.newest.text)}
        known = from_avro(sealed, text, options)
        decoded = F.when(F.col("schema_id") == schema_id, known).otherwise(decoded)
    return decoded


def _seal_schema(text: str) -> str:
    """Return a schema with the seal as last field, and decimals of any size.

    With 18 digits Spark takes the low 64 bits of a decimal as they are, whatever was above them.
    """
    schema = json.loads(text)
    for field in schema["fields"]:
        parts = field["type"] if isinstance(field["type"], list) else [field["type"]]
        for part in parts:
            if isinstance(part, dict) and part.get("logicalType") == "decimal":
                part["precision"] = 38
    schema["fields"].append({"name": _SEAL, "type": "string"})
    return json.dumps(schema)


def _bounded(column: tuple[str, str]) -> Column:
    """Read a value that its column cannot hold, or that comparing could overflow, as NULL."""
    name, kind = column
    value = F.col(f"trade.{name}")
    if kind.startswith("decimal"):
        return value.try_cast(kind.replace(" ", ""))
    if kind == "timestamptz":
        low, high = (F.expr(f"timestamp'{year}-01-01 00:00:00Z'") for year in ("0002", "9999"))
        return F.when(value.between(low, high), value)
    return value


def _name_error(contract: TradeContract) -> Column:
    """Say what is wrong with a frame; NULL if nothing is. Texts are made for bad frames only."""
    size = F.coalesce(F.octet_length(_RAW), F.lit(0))
    first_byte = F.substring(_RAW, 1, 1)
    known_ids = ", ".join(map(str, contract.ids))
    shown_id = F.conv(F.hex(F.substring(_RAW, 2, 4)), 16, 10)
    misfit = {
        name: F.col(f"trade.{name}").isNotNull() & _bounded((name, kind)).isNull()
        for name, kind in contract.columns
        if kind.startswith("decimal")
    }
    named = F.concat_ws(", ", *(F.when(found, name) for name, found in misfit.items()))
    return (
        F.when(size == 0, "empty record")
        .when(
            first_byte != _binary(b"\0"),
            F.concat(F.lit("bad magic byte 0x"), F.lower(F.hex(first_byte))),
        )
        .when(size <= HEADER_BYTES, "shorter than its 5-byte header and a body")
        .when(
            _is_not(F.col("schema_id").isin(*contract.ids)),
            F.concat(F.lit("unknown schema id "), shown_id, F.lit(f"; known: {known_ids}")),
        )
        # PERMISSIVE gives a struct of NULLs, not a NULL, for a body that does not decode.
        .when(
            _is_not(F.col(f"trade.{_SEAL}") == _SECRET),
            F.concat(F.lit("body is not exactly one record of schema id "), shown_id),
        )
        # Text that is not UTF-8 would make the whole file unreadable for Arrow and DuckDB.
        .when(~F.is_valid_utf8(_all_text(contract)), "body holds text that is not UTF-8")
        .when(
            reduce(Column.__or__, misfit.values()),
            F.concat(named, F.lit(" beyond decimal(18,8)")),
        )
        # Gold compares a trade with its own exchange's only.
        .when(
            _is_not(F.col("trade.exchange") == F.upper(F.substring_index("bronze.topic", ".", -1))),
            "exchange is not the topic's",
        )
        # An empty message_id is the rules' business; a wrong one would let a trade in twice.
        .when(
            (F.col("trade.message_id") != "")
            & _is_not(F.col("trade.message_id") == _derive_message_id()),
            "message_id is not the UUIDv5 of exchange, pair and trade id",
        )
    )


def _binary(value: bytes) -> Column:
    """Return bytes as a literal that is folded into the plan."""
    return F.expr(f"X'{value.hex()}'")


def _is_not(condition: Column) -> Column:
    """Negate a condition; NULL counts as not met."""
    return ~F.coalesce(condition, F.lit(False))


def _all_text(contract: TradeContract) -> Column:
    """Join the free texts of a trade; the separator keeps broken characters apart."""
    # What must equal a text of ours, or is one of an enum's, needs no look.
    sure = ("message_id", "exchange", "asset_class", "side")
    texts = [
        f"trade.{name}"
        for name, kind in contract.columns
        if kind in ("string", "list<string>") and name not in sure
    ]
    vendor = F.col("trade.vendor_data")
    return F.concat_ws("|", *texts, F.map_keys(vendor), F.map_values(vendor))


def _derive_message_id() -> Column:
    """Compute `k2_schemas.derive_message_id` in Spark's own functions (RFC 9562 §5.5).

    NULL when a part is missing: `vendor_data` always holds `pair`.
    """
    bar = F.lit("|")
    pair = F.col("trade.vendor_data")["pair"]
    name = F.concat("trade.exchange", bar, pair, bar, "trade.trade_id").cast("binary")
    digest = F.sha1(F.concat(F.unhex(F.lit(MESSAGE_ID_NAMESPACE.hex)), name))
    variant = F.translate(F.substring(digest, 17, 1), "0123456789abcdef", "89ab" * 4)
    return F.concat(
        F.substring(digest, 1, 8),
        F.lit("-"),
        F.substring(digest, 9, 4),
        F.lit("-5"),
        F.substring(digest, 14, 3),
        F.lit("-"),
        variant,
        F.substring(digest, 18, 3),
        F.lit("-"),
        F.substring(digest, 21, 12),
    )
