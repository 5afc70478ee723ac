"""The run of a task: begun by the task, or that of its parent. Each is found again by its id."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import flyte

from tracelet import forks
from tracelet.api import get_active_experiment, start_logging, start_separate
from tracelet.backends.arguments import backends_of
from tracelet.compat.wandb import Run, Settings
from tracelet.compat.wandb.config_object import parsed
from tracelet.compat.wandb.stored_state import state_of
from tracelet.distributed.launchers import find_process
from tracelet.distributed.plan import Role
from tracelet.errors import NativeUnavailable
from tracelet.experiment import Experiment
from tracelet.experiment.exit import KILLED_BY_INT
from tracelet.integrations.flyte import identity
from tracelet.integrations.flyte.context import get_wandb_context, task_context
from tracelet.integrations.flyte.names import (
    WANDB,
    backend_names,
    check_arguments,
    merged,
    settings_dict,
    start_arguments,
)
from tracelet.integrations.flyte.trials import trial_id, trial_of
from tracelet.settings import environment_of, load

RUN_KEY = "_wandb_run_id"
"""The key of the run's id in Flyte's custom context, for child tasks."""

_ONE_IN_PROCESS = frozenset(("clearml",))
"""Vendors whose second run in a process would be the first one."""
_starting = forks.new_lock()
_current: ContextVar[tuple[TaskRun, Any] | None] = ContextVar("tracelet_flyte_run", default=None)
"""A run, and the task that has it. A child in this process gets the variable too."""
_open: dict[str, TaskRun] = {}
"""The runs that tasks of this process have begun, by id."""
folders: dict[str, Path] = {}
"""The folders of the runs that this process has begun, by id."""


class Entered(NamedTuple):
    """The run of a task, and whether the task began it."""

    run: TaskRun
    is_own: bool
    is_distributed: bool
    options: Mapping[str, Any]
    """The arguments of the decorator and of the context."""


class SilentRun(Run):
    """The run of a rank that does not log. It is falsy, and its methods do nothing."""

    def __bool__(self) -> bool:
        return False

    def log_artifact(self, artifact_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the artifact. Its files may not exist: often only the first rank writes them."""
        return artifact_or_path

    def save(self, *args: Any, **kwargs: Any) -> Any:
        """Return no files, as of a pattern without matches."""
        return []


