"""Stop signal: what SIGTERM sets and the driver waits for."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue


class StopSignal:
    """A `threading.Event` that a signal handler may set.

    A handler runs in the main thread, wherever that is. If it is inside `Event.wait`, it holds the
    lock that `Event.set` wants, and neither ever goes on. `SimpleQueue.put` may interrupt itself.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[None] = SimpleQueue()
        self._is_set = False

    def set(self) -> None:
        """Let whoever waits go on, now and from now on."""
        self._is_set = True
        self._queue.put(None)

    def is_set(self) -> bool:
        """Tell whether it has been set."""
        return self._is_set

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is set, `timeout_s` seconds at most; tell whether it is."""
        if not self._is_set:
            with suppress(Empty):
                self._queue.get(timeout=timeout_s)
        return self._is_set
