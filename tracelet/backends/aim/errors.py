"""Translate the errors of Aim and its dependencies into the two errors of a backend."""

from __future__ import annotations

from tracelet.backends import exceptions
from tracelet.backends.exceptions import REJECTED, verdict
from tracelet.errors import BackendError, BackendUnavailable, RecordRejected

_LOCKED = (
    "another process writes this run: end that process, close the run with `aim runs close`, or write to an "
    "`aim server`, which accepts several writers"
)


class Translated(exceptions.Translated):
    """Translate the errors of calls to Aim. `in_batch`: one of the records may be invalid."""

    def __init__(self, *, in_batch: bool = False) -> None:
        super().__init__(self._translation)
        self._in_batch = in_batch

    def _translation(self, error: Exception) -> BackendError | None:
        meaning = None if isinstance(error, BackendError) else verdict(error, "aim", {})
        if meaning is None:
            return None
        kind = RecordRejected if meaning == REJECTED and self._in_batch else BackendUnavailable
        return kind(f"aim: {_reason(error)}")


def _reason(error: Exception) -> str:
    from aim.sdk.errors import MissingRunError, RunLockingError
    from filelock import Timeout

    text = str(error) or type(error).__name__
    if isinstance(error, (RunLockingError, Timeout)) or "lock file" in text or "Resource temporarily" in text:
        return f"{_LOCKED} ({text})"
    if isinstance(error, MissingRunError):
        return f"{text} Remove `run_hash` to create a run"
    return text
