"""confluent-kafka serializers: its interface, our codec, no call per message."""

import sys
from typing import Any

import pytest

from k2_schemas import (
    FieldError,
    FileRegistry,
    FrameError,
    MissingExtraError,
    TradeCodec,
    UnknownSchemaError,
)
from k2_schemas.testing import make_trade
from k2_schemas.trade_codec import trade_to_record

pytest.importorskip("confluent_kafka")

from confluent_kafka.serialization import MessageField, SerializationContext

from k2_schemas.confluent import (
    AvroDeserializer,
    AvroSerializer,
    TradeDeserializer,
    TradeSerializer,
)

REGISTRY = FileRegistry.packaged()
CONTEXT = SerializationContext("market.crypto.trades.binance", MessageField.VALUE)


def test_records_go_both_ways_in_confluents_frames():
    """The bytes are those of TradeCodec; Decimals and times come back."""
    record = trade_to_record(make_trade())
    frame = AvroSerializer(REGISTRY)(record, CONTEXT)
    found = AvroDeserializer(REGISTRY)(frame, CONTEXT)

    assert frame == TradeCodec().encode(make_trade())
    assert found == record | {"message_id": found["message_id"]}
    assert str(found["message_id"]) == record["message_id"]


def test_callbacks_see_object_and_context():
    """to_dict and from_dict are called as confluent's own serializers call them."""
    seen: list[Any] = []

    def to_dict(obj: Any, context: Any) -> Any:
        seen.append(context)
        return trade_to_record(obj)

    def from_dict(record: Any, context: Any) -> Any:
        seen.append(context)
        return record["trade_id"]

    frame = AvroSerializer(REGISTRY, to_dict=to_dict)(make_trade(7), CONTEXT)

    assert AvroDeserializer(REGISTRY, from_dict)(frame, CONTEXT) == "7"
    assert seen == [CONTEXT, CONTEXT]


def test_trades_go_both_ways():
    """The pair for those who want Trade objects."""
    assert TradeDeserializer()(TradeSerializer()(make_trade(), CONTEXT), CONTEXT) == make_trade()


def test_units_are_passed_on():
    """The fast form is there too."""
    frame = TradeSerializer()(make_trade(), None)
    found = AvroDeserializer(REGISTRY, units=True)(frame)

    assert found["price"] == make_trade().price_units
    assert AvroSerializer(REGISTRY, units=True)(found) == frame


def test_a_tombstone_is_none_both_ways():
    """Kafka's null value is not a record."""
    ways = [AvroSerializer(REGISTRY), AvroDeserializer(REGISTRY)]

    assert [way(None, CONTEXT) for way in [*ways, TradeSerializer(), TradeDeserializer()]] == (
        [None] * 4
    )


def test_a_later_id_is_asked_for_once():
    """Ids of the start are compiled at the start; another is looked up when it turns up."""
    asked: list[int] = []

    class Growing(FileRegistry):
        def get(self, schema_id: int) -> Any:
            asked.append(schema_id)
            return super().get(1 if schema_id == 9 else schema_id)

    deserializer = AvroDeserializer(Growing({1: REGISTRY.get(1)}))
    frame = TradeCodec().encode(make_trade())
    later = b"\x00\x00\x00\x00\x09" + frame[5:]
    found = [deserializer(later)["trade_id"] for _ in range(3)]

    assert found == [make_trade().trade_id] * 3
    assert asked == [1, 9]


def test_bad_input_is_our_error():
    """Confluent's consumers wrap whatever a deserializer raises; the cause is ours."""
    with pytest.raises(FieldError):
        AvroSerializer(REGISTRY)({"price": 1.5}, CONTEXT)
    with pytest.raises(FrameError):
        AvroDeserializer(REGISTRY)(b"junk", CONTEXT)
    with pytest.raises(UnknownSchemaError):
        AvroDeserializer(REGISTRY)(b"\x00\x00\x00\x00\x63x", CONTEXT)


@pytest.fixture
def without_confluent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide confluent-kafka from the import system."""
    for name in [name for name in sys.modules if name.startswith("confluent_kafka")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    monkeypatch.setitem(sys.modules, "confluent_kafka.serialization", None)
    monkeypatch.delitem(sys.modules, "k2_schemas.confluent")


@pytest.mark.usefixtures("without_confluent")
def test_without_confluent_kafka_the_error_names_the_pip_command():
    """The extra is optional, its absence is not a riddle."""
    with pytest.raises(MissingExtraError, match=r"pip install 'k2-schemas\[kafka\]'"):
        import k2_schemas.confluent  # noqa: F401
