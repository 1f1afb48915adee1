"""The audit passes a lake that adds up, and names the table in which a row is missing or double."""

import copy
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from k2_medallion import (
    DEAD_LETTERS,
    GOLD_CANDLES,
    GOLD_TRADES,
    CatalogError,
    LakeHome,
    QueryError,
    SchemaLackingError,
    bronze_trades,
    silver_trades,
)
from k2_medallion.audit import OffsetRange, audit_lake, list_holes
from k2_medallion.catalog import open_catalog, set_property
from k2_medallion.tables import RETIRED_BEFORE
from k2_schemas import FileRegistry, TradeCodec
from k2_schemas.registry import lock_schema
from k2_schemas.testing import make_trade
from k2_schemas.topics import DEADLETTER_TOPIC, trades_topic
from k2_schemas.trade_codec import trade_to_record
from k2_validation import IdRange

BRONZE, SILVER = bronze_trades("binance"), silver_trades("binance")
SPECS = {spec.name: spec for spec in (BRONZE, SILVER, GOLD_TRADES, GOLD_CANDLES, DEAD_LETTERS)}
TOPIC = trades_topic("binance")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = datetime.now(UTC).replace(microsecond=0)
MINUTE_US = 60_000_000
START_US = (NOW - timedelta(hours=1) - EPOCH) // timedelta(microseconds=1) // MINUTE_US * MINUTE_US
IDS = (1, 2, 3, 4, 5, 6)
DEAD_ID = 4
BATCH_ROWS = 3


def make_minute(number, **others):
    """Return a trade with a minute of its own."""
    return make_trade(number, timestamp_us=START_US + number * MINUTE_US, **others)


def bronze_row(raw, offset, ingested):
    """Return the Bronze row of a record."""
    return {
        "message_key": "BTC/USDT",
        "raw_bytes": raw,
        "topic": TOPIC,
        "partition": 0,
        "offset": offset,
        "ingestion_timestamp": ingested,
        "ingestion_date": ingested.date(),
    }


def silver_row(trade, ingested):
    """Return the Silver row of a trade."""
    return trade_to_record(trade) | {"bronze_ingestion_timestamp": ingested, "schema_id": 1}


def dead_row(raw, topic, offset, died, source=None):
    """Return a dead letter."""
    return {
        "raw_record": raw,
        "error_reason": "price > 0, found price=0",
        "error_type": "range",
        "error_timestamp": died,
        "bronze_source": source,
        "kafka_topic": topic,
        "kafka_partition": 0,
        "kafka_offset": offset,
        "dlq_date": died.date(),
    }


def candle_row(trade):
    """Return the candle of a minute with one trade in it."""
    return {
        "exchange": trade.exchange,
        "symbol": trade.symbol,
        "start": EPOCH + timedelta(microseconds=trade.timestamp_us),
        **dict.fromkeys(("open", "high", "low", "close", "vwap"), trade.price),
        "volume": trade.quantity,
        "quote_volume": trade.price * trade.quantity,
        "trade_count": 1,
        "first_trade_id": trade.trade_id,
        "last_trade_id": trade.trade_id,
        "version": 1,
    }


