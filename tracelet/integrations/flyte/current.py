"""What a task asks about its own run."""

from __future__ import annotations

import sys
from typing import Any

import flyte

from tracelet.api import get_active_experiment
from tracelet.experiment import Experiment
from tracelet.integrations.flyte import runs
from tracelet.integrations.flyte.context import task_context

SWEEP_KEY = "_wandb_sweep_id"
"""The key of the sweep's id in Flyte's custom context, for child tasks."""
_PLUGIN_KEY = "_wandb_run"
"""The key of the run of Flyte's own plugin in the data of a task."""


def get_run() -> Experiment | None:
    """Return the run of the current task as an experiment, whatever its backend, or None outside of tracked tasks.

    On a rank of a distributed task that does not log, it is falsy, and its methods do nothing.
    """
    run = runs.current()
    if run is not None:
        return run.experiment
    active = get_active_experiment()
    return None if active is None or runs.is_of_other_task(active.run_id) else active


def get_wandb_run() -> Any:
    """Return the run of the current task with wandb's methods, or None outside of tracked tasks.

    With the backend wandb, it is wandb's own run; otherwise one that logs to the backends of the task. On a rank of a
    distributed task that does not log, it is falsy, and its methods do nothing.
    """
    run = runs.current()
    if run is not None:
        return run.wandb_run
    task = flyte.ctx()
    if of_plugin := (task.data or {}).get(_PLUGIN_KEY) if task else None:
        return of_plugin
    of_program = getattr(sys.modules.get("wandb"), "run", None)
    return None if runs.is_of_other_task(getattr(of_program, "id", None)) else of_program


def get_wandb_run_dir() -> str | None:
    """Return the local folder of the current task's run, or None if there is none. It needs no network."""
    run = get_wandb_run()
    return run.dir if run else None


def get_wandb_sweep_id() -> str | None:
    """Return the id of the sweep of the current task or its parents, or None."""
    return task_context().get(SWEEP_KEY)
