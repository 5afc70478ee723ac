"""Translate wandb's exceptions into `BackendUnavailable` and `RecordRejected`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tracelet import replacing
from tracelet.backends import exceptions
from tracelet.backends.exceptions import REJECTED, Translated, Verdict
from tracelet.errors import BackendUnavailable

NOT_INSTALLED = 'not installed: pip install "tracelet[wandb]"'

_TABLE: Mapping[str, Verdict] = {
    "wandb.errors.errors.Error": REJECTED,  # raised itself for an invalid name or value; not its other subclasses
    "wandb.errors.errors.UsageError": REJECTED,
    "wandb.errors.errors.UnsupportedError": REJECTED,
    "wandb.sdk.lib.config_util.ConfigError": REJECTED,
    "wandb.sdk.mailbox.mailbox_handle.ServerResponseError": REJECTED,  # by wandb's service
}


def import_wandb() -> Any:
    """Return the wandb module; raise BackendUnavailable if it is not installed, or is replaced in this process."""
    if replacing.is_replaced("wandb"):
        raise BackendUnavailable("wandb: `import wandb` is tracelet.compat.wandb here. Use delivery='process'")
    try:
        import wandb
    except ImportError as error:
        raise BackendUnavailable(f"wandb: {NOT_INSTALLED}") from error
    return wandb


def dead_service() -> tuple[type[Exception], ...]:
    """Return the exceptions that wandb raises if its service process has died, or the program has torn it down."""
    from wandb.sdk.lib.asyncio_manager import AlreadyJoinedError, RunCancelledError
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return ConnectionError, HandleAbandonedError, MailboxClosedError, AlreadyJoinedError, RunCancelledError


def is_torn_down(wandb: Any, run: Any) -> bool:
    """Check if the program has called `wandb.teardown` since this process started `run`."""
    library = getattr(run, "_wl", None)  # None: the run is disabled
    return library is not None and library._pid == os.getpid() and library is not wandb.sdk.wandb_setup.singleton()


def end_service(wandb: Any) -> None:
    """Kill wandb's service process and its retries. Its exit hook then has nothing to wait for."""
    connection = wandb.sdk.wandb_setup.singleton()._connection
    process = None if connection is None else connection._proc
    if process is not None:
        connection._cleanup()
        process._process.kill()
        process._process.wait()


def translated(*, record: bool = False) -> Translated:
    """Raise only the two errors of a backend. `record`: the block writes one record, which may be rejected."""
    return exceptions.translated("wandb", _TABLE, record=record, lost=_is_lost)


def _is_lost(error: Exception) -> str | None:
    return "the service process died; resuming the run" if isinstance(error, dead_service()) else None