@dataclass
class Rows:
    """What the tables will hold. As made, all adds up; tests then damage it.

    Six records in two batches: five trades, the first sent twice, and a trade without a price; and
    three dead frames. The newest minute has no candle yet.
    """

    home: LakeHome
    write: object
    tables: dict = field(default_factory=dict)

    def __post_init__(self):
        trades = [make_minute(n, price="0" if n == DEAD_ID else "2.5") for n in IDS]
        good = [trade for trade in trades if trade.source_sequence != DEAD_ID]
        dead = next(trade for trade in trades if trade.source_sequence == DEAD_ID)
        encode = TradeCodec().encode
        sent = [*trades, trades[0]]
        batches = [NOW + timedelta(seconds=place // BATCH_ROWS) for place in range(len(sent))]
        source = BRONZE.name
        self.tables = {
            BRONZE.name: [bronze_row(encode(t), n, batches[n]) for n, t in enumerate(sent)],
            SILVER.name: [silver_row(t, batches[n]) for n, t in enumerate(sent) if t is not dead],
            DEAD_LETTERS.name: [
                dead_row(encode(dead), TOPIC, IDS.index(DEAD_ID), NOW, source),
                *(dead_row(b"?", DEADLETTER_TOPIC, offset, NOW) for offset in range(3)),
            ],
            GOLD_TRADES.name: [trade_to_record(trade) for trade in good],
            GOLD_CANDLES.name: [candle_row(trade) for trade in good[:-1]],
        }

    def audit(self, ranges=None, **options):
        """Write the tables and audit them."""
        for name, rows in self.tables.items():
            if rows:
                self.write(SPECS[name], *rows)
        return audit_lake(self.home, None if ranges is None else lambda topics: ranges, **options)


KAFKA = {(TOPIC, 0): OffsetRange(0, 7), (DEADLETTER_TOPIC, 0): OffsetRange(0, 3)}


@pytest.fixture
def rows(home, write):
    """Give a test rows that add up."""
    return Rows(home, write)


def broken(report):
    """Return the tables whose laws do not hold."""
    return {law.table for law in report.breaches}


def test_a_lake_that_adds_up_breaks_no_law(rows):
    """With Kafka and without; a duplicate and dead letters are no breach, nor a hole."""
    report = rows.audit(KAFKA)

    assert report.breaches == []
    assert report.settled
    assert report.holes == ()
    assert report.rows[BRONZE.name] == 7
    assert audit_lake(rows.home).breaches == []
    # Every law was put to something, or it could not be broken.
    assert {law.table for law in report.laws if law.expected} == set(rows.tables)


def test_an_empty_lake_breaks_no_law(rows):
    """Before the first record, all that Kafka holds is lag."""
    rows.tables = {}
    report = rows.audit(KAFKA)

    assert report.breaches == []
    assert [lag.offsets for lag in report.lags] == [7, 3]


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("name", SPECS)
def test_a_row_twice_is_named(rows, name, place):
    """In each table, the first and the last."""
    rows.tables[name].append(copy.copy(rows.tables[name][place]))

    assert name in broken(rows.audit(KAFKA))


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", SPECS)
def test_a_row_too_few_is_named(rows, name, place):
    """In each table, the first and another."""
    del rows.tables[name][place]
    found = broken(rows.audit(KAFKA))

    # Of a Bronze row without a verdict nobody knows which one it should have had.
    assert name in found or (name == DEAD_LETTERS.name and SILVER.name in found)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("price", Decimal("2.50000001")),
        ("trade_conditions", ["late"]),
        ("vendor_data", {"pair": "btcusdt"}),
        ("ingestion_timestamp", NOW),
        ("message_id", "another"),
    ],
)
def test_silver_says_what_its_bytes_say(rows, column, value):
    """Changed in Silver, Gold and candles alike: only the bytes tell, to the last field."""
    for name in (SILVER.name, GOLD_TRADES.name):
        rows.tables[name][1][column] = value
    rows.tables[GOLD_CANDLES.name].clear()
    (breach,) = rows.audit(KAFKA).breaches

    assert breach.table == SILVER.name
    assert breach.examples == (f"batch {NOW:%Y-%m-%d %H:%M:%S}+00",)


def test_one_trade_does_not_stand_for_another(rows):
    """As many rows in each batch as there should be, and Gold agrees: one of them twice."""
    one, other = rows.tables[SILVER.name][:2]
    rows.tables[SILVER.name][1] = dict(one)
    rows.tables[GOLD_TRADES.name] = [
        row for row in rows.tables[GOLD_TRADES.name] if row["message_id"] != other["message_id"]
    ]
    rows.tables[GOLD_CANDLES.name].clear()

    assert broken(rows.audit(KAFKA)) == {SILVER.name}


