"""Flow: one topic into the lake, exactly once, whatever dies. The streaming side of a sink."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from .batch_report import BatchReport
from .errors import CheckpointError, FlowStoppedError, OffsetsLostError
from .offsets import Offsets, check_positions, describe_topic, read_offset_log

_log = structlog.get_logger()

MAX_OFFSETS_PER_BATCH = 200_000

MAX_RECORDS_PER_TASK = 20_000
"""Symbols are not alike, so neither are partitions: a large batch is cut until its tasks are."""

_CONSUMER = {
    # Spark asks the broker for the partition's ends after every poll: with Kafka's 500 records a
    # poll that is a fifth of a flow's CPU time.
    "max.poll.records": "20000",
    "max.partition.fetch.bytes": str(8 << 20),
}


@dataclass(frozen=True, slots=True)
class Batch:
    """A range of one topic: per partition from `start` (inclusive) to `end` (exclusive).

    The id names where each partition starts and nothing else, so two drivers that begin at one
    place collide, whatever their checkpoints say.
    """

    flow: str
    start: Mapping[int, int]
    end: Mapping[int, int]

    @property
    def publish_id(self) -> str:
        """`k2:<flow>:<partition>=<start offset>,…`."""
        # A partition at 0 goes unnamed, so that one which only one of the two drivers has seen yet
        # does not make their ids differ.
        places = ",".join(f"{p}={offset}" for p, offset in sorted(self.start.items()) if offset)
        return f"k2:{self.flow}:{places}"

    @property
    def offsets_read(self) -> int:
        """How many offsets the range spans."""
        return sum(self.end[p] - self.start[p] for p in self.end)


class Sink(Protocol):
    """What a flow does with its topic's records.

    `with_headers` says whether it wants them.
    """

    flow: str
    topic: str
    with_headers: bool

    def claim(self, topic_id: str) -> None:
        """Note which topic the tables' offsets belong to, or raise `TopicReplacedError`."""

    def read_positions(self, spark: SparkSession, wanted: set[int]) -> Offsets:
        """Return the next offset per partition, from the rows of the tables."""

    def write(self, rows: DataFrame, batch: Batch) -> BatchReport:
        """Publish one batch to every table of the sink."""


