"""Conformance: what every venue must do, checked on canonical payloads of its own.

For the tests of a package that brings a venue: `check_venue(MyVenue, Payloads(...))`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from k2_schemas import Trade, TradeCodec

from ..errors import ConformanceError, SubscriptionRejectedError
from ..event import BACKFILL, ORIGIN
from ..rest import Hole, RestPage, RestRequest, RestResponse
from ..venue import Decoded, Venue
from .emission import SentTrade

RECV_US = 1_790_446_200_000_000
_MAX_PAGES = 1_000
_DAMAGED = 300
_JUNK = (
    *(b"", b"{", b"<html>502</html>", b"\xff\xfe\x00", b"null", b"1", b'"x"', b"[]", b"[[1]]"),
    *(b"{}", b'{"what":"is this"}', b"[" * 100_000, b'{"x":' * 50_000, b'{"price":NaN}'),
)
_DAMAGES = (b"", b"0", b"-", b'"', b"{", b"]", b"null", b"1e999", b"\xff", b"9" * 30)


@dataclass(frozen=True, slots=True)
class Payloads:
    """What a venue's exchange sends; write them by hand, from the venue's own documentation.

    `frames` are trade frames with the trades they hold. `acknowledgements` together confirm every
    pair of `symbols`; `control` are other frames that hold no trade; `refusals` refuse a symbol.
    `history` are trades of one pair, ascending and without a hole; `answer` is what the venue's
    REST, having them, would say to a request: a whole page, however it pages; `unknown_pairs` is
    what it says about a pair that it does not have.
    """

    symbols: Sequence[str]
    frames: Sequence[tuple[bytes, Sequence[SentTrade]]]
    acknowledgements: Sequence[bytes]
    history: Sequence[SentTrade]
    answer: Callable[[RestRequest], RestResponse]
    control: Sequence[bytes] = ()
    refusals: Sequence[bytes] = ()
    unknown_pairs: Sequence[RestResponse] = ()


def check_venue(make: Callable[..., Venue], payloads: Payloads) -> None:
    """Raise `ConformanceError` for the first thing that a venue does not do as it must.

    `make(symbols, base_url=None, rest_url=None)` returns the venue.
    """
    for check in (
        _check_endpoints,
        _check_frames,
        _check_runs,
        _check_repetition,
        _check_replies,
        _check_junk,
        _check_damage,
        _check_rest,
        _check_refused_rest,
        _check_damaged_rest,
    ):
        check(make, payloads)


def _require(condition: object, behaviour: str, found: object) -> None:
    if not condition:
        raise ConformanceError(behaviour, repr(found))


def _check_endpoints(make: Callable[..., Venue], payloads: Payloads) -> None:
    venue = make(payloads.symbols)
    urls = list(venue.urls)
    _require(urls and len(set(urls)) == len(urls), "has endpoints, each once", urls)
    _require(all(u.startswith("wss://") for u in urls), "verifies TLS on every endpoint", urls)
    moved = make(payloads.symbols, base_url="ws://127.0.0.1:1/x", rest_url="http://127.0.0.1:2/y")
    _require(
        [u.startswith("ws://127.0.0.1:1/x") for u in moved.urls] == [True],
        "`base_url` replaces every endpoint by one",
        list(moved.urls),
    )
    url = moved.first_request(_hole_of(payloads.history)).url
    _require(url.startswith("http://127.0.0.1:2/y"), "`rest_url` replaces the host of REST", url)
    elsewhere = moved.of(payloads.symbols[:1])
    _require(list(elsewhere.urls) == list(moved.urls), "stays where it is by `of`", elsewhere.urls)
    _require(len(elsewhere.instruments) == 1, "has the symbols it is told by `of`", elsewhere)
    for pairs in ([i.pair for i in venue.instruments], [next(iter(venue.instruments)).pair]):
        _require(venue.subscribe_frames(pairs), "subscribes by at least one frame", pairs)
        _require(venue.unsubscribe_frames(pairs), "unsubscribes by at least one frame", pairs)
    _require(
        not venue.ping_every_s or venue.ping_frame(), "has a ping frame if it pings", venue.name
    )


def _check_frames(make: Callable[..., Venue], payloads: Payloads) -> None:
    for frame, sent in payloads.frames:
        decoded = make(payloads.symbols).decode(frame, RECV_US)
        found = [_to_sent(trade) for trade in decoded.trades]
        _require(found == _exact(sent), "decodes every trade to its exact digits", found)
        left = (list(decoded.rejections), decoded.control, list(decoded.dead_ids))
        _require(left == ([], None, []), "finds nothing but trades in a trade frame", left)
        codec = TradeCodec()
        wire = [_to_sent(codec.decode(codec.encode(trade))) for trade in decoded.trades]
        _require(wire == found, "makes trades that the contract holds without loss", wire)


def _check_runs(make: Callable[..., Venue], payloads: Payloads) -> None:
    """A venue may decode runs of frames; it must then find what it finds one by one."""
    decode_run = getattr(make(payloads.symbols), "decode_run", None)
    if decode_run is None:
        return
    frames = [frame for frame, _ in payloads.frames]
    venue = make(payloads.symbols)
    alone = [_to_sent(t) for frame in frames for t in venue.decode(frame, RECV_US).trades]
    found = [_to_sent(trade) for trade in decode_run([*frames, *_JUNK, *frames], RECV_US)]
    is_prefix = found == alone[: len(found)] and len(found) <= len(frames)
    _require(is_prefix, "decodes a run as its frames, up to one that is no trade", found)


def _check_repetition(make: Callable[..., Venue], payloads: Payloads) -> None:
    venue = make(payloads.symbols)
    frame, sent = payloads.frames[0]
    first, again = (list(venue.decode(frame, RECV_US + n).trades) for n in (0, 1))
    same = [a.message_id == b.message_id for a, b in zip(first, again, strict=True)]
    _require(all(same), "gives a trade sent twice one identity", same)
    numbers = [trade.source_sequence for trade in first]
    _require(numbers == [int(t.trade_id) for t in sent], "numbers trades by their id", numbers)


def _check_replies(make: Callable[..., Venue], payloads: Payloads) -> None:
    venue = make(payloads.symbols)
    replies = [venue.decode(frame, RECV_US) for frame in payloads.acknowledgements]
    pairs = {pair for reply in replies for pair in reply.acknowledged}
    wanted = {instrument.pair for instrument in venue.instruments}
    _require(pairs == wanted, "names every pair that was acknowledged", sorted(pairs))
    for frame in payloads.control:
        decoded = venue.decode(frame, RECV_US)
        is_control = decoded.control and not decoded.trades and not decoded.rejections
        _require(is_control, "names frames that are no trades", (frame, decoded))
    for frame in payloads.refusals:
        decoded_or_none = _decode(venue, frame)
        _require(decoded_or_none is None, "raises when a symbol is refused", frame)


def _check_junk(make: Callable[..., Venue], payloads: Payloads) -> None:
    for frame in _JUNK:
        decoded = make(payloads.symbols).decode(frame, RECV_US)
        reasons = list(decoded.rejections)
        _require(
            len(reasons) == 1 and reasons[0] and not decoded.trades and decoded.control is None,
            "rejects what is no frame of the venue, with one reason",
            (frame[:40], decoded),
        )


def _check_damage(make: Callable[..., Venue], payloads: Payloads) -> None:
    for frame in _damage([frame for frame, _ in payloads.frames]):
        decoded = _decode(make(payloads.symbols), frame)
        said = decoded is None or decoded.trades or decoded.rejections or decoded.control
        _require(said, "says something about every frame", frame)


def _check_rest(make: Callable[..., Venue], payloads: Payloads) -> None:
    venue, history = make(payloads.symbols), payloads.history
    middle = history[len(history) // 3 : len(history) // 3 * 2 + 1]
    for wanted in (history, middle, history[-1:]):
        before = [t for t in history if int(t.trade_id) < int(wanted[0].trade_id)]
        hole = _hole_of(wanted, before[-1].timestamp_us if before else None)
        trades = list(_fetch(venue, payloads, hole))
        _require(
            [_to_sent(trade) for trade in trades] == _exact(wanted),
            "fetches exactly the ids of a hole, ascending",
            [trade.trade_id for trade in trades],
        )
        origins = {trade.vendor_data.get(ORIGIN) for trade in trades}
        _require(origins == {BACKFILL}, "marks fetched trades by their origin", origins)
    live = {
        (trade.pair, trade.trade_id): trade.message_id
        for frame, _ in payloads.frames
        for trade in venue.decode(frame, RECV_US).trades
    }
    for trade in _fetch(venue, payloads, _hole_of(history)):
        known = live.get((trade.pair, trade.trade_id), trade.message_id)
        _require(
            trade.message_id == known, "gives a fetched trade its live identity", trade.trade_id
        )


def _check_refused_rest(make: Callable[..., Venue], payloads: Payloads) -> None:
    venue = make(payloads.symbols)
    request = venue.first_request(_hole_of(payloads.history))
    for status in (403, 418, 429):
        page = venue.read_page(request, RestResponse(status, {"retry-after": "7"}, b""), RECV_US)
        _require(page.retry_after_s == 7.0, f"waits as long as a {status} says", page)
        page = venue.read_page(request, RestResponse(status, {}, b""), RECV_US)
        _require(page.retry_after_s, f"waits after a {status} that says nothing", page)
    for status in (400, 404, 500, 503):
        page = venue.read_page(request, RestResponse(status, {}, b"no"), RECV_US)
        _require(page.problem and not page.trades, f"calls a {status} a problem", page)
        _require(not page.unknown_pair, f"takes a bare {status} for no unknown pair", page)
    for response in payloads.unknown_pairs:
        page = venue.read_page(request, response, RECV_US)
        _require(page.problem and page.unknown_pair, "tells that REST knows no such pair", page)


def _check_damaged_rest(make: Callable[..., Venue], payloads: Payloads) -> None:
    venue = make(payloads.symbols)
    request = venue.first_request(_hole_of(payloads.history))
    body = payloads.answer(request).body
    for damaged in (*_JUNK, *_damage([body])):
        page = venue.read_page(request, RestResponse(200, {}, damaged), RECV_US)
        hole = request.hole
        ids = [int(trade.trade_id) for trade in page.trades]
        _require(
            all(hole.first_id <= i <= hole.last_id for i in ids) and ids == sorted(ids),
            "keeps to the hole, ascending, whatever a page holds",
            ids,
        )


def _fetch(venue: Venue, payloads: Payloads, hole: Hole) -> Iterator[Trade]:
    request: RestRequest | None = venue.first_request(hole)
    seen: set[str] = set()
    for _ in range(_MAX_PAGES):
        if request is None:
            return
        page: RestPage = venue.read_page(request, payloads.answer(request), RECV_US)
        _require(page.problem is None and not page.dead, "reads the venue's own pages", page)
        # Pages by time overlap, so that trades of one moment are not cut apart.
        yield from (trade for trade in page.trades if trade.trade_id not in seen)
        seen.update(trade.trade_id for trade in page.trades)
        request = page.next
    raise ConformanceError("comes to an end when it fetches a hole", f"{_MAX_PAGES} pages")


def _decode(venue: Venue, frame: bytes) -> Decoded | None:
    """Decode; None for a refused subscription, the one error that may escape."""
    try:
        return venue.decode(frame, RECV_US)
    except SubscriptionRejectedError:
        return None


def _damage(texts: Sequence[bytes]) -> Iterator[bytes]:
    """Yield texts with bytes replaced, removed or put in; the same ones every time."""
    dice = random.Random(5)  # noqa: S311
    for text in texts:
        for _ in range(_DAMAGED):
            damaged = bytearray(text)
            for _ in range(dice.randint(1, 3)):
                place = dice.randrange(len(damaged) or 1)
                damaged[place : place + dice.randint(0, 3)] = dice.choice(_DAMAGES)
            yield bytes(damaged)


def _hole_of(trades: Sequence[SentTrade], after_us: int | None = None) -> Hole:
    first = trades[0]
    start_us = first.timestamp_us if after_us is None else after_us
    return Hole(first.pair, int(first.trade_id), int(trades[-1].trade_id), start_us)


def _exact(sent: Sequence[SentTrade]) -> list[SentTrade]:
    """Return trades with their numbers in the form that the contract's eight digits have."""
    return [t._replace(price=_pad(t.price), quantity=_pad(t.quantity)) for t in sent]


def _pad(text: str) -> str:
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.ljust(8, '0')}"


def _to_sent(trade: Trade) -> SentTrade:
    return SentTrade(
        exchange=trade.exchange,
        pair=trade.pair,
        trade_id=trade.trade_id,
        symbol=trade.symbol,
        price=format(trade.price, "f"),
        quantity=format(trade.quantity, "f"),
        side=trade.side,
        timestamp_us=trade.timestamp_us,
    )