def test_what_our_codec_refuses_was_accepted_by_no_right(rows):
    """Bytes that are no record, in Bronze and not among the dead."""
    rows.tables[BRONZE.name][1]["raw_bytes"] = b"junk that is longer than a header"
    rows.tables[BRONZE.name][5]["raw_bytes"] = rows.tables[BRONZE.name][5]["raw_bytes"][:-1]
    (breach,) = rows.audit(KAFKA).breaches

    assert (breach.table, breach.expected, breach.found) == (SILVER.name, 3, 1)


def test_a_dead_letter_has_the_bytes_that_kafka_had(rows):
    """One bit of junk is a fault like any other."""
    rows.tables[DEAD_LETTERS.name][0]["raw_record"] += b"?"
    (breach,) = rows.audit(KAFKA).breaches

    assert (breach.table, breach.name) == (
        DEAD_LETTERS.name,
        f"each dead letter of {BRONZE.name} is there, byte for byte",
    )


def test_the_place_of_a_fault_is_shown(rows):
    """Offsets, trades and batches by their names, so that one can look."""
    repeated = rows.tables[BRONZE.name][2]
    rows.tables[BRONZE.name] += [repeated]
    del rows.tables[GOLD_TRADES.name][1]
    del rows.tables[BRONZE.name][4]
    said = "\n".join(map(str, rows.audit(KAFKA).breaches))

    assert "each record is there once: expected 6, found 7 (partition 0 offset 2)" in said
    assert f"{TOPIC} is missing: expected 7, found 6 ({TOPIC}/0 offsets 4 to 4)" in said
    assert "BTC/USDT 2 (" in said
    assert f"batch {NOW:%Y-%m-%d %H:%M:%S}+00: 4 rows, 3 in Silver, 0 dead" in said


@pytest.mark.parametrize(
    ("spec", "column", "value"),
    [
        (GOLD_TRADES, "price", Decimal("2.50000001")),
        (GOLD_TRADES, "side", "BUY"),
        (GOLD_TRADES, "vendor_data", {"pair": "btcusdt"}),
        (GOLD_TRADES, "timestamp", NOW - timedelta(days=400)),
        (GOLD_CANDLES, "close", Decimal("2.50000001")),
        (GOLD_CANDLES, "first_trade_id", "0"),
    ],
)
def test_a_changed_value_is_named(rows, spec, column, value):
    """Gold is compared field by field, a candle digit by digit."""
    rows.tables[spec.name][1][column] = value

    assert spec.name in broken(rows.audit(KAFKA))


def test_one_loss_does_not_hide_behind_one_repetition(rows):
    """As many Silver rows as there should be, but not of the right batches."""
    rows.tables[SILVER.name][0] = rows.tables[SILVER.name][-1]

    assert SILVER.name in broken(rows.audit(KAFKA))


def test_a_dead_letter_that_bronze_never_had_is_named(rows):
    """Its bytes came from nowhere."""
    rows.tables[DEAD_LETTERS.name].append(dead_row(b"?", TOPIC, 99, NOW, BRONZE.name))
    (breach,) = rows.audit(KAFKA).breaches

    assert breach.table == DEAD_LETTERS.name
    assert breach.examples == (f"{TOPIC}/0 offset 99",)


def test_the_higher_version_of_a_candle_holds(rows):
    """A candle of fewer trades stays below it and breaks nothing."""
    first = rows.tables[GOLD_CANDLES.name][0]
    rows.tables[GOLD_CANDLES.name].append(first | {"version": 0, "close": Decimal(1)})

    assert rows.audit(KAFKA).breaches == []


def test_what_is_not_read_yet_is_lag_and_no_breach(rows):
    """By topic and partition, a partition without rows included."""
    more = {(TOPIC, 0): OffsetRange(0, 9), (TOPIC, 1): OffsetRange(3, 5)}
    report = rows.audit(KAFKA | more)

    assert report.breaches == []
    assert not report.settled
    assert [(lag.partition, lag.position, lag.offsets) for lag in report.lags] == [
        (0, 7, 2),
        (1, 3, 2),
    ]