class TaskRun:
    """A run, and what `get_wandb_run` returns for it."""

    def __init__(self, experiment: Experiment, names: tuple[str, ...], options: Mapping[str, Any]) -> None:
        self.experiment, self._names = experiment, names
        experiment._keeps_end = False  # an attempt may have logged to the run of wandb only
        given = {"entity": options.get("entity"), "project": options.get("project"), "group": options.get("group")}
        given |= {"mode": options.get("mode"), "id": experiment.run_id or options.get("id")}
        settings = Settings(run_tags=tuple(options.get("tags") or ()), **given)
        # A later attempt goes on after the steps of the one before.
        earlier = state_of(experiment.folder) if experiment and experiment._info.resumed else None
        self._facade = (Run if experiment else SilentRun)(experiment, settings, owned=False, earlier=earlier)

    @property
    def id(self) -> str:
        return self.experiment.run_id

    @property
    def is_of_wandb(self) -> bool:
        """True if wandb is its only backend."""
        return self._names == (WANDB,)

    @property
    def wandb_run(self) -> Any:
        """The run of wandb itself if it is the only backend, else one with its methods, which logs to all backends."""
        native = None
        if self.experiment and self.is_of_wandb:
            with contextlib.suppress(NativeUnavailable):  # another process has it
                native = self.experiment.wandb_run
        return self._facade if native is None else native

    def log_params(self, options: Mapping[str, Any]) -> None:
        """Add the parameters in the `config` of the decorator or context, also to those of a run that goes on."""
        keys = options.get("config_include_keys"), options.get("config_exclude_keys")
        if values := parsed(options.get("config"), *keys):
            self.wandb_run.config.update(values, allow_val_change=True)

    def on_exit(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run with the status that the end of the task means."""
        if isinstance(error, asyncio.CancelledError):
            self.experiment.stop(status="killed", exit_code=KILLED_BY_INT)
        else:
            self.experiment.__exit__(kind, error, trace)


def current() -> TaskRun | None:
    """Return the run of the current task or function, or None. A child does not have that of its parent by itself."""
    run, task = _current.get() or (None, None)
    return run if task == _task_action() else None


def is_of_other_task(run_id: object) -> bool:
    """Return True if the current task lacks the run with this id, which another task of this process has begun."""
    return bool(flyte.ctx()) and run_id in _open


def _task_action() -> Any:
    """Return what identifies the current task, also in its traces; None outside of tasks."""
    return getattr(flyte.ctx(), "task_action", None)


@contextlib.contextmanager
def task_run(decorator: Mapping[str, Any], default: str | None, *, is_task: bool) -> Iterator[Entered]:
    """Begin the run of a task or function, or use that of its parent; end what was begun here.

    Args:
        decorator: The arguments of the decorator.
        default: The backend if nobody sets one.
        is_task: False for a plain function.

    Raises:
        RuntimeError: the run mode needs a parent's run, and there is none.
    """
    task, context, above = flyte.ctx(), get_wandb_context(), current()
    options = merged(decorator, context.decoded() if context is not None else {})
    parent = task_context().get(RUN_KEY) if task else above.id if above is not None else None
    is_within = bool(task) and not is_task and above is not None  # a function in a task, also of a silent rank
    shared = None if is_within else _shared_id(options, parent, bool(task), is_task)
    for name in ("id", "run_id"):
        if parent and decorator.get(name) is None:
            options.pop(name, None)  # that of the context belongs to the first run
    with contextlib.ExitStack() as undo:
        run = above if is_within else _open.get(shared) if shared is not None else None
        is_own = run is None
        if run is None:
            with _starting:
                run = _start(options, default, shared)
            if run.id:
                _open[run.id], folders[run.id] = run, run.experiment.folder
                undo.callback(_open.pop, run.id, None)
            undo.push(run.on_exit)
        run.log_params(options)
        if is_own and not task and not run.is_of_wandb:
            undo.enter_context(trial_of(run.wandb_run))
        undo.callback(_current.reset, _current.set((run, _task_action())))
        if task and run.id:
            undo.enter_context(flyte.custom_context(**{RUN_KEY: run.id}))
        yield Entered(run, is_own, find_process() is not None, options)


def _shared_id(options: Mapping[str, Any], parent: str | None, has_task: bool, is_task: bool) -> str | None:
    """Return the id of the parent's run if this task or function uses it; None if it begins one."""
    if has_task and not is_task:
        if parent is None:
            raise RuntimeError(
                "A plain function within a task uses the run of the task, which has none: the decorator cannot be "
                "applied to traces. Decorate the task"
            )
        return parent
    mode = options.get("run_mode") or "auto"
    if find_process() is not None or mode == "new":
        return None
    if mode == "shared" and parent is None and has_task:
        raise RuntimeError("Cannot reuse parent run: no parent run ID found")
    return parent


def _start(options: dict[str, Any], default: str | None, parent: str | None) -> TaskRun:
    """Begin a run, or join that of `parent`, which another process has begun."""
    check_arguments(options)
    names, objects = backend_names(options.get("backend"), default)
    process, task = find_process(), flyte.ctx()
    action = task.action.name if task else ""
    run_id = parent or options.get("id") or options.get("run_id")
    if run_id is None and task:
        run_id = identity.base_id(task.action.run_name, action, is_distributed=process is not None)
    elif run_id is None:
        run_id = trial_id()
    if WANDB in names and "mode" not in options and is_online():
        options = _with_shared_mode(options, is_distributed=process is not None, is_primary=parent is None)
    arguments = {**start_arguments(options, names, objects), "run_id": run_id}
    if process is not None:
        arguments["run_mode"] = options.get("run_mode") or "auto"
        arguments["rank_scope"] = options.get("rank_scope") or "global"
        return TaskRun(start_logging(**arguments), names, options)
    config = arguments.pop("config", {})
    arguments["backend"] = list(names)
    is_only = get_active_experiment() is None
    if not is_only and not objects and set(names) & _ONE_IN_PROCESS:
        arguments.setdefault("delivery", "process")
    settings, backends = backends_of(load(arguments), objects, config)
    fields = {name: getattr(settings, name) for name in ("tags", "notes", "group", "delivery")}
    role = Role(label=identity.label(action), prefix=f"{identity.label(action)}/") if parent is not None else None
    arguments = {**arguments, **fields}
    experiment = start_separate(arguments, backends, role, is_active=is_only)
    return TaskRun(experiment, names, options)


def _with_shared_mode(options: dict[str, Any], *, is_distributed: bool, is_primary: bool) -> dict[str, Any]:
    """Return the options with wandb's shared mode if several processes may write to one run."""
    task = flyte.ctx()
    if is_distributed:  # the ranks label themselves
        return {**options, "mode": "shared"} if options.get("run_mode") == "shared" else options
    if not task or task.mode != "remote":
        return options
    writer = {"x_label": task.action.name, "x_primary": is_primary, "x_update_finish_state": is_primary}
    return {**options, "mode": "shared", "settings": {**settings_dict(options.get("settings") or {}), **writer}}


def is_online() -> bool:
    """Return True unless the environment sets wandb to a mode without a server."""
    return environment_of(["WANDB_MODE"]).get("WANDB_MODE", "online") in ("", "online")
