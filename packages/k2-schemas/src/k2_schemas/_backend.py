"""Backend: the compiled engine where it was built, the Python plan everywhere else."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar, cast


def _load() -> Any:
    try:
        return import_module(f"{__package__}._native")
    except ImportError:  # built without a compiler
        return None


native = _load()

backend = "python" if native is None else "cython"
"""Which engine encodes and decodes the schemas that the plan supports: `cython` or `python`."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def choose_engine(reference: Any) -> Any:
    """Return the fastest engine that does what the reference engine does."""
    return reference if native is None else native.NativeEngine(reference)


def choose_message_ids(reference: Any) -> Any:
    """Return the fastest maker of the message ids that the reference makes."""
    return reference if native is None else native.MessageIds(reference)


def choose_parser(reference: _Function) -> _Function:
    """Return the fastest parser of decimal text that does what the reference does."""
    return reference if native is None else cast(_Function, native.bind_parser(reference))


def choose_trade_factory(reference: Any) -> Any:
    """Return the fastest maker of the trades that the reference makes."""
    return reference if native is None else native.TradeFactory(reference)
