"""Every error of the k2 command: printed as one sentence, exit code not 0.

CommandError
├── PortTakenError    a port the local stack needs is in use
├── HomeInUseError    another k2 works on this home
├── ChildDiedError    a process of the local stack ended by itself
└── StalledError      nothing has moved for too long
"""

from __future__ import annotations

from pathlib import Path


class CommandError(Exception):
    """Base of every error the command prints."""


class PortTakenError(CommandError):
    """A port the local stack needs is in use."""

    def __init__(self, port: int, purpose: str, suggestion: int) -> None:
        self.port = port
        super().__init__(
            f"port {port} ({purpose}) is taken by another program; "
            f"free it, or choose other ports with --port {suggestion}"
        )


class HomeInUseError(CommandError):
    """Another k2 works on this home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        super().__init__(f"another k2 works in {home}; wait for it, or take another --home")


class ChildDiedError(CommandError):
    """A process of the local stack ended by itself."""

    def __init__(self, name: str, code: int, log: Path, last_line: str) -> None:
        self.name = name
        self.code = code
        self.log = log
        how = f"was killed (signal {-code})" if code < 0 else f"ended with exit code {code}"
        said = f", saying: {last_line}" if last_line else ""
        super().__init__(
            f"{name} {how}{said}. Nothing is lost: run the same command again. Its log: {log}"
        )


class StalledError(CommandError):
    """Nothing has moved for too long."""

    def __init__(self, what: str, seconds: float, log: Path) -> None:
        self.log = log
        super().__init__(
            f"{what} for {seconds:.0f} s; look into {log}, then run the same command again"
        )
