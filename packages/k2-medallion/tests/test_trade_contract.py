"""A schema that adds a nullable field is learned while the lake runs, and nothing is lost."""

import json
from importlib import resources
from io import BytesIO

import pytest
from fastavro import parse_schema, schemaless_writer

import k2_schemas
from k2_medallion import DEAD_LETTERS, GOLD_TRADES, open_catalog, silver_trades
from k2_medallion.flow import Batch
from k2_medallion.fused import TradeSink
from k2_medallion.promotion import Promotion
from k2_medallion.spark import table_name
from k2_medallion.stage import FusedStage
from k2_medallion.testing import KafkaRecord, kafka_frame
from k2_medallion.trade_contract import TradeContract
from k2_schemas import FileRegistry, TradeCodec
from k2_schemas.registry import lock_schema
from k2_schemas.testing import make_trade
from k2_schemas.topics import SUBJECT
from k2_schemas.trade_codec import trade_to_record

V2_TEXT = resources.files(k2_schemas).joinpath("avro/trade_v2.avsc").read_text()
CODEC = TradeCodec()
spark_test = pytest.mark.spark


def text_with(*fields, drop=()):
    """Return contract V2 with more fields, or fewer."""
    schema = json.loads(V2_TEXT)
    schema["fields"] = [field for field in schema["fields"] if field["name"] not in drop]
    schema["fields"] += fields
    return json.dumps(schema)


VENUE_FLAG = {"name": "venue_flag", "type": ["null", "string"], "default": None}
LOT_SIZE = {"name": "lot_size", "type": ["long", "null"], "default": 100}
V3_TEXT = text_with(VENUE_FLAG, LOT_SIZE)


@pytest.fixture
def folder(tmp_path):
    """Make a folder with a lock file that knows V2 only."""
    path = tmp_path / "schemas"
    path.mkdir()
    add_schema(path, "trade_v2.avsc", V2_TEXT, 1, 1)
    return path


def add_schema(folder, name, text, schema_id, version, subject=SUBJECT):
    """Lock one more schema."""
    (folder / name).write_text(text)
    lock_schema(folder, subject, name, schema_id, version)


def contract_of(folder):
    """Open the contract as k2-lake does."""
    return TradeContract(lambda: FileRegistry.from_folder(folder))


def encode_v3(trade, **more):
    """Return a frame of V3 as another producer would write it."""
    body = BytesIO()
    schemaless_writer(body, parse_schema(json.loads(V3_TEXT)), trade_to_record(trade) | more)
    return b"\0" + (7).to_bytes(4, "big") + body.getvalue()


def test_v2_alone_has_the_fifteen_columns():
    """What ships with k2-schemas adds nothing."""
    contract = TradeContract.packaged()

    assert (contract.ids, contract.added_columns, len(contract.columns)) == ((1,), (), 15)


def test_a_schema_with_nullable_fields_adds_columns(folder):
    """A lock file that has grown is read again when an id turns up."""
    contract = contract_of(folder)
    assert not contract.learn([7])

    add_schema(folder, "trade_v3.avsc", V3_TEXT, 7, 2)

    assert contract.learn([7])
    assert contract.newest.schema_id == 7
    assert contract.added_columns == (("venue_flag", "string"), ("lot_size", "long"))


def test_garbage_does_not_make_us_ask_for_ever(folder):
    """Each question to a server takes milliseconds; a batch may hold 200,000 ids of garbage."""
    asked = []

    class Counting(FileRegistry):
        def get(self, schema_id):
            asked.append(schema_id)
            return super().get(schema_id)

    contract = TradeContract(lambda: Counting.from_folder(folder))
    asked.clear()
    add_schema(folder, "trade_v3.avsc", V3_TEXT, 7, 2)

    assert contract.learn([*range(10_000, 110_000), 7])
    assert len(asked) == 100


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        (text_with(drop=("price",)), SUBJECT),
        (text_with({"name": "must", "type": "string"}), SUBJECT),
        (V3_TEXT, "another-subject"),
    ],
)
def test_a_schema_that_breaks_the_contract_stays_unknown(folder, text, subject):
    """Its frames are dead letters: reading them would misread them."""
    contract = contract_of(folder)
    add_schema(folder, "other.avsc", text, 7, 2, subject)

    assert not contract.learn([7])
    assert contract.ids == (1,)


@spark_test
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_crash_after_silver_loses_no_new_column(spark, home, folder, monkeypatch):
    """The next driver has not learned the schema; Silver's rows say what Gold is to have."""
    catalog = open_catalog(home)
    add_schema(folder, "trade_v3.avsc", V3_TEXT, 7, 2)
    sink = TradeSink(Promotion("binance", catalog, contract_of(folder)), catalog)
    new = encode_v3(make_trade(3), venue_flag="auction", lot_size=4)
    rows = kafka_frame(spark, sink.topic, [KafkaRecord(0, 0, new)])

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Promotion, "publish_gold", die)
        with pytest.raises(KeyboardInterrupt):
            sink.write(rows, Batch(sink.flow, {0: 0}, {0: 1}))
    unknowing = Promotion("binance", catalog, TradeContract.packaged())
    list(FusedStage(unknowing, catalog).finish_pending(spark))

    columns = ("trade_id", "venue_flag", "lot_size")
    gold = spark.table(table_name(GOLD_TRADES)).select(*columns).collect()
    assert [tuple(row) for row in gold] == [("3", "auction", 4)]


@spark_test
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_v3_beside_v2_in_mid_run(spark, home, folder):
    """Both are in Gold, the tables have the new columns, V2 has the defaults, nothing is dead."""
    catalog = open_catalog(home)
    sink = TradeSink(Promotion("binance", catalog, contract_of(folder)), catalog)
    kraken = TradeSink(Promotion("kraken", catalog, contract_of(folder)), catalog)

    def write(sink, place, *values):
        records = [KafkaRecord(0, place + n, value) for n, value in enumerate(values)]
        rows = kafka_frame(spark, sink.topic, records)
        end = place + len(values)
        return sink.write(rows, Batch(sink.flow, {0: place}, {0: end}))

    write(sink, 0, CODEC.encode(make_trade(1)))
    add_schema(folder, "trade_v3.avsc", V3_TEXT, 7, 2)
    new = encode_v3(make_trade(3), venue_flag="auction", lot_size=None)
    report = write(sink, 1, CODEC.encode(make_trade(2)), new)
    # An exchange that has seen no V3 yet goes on writing into the table that has grown.
    other = make_trade(9, exchange="KRAKEN", symbol="BTC/USD", pair="BTC/USD")
    write(kraken, 0, CODEC.encode(other))

    assert (report.accepted, report.gold, dict(report.dead)) == (2, 2, {})
    assert spark.table(table_name(DEAD_LETTERS)).count() == 0
    columns = ("trade_id", "venue_flag", "lot_size")
    gold = {tuple(row) for row in spark.table(table_name(GOLD_TRADES)).select(*columns).collect()}
    assert gold == {("1", None, None), ("2", None, 100), ("3", "auction", None), ("9", None, None)}
    silver = spark.table(table_name(silver_trades("binance"))).select("trade_id", "schema_id")
    assert {tuple(row) for row in silver.collect()} == {("1", 1), ("2", 1), ("3", 7)}