def test_a_topic_that_has_given_less_is_another_one(rows):
    """Offsets from nowhere mean that Kafka was replaced under the tables."""
    report = rows.audit(KAFKA | {(TOPIC, 0): OffsetRange(0, 5)})

    assert [str(breach) for breach in report.breaches] == [
        f"{BRONZE.name}: partitions end no later than in {TOPIC}: expected 1, found 0 "
        "(partition 0 ends at 5 in Kafka, at 7 here)"
    ]
    assert broken(audit_lake(rows.home, lambda topics: {})) == {BRONZE.name, DEAD_LETTERS.name}


def test_the_first_offset_that_kafka_still_holds_must_be_there(rows):
    """Bronze begins later than Kafka: those before are lost, not old."""
    for spec in (BRONZE, SILVER):
        del rows.tables[spec.name][0]
    (breach,) = [b for b in rows.audit(KAFKA).breaches if b.table == BRONZE.name]

    assert breach.examples == (f"{TOPIC}/0 offsets 0 to 0",)


def retire(home, spec, days_ago):
    """Note in a table that days older than so many are gone, as retention does."""
    catalog = open_catalog(home)
    day = (NOW - timedelta(days=days_ago)).date()
    set_property(catalog, spec, RETIRED_BEFORE, lambda _: str(day))
    catalog.close()


@pytest.mark.parametrize(("retired", "expected"), [(7, set()), (21, {SILVER.name})])
def test_days_that_retention_removed_are_no_breach(rows, retired, expected):
    """Bronze has lost its first batch, 20 days old: with its day, or else by a fault."""
    ago = NOW - timedelta(days=20)
    retire(rows.home, BRONZE, retired)
    first = rows.tables[BRONZE.name][0]["ingestion_timestamp"]
    for row in rows.tables[SILVER.name]:
        if row["bronze_ingestion_timestamp"] == first:
            row["bronze_ingestion_timestamp"] = ago
    rows.tables[BRONZE.name] = [
        row for row in rows.tables[BRONZE.name] if row["ingestion_timestamp"] != first
    ]
    # Kafka still holds some of it: it counts days from another hour than Bronze.
    kafka = KAFKA | {(TOPIC, 0): OffsetRange(2, 7)}

    assert broken(rows.audit(kafka)) == expected


def test_what_was_never_retired_is_missed(rows):
    """However old it is: a lake without maintenance keeps everything."""
    ago = NOW - timedelta(days=400)
    first = rows.tables[BRONZE.name][0]["ingestion_timestamp"]
    for row in rows.tables[SILVER.name]:
        if row["bronze_ingestion_timestamp"] == first:
            row["bronze_ingestion_timestamp"] = ago
    rows.tables[BRONZE.name] = rows.tables[BRONZE.name][BATCH_ROWS:]

    assert broken(rows.audit(KAFKA)) == {BRONZE.name, SILVER.name}


def test_bronze_may_keep_an_old_day_that_silver_no_longer_has(rows):
    """The day of a partition's newest row stays, whatever the days around it do."""
    old = NOW - timedelta(days=40)
    retire(rows.home, BRONZE, 7)
    retire(rows.home, SILVER, 30)
    # Of partition 0 one row is still there from that day; those between have gone.
    again = rows.tables[BRONZE.name][0]["raw_bytes"]
    rows.tables[BRONZE.name] = [
        row | {"offset": row["offset"] + 9} for row in rows.tables[BRONZE.name]
    ]
    rows.tables[DEAD_LETTERS.name][0]["kafka_offset"] += 9
    rows.tables[BRONZE.name] += [
        bronze_row(again, 0, old),
        bronze_row(again, 0, old) | {"partition": 1},
    ]

    assert broken(rows.audit()) == set()


