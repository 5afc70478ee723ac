"""Translate the errors of Aim and its dependencies into the two errors of a backend."""

from __future__ import annotations

from tracelet.backends import exceptions

_LOCKED = (
    "another process writes this run: end that process, close the run with `aim runs close`, or write to an "
    "`aim server`, which accepts several writers"
)


def translated(*, record: bool = False) -> exceptions.Translated:
    """Raise only the two errors of a backend. `record`: one of the records of the block may be invalid."""
    return exceptions.translated("aim", {}, record=record, text=_reason)


def _reason(error: Exception) -> str:
    from aim.sdk.errors import MissingRunError, RunLockingError
    from filelock import Timeout

    text = str(error) or type(error).__name__
    if isinstance(error, (RunLockingError, Timeout)) or "lock file" in text or "Resource temporarily" in text:
        return f"{_LOCKED} ({text})"
    if isinstance(error, MissingRunError):
        return f"{text} Remove `run_hash` to create a run"
    return text
