"""Requeue: dead records to the end of their topic again, to be judged by today's rules.

The new offset runs the whole pipeline; the old row stays where it is. A header of the new record
says where it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from k2_medallion import LakeReader, bronze_trades
from k2_schemas import SchemaError, TradeCodec

from .dead_letter import (
    DeadLetter,
    Place,
    count_returns,
    list_exchange_topics,
    split_by_exchange,
)
from .errors import RequeueError
from .options import ClientSettings
from .watermarks import check_answers

HEADER_REQUEUED_FROM = "k2-requeued-from"

_FLUSH_TIMEOUT_S = 30.0

Note = Callable[[KafkaError | None, Message], None]


@dataclass(frozen=True, slots=True)
class Requeueing:
    """What may go back to its topic, and why the rest may not.

    `keys` are the records' keys in Kafka, None for one without. `returned` gives, of the letters
    whose bytes have come again since they died, how often; they are not among `letters` unless that
    was asked for. `foreign` are no records of a trade topic.
    """

    letters: Sequence[DeadLetter]
    keys: dict[Place, bytes | None]
    returned: dict[Place, int]
    foreign: Sequence[DeadLetter]


def plan_requeueing(lake: LakeReader, letters: Sequence[DeadLetter], *, again: bool) -> Requeueing:
    """Sort dead letters into what may be produced again and what may not."""
    topics = list_exchange_topics(lake)
    chosen: list[DeadLetter] = []
    keys: dict[Place, bytes | None] = {}
    returned: dict[Place, int] = {}
    for exchange, own in split_by_exchange(letters, topics):
        returned |= count_returns(lake, exchange, own)
        wanted = [letter for letter in own if again or letter.place not in returned]
        keys |= _find_keys(lake, exchange, wanted)
        chosen += wanted
    foreign = [letter for letter in letters if letter.place.topic not in topics]
    return Requeueing(chosen, keys, returned, foreign)


def requeue(bootstrap_servers: str, plan: Requeueing, client: ClientSettings | None = None) -> None:
    """Produce the letters again and wait until Kafka has them all; raise `RequeueError` if not.

    Raises `KafkaSilentError`, with nothing produced, if Kafka does not answer.
    """
    check_answers(bootstrap_servers, client)
    failures: list[str] = []

    def note(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error.str())

    producer = Producer(
        {
            **(client or {}),
            "bootstrap.servers": bootstrap_servers,
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": int(_FLUSH_TIMEOUT_S * 1000),
            "log_level": 0,
        }
    )
    try:
        for letter in plan.letters:
            _produce(producer, letter, plan.keys[letter.place], note)
        left = producer.flush(_FLUSH_TIMEOUT_S)
    except KafkaException as error:
        raise RequeueError(bootstrap_servers, error.args[0].str(), len(plan.letters)) from error
    if failures or left:
        reason = failures[0] if failures else f"no answer in {_FLUSH_TIMEOUT_S:.0f} s"
        raise RequeueError(bootstrap_servers, reason, len(failures) + left)


def _produce(producer: Producer, letter: DeadLetter, key: bytes | None, note: Note) -> None:
    headers: list[tuple[str, str | bytes | None]] = [(HEADER_REQUEUED_FROM, str(letter.place))]
    while True:
        try:
            producer.produce(letter.place.topic, letter.raw, key, on_delivery=note, headers=headers)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def _find_keys(
    lake: LakeReader, exchange: str, letters: Sequence[DeadLetter]
) -> dict[Place, bytes | None]:
    """Return each record's key: as Bronze has it, or from its own bytes where Bronze no longer."""
    offsets = ", ".join(sorted({str(letter.place.offset) for letter in letters}))
    if not offsets:
        return {}
    rows = lake.sql(
        f'SELECT topic, partition, "offset", message_key FROM {bronze_trades(exchange).name}'
        f' WHERE "offset" IN ({offsets})'
    ).to_arrow()
    held = {
        Place(row["topic"], row["partition"], row["offset"]): row["message_key"]
        for row in rows.to_pylist()
    }
    return {
        letter.place: _encode(held[letter.place])
        if letter.place in held
        else _decode_key(letter.raw)
        for letter in letters
    }


def _encode(key: str | None) -> bytes | None:
    return None if key is None else key.encode()


def _decode_key(raw: bytes | None) -> bytes | None:
    """Return the symbol of a record that decodes: the key of every trade."""
    try:
        return None if raw is None else TradeCodec().decode(raw).symbol.encode()
    except SchemaError:
        return None
