"""Topics: the contract between whoever writes trades and whoever reads them."""

from k2_schemas import topics


def test_the_topic_of_an_exchange_is_lower_case():
    """Records say BINANCE, topic names say binance."""
    assert topics.trades_topic("BINANCE") == "market.crypto.trades.binance"
    assert topics.trades_topic("kraken") == topics.trades_topic("KRAKEN")


def test_names_are_those_of_the_contract():
    """Readers elsewhere are configured with these very texts."""
    assert (topics.SUBJECT, topics.DEADLETTER_TOPIC, topics.PARTITIONS) == (
        "market.crypto.trades-value",
        "market.crypto.deadletter",
        2,
    )
    assert (topics.HEADER_VENUE, topics.HEADER_REASON, topics.HEADER_RECV_NS) == (
        "venue",
        "reason",
        "recv_ns",
    )


def test_topics_keep_seven_days_in_hourly_segments_by_arrival():
    """Seven days are what a stopped lake may take to come back."""
    assert topics.TOPIC_SETTINGS == {
        "retention.ms": "604800000",
        "segment.ms": "3600000",
        "message.timestamp.type": "LogAppendTime",
    }
