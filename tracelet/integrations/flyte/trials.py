"""A trial of a sweep: a call of a function by an agent of wandb, which says in variables what the trial is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from tracelet.backends.patches import patched
from tracelet.settings import environment_of

_SWEEP_ID, _ID, _FILE = "WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"
_OF_RUN = ("config", "summary", "log", "save", "define_metric", "log_artifact", "use_artifact", "alert")
"""Names of wandb's module that belong to the current run."""


def trial_id() -> str | None:
    """Return the id that the agent has chosen for the run, or None if no agent calls this process's function."""
    return _variables().get(_ID)


@contextlib.contextmanager
def trial_of(run: Any) -> Iterator[None]:
    """Make a run that is not wandb's own the run of the agent's trial, if there is one.

    It gets the parameters of the trial, and `wandb.log` and the like act on it until the end of the block.
    """
    file = _variables().get(_FILE)
    if file is None:
        yield
        return
    run.config.update(file)
    with contextlib.ExitStack() as undo:
        if (wandb := sys.modules.get("wandb")) is not None:
            for name in _OF_RUN:
                undo.enter_context(patched(wandb, name, getattr(run, name)))
            undo.enter_context(patched(wandb, "run", run))
        yield


def _variables() -> dict[str, str]:
    found = environment_of((_SWEEP_ID, _ID, _FILE))
    return found if _SWEEP_ID in found else {}
