"""wandb's exceptions in the two words of a backend."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Any

from tracelet.backends.addresses import redacted
from tracelet.errors import BackendUnavailable, RecordRejected

NOT_INSTALLED = 'not installed: pip install "tracelet[wandb]"'


def imported() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise BackendUnavailable(f"wandb: {NOT_INSTALLED}") from error
    return wandb


def dead_service() -> tuple[type[Exception], ...]:
    """What wandb raises when its service process is gone."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return ConnectionError, HandleAbandonedError, MailboxClosedError


def end_service(wandb: Any) -> None:
    """End wandb's service process, and with it all that it still tries; its exit hook has nothing to wait for."""
    connection = wandb.setup()._connection
    process = None if connection is None else connection._proc
    if process is not None:
        connection._cleanup()
        process._process.kill()
        process._process.wait()


@contextlib.contextmanager
def translated(*, written: int | None = None) -> Iterator[None]:
    """The two errors of a backend. `written`: in the middle of a batch, where one record can be at fault."""
    import wandb

    try:
        yield
    except (BackendUnavailable, RecordRejected) as error:
        error.written = written or 0
        raise
    except (*dead_service(), wandb.errors.CommError, TimeoutError) as error:
        raise BackendUnavailable(f"wandb: {_shown(error)}", written=written or 0) from error
    except (wandb.Error, TypeError, ValueError, OSError, *_refusals()) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if written is None or full:
            raise BackendUnavailable(f"wandb: {_shown(error)}", written=written or 0) from error
        raise RecordRejected(f"wandb: {error}", written=written) from error


def _shown(error: Exception) -> str:
    return redacted(str(error) or type(error).__name__)


def _refusals() -> tuple[type[Exception], ...]:
    """What wandb's service says no with; releases before 0.31 have no class for it."""
    from wandb.sdk.mailbox import mailbox_handle

    refusal = getattr(mailbox_handle, "ServerResponseError", None)
    return () if refusal is None else (refusal,)
