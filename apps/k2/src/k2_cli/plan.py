"""Plan: what the replay exchange of a demo will send; made by one process, played by another."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from k2_connectors.testing import (
    Emission,
    Ledger,
    MarketModel,
    keep_epoch,
    open_recording,
    play_model,
)
from k2_connectors.testing.dialects import DIALECTS
from k2_connectors.testing.market import exchanges as model_exchanges
from k2_schemas import InstrumentList

from .errors import CommandError

KNOWN_SYMBOLS: Mapping[str, Sequence[str]] = {
    name: [f"{base}/{quote}" for quote, bases in books.items() for base in bases.split()]
    for name, books in {
        "binance": {
            "USDT": "BTC ETH BNB SOL XRP DOGE ADA TRX LINK AVAX LTC DOT",
            "USDC": "BTC ETH SOL",
            "EUR": "BTC ETH",
            "BTC": "ETH",
        },
        "kraken": {
            "USD": "BTC ETH SOL XRP DOGE ADA LTC DOT LINK",
            "EUR": "BTC ETH SOL",
            "USDT": "BTC ETH",
            "BTC": "ETH",
        },
    }.items()
}
"""Symbols that recorded frames may hold; `--symbol` adds others."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to play: the model's `trade_count` trades, or files of recorded frames."""

    ledger: str
    trade_count: int
    seed: int
    frames: Sequence[str] = ()
    symbols: Sequence[str] = ()
    now_us: int = field(default_factory=lambda: time.time_ns() // 1000)

    def save(self, path: Path) -> None:
        """Write the plan for the exchange's process."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(self))

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan; raise `CommandError` for a file that is none."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise CommandError(f"{path} is not a plan that `k2 demo` wrote: {error}") from error

    def list_exchanges(self) -> dict[str, list[str]]:
        """Return the canonical symbols per exchange; raise `RecordingError` for unusable frames.

        Also keeps the model's epoch, or each file's shift, in the ledger.
        """
        with Ledger(Path(self.ledger)) as ledger:
            if not self.frames:
                keep_epoch(ledger, self.trade_count, self.now_us)
                return model_exchanges()
            found: dict[str, list[str]] = {}
            for name in self.frames:
                recording = open_recording(Path(name), self._known_symbols())
                recording.keep_shift(ledger, self.now_us)
                symbols = [instrument.symbol for instrument in recording.instruments]
                found.setdefault(recording.dialect.name, []).extend(symbols)
            return {name: sorted(set(symbols)) for name, symbols in found.items()}

    def play(self, ledger: Ledger) -> dict[str, list[Emission]]:
        """Return every frame to send, per exchange."""
        if not self.frames:
            epoch_us = keep_epoch(ledger, self.trade_count, self.now_us)
            return play_model(MarketModel(self.seed, epoch_us), self.trade_count)
        played: dict[str, list[Emission]] = {}
        for name in self.frames:
            recording = open_recording(Path(name), self._known_symbols())
            shift_us = recording.keep_shift(ledger, self.now_us)
            emissions = played.setdefault(recording.dialect.name, [])
            emissions.extend(recording.play(shift_us, self.now_us))
        return played

    def _known_symbols(self) -> dict[str, list[str]]:
        return list_known_symbols(self.symbols)


def list_known_symbols(more: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the symbols that recorded frames may hold, per exchange, and `more` for each."""
    return {name: [*known, *more] for name, known in KNOWN_SYMBOLS.items()}


def list_pairs(exchanges: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the venues' own symbols for canonical ones."""
    return {
        name: [i.pair for i in InstrumentList(name, symbols, DIALECTS[name].pair_of)]
        for name, symbols in exchanges.items()
    }
