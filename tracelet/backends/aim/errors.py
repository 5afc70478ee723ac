"""Translate the errors of Aim and its dependencies into the two errors of a backend."""

from __future__ import annotations

from types import TracebackType

from tracelet.errors import BackendError, BackendUnavailable, RecordRejected

_LOCKED = (
    "another process writes this run: end that process, close the run with `aim runs close`, or write to an "
    "`aim server`, which accepts several writers"
)


class Translated:
    """Translate the errors of calls to Aim. The caller counts the written records of a batch in `written`."""

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
            if self._in_batch and isinstance(error, _record_errors()):
                raise RecordRejected(reason, written=self.written) from error
            if isinstance(error, _unavailable_errors()) or kind is Exception:
                raise BackendUnavailable(reason, written=self.written) from error


def _reason(error: Exception) -> str:
    from aim.sdk.errors import MissingRunError, RunLockingError
    from filelock import Timeout

    text = str(error) or type(error).__name__
    if isinstance(error, (RunLockingError, Timeout)) or "lock file" in text or "Resource temporarily" in text:
        return f"{_LOCKED} ({text})"
    if isinstance(error, MissingRunError):
        return f"{text} Remove `run_hash` to create a run"
    return text


def _record_errors() -> tuple[type[Exception], ...]:
    """Return the errors caused by a record, such as a missing file or a value that Aim cannot encode."""
    return FileNotFoundError, TypeError, ValueError, OverflowError, KeyError


def _unavailable_errors() -> tuple[type[Exception], ...]:
    """Return the errors of an unavailable store.

    A remote client also raises a bare `Exception` if the server could not lock the run.
    """
    import aimrocks.errors as rocks  # type: ignore[import-untyped]
    from filelock import Timeout
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError
    from websockets.exceptions import WebSocketException

    storage = (rocks.RocksIOError, rocks.Corruption, rocks.Incomplete, rocks.InvalidArgument, rocks.NotFound)
    wire = (RequestException, WebSocketException, Timeout)
    # RuntimeError: the repository has another version, or the run is locked or missing.
    return (*storage, *wire, SQLAlchemyError, OSError, RuntimeError, ImportError, ValueError)
