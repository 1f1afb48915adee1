"""Every error of the k2 command: printed as one sentence, exit code not 0.

CommandError
├── PortTakenError      a port the local stack needs is in use
├── HomeInUseError      another k2 works on this home
├── ChildDiedError      a process of the local stack ended by itself
├── StalledError        nothing has moved for too long
├── SettingsError       what the environment says does not fit together
├── KafkaSilentError    Kafka does not answer, or refuses us
└── RequeueError        Kafka did not take dead letters back
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


class SettingsError(CommandError):
    """What the environment says does not fit together."""

    def __init__(self, variable: str, problem: str) -> None:
        self.variable = variable
        self.problem = problem
        super().__init__(f"{variable}: {problem.removeprefix('Value error, ')}")


class KafkaSilentError(CommandError):
    """Kafka does not answer, or refuses us."""

    def __init__(self, bootstrap_servers: str, reason: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.reason = reason
        super().__init__(
            f"Kafka at {bootstrap_servers} does not answer us ({reason}); start it, name another "
            "with --bootstrap, or correct how it is spoken to: K2_KAFKA__SECURITY_PROTOCOL, "
            "…USERNAME, …PASSWORD, …CA_FILE (k2 verify --offline asks no Kafka)"
        )


class RequeueError(CommandError):
    """Kafka did not take dead letters back."""

    def __init__(self, bootstrap_servers: str, reason: str, left_count: int) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.reason = reason
        self.left_count = left_count
        super().__init__(
            f"Kafka at {bootstrap_servers} did not confirm {left_count} of the records ({reason}); "
            "let k2-lake read what it has, then run the same command again: what came again is "
            "left out"
        )
