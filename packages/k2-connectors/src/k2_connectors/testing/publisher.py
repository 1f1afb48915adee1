"""MemoryPublisher: the in-memory twin of Kafka at the feed's publishing seam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from k2_schemas import FieldError, Trade, TradeCodec


@dataclass
class MemoryPublisher:
    """Keeps what a feed publishes, in order; refuses, as Kafka's does, what V2 cannot hold."""

    trades: list[Trade] = field(default_factory=list)
    dead_letters: list[tuple[bytes, str, str, int]] = field(default_factory=list)
    flushes: int = 0
    on_acknowledged: Callable[[Sequence[Trade]], None] | None = None
    codec: TradeCodec = field(default_factory=TradeCodec, repr=False)

    def publish(self, trades: Sequence[Trade]) -> int:
        """Keep trades; raise `k2_schemas.FieldError` when the first has no bytes."""
        kept = list(takewhile(self._has_bytes, trades))
        if trades and not kept:
            self.codec.encode(trades[0])
        self.trades += kept
        if self.on_acknowledged is not None:
            self.on_acknowledged(kept)
        return len(kept)

    def _has_bytes(self, trade: Trade) -> bool:
        try:
            self.codec.encode(trade)
        except FieldError:
            return False
        return True

    def publish_dead_letter(
        self,
        frame: bytes,
        venue: str,
        reason: str,
        recv_ns: int,
        acknowledged: Callable[[], None] | None = None,
    ) -> bool:
        """Keep a frame with venue, reason and receive time."""
        self.dead_letters.append((frame, venue, reason, recv_ns))
        if acknowledged is not None:
            acknowledged()
        return True

    def serve(self) -> None:
        """Acknowledge nothing: what was kept was acknowledged at once."""

    def flush(self, timeout_s: float | None = None) -> None:
        """Count the flush; there is nothing to wait for."""
        self.flushes += 1