def age(rows, days, places):
    """Let the first rows of each table be of a day some days ago, traded and taken in."""
    back = timedelta(days=days)
    moments = {
        BRONZE.name: ("ingestion_timestamp",),
        SILVER.name: ("bronze_ingestion_timestamp",),
        DEAD_LETTERS.name: ("error_timestamp",),
    }
    for name, count in places.items():
        for row in rows.tables[name][:count]:
            for column in moments[name]:
                row[column] -= back
            for column in ("ingestion_date", "dlq_date"):
                if column in row:
                    row[column] -= back


def test_since_a_day_only_what_came_in_from_then_on_is_judged(rows):
    """A loss of ten days ago is not looked for; one of today is named."""
    age(rows, 10, {BRONZE.name: 3, SILVER.name: 3})
    today = NOW.date()
    lost = rows.tables[BRONZE.name][1]
    rows.tables[BRONZE.name].remove(lost)
    for name in rows.tables:
        rows.write(SPECS[name], *rows.tables[name])
    kafka = KAFKA | {(TOPIC, 0): OffsetRange(0, 7)}

    assert broken(audit_lake(rows.home, lambda _: kafka)) == {BRONZE.name, SILVER.name}
    report = audit_lake(rows.home, lambda _: kafka, since=today)
    assert report.breaches == []
    assert {law.name: law.expected for law in report.laws}["each record is there once"] > 0

    rows.write(SILVER, silver_row(make_minute(77), NOW + timedelta(seconds=1)))
    found = audit_lake(rows.home, lambda _: kafka, since=today)
    assert broken(found) == {SILVER.name, GOLD_TRADES.name}


def test_a_dead_letter_of_a_day_that_bronze_retired_is_no_breach(rows):
    """Judged after midnight, or by a replay a week later: it died on a younger day."""
    retire(rows.home, BRONZE, 7)
    for name, column in ((BRONZE.name, "offset"), (DEAD_LETTERS.name, "kafka_offset")):
        for row in rows.tables[name]:
            row[column] += 10
    older = dead_row(b"?", TOPIC, 3, NOW, BRONZE.name)
    rows.tables[DEAD_LETTERS.name].append(older)
    assert broken(rows.audit()) == set()

    rows.write(DEAD_LETTERS, older | {"kafka_offset": 99})
    assert broken(audit_lake(rows.home)) == {DEAD_LETTERS.name}


def test_a_trade_that_silver_no_longer_keeps_is_compared_no_more(rows):
    """Gold is for ever; a Silver row that should still be there is missed."""
    old, young = (NOW - timedelta(days=days) for days in (40, 20))
    retire(rows.home, SILVER, 30)
    extra = trade_to_record(make_trade(99)) | {"timestamp": old}
    rows.tables[GOLD_TRADES.name].append(extra)
    del rows.tables[GOLD_CANDLES.name][:]
    assert rows.audit(KAFKA).breaches == []

    late = make_trade(
        97, timestamp_us=(NOW - timedelta(days=60) - EPOCH) // timedelta(microseconds=1)
    )
    raw = TradeCodec().encode(late)
    rows.write(BRONZE, bronze_row(raw, 7, NOW + timedelta(seconds=9)))
    rows.write(SILVER, silver_row(late, NOW + timedelta(seconds=9)))
    rows.write(GOLD_TRADES, trade_to_record(late))
    report = audit_lake(rows.home)
    assert (report.breaches, report.holes) == ([], ()), "one late trade makes nothing else late"

    rows.write(GOLD_TRADES, trade_to_record(make_trade(98)) | {"timestamp": young})
    (breach,) = audit_lake(rows.home).breaches
    assert breach.examples[0].startswith("BTC/USDT 98 (")


def test_a_hole_below_what_kafka_holds_is_missed_as_any_other(rows):
    """That nobody can read it any more excuses nothing; only retention does."""
    holes = [row for row in rows.tables[BRONZE.name] if row["offset"] == 1]
    rows.tables[BRONZE.name].remove(*holes)
    report = rows.audit(KAFKA | {(TOPIC, 0): OffsetRange(2, 7)})

    (breach,) = [breach for breach in report.breaches if breach.table == BRONZE.name]
    assert breach.examples == (f"{TOPIC}/0 offsets 1 to 1",)


