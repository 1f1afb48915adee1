"""A batch becomes visible once, audited, whoever tries again."""

import pytest
from pyspark.sql import functions as F

from k2_medallion import DEAD_LETTERS, ConservationError, open_catalog
from k2_medallion.catalog import load_table
from k2_medallion.publish import Guard, publish_rows, read_published
from k2_medallion.published import list_published
from k2_medallion.spark import table_name

pytestmark = [pytest.mark.spark, pytest.mark.filterwarnings("ignore::ResourceWarning")]

FLOW = "test"


def rows(spark, first, count):
    """Return dead letters at offsets first … first + count - 1."""
    frame = spark.range(first, first + count)
    values = {
        "raw_record": F.lit(b"x"),
        "error_reason": F.lit("test"),
        "error_type": F.lit("schema"),
        "error_timestamp": F.current_timestamp(),
        "bronze_source": F.lit("bronze"),
        "kafka_topic": F.lit("topic"),
        "kafka_partition": F.lit(0),
        "kafka_offset": F.col("id"),
        "schema_id": F.lit(1),
        "rules_fingerprint": F.lit("f"),
        "dlq_date": F.current_date(),
    }
    return frame.select(*(value.alias(name) for name, value in values.items()))


def publish(frame, publish_id, expected):
    """Publish to the dead-letter table."""
    return publish_rows(frame, DEAD_LETTERS, Guard(FLOW, publish_id), expected)


def visible(spark):
    """Return the offsets that readers see, repeated as often as they see them."""
    table = spark.table(table_name(DEAD_LETTERS))
    return sorted(row[0] for row in table.select("kafka_offset").collect())


def history(home):
    """Return the flow's published batches."""
    return list_published(load_table(open_catalog(home), DEAD_LETTERS), FLOW)


def test_a_batch_is_published_once(spark, home):
    """The same id a second time is refused and leaves no row behind."""
    assert publish(rows(spark, 0, 3), "k2:test:0=0", 3)
    assert not publish(rows(spark, 0, 3), "k2:test:0=0", 3)

    assert visible(spark) == [0, 1, 2]
    assert [published.publish_id for published in history(home)] == ["k2:test:0=0"]


def test_a_batch_that_does_not_add_up_stays_invisible(spark, home):
    """The audit counts what is staged before anyone can read it."""
    with pytest.raises(ConservationError) as caught:
        publish(rows(spark, 0, 3), "k2:test:0=0", 4)

    assert (caught.value.expected, caught.value.found) == (4, 3)
    assert visible(spark) == []
    assert history(home) == []


def test_what_a_crash_left_staged_is_never_published(spark):
    """A leftover under the same id does not reach readers when the batch is done again."""
    with pytest.raises(ConservationError):
        publish(rows(spark, 100, 3), "k2:test:0=0", 99)

    assert publish(rows(spark, 0, 3), "k2:test:0=0", 3)

    assert visible(spark) == [0, 1, 2]


def test_an_empty_batch_leaves_its_mark(spark, home):
    """A batch without rows for a table still publishes, so that it is known to be done."""
    assert publish(rows(spark, 0, 0), "k2:test:0=0", 0)

    assert [published.publish_id for published in history(home)] == ["k2:test:0=0"]


def test_two_flows_in_one_table_do_not_disturb_each_other(spark, home):
    """A publish that is no fast-forward keeps its id, and its rows can be read back alone."""
    from k2_medallion import publish as module

    staged = []
    original = module.publish_staged
    # Another flow publishes between our staging and our publish: the parent is no longer current.
    module.publish_staged = lambda *pick: staged.append(pick) or True
    try:
        publish(rows(spark, 0, 2), "k2:test:0=0", 2)
    finally:
        module.publish_staged = original
    publish_rows(rows(spark, 50, 1), DEAD_LETTERS, Guard("other", "k2:other:0=0"), 1)

    assert original(*staged[0])
    assert visible(spark) == [0, 1, 50]
    (mine,) = history(home)
    assert mine.publish_id == "k2:test:0=0"
    found = read_published(spark, DEAD_LETTERS, mine).select("kafka_offset").collect()
    assert sorted(row[0] for row in found) == [0, 1]


def test_a_published_batch_can_be_read_alone(spark, home):
    """Roll-forward reads exactly the rows of one batch, the table's first one too."""
    publish(rows(spark, 0, 2), "k2:test:0=0", 2)
    publish(rows(spark, 2, 3), "k2:test:0=2", 3)

    found = [
        sorted(
            r[0] for r in read_published(spark, DEAD_LETTERS, p).select("kafka_offset").collect()
        )
        for p in history(home)
    ]

    assert found == [[0, 1], [2, 3, 4]]


def test_the_session_carries_no_id_afterwards(spark):
    """An id left in the session would capture the next write of anyone who uses it."""
    publish(rows(spark, 0, 1), "k2:test:0=0", 1)

    assert spark.conf.get("spark.wap.id", None) is None
