"""Translate wandb's exceptions into `BackendUnavailable` and `RecordRejected`."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Any

from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.redaction import redacted_url

NOT_INSTALLED = 'not installed: pip install "tracelet[wandb]"'


def import_wandb() -> Any:
    """Return the wandb module; raise BackendUnavailable if it is not installed."""
    try:
        import wandb
    except ImportError as error:
        raise BackendUnavailable(f"wandb: {NOT_INSTALLED}") from error
    return wandb


def dead_service() -> tuple[type[Exception], ...]:
    """Return the exceptions that wandb raises if its service process has died."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return ConnectionError, HandleAbandonedError, MailboxClosedError


def end_service(wandb: Any) -> None:
    """Kill wandb's service process and its retries. Its exit hook then has nothing to wait for."""
    connection = wandb.setup()._connection
    process = None if connection is None else connection._proc
    if process is not None:
        connection._cleanup()
        process._process.kill()
        process._process.wait()


@contextlib.contextmanager
def translated(*, written: int | None = None) -> Iterator[None]:
    """Raise only the two errors of a backend.

    `written`: the records of the batch that are written. If it is set, a single record can be rejected.
    """
    import wandb

    try:
        yield
    except (BackendUnavailable, RecordRejected) as error:
        error.written = written or 0
        raise
    except (*dead_service(), wandb.errors.CommError, TimeoutError) as error:
        raise BackendUnavailable(f"wandb: {_text(error)}", written=written or 0) from error
    except (wandb.Error, TypeError, ValueError, OSError, *_service_errors()) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if written is None or full:
            raise BackendUnavailable(f"wandb: {_text(error)}", written=written or 0) from error
        raise RecordRejected(f"wandb: {error}", written=written) from error


def _text(error: Exception) -> str:
    return redacted_url(str(error) or type(error).__name__)


def _service_errors() -> tuple[type[Exception], ...]:
    """Return the exception for a rejection by wandb's service; empty if wandb is older than 0.31."""
    from wandb.sdk.mailbox import mailbox_handle

    rejection = getattr(mailbox_handle, "ServerResponseError", None)
    return () if rejection is None else (rejection,)
