"""Silver: Bronze rows decoded and judged. Each comes out once, accepted or dead; none raises."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro

from k2_schemas import FileRegistry
from k2_schemas.avro import HEADER_BYTES
from k2_schemas.trade import MESSAGE_ID_NAMESPACE
from k2_validation import SILVER_TRADES

from .tables import TRADE_COLUMNS

_TRADE_NAMES = [name for name, _ in TRADE_COLUMNS]
_TIMES = [name for name, kind in TRADE_COLUMNS if kind == "timestamptz"]


def judge(bronze: DataFrame, registry: FileRegistry) -> DataFrame:
    """Decode Bronze rows and apply the Silver rules (batch or streaming).

    Returns the 15 trade columns (NULL where a row does not decode), `bronze` (the whole Bronze row
    as a struct), `schema_id`, and the verdict: `accepted` (never NULL), `error_reason` and
    `error_type`.
    """
    decoded = _decode(bronze, registry)
    tagged: DataFrame = SILVER_TRADES.tag(decoded)
    broken = F.col("frame_error").isNotNull()
    return tagged.select(
        *_TRADE_NAMES,
        "bronze",
        "schema_id",
        (F.col("k2_valid") & ~broken).alias("accepted"),
        F.coalesce("frame_error", "k2_error_reason").alias("error_reason"),
        F.when(broken, "schema").otherwise(F.col("k2_error_type")).alias("error_type"),
    )


def to_silver(judged: DataFrame, validated_at: datetime) -> DataFrame:
    """Return the accepted rows as Silver rows."""
    return judged.where("accepted").select(
        *_TRADE_NAMES,
        F.lit(validated_at).alias("validation_timestamp"),
        F.col("bronze.ingestion_timestamp").alias("bronze_ingestion_timestamp"),
        "schema_id",
    )


def to_dead_letters(judged: DataFrame, bronze_table: str, failed_at: datetime) -> DataFrame:
    """Return the refused rows as dead letters, with the bytes that Kafka holds."""
    return judged.where("NOT accepted").select(
        F.col("bronze.raw_bytes").alias("raw_record"),
        "error_reason",
        "error_type",
        F.lit(failed_at).alias("error_timestamp"),
        F.lit(bronze_table).alias("bronze_source"),
        F.col("bronze.topic").alias("kafka_topic"),
        F.col("bronze.partition").alias("kafka_partition"),
        F.col("bronze.offset").alias("kafka_offset"),
        "schema_id",
        F.lit(SILVER_TRADES.fingerprint).alias("rules_fingerprint"),
        F.lit(failed_at.date()).alias("dlq_date"),
    )


def _decode(bronze: DataFrame, registry: FileRegistry) -> DataFrame:
    raw = F.col("bronze.raw_bytes")
    framed = (F.octet_length(raw) > HEADER_BYTES) & (F.hex(F.substring(raw, 1, 1)) == "00")
    schema_id = F.conv(F.hex(F.substring(raw, 2, 4)), 16, 10).try_cast("int")
    rows = bronze.select(F.struct("*").alias("bronze")).select(
        "bronze", F.when(framed, schema_id).alias("schema_id")
    )
    rows = rows.select("*", _decode_body(registry).alias("trade"))
    return rows.select(
        "bronze",
        "schema_id",
        *(_bounded_time(name) if name in _TIMES else f"trade.{name}" for name in _TRADE_NAMES),
        _name_frame_error(raw, registry).alias("frame_error"),
    )


def _decode_body(registry: FileRegistry) -> Column:
    """Decode each known schema id with its own writer's schema; NULL for any other id."""
    body = F.expr(f"substring(bronze.raw_bytes, {HEADER_BYTES + 1})")
    decoded = F.lit(None)
    for schema_id in registry.ids:
        known = from_avro(body, registry.get(schema_id).text, {"mode": "PERMISSIVE"})
        decoded = F.when(F.col("schema_id") == schema_id, known).otherwise(decoded)
    return decoded


def _bounded_time(name: str) -> Column:
    """Read a time beyond years 2-9998 as NULL, which fails: comparing it could overflow."""
    time = F.col(f"trade.{name}")
    low, high = (F.expr(f"timestamp'{year}-01-01 00:00:00Z'") for year in ("0002", "9999"))
    return F.when(time.between(low, high), time).alias(name)


def _name_frame_error(raw: Column, registry: FileRegistry) -> Column:
    size = F.coalesce(F.octet_length(raw), F.lit(0))
    first_byte = F.lower(F.hex(F.substring(raw, 1, 1)))
    known_ids = ", ".join(map(str, registry.ids))
    shown_id = F.conv(F.hex(F.substring(raw, 2, 4)), 16, 10)
    return (
        F.when(size == 0, "empty record")
        .when(first_byte != "00", F.concat(F.lit("bad magic byte 0x"), first_byte))
        .when(size <= HEADER_BYTES, "shorter than its 5-byte header and a body")
        .when(
            ~F.coalesce(F.col("schema_id").isin(*registry.ids), F.lit(False)),
            F.concat(F.lit("unknown schema id "), shown_id, F.lit(f"; known: {known_ids}")),
        )
        # PERMISSIVE gives a struct of NULLs, not a NULL, for a body that does not decode.
        .when(
            F.col("trade.trade_id").isNull(),
            F.concat(F.lit("body does not decode with schema id "), shown_id),
        )
        # Text that is not UTF-8 would make the whole file unreadable for Arrow and DuckDB.
        .when(~F.is_valid_utf8(_all_text()), "body holds text that is not UTF-8")
        # An empty message_id is the rules' business; a wrong one would let a trade in twice.
        .when(
            (F.col("trade.message_id") != "")
            & ~F.coalesce(F.col("trade.message_id") == _derive_message_id(), F.lit(False)),
            "message_id is not the UUIDv5 of exchange, pair and trade id",
        )
    )


def _all_text() -> Column:
    """Join every text of a trade; the separator keeps broken characters apart."""
    texts = [f"trade.{name}" for name, kind in TRADE_COLUMNS if kind in ("string", "list<string>")]
    vendor = F.col("trade.vendor_data")
    return F.concat_ws("|", *texts, F.map_keys(vendor), F.map_values(vendor))


def _derive_message_id() -> Column:
    """Compute `k2_schemas.derive_message_id` in Spark's own functions (RFC 9562 §5.5)."""
    pair = F.col("trade.vendor_data")["pair"]
    name = F.concat_ws("|", "trade.exchange", pair, "trade.trade_id").cast("binary")
    digest = F.sha1(F.concat(F.unhex(F.lit(MESSAGE_ID_NAMESPACE.hex)), name))
    variant = F.translate(F.substring(digest, 17, 1), "0123456789abcdef", "89ab" * 4)
    parts = [
        F.substring(digest, 1, 8),
        F.substring(digest, 9, 4),
        F.concat(F.lit("5"), F.substring(digest, 14, 3)),
        F.concat(variant, F.substring(digest, 18, 3)),
        F.substring(digest, 21, 12),
    ]
    return F.concat_ws("-", *parts)
