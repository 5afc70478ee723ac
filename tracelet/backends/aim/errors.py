"""Aim's errors, and those of what it stands on, as the two that may leave a backend."""

from __future__ import annotations

from types import TracebackType

from tracelet.errors import BackendError, BackendUnavailable, RecordRejected

_LOCKED = (
    "another process writes this run: end that process, or `aim runs close` the run, or write to an `aim server`, "
    "which takes several writers"
)


class Translated:
    """Around calls to Aim. `written` counts the records of a batch that are done: it goes out with the error."""

    def __init__(self, *, in_batch: bool = False) -> None:
        self._in_batch = in_batch
        self.written = 0

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, BackendError):
            error.written = self.written
        elif error is not None and isinstance(error, Exception):
            reason = f"aim: {_reason(error)}"
            if self._in_batch and isinstance(error, _faults_of_a_record()):
                raise RecordRejected(reason, written=self.written) from error
            if isinstance(error, _outages()) or kind is Exception:
                raise BackendUnavailable(reason, written=self.written) from error


def _reason(error: Exception) -> str:
    from aim.sdk.errors import MissingRunError, RunLockingError
    from filelock import Timeout

    text = str(error) or type(error).__name__
    if isinstance(error, (RunLockingError, Timeout)) or "lock file" in text or "Resource temporarily" in text:
        return f"{_LOCKED} ({text})"
    if isinstance(error, MissingRunError):
        return f"{text} Leave `run_hash` out to begin a run"
    return text


def _faults_of_a_record() -> tuple[type[Exception], ...]:
    """Among them a file that is gone, and a value that Aim cannot encode."""
    return FileNotFoundError, TypeError, ValueError, OverflowError, KeyError


def _outages() -> tuple[type[Exception], ...]:
    """A client of a remote repository raises a bare `Exception` as well, where the server could not lock the run."""
    import aimrocks.errors as rocks  # type: ignore[import-untyped]
    from filelock import Timeout
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError
    from websockets.exceptions import WebSocketException

    storage = (rocks.RocksIOError, rocks.Corruption, rocks.Incomplete, rocks.InvalidArgument, rocks.NotFound)
    wire = (RequestException, WebSocketException, Timeout)
    # RuntimeError: a repository of another version, a run that is locked or missing.
    return (*storage, *wire, SQLAlchemyError, OSError, RuntimeError, ImportError, ValueError)
