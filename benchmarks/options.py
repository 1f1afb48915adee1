"""Options: what a benchmark is told on its command line."""

from __future__ import annotations

from collections.abc import Sequence


def read_options(arguments: Sequence[str]) -> dict[str, str]:
    """Return `--name value` pairs."""
    names = [argument.removeprefix("--") for argument in arguments[::2]]
    return dict(zip(names, arguments[1::2], strict=True))
