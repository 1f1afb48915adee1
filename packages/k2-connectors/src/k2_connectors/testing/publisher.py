"""MemoryPublisher: the in-memory twin of Kafka at the feed's publishing seam."""

from __future__ import annotations

from dataclasses import dataclass, field

from k2_schemas import Trade


@dataclass
class MemoryPublisher:
    """Keeps what a feed publishes, in order."""

    trades: list[Trade] = field(default_factory=list)
    dead_letters: list[tuple[bytes, str, str, int]] = field(default_factory=list)
    flushes: int = 0

    def publish(self, trade: Trade) -> None:
        """Keep a trade."""
        self.trades.append(trade)

    def publish_dead_letter(self, frame: bytes, venue: str, reason: str, recv_ns: int) -> None:
        """Keep a frame with venue, reason and receive time."""
        self.dead_letters.append((frame, venue, reason, recv_ns))

    def flush(self) -> None:
        """Count the flush; there is nothing to wait for."""
        self.flushes += 1
