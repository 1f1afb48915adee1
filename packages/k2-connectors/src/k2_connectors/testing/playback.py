"""Playback: what a replay exchange will send, venue by venue, with every frame's labels."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from k2_schemas import InstrumentList, SchemaError

from ..errors import RecordingError
from ..record import RecordedFrame, read_frames, read_recording
from .dialects import DIALECTS, Dialect, Number
from .emission import Emission, SentTrade
from .ledger import Ledger
from .market import SPACING_US, MarketModel

_DAY_US = 86_400 * 1_000_000
_YEAR_US = 365 * _DAY_US
_BAD_WITHIN = 1_000
"""Labelled bad input is among the first positions only: faults do not grow with the run."""
_DUPLICATE_EVERY = 100
_BAD_KINDS = ("no side", "11-digit quantity", "price 0", "far future")
_EPOCH_KEY = "model_epoch_us"
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_FIRST_US = -62_135_596_800_000_000
_LAST_US = 253_402_300_799_999_999
"""The years 1 to 9999, which is what a reader's datetime can hold."""


def keep_epoch(ledger: Ledger, trade_count: int, now_us: int | None = None) -> int:
    """Return the model's epoch, kept in the ledger; at first so that `trade_count` trades are past.

    It lies at least a day back, so that a later, longer run finds room before the present.
    Raises `RecordingError` when this home's epoch has no room for `trade_count` trades.
    """
    now_us = now_us or time.time_ns() // 1000
    span_us = (trade_count + trade_count // 16 + 100) * SPACING_US
    epoch_us = ledger.keep(_EPOCH_KEY, (now_us - max(_DAY_US, span_us)) // 1000 * 1000)
    if epoch_us + span_us > now_us + SPACING_US:
        room = (now_us - epoch_us) // SPACING_US
        raise RecordingError(
            Path("the market model"),
            f"this home's market began too late for {trade_count} trades (about {room} fit); "
            "use another --home",
        )
    return epoch_us


def play_model(
    model: MarketModel, trade_count: int, *, bad_input: bool = True
) -> dict[str, list[Emission]]:
    """Return the frames of `trade_count` valid trades per venue.

    Labelled faults and duplicates are among them, without `bad_input` nothing but trades.
    """
    frames: dict[str, list[Emission]] = {x.exchange.lower(): [] for x in model.listings}
    held: dict[str, list[SentTrade]] = {}
    valid = position = 0
    while valid < trade_count:
        listing = model.listing_at(position)
        venue = listing.exchange.lower()
        trade = model.trade_at(position)
        bad = _spoil(trade, position, DIALECTS[venue]) if bad_input else None
        frames[venue].extend(_junk(venue, position) if bad_input else ())
        if bad is not None:
            frames[venue].append(bad)
        else:
            valid += 1
            batch = held.setdefault(listing.pair, [])
            batch.append(trade)
            if len(batch) >= _batch_size(venue, position):
                frames[venue].append(_render(DIALECTS[venue], held.pop(listing.pair)))
        # The pattern of listings makes the first of these Binance's, the second Kraken's.
        if bad_input and position % _DUPLICATE_EVERY in (50, 51) and frames[venue]:
            frames[venue].append(frames[venue][-1])
        position += 1
    for batch in held.values():
        venue = batch[0].exchange.lower()
        frames[venue].append(_render(DIALECTS[venue], batch))
    return frames


def _batch_size(venue: str, position: int) -> int:
    return 1 + position % 3 if venue == "kraken" else 1


def _render(dialect: Dialect, trades: Sequence[SentTrade]) -> Emission:
    return Emission(dialect.render(trades).encode(), trades=tuple(trades))


def _junk(venue: str, position: int) -> Iterator[Emission]:
    """Frames that are not JSON: text, a cut frame, bytes that are not even text."""
    if position < _BAD_WITHIN and position % 100 in (12, 61):
        starts = (b"<html>502 " + venue.encode(), b'{"stream":"btc', b"\xff\xfe\x00")
        frame = starts[position // 100 % 3] + str(position).encode()
        yield Emission(frame, bad_frame="not JSON")


def _spoil(trade: SentTrade, position: int, dialect: Dialect) -> Emission | None:
    """Make the trade at every 25th early position bad, in one of four ways."""
    if position >= _BAD_WITHIN or position % 25 != 24:
        return None
    kind = _BAD_KINDS[position // 50 % len(_BAD_KINDS)]
    if kind == "no side":
        text = dialect.render([trade])
        for side in ('"m":true,', '"m":false,', '"side":"buy",', '"side":"sell",'):
            text = text.replace(side, "")
        return Emission(text.encode(), bad_frame=kind)
    if kind == "11-digit quantity":
        text = dialect.render([trade._replace(quantity=f"1234567890{position % 10}.00000000")])
        return Emission(text.encode(), bad_frame=kind)
    if kind == "price 0":
        bad = trade._replace(price="0.00000000")
    else:
        bad = trade._replace(timestamp_us=trade.timestamp_us + 3 * _YEAR_US)
    return Emission(dialect.render([bad]).encode(), bad_trades=((bad, kind),))


@dataclass(frozen=True, slots=True)
class Recording:
    """One venue's frames, with the canonical symbols it trades."""

    path: Path
    dialect: Dialect
    instruments: InstrumentList
    frames: Sequence[RecordedFrame]
    last_us: int
    fingerprint: str

    def keep_shift(self, ledger: Ledger, now_us: int) -> int:
        """Return the constant added to every time of this file: kept in the ledger.

        At first it puts the last trade 1 s before `now_us`; whole milliseconds, as Binance stamps.
        """
        shift_us = (now_us - 1_000_000 - self.last_us) // 1000 * 1000
        return ledger.keep(f"shift_us:{self.fingerprint}", shift_us)

    def play(self, shift_us: int, now_us: int) -> Iterator[Emission]:
        """Yield the frames with their times shifted; ids, prices and quantities untouched."""
        for frame in self.frames:
            if frame.data is not None:
                yield Emission(frame.data, bad_frame="not text", recv_ns=frame.recv_ns)
                continue
            shifted = self.dialect.shift_times(frame.raw, shift_us)
            emission = _label(shifted, self.dialect, self.instruments, now_us)
            yield replace(emission, recv_ns=frame.recv_ns)


def open_recording(path: Path, symbols: Mapping[str, Iterable[str]]) -> Recording:
    """Read a file of recorded frames and find out which venue speaks.

    `symbols` are the canonical symbols known per venue; those that the file does not trade are
    left out. Raises `RecordingError` for an unreadable file, an unknown venue or symbol.
    """
    return _open(path, list(read_frames(path)), symbols)


def open_recordings(folder: Path, symbols: Mapping[str, Iterable[str]]) -> list[Recording]:
    """Read a folder that a feed recorded: a recording for each venue that traded in it.

    Raises as `open_recording` does.
    """
    by_host: dict[str, list[RecordedFrame]] = {}
    for frame in read_recording(folder):
        by_host.setdefault(urlsplit(frame.src).netloc + urlsplit(frame.src).path, []).append(frame)
    by_venue: dict[str, list[RecordedFrame]] = {}
    for frames in by_host.values():
        parsed = [frame for frame in (_parse(f.raw) for f in frames) if frame is not None]
        by_venue.setdefault(_find_dialect(folder, parsed).name, []).extend(frames)
    return [
        _open(folder, sorted(frames, key=lambda frame: frame.recv_ns or 0), symbols)
        for _, frames in sorted(by_venue.items())
    ]


def _open(
    path: Path, frames: Sequence[RecordedFrame], symbols: Mapping[str, Iterable[str]]
) -> Recording:
    raws = [frame.raw for frame in frames]
    parsed = [frame for frame in map(_parse, raws) if frame is not None]
    dialect = _find_dialect(path, parsed)
    trades = [trade for frame in parsed for trade in dialect.read(frame).trades]
    times = [trade.timestamp_us for trade in trades if _find_misfit(trade) is None]
    if not times:
        raise RecordingError(path, f"no {dialect.name} trade in it")
    instruments = _list_instruments(path, dialect, symbols.get(dialect.name, ()), trades)
    return Recording(
        path=path,
        dialect=dialect,
        instruments=instruments,
        frames=frames,
        last_us=max(times),
        fingerprint=sha256("\n".join(raws).encode()).hexdigest()[:24],
    )


def _parse(raw: str) -> dict[str, object] | None:
    """Parse a frame with its numbers left as text; None when it is no JSON object."""
    try:
        frame = json.loads(
            raw, parse_float=Number, parse_int=Number, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        return None
    return frame if isinstance(frame, dict) else None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _find_dialect(path: Path, frames: Sequence[Mapping[str, object]]) -> Dialect:
    votes = {
        name: sum(dialect.recognises(frame) for frame in frames)
        for name, dialect in DIALECTS.items()
    }
    name = max(votes, key=lambda name: votes[name])
    if not votes[name]:
        raise RecordingError(path, f"no frame of a known venue ({', '.join(DIALECTS)})")
    return DIALECTS[name]


def _list_instruments(
    path: Path, dialect: Dialect, symbols: Iterable[str], trades: Sequence[SentTrade]
) -> InstrumentList:
    known = InstrumentList(dialect.name, symbols, dialect.pair_of)
    try:
        traded = {known.find(trade.pair).symbol for trade in trades}
    except SchemaError as error:
        raise RecordingError(path, f"{error}; name it with --symbol BASE/QUOTE") from error
    return InstrumentList(dialect.name, sorted(traded), dialect.pair_of)


def _label(raw: str, dialect: Dialect, instruments: InstrumentList, now_us: int) -> Emission:
    frame = _parse(raw)
    blank = Emission(raw.encode())
    if frame is None:
        return replace(blank, bad_frame="not JSON")
    if not dialect.recognises(frame):
        return replace(blank, bad_frame="unknown frame")
    reading = dialect.read(frame)
    problem = reading.problem
    trades: list[SentTrade] = []
    bad_trades: list[tuple[SentTrade, str]] = []
    for read in reading.trades:
        trade = read._replace(symbol=instruments.find(read.pair).symbol)
        misfit = _find_misfit(trade)
        if misfit is not None:
            problem = problem or misfit
        elif (fault := _find_fault(trade, now_us)) is not None:
            bad_trades.append((trade, fault))
        else:
            trades.append(trade)
    return replace(blank, trades=tuple(trades), bad_trades=tuple(bad_trades), bad_frame=problem)


def _find_misfit(trade: SentTrade) -> str | None:
    """Say why contract V2 cannot hold a trade, apart from the code under test."""
    texts = (trade.price, trade.quantity)
    if not all(map(_DECIMAL.fullmatch, texts)):
        return "not a number"
    try:
        if any(abs(n) >= 10**10 or n != round(n, 8) for n in map(Decimal, texts)):
            return "digits beyond decimal(18,8)"
    except InvalidOperation:
        return "digits beyond decimal(18,8)"
    if not -(2**63) <= int(trade.trade_id) < 2**63:
        return "trade id beyond 64 bits"
    if not _FIRST_US <= trade.timestamp_us <= _LAST_US:
        return "time beyond the years 1 to 9999"
    return None


def _find_fault(trade: SentTrade, now_us: int) -> str | None:
    """Say why no rule set may accept a trade, apart from the code under test."""
    if Decimal(trade.price) <= 0 or Decimal(trade.quantity) <= 0:
        return "not positive"
    if not now_us - _YEAR_US <= trade.timestamp_us <= now_us:
        return "time out of range"
    return None
