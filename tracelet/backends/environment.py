"""Override environment variables temporarily. This module's state belongs to the process, like the environment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from tracelet import forks

_lock = forks.new_lock()
_overrides: dict[str, tuple[int, str | None, str]] = {}
"""Name -> the number of overrides, the user's value and ours."""


def override(name: str, value: str) -> None:
    """Set a variable. After as many calls of `restore` its user's value returns, unless the program changed it."""
    with _lock:
        count, users, _ = _overrides.get(name) or (0, os.environ.get(name), "")
        os.environ[name] = value
        _overrides[name] = (count + 1, users, value)


def restore(name: str) -> None:
    """Undo one `override`."""
    with _lock:
        count, users, ours = _overrides.pop(name)
        if count > 1:
            _overrides[name] = (count - 1, users, ours)
        elif os.environ.get(name) == ours:
            set_variable(name, users)


def original(name: str) -> str | None:
    """Return the user's value, also while the variable is overridden."""
    with _lock:
        return _overrides[name][1] if name in _overrides else os.environ.get(name)


@contextlib.contextmanager
def overridden(name: str, value: str) -> Iterator[None]:
    """Override a variable within a `with` block."""
    override(name, value)
    try:
        yield
    finally:
        restore(name)


def set_variable(name: str, value: str | None) -> None:
    """Set a variable, or delete it if `value` is None."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
