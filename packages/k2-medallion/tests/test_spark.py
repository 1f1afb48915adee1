"""A session is told at its start what a lake needs, and says what its reader needs to know."""

from pathlib import Path

import pytest
from py4j.protocol import Py4JJavaError

from k2_medallion.spark import name_cause

pytestmark = [pytest.mark.spark, pytest.mark.filterwarnings("ignore::ResourceWarning")]


def warns(spark, name):
    """Tell whether a class of the JVM may log warnings."""
    log4j = spark.sparkContext._jvm.org.apache.logging.log4j
    return log4j.LogManager.getLogger(name).isWarnEnabled()


def test_everyday_retries_are_not_logged_and_other_warnings_are(spark):
    """Flows that commit at one time is what a lake is for; a page of stack for each hides the rest.

    The third class exists in this version of Spark: a name that is only written is hushed too.
    """
    assert not warns(spark, "org.apache.iceberg.util.Tasks")
    assert not warns(spark, "org.apache.spark.scheduler.FairSchedulableBuilder")
    executor = "org.apache.spark.sql.execution.streaming.runtime.ProcessingTimeExecutor"
    assert spark.sparkContext._jvm.java.lang.Class.forName(executor)
    assert not warns(spark, executor)
    assert warns(spark, "org.apache.iceberg.SnapshotProducer")


def test_what_java_unpacks_is_in_the_drivers_own_scratch(spark):
    """In /tmp nobody would clear it away after kill -9, a few MB each time."""
    jvm = spark.sparkContext._jvm
    jvm.org.xerial.snappy.Snappy.getNativeLibraryVersion()
    own = Path(spark.conf.get("spark.local.dir"))

    assert (own / "lock").is_file()
    assert list(own.glob("snappy-*.so"))


def test_of_javas_errors_the_cause_is_named_not_the_call_that_failed(spark):
    """`An error occurred while calling o1137.append.` tells nobody that Kafka was away."""
    jvm = spark.sparkContext._jvm
    cause = jvm.java.io.IOException("no room\nand a page of detail")
    with pytest.raises(Py4JJavaError) as caught:
        jvm.java.util.concurrent.CompletableFuture.failedFuture(cause).get()

    assert name_cause(caught.value) == "IOException: no room"


def test_other_errors_are_named_by_their_first_line():
    """One sentence, whatever raised."""
    assert name_cause(OSError("no room\nat all")) == "OSError: no room"
    assert name_cause(ValueError()) == "ValueError: no message"
