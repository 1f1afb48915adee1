"""Publish: trades and dead letters into Kafka. A failed delivery raises; nothing is dropped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from k2_schemas import FieldError, Trade, TradeCodec
from k2_schemas.topics import (
    DEADLETTER_TOPIC,
    HEADER_REASON,
    HEADER_RECV_NS,
    HEADER_VENUE,
    PARTITIONS,
    TOPIC_SETTINGS,
    trades_topic,
)

from .errors import BrokerRefusalError, BrokerSilentError, PublishError

_MAX_REASON_CHARS = 1000
_REFUSALS = (KafkaError._SSL, KafkaError._AUTHENTICATION)


class Publisher(Protocol):
    """Where a feed puts what it decoded."""

    on_acknowledged: Callable[[Sequence[Trade]], None] | None
    """Called with the trades of a `publish` once all of them are safe where they were published."""

    def publish(self, trades: Sequence[Trade]) -> int:
        """Queue trades in their order; return how many of the first there was room for.

        Raises `PublishError` if an earlier record could not be delivered, `k2_schemas.FieldError`
        when the first trade has no bytes; those before one without bytes are queued.
        """

    def publish_dead_letter(
        self,
        frame: bytes,
        venue: str,
        reason: str,
        recv_ns: int,
        acknowledged: Callable[[], None] | None = None,
    ) -> bool:
        """Queue a frame that could not become trades, as it came; tell if there was room.

        `acknowledged` is called once the record is safe. Raises as `publish` does.
        """

    def serve(self) -> None:
        """Let acknowledgements come in; raise `PublishError` if one says no."""

    def flush(self, timeout_s: float | None = None) -> None:
        """Return once everything queued is acknowledged, or raise `PublishError`, in time.

        Without a time for as long as the records themselves may wait.
        """


class KafkaPublisher:
    """An idempotent producer: acks from all replicas, order kept, a full queue takes no more."""

    def __init__(
        self,
        bootstrap_servers: str,
        codec: TradeCodec | None = None,
        client_settings: Mapping[str, str | int | bool] | None = None,
    ) -> None:
        self._encode = (codec or TradeCodec()).encode
        self._topics: dict[str, str] = {}
        self._failure: PublishError | None = None
        self.on_acknowledged: Callable[[Sequence[Trade]], None] | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": 20,
                "queue.buffering.max.messages": 100_000,
                "queue.buffering.max.kbytes": 65_536,
                **(client_settings or {}),
            }
        )

    def publish(self, trades: Sequence[Trade]) -> int:
        """Queue trades, each under its symbol; see `Publisher.publish`."""
        self._raise_failure()
        delivery = _Delivery(self, list(trades))
        queued = self._queue(trades, delivery)
        del delivery.trades[queued:]
        delivery.awaited = queued
        return queued

    def _queue(self, trades: Sequence[Trade], delivery: _Delivery) -> int:
        encode, produce = self._encode, self._producer.produce
        for place, trade in enumerate(trades):
            try:
                value = encode(trade)
            except FieldError:
                if place == 0:
                    raise
                return place
            topic = self._topics.get(trade.exchange)
            if topic is None:
                topic = self._topics[trade.exchange] = trades_topic(trade.exchange)
            try:
                # By place and without headers: naming them costs as much again as producing.
                produce(topic, value, trade.symbol, -1, delivery)
            except BufferError:
                return place
            except KafkaException as error:
                raise PublishError(topic, error.args[0].str()) from error
        return len(trades)

    def publish_dead_letter(
        self,
        frame: bytes,
        venue: str,
        reason: str,
        recv_ns: int,
        acknowledged: Callable[[], None] | None = None,
    ) -> bool:
        """Queue a frame for the dead letters; see `Publisher.publish_dead_letter`."""
        headers: list[tuple[str, str | bytes | None]] = [
            (HEADER_VENUE, venue),
            (HEADER_REASON, reason[:_MAX_REASON_CHARS]),
            (HEADER_RECV_NS, str(recv_ns)),
        ]
        note = partial(self._note_letter, acknowledged)
        self._raise_failure()
        try:
            self._producer.produce(
                DEADLETTER_TOPIC, frame, venue, on_delivery=note, headers=headers
            )
        except BufferError:
            return False
        except KafkaException as error:
            raise PublishError(DEADLETTER_TOPIC, error.args[0].str()) from error
        return True

    def serve(self) -> None:
        """Let acknowledgements come in; see `Publisher.serve`."""
        self._serve_callbacks(self._producer.poll, 0)
        self._raise_failure()

    def flush(self, timeout_s: float | None = None) -> None:
        """Return once everything queued is acknowledged; see `Publisher.flush`."""
        deadline_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while self._failure is None:
            left_s = deadline_s - time.monotonic()
            waiting = self._serve_callbacks(self._producer.flush, min(1.0, max(0.0, left_s)))
            if not waiting:
                break
            if left_s <= 0:
                reason = f"{waiting:,} records were not acknowledged within {timeout_s:g} s"
                raise PublishError("every topic", reason)
        self._raise_failure()

    def _serve_callbacks(self, serve: Callable[[float], int], timeout_s: float) -> int:
        try:
            return serve(timeout_s)
        except (KafkaException, SystemError) as error:
            # The client has given up for good. It says so by an exception set while our callback
            # runs, which Python reports as a SystemError.
            raise PublishError("every topic", str(error.__cause__ or error)) from error

    def note_failure(self, error: KafkaError, message: Message) -> None:
        """Remember the first record that Kafka did not take: whatever comes next raises it."""
        if self._failure is None:
            self._failure = PublishError(message.topic() or "?", error.str())

    def _note_letter(
        self, acknowledged: Callable[[], None] | None, error: KafkaError | None, message: Message
    ) -> None:
        if error is not None:
            self.note_failure(error, message)
        elif acknowledged is not None:
            acknowledged()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


class _Delivery(msgspec.Struct, gc=False):
    """What Kafka says of trades that were queued together, once for each.

    A full queue of them is nothing for the gc to walk through.
    """

    publisher: KafkaPublisher
    trades: list[Trade]
    awaited: int = 0

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        """Note it; the trades are safe with the last of them, and not if one of them failed."""
        if error is not None:
            self.publisher.note_failure(error, message)
            return
        self.awaited -= 1
        if self.awaited == 0 and self.publisher.on_acknowledged is not None:
            self.publisher.on_acknowledged(self.trades)


def check_brokers(
    bootstrap_servers: str,
    client_settings: Mapping[str, str | int | bool] | None = None,
    timeout_s: float = 10.0,
) -> None:
    """Raise `BrokerSilentError` if no broker answers in time.

    Raises `BrokerRefusalError` if one answers that does not trust us, or we not it.
    """
    said: list[KafkaError] = []
    settings: dict[str, Any] = {
        "bootstrap.servers": bootstrap_servers,
        "log_level": 0,
        "error_cb": said.append,
        **(client_settings or {}),
    }
    admin = AdminClient(settings)
    try:
        admin.list_topics(timeout=timeout_s)
    except KafkaException as error:
        admin.poll(0)
        # That it timed out says less than what it met again and again until then.
        telling = [found.str() for found in said if found.code() in _REFUSALS]
        if telling:
            raise BrokerRefusalError(bootstrap_servers, telling[0]) from error
        raise BrokerSilentError(bootstrap_servers, error.args[0].str()) from error


def create_topics(
    bootstrap_servers: str,
    exchanges: Iterable[str],
    client_settings: Mapping[str, str | int | bool] | None = None,
    timeout_s: float = 30.0,
) -> None:
    """Create the topics of these exchanges and the dead letters; existing ones stay as they are."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, **(client_settings or {})})
    names = [*map(trades_topic, exchanges), DEADLETTER_TOPIC]
    topics = [NewTopic(name, num_partitions=PARTITIONS, config=TOPIC_SETTINGS) for name in names]
    for name, future in admin.create_topics(topics, request_timeout=timeout_s).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise PublishError(name, error.args[0].str()) from error
