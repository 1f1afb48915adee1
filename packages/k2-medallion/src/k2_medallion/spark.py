"""Spark: a session that shares the lake's catalog. The only place that starts a JVM for Spark."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .catalog import CATALOG_NAME, LakeHome
from .errors import MissingExtraError
from .scratch import take_scratch
from .tables import TableSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_JVM_OPTIONS = (
    "-Duser.timezone=UTC",
    "-XX:+UseSerialGC",
    # Decoding and judging a row is one generated method above HotSpot's limit of 8,000 bytes of
    # bytecode; without this it is interpreted for ever, at a third of the speed.
    "-XX:-DontCompileHugeMethods",
    # glibc keeps what is freed: the hour's sorted rewrite left 30 MB more to the end (ADR 0011).
    # A Java before 17.0.9 does not know the interval (in ms), and would not start.
    "-XX:+IgnoreUnrecognizedVMOptions",
    "-XX:TrimNativeHeapInterval=60000",
    # A length prefix in a poison record must not become an allocation of gigabytes.
    "-Dorg.apache.avro.limits.string.maxLength=1048576",
    "-Dorg.apache.avro.limits.bytes.maxLength=1048576",
    "-Dorg.apache.avro.limits.collectionItems.maxLength=65536",
)

_PREFIX = f"spark.sql.catalog.{CATALOG_NAME}"

SHORT_RUN_OPTIONS = ("-XX:TieredStopAtLevel=1", "-Xms256m", "-XX:-AlwaysPreTouch")
"""For runs of a minute: a first batch in two thirds of the time and 0.5 GB less, for a third less
throughput once warm (measured with `k2 demo`, 20,000 and 500,000 trades)."""

SECRET_NAMES = (
    r"(?i)secret|password|passphrase|token|credential|jaas|ssl\.key(?!store)"  # noqa: S105 - names
    r"|(access|account|private|api|sse)[._-]?key"
)
"""What a setting is called whose value nobody may read."""

_JOINED = {
    "spark.driver.extraJavaOptions": " ",
    "spark.executor.extraJavaOptions": " ",
    "spark.redaction.regex": "|",
}
"""Settings that are added to ours, and by what: in their place they would take our bounds away."""

_SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "WARN",
    # What a task has fetched beyond its range is kept for whoever goes on there: by default five
    # minutes, which a catch-up fills with every record it has read, until the heap is full.
    "spark.kafka.consumer.fetchedData.cache.timeout": "5s",
    "spark.kafka.consumer.fetchedData.cache.evictorThreadRunInterval": "1s",
    "spark.scheduler.mode": "FAIR",
    "spark.serializer": "org.apache.spark.serializer.KryoSerializer",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.autoBroadcastJoinThreshold": str(32 << 20),
    # A judged row has more than the 100 columns (nested ones count) up to which Spark fuses a plan.
    "spark.sql.codegen.maxFields": "500",
    "spark.sql.streaming.noDataMicroBatches.enabled": "false",
    "spark.sql.streaming.numRecentProgressUpdates": "10",
    "spark.sql.streaming.minBatchesToRetain": "20",
    "spark.sql.ui.retainedExecutions": "20",
    "spark.redaction.regex": SECRET_NAMES,
}

_LOCAL_SETTINGS = {
    # Hadoop's own starts four processes of `chmod` for a file it writes, and one of `readlink` for
    # one it renames. Without them a batch takes a fifth less (docs/adr/0010-local-files.md).
    "spark.hadoop.fs.file.impl": "com.globalmentor.apache.hadoop.fs.BareLocalFileSystem",
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing."
        "FileSystemBasedCheckpointFileManager"
    ),
}
"""Not on a cluster, where executors would need the class before they have our jars."""

_HUSHED = (
    # A commit that lost a race against another flow is tried again, with a page of stack each time.
    "org.apache.iceberg.util.Tasks",
    # Each flow's pool is made when it is first named.
    "org.apache.spark.scheduler.FairSchedulableBuilder",
    # How long a batch took is in its own event.
    "org.apache.spark.sql.execution.streaming.runtime.ProcessingTimeExecutor",
)
"""Classes whose warnings are everyday life here; their errors are still logged."""


def table_name(spec: TableSpec) -> str:
    """Return the name by which Spark SQL knows a table."""
    return f"{CATALOG_NAME}.{spec.identifier}"


def load_java_table(spark: SparkSession, spec: TableSpec) -> Any:
    """Return Iceberg's own object of a table, for what neither SQL nor pyiceberg can do."""
    assert spark._jvm is not None
    # The loader takes its catalog from whichever session this thread used last.
    spark._get_j_spark_session_class(spark._jvm).setActiveSession(spark._jsparkSession)
    load = spark._jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable
    return load(spark._jsparkSession, table_name(spec))