class Flow:
    """Runs one sink as a Spark streaming query."""

    def __init__(
        self,
        sink: Sink,
        checkpoint: Path,
        kafka: Mapping[str, str],
        *,
        trigger_s: float = 1.0,
        on_batch: Callable[[BatchReport, float], None] | None = None,
        accept_lost: bool = False,
    ) -> None:
        self.name = sink.flow
        self._accept_lost = accept_lost
        self._sink = sink
        self._checkpoint = checkpoint
        self._kafka = kafka
        self._trigger_s = trigger_s
        self._on_batch = on_batch
        self._positions: Offsets = {}
        self._in_batch = threading.Lock()
        self._batch_began_s: float | None = None
        self._stopping = False
        self._failure: Exception | None = None
        self._query: StreamingQuery | None = None
        self._log = _log.bind(flow=sink.flow)

    def start(self, spark: SparkSession) -> bool:
        """Find the position in the tables and start reading from there.

        Returns False, with nothing started, while the topic does not exist. Raises
        `OffsetsLostError` if Kafka has deleted what was not read, unless that is accepted.
        """
        own = spark.newSession()
        topic = describe_topic(own, self._kafka, self._sink.topic)
        if topic is None:
            return False
        self._sink.claim(topic.topic_id)
        held = self._sink.read_positions(own, set(topic.earliest))
        lost = check_positions(topic, self._sink.topic, held)
        for partition, (first, end) in lost.items():
            if not self._accept_lost:
                raise OffsetsLostError(self._sink.topic, partition, first, end)
            self._log.error("offsets_lost", partition=partition, first=first, end=end)
            held[partition] = end
        if lost:
            # It goes on where Kafka has nothing any more; the tables know where they are.
            shutil.rmtree(self._checkpoint, ignore_errors=True)
        self._positions = topic.earliest | held
        self._log.info("positions", topic=self._sink.topic, offsets=self._positions)
        spark.sparkContext.setLocalProperty("spark.scheduler.pool", self.name)
        self._query = (
            self._read_stream(own)
            .writeStream.queryName(self.name)
            .foreachBatch(self._process)
            .option("checkpointLocation", str(self._checkpoint))
            .trigger(processingTime=f"{self._trigger_s} seconds")
            .start()
        )
        return True

    @property
    def lag_offsets(self) -> int:
        """Offsets that Kafka had when the newest batch was planned and that are not read yet."""
        progress = self._query.lastProgress if self._query is not None else None
        if progress is None:
            return 0
        average = progress.sources[0].metrics.get("avgOffsetsBehindLatest", "0")
        return round(float(average) * len(self._positions))

    @property
    def batch_s(self) -> float:
        """How long the batch under way has taken so far; 0 between batches."""
        began_s = self._batch_began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def check(self) -> None:
        """Raise what ended the query, if something did."""
        if self._query is None or self._query.isActive or self._stopping:
            return
        error = self._failure or self._query.exception()
        raise error if error is not None else FlowStoppedError(f"flow {self.name} ended by itself")

    def stop(self) -> None:
        """Stop between two batches: a running batch is finished, a new one writes nothing."""
        self._stopping = True
        with self._in_batch:
            pass
        if self._query is not None:
            self._query.stop()
        self._log.info("stopped", offsets=self._positions)

    def _read_stream(self, spark: SparkSession) -> DataFrame:
        starting = {self._sink.topic: {str(p): offset for p, offset in self._positions.items()}}
        consumer = {**_CONSUMER, **self._kafka}
        reader = spark.readStream.format("kafka").options(
            **{f"kafka.{key}": value for key, value in consumer.items()}
        )
        return (
            reader.option("subscribe", self._sink.topic)
            .option("startingOffsets", json.dumps(starting))
            .option("maxOffsetsPerTrigger", MAX_OFFSETS_PER_BATCH)
            .option("maxRecordsPerPartition", MAX_RECORDS_PER_TASK)
            .option("failOnDataLoss", "true")
            .option("includeHeaders", self._sink.with_headers)
            .load()
        )

    def _process(self, rows: DataFrame, epoch: int) -> None:
        with self._in_batch:
            if self._stopping:
                raise FlowStoppedError(f"flow {self.name} is stopping")
            self._batch_began_s = time.monotonic()
            try:
                self._write_epoch(rows, epoch)
            except Exception as error:
                # Kept as it is: Spark would hand it back as text inside an error of its own.
                self._failure = error
                raise
            finally:
                self._batch_began_s = None

    def _write_epoch(self, rows: DataFrame, epoch: int) -> None:
        began = time.monotonic()
        batch, replayed = self._plan_batch(epoch)
        if not batch.offsets_read:
            return
        if replayed:
            rows = self._drop_known(rows, batch)
        report = self._sink.write(rows, batch)
        self._positions |= batch.end
        taken = time.monotonic() - began
        self._log.info("batch", epoch=epoch, **report.to_event(), seconds=round(taken, 3))
        if self._on_batch is not None:
            self._on_batch(report, taken)

    def _plan_batch(self, epoch: int) -> tuple[Batch, bool]:
        """Return the part of an epoch that the tables lack, and whether they had some of it."""
        end = read_offset_log(self._checkpoint, epoch)
        if end is None:
            raise CheckpointError(self.name, self._checkpoint, f"epoch {epoch} has no offset log")
        planned = read_offset_log(self._checkpoint, epoch - 1) or dict(self._positions)
        start = {p: self._positions.get(p, 0) for p in end}
        for partition, held in start.items():
            read = planned.get(partition, held)
            if read > held:
                problem = (
                    f"partition {partition} is at offset {held} in the tables, the checkpoint goes "
                    f"on at {read}"
                )
                raise CheckpointError(self.name, self._checkpoint, problem)
        end = {p: max(offset, start[p]) for p, offset in end.items()}
        replayed = any(planned.get(p, held) < held for p, held in start.items())
        return Batch(self.name, start, end), replayed

    def _drop_known(self, rows: DataFrame, batch: Batch) -> DataFrame:
        fresh = F.lit(False)
        for place, position in batch.start.items():
            fresh = fresh | ((F.col("partition") == place) & (F.col("offset") >= position))
        return rows.where(fresh)
