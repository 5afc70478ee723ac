"""Environment variables that are ours for a moment. The environment is the process's, and so is this module's state."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

_lock = threading.RLock()
_held: dict[str, tuple[int, str | None, str]] = {}


def borrow(name: str, value: str) -> None:
    """Set a variable until as many `give_back`s; the last puts back what stood there, unless somebody changed it."""
    with _lock:
        count, before, _ = _held.get(name) or (0, os.environ.get(name), "")
        os.environ[name] = value
        _held[name] = (count + 1, before, value)


def give_back(name: str) -> None:
    with _lock:
        count, before, ours = _held.pop(name)
        if count > 1:
            _held[name] = (count - 1, before, ours)
        elif os.environ.get(name) == ours:
            put(name, before)


def before(name: str) -> str | None:
    """What the user set, whether we hold the variable just now or not."""
    with _lock:
        return _held[name][1] if name in _held else os.environ.get(name)


@contextlib.contextmanager
def borrowed(name: str, value: str) -> Iterator[None]:
    borrow(name, value)
    try:
        yield
    finally:
        give_back(name)


def put(name: str, value: str | None) -> None:
    """Set a variable, or take it away."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