def test_what_kafka_deleted_before_it_was_read_is_missing_and_no_lag(rows):
    """It can never be read: the lake was away for too long."""
    report = rows.audit(KAFKA | {(TOPIC, 0): OffsetRange(100, 110)})

    (breach,) = report.breaches
    assert breach.examples == (f"{TOPIC}/0 offsets 7 to 99",)
    assert [(lag.position, lag.offsets) for lag in report.lags] == [(100, 10)]


def test_a_schema_that_is_not_known_here_is_an_error_and_no_law_that_holds(rows, tmp_path):
    """Nothing can be said of its rows; with the registry that the lake has, everything can."""
    for row in rows.tables[SILVER.name]:
        row["schema_id"] = 7
    for row in rows.tables[BRONZE.name]:
        row["raw_bytes"] = b"\0" + (7).to_bytes(4, "big") + row["raw_bytes"][5:]
    for row in rows.tables[DEAD_LETTERS.name]:
        if row["kafka_topic"] == TOPIC:
            row["raw_record"] = b"\0" + (7).to_bytes(4, "big") + row["raw_record"][5:]
    packaged = FileRegistry.packaged().get(1)
    (tmp_path / "trade.avsc").write_text(packaged.text)
    lock_schema(tmp_path, packaged.subject, "trade.avsc", 7, 1)
    registry = FileRegistry.from_folder(tmp_path)
    assert rows.audit(KAFKA, registry=registry).breaches == []
    with pytest.raises(SchemaLackingError, match=r"schema id 7, .* set K2_SCHEMAS__FOLDER"):
        audit_lake(rows.home)


def test_missing_trade_numbers_are_holes_and_no_breach(rows):
    """The tables agree with each other: what never came, only its number tells."""
    rows.tables[SILVER.name] += [silver_row(make_minute(n), NOW) for n in (9, 10)]
    encode = TradeCodec().encode
    rows.tables[BRONZE.name] += [bronze_row(encode(make_minute(n)), n - 2, NOW) for n in (9, 10)]
    rows.tables[GOLD_TRADES.name] += [trade_to_record(make_minute(n)) for n in (9, 10)]
    report = rows.audit()

    assert report.breaches == []
    (hole,) = report.holes
    assert (hole.exchange, hole.symbol, hole.missing) == ("BINANCE", "BTC/USDT", IdRange(7, 8))
    assert (hole.before, hole.after) == tuple(
        EPOCH + timedelta(microseconds=make_minute(n).timestamp_us) for n in (6, 9)
    )
    assert list_holes(rows.home, exchange="binance", symbol="BTC/USDT") == [hole]
    assert list_holes(rows.home, exchange="kraken") == list_holes(rows.home, symbol="X/Y") == []
    with pytest.raises(
        QueryError, match=r"no exchange 'binanze' in .*; there are: binance, kraken"
    ):
        list_holes(rows.home, exchange="binanze")


def test_a_report_goes_to_json(rows):
    """All of it, with what a script asks for first."""
    rows.tables[SILVER.name] += [silver_row(make_minute(9), NOW)]
    report = rows.audit(KAFKA | {(TOPIC, 1): OffsetRange(0, 1)})
    shown = json.loads(json.dumps(report.to_dict()))

    assert (shown["breaches"], shown["settled"]) == (3, False)
    assert shown["lags"] == [
        {"topic": TOPIC, "partition": 1, "position": 0, "high": 1, "offsets": 1}
    ]
    assert [(hole["first"], hole["last"], hole["count"]) for hole in shown["holes"]] == [(7, 8, 2)]
    assert {law["holds"] for law in shown["laws"]} == {True, False}


def test_where_there_is_no_lake_there_is_no_audit(tmp_path):
    """It says how to make one, and makes none."""
    with pytest.raises(CatalogError, match="no lake in"):
        audit_lake(LakeHome(tmp_path / "none"))