def open_session(
    home: LakeHome,
    *,
    java_home: Path,
    jars: Sequence[Path],
    master: str = "local[2]",
    driver_memory: str = "1g",
    driver_host: str = "127.0.0.1",
    java_options: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> SparkSession:
    """Start the JVM and return a session on the lake's catalog.

    Everything a JVM must know at launch is given here, so there must be no session yet in this
    process. Raises `MissingExtraError` when pyspark is not installed.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise MissingExtraError("pyspark", "spark") from None
    # pyspark's launcher takes its Java, and nothing else can give it one, from the environment.
    os.environ["JAVA_HOME"] = str(java_home)
    # glibc gives every thread a heap of its own, which grows to what that thread has ever used.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    scratch = take_scratch(home.path / "spark")
    builder = SparkSession.builder.master(master).appName("k2-lake")
    ours = {
        **_SETTINGS,
        **catalog_settings(home),
        "spark.driver.memory": driver_memory,
        "spark.driver.host": driver_host,
        "spark.driver.extraClassPath": os.pathsep.join(map(str, jars)),
        "spark.driver.extraJavaOptions": " ".join(
            [*_JVM_OPTIONS, *_take_heap(driver_memory), *_write_to(scratch), *java_options]
        ),
        **(_LOCAL_SETTINGS if master.startswith("local") else _cluster_settings(jars)),
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch),
    }
    for key, value in {**ours, **(settings or {})}.items():
        join = _JOINED.get(key)
        both = join and key in ours and key in (settings or {})
        builder = builder.config(key, f"{ours[key]}{join}{value}" if both else value)
    session = builder.getOrCreate()
    _give_secrets(session, home)
    _hush(session)
    return session


def _take_heap(size: str) -> tuple[str, ...]:
    """Take the whole heap at the start: one that grows does so for hours, to the same size."""
    return f"-Xms{size}", "-XX:+AlwaysPreTouch"


def _write_to(scratch: Path) -> tuple[str, ...]:
    """Unpack native libraries where they are cleared away, whatever the folder is called."""
    path = str(scratch).replace("\\", r"\\").replace('"', r"\"")
    return (f'-Djava.io.tmpdir="{path}"',)


def _cluster_settings(jars: Sequence[Path]) -> dict[str, str]:
    """Give executors of another JVM, or of another machine, what this one is started with."""
    return {
        "spark.jars": ",".join(path.resolve().as_uri() for path in jars),
        "spark.executor.extraJavaOptions": " ".join(_JVM_OPTIONS),
    }


def catalog_settings(home: LakeHome) -> dict[str, str]:
    """Return what a session must be told to find the home's tables."""
    prefix = _PREFIX
    file = home.catalog_file.resolve()
    return {
        prefix: "org.apache.iceberg.spark.SparkCatalog",
        f"{prefix}.type": "jdbc",
        f"{prefix}.uri": f"jdbc:sqlite:{file}?journal_mode=WAL&busy_timeout=30000",
        f"{prefix}.warehouse": home.warehouse,
        f"{prefix}.jdbc.schema-version": "V1",
        # The cache showed stale rows after another process had committed.
        f"{prefix}.cache-enabled": "false",
        **_under(prefix, {} if home.store is None else home.store.spark_properties),
    }


def _give_secrets(session: SparkSession, home: LakeHome) -> None:
    """Tell the running JVM what nobody may read in a list of processes or in a log of settings."""
    if home.store is not None:
        running: Any = session.sparkContext._jsc
        for key, value in _under(_PREFIX, home.store.secrets).items():
            # Into the context's settings: sessions made later take theirs from there.
            running.sc().conf().set(key, value)
            session.conf.set(key, value)


@contextmanager
def hush(session: SparkSession, name: str) -> Iterator[None]:
    """Let Java's classes of a name log nothing for a while."""
    log4j = _log4j(session)
    before = log4j.LogManager.getLogger(name).getLevel()
    log4j.core.config.Configurator.setLevel(name, log4j.Level.OFF)
    try:
        yield
    finally:
        log4j.core.config.Configurator.setLevel(name, before)


def name_cause(error: Exception) -> str:
    """Return an error's kind and the first line of what it says; of Java's, the innermost's.

    Py4J's own message names only the call that failed. Once the JVM is gone, it is all there is.
    """
    from py4j.protocol import Py4JError, Py4JJavaError

    kind, said = type(error).__name__, str(error)
    if isinstance(error, Py4JJavaError):
        with suppress(Py4JError, OSError):
            kind, said = _read_java_cause(error.java_exception)
    lines = said.strip().splitlines() or ["no message"]
    return f"{kind}: {lines[0]}"


def _read_java_cause(found: Any) -> tuple[str, str]:
    while found.getCause() is not None:
        found = found.getCause()
    return str(found.getClass().getSimpleName()), str(found.getMessage())


def _hush(session: SparkSession) -> None:
    log4j = _log4j(session)
    for name in _HUSHED:
        log4j.core.config.Configurator.setLevel(name, log4j.Level.ERROR)


def _log4j(session: SparkSession) -> Any:
    jvm: Any = session.sparkContext._jvm
    return jvm.org.apache.logging.log4j


def _under(prefix: str, settings: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix}.{key}": value for key, value in settings.items()}
