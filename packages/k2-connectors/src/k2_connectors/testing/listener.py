"""Listener: one subscriber of a replay exchange, sent its frames, and what goes wrong with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from .dialects import Dialect
from .emission import Emission
from .fault import Fault
from .tape import CHUNK_FRAMES, Tape

_HEARTBEAT_S = 1.0
_SOCKET_KINDS = frozenset(
    ["drop", "duplicate", "reorder", "stall", "half_open", "reset", "close", "shutdown"]
)


class Listener:
    """Sends one socket what its pairs trade. `faults` are shared: each strikes one listener."""

    def __init__(
        self,
        socket: ServerConnection,
        dialect: Dialect,
        tape: Tape,
        faults: list[Fault],
        *,
        live: bool,
    ) -> None:
        self._socket = socket
        self._dialect = dialect
        self._tape = tape
        self._faults = faults
        self._live = live
        self._pairs: set[str] = set()
        self._place = 0
        self._half_open = False
        self._drop_next = self._repeat_next = self._hold_next = 0
        self._held: list[bytes] = []
        self._players: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def subscribe(self, pairs: Sequence[str]) -> None:
        """Send these pairs from now on, after what the venue sends a new subscriber first."""
        fresh = [pair for pair in pairs if pair not in self._pairs]
        if self._live and self._players is None and not self._pairs:
            # Before anything is awaited: what is emitted meanwhile is for this listener too.
            self._place = self._tape.join(self)
        self._pairs.update(fresh)
        for pair in fresh if self._live else ():
            for frame in self._dialect.catch_up(self._tape.history.of(pair)):
                await self._socket.send(frame)

    def unsubscribe(self, pairs: Sequence[str]) -> None:
        """Send these pairs no more; the connection stays, and its place on the tape."""
        self._pairs.difference_update(pairs)

    def start(
        self, players: asyncio.TaskGroup, note_sent: Callable[[Sequence[Emission]], None]
    ) -> None:
        """Begin to play; does nothing the second time."""
        if self._players is None:
            self._players = players
            self._tasks.add(players.create_task(self._play(note_sent)))
            self._tasks.add(players.create_task(self._beat()))

    async def stop(self) -> None:
        """End what is playing."""
        for task in self._tasks:
            task.cancel()
        await self._tape.leave(self)

    def abort_if_half_open(self) -> None:
        """Cut a socket that could not be closed by its handshake."""
        if self._half_open:
            self._socket.transport.abort()

    async def _play(self, note_sent: Callable[[Sequence[Emission]], None]) -> None:
        try:
            while True:
                frames = await self._next_frames()
                if not frames:
                    return
                await self._send_all(frames)
                note_sent(frames)
        except ConnectionClosed:
            return

    async def _next_frames(self) -> Sequence[Emission]:
        """Return the next frames on the tape; () when a replay is over."""
        emissions = self._tape.emissions
        if self._live:
            await self._tape.report(self, self._place)
            end = await self._tape.wait_beyond(self._place)
            return emissions[self._place : min(end, self._place + CHUNK_FRAMES)]
        chunk = emissions[self._place : self._place + CHUNK_FRAMES]
        self._tape.record([emission for emission in chunk if self._is_wanted(emission)])
        self._tape.emitted = max(self._tape.emitted, self._place + len(chunk))
        return chunk

    async def _send_all(self, frames: Sequence[Emission]) -> None:
        """Send frames, from number `_place` on; before each, strike the faults that are due."""
        for emission in frames:
            while (fault := self._take_fault()) is not None:
                await self._strike(fault)
            self._place += 1
            if self._is_wanted(emission):
                await self._send(emission.frame)
        if self._place >= len(self._tape.emissions):
            await self._send_held()

    def _take_fault(self) -> Fault | None:
        for index, fault in enumerate(self._faults):
            if fault.at > self._place:
                return None
            if fault.kind in _SOCKET_KINDS:
                return self._faults.pop(index)
        return None

    async def _strike(self, fault: Fault) -> None:
        match fault.kind:
            case "drop":
                self._drop_next = fault.count
            case "duplicate":
                self._repeat_next = fault.count
            case "reorder":
                self._hold_next = fault.count
            case "stall":
                await self._tape.leave(self)
                await asyncio.sleep(fault.seconds)
                self._tape.join(self, self._place)
            case "half_open":
                await self._tape.leave(self)
                self._half_open = True
                # Nobody answers pings either: what is never read is never answered.
                self._socket.transport.pause_reading()
                await asyncio.Event().wait()
            case "reset":
                self._socket.transport.abort()
                await self._socket.wait_closed()
            case "close":
                await self._socket.close(fault.code)
            case "shutdown":
                for frame in self._dialect.announce_shutdown():
                    await self._socket.send(frame)
                assert self._players is not None, "only a listener that plays meets a fault"
                self._tasks.add(self._players.create_task(self._close_later(fault.seconds)))

    async def _close_later(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._socket.close(1001)

    async def _send(self, frame: bytes) -> None:
        if self._drop_next:
            self._drop_next -= 1
            return
        if self._hold_next:
            self._hold_next -= 1
            self._held.append(frame)
            if not self._hold_next:
                await self._send_held()
            return
        # Text frames as exchanges send them; bytes that are no text can only go raw.
        await self._socket.send(frame, text=_is_text(frame))
        if self._repeat_next:
            self._repeat_next -= 1
            await self._socket.send(frame, text=_is_text(frame))

    async def _send_held(self) -> None:
        """Send what was held back, the last first."""
        while self._held:
            frame = self._held.pop()
            await self._socket.send(frame, text=_is_text(frame))

    def _is_wanted(self, emission: Emission) -> bool:
        """Tell whether a frame is of a subscribed pair; one that holds no trade is everybody's."""
        if emission.trades:
            return emission.trades[0].pair in self._pairs
        if emission.bad_trades:
            return emission.bad_trades[0][0].pair in self._pairs
        return True

    async def _beat(self) -> None:
        try:
            while self._dialect.heartbeat is not None and not self._half_open:
                await asyncio.sleep(_HEARTBEAT_S)
                if not self._half_open:
                    await self._socket.send(self._dialect.heartbeat)
        except ConnectionClosed:
            return


def _is_text(frame: bytes) -> bool:
    try:
        frame.decode()
    except UnicodeDecodeError:
        return False
    return True
