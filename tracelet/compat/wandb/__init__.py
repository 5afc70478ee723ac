"""wandb's API over tracelet's runs: `import tracelet.compat.wandb as wandb`. It needs no wandb and no account.

A run is a run of tracelet, with its journal and its backends: those of `TRACELET_BACKEND`, or the run that
`tracelet.start_logging` began. What differs from wandb is in the page "Coming from wandb code" of the documentation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import Any

from tracelet.compat.wandb import apis, data_types, env, integration, opening, plot, sdk, util
from tracelet.compat.wandb.api import Api
from tracelet.compat.wandb.artifacts import Artifact
from tracelet.compat.wandb.config_object import Config
from tracelet.compat.wandb.data_types import (
    Audio,
    Classes,
    EvalTable,
    Graph,
    Histogram,
    Html,
    Image,
    JoinedTable,
    Molecule,
    Object3D,
    Plotly,
    Table,
    Video,
    box3d,
)
from tracelet.compat.wandb.errors import CommError, Error, NotInitialised, UnsupportedError, UsageError
from tracelet.compat.wandb.metric import Metric
from tracelet.compat.wandb.plot import plot_table, visualize
from tracelet.compat.wandb.replacing import install, uninstall
from tracelet.compat.wandb.run_object import Run
from tracelet.compat.wandb.settings import Settings
from tracelet.compat.wandb.state import BeforeInit
from tracelet.compat.wandb.summary_object import Summary
from tracelet.compat.wandb.terminal import termerror, termlog, termsetup, termwarn

__version__ = "0.31.0"
"""The version of wandb whose API this is."""


class AlertLevel(Enum):
    """How urgent an alert is."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


run: Run | None = None
config: Any = BeforeInit("config")
summary: Any = BeforeInit("summary")
patched: dict[str, list[Any]] = {"tensorboard": [], "keras": [], "gym": []}


def init(
    entity: str | None = None,
    project: str | None = None,
    dir: str | os.PathLike[str] | None = None,
    id: str | None = None,
    name: str | None = None,
    notes: str | None = None,
    tags: Sequence[str] | str | None = None,
    config: Any = None,
    config_exclude_keys: list[str] | None = None,
    config_include_keys: list[str] | None = None,
    allow_val_change: bool | None = None,
    group: str | None = None,
    job_type: str | None = None,
    mode: str | None = None,
    force: bool | None = None,
    anonymous: Any = None,
    reinit: Any = None,
    resume: bool | str | None = None,
    resume_from: str | None = None,
    fork_from: str | None = None,
    save_code: bool | None = None,
    tensorboard: bool | None = None,
    sync_tensorboard: bool | None = None,
    monitor_gym: bool | None = None,
    settings: Any = None,
) -> Run:
    """Begin a run; see `opening.begin`. The first run of a process uses the run of `start_logging`, if it is active.

    Args:
        project: Or `WANDB_PROJECT`.
        id: Of a new run, or of an existing one, which is resumed.
        name: The name of the run, or `WANDB_NAME`.
        tags: Or `WANDB_TAGS`, with commas.
        config: A dict, a namespace, or the path of a YAML file.
        mode: `online`, or `offline` (of wandb's server alone), or `disabled`: nothing is logged.
        reinit: What to do if a run is not finished: `return_previous` (default, and False), `finish_previous` (True) or
            `create_new`, beside it.
        resume: `must`: the run `id` exists; `never`: it does not; `auto`: the last one, if it did not finish.
        sync_tensorboard: Also log what the program tells a SummaryWriter.
        settings: A dict or `Settings` with more arguments.

    Raises:
        UsageError: an argument is invalid, or the run exists, or does not.
        UnsupportedError: `fork_from` or `resume_from`.
    """
    arguments = {name: value for name, value in locals().items() if value is not None}
    begun = opening.begin(arguments)
    if run is None or run._is_finished or run not in opening.open_runs() or (run.disabled and not begun.disabled):
        _set_current(begun)
    return begun


def _set_current(new: Run | None) -> None:
    global run, config, summary
    run = new
    config = BeforeInit("config") if new is None else new.config
    summary = BeforeInit("summary") if new is None else new.summary


def _on_finish(finished: Run) -> None:
    if run is finished:
        _set_current(None)


opening.on_finish.append(_on_finish)


def _current(function: str) -> Run:
    if run is None:
        raise NotInitialised(f"You must call wandb.init() before wandb.{function}()")
    return run


def log(data: Mapping[str, Any], step: int | None = None, commit: bool | None = None, sync: bool | None = None) -> None:
    """Log values of one step to the current run; see `Run.log`."""
    _current("log").log(data, step, commit)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """End the current run, if there is one."""
    if run is not None:
        run.finish(exit_code, quiet)


join = finish


def teardown(exit_code: int | None = None) -> None:
    """End all runs."""
    for one in opening.open_runs():
        one.finish(exit_code)


def setup(settings: Any = None) -> None:
    """Do nothing: no service is needed."""


def login(
    anonymous: Any = None,
    key: str | None = None,
    relogin: bool | None = None,
    host: str | None = None,
    force: bool | None = None,
    timeout: int | None = None,
    verify: bool = False,
    **kwargs: Any,
) -> bool:
    """Return True: nobody has to sign in. The key is neither used nor stored."""
    return True


def watch(
    models: Any,
    criterion: Any = None,
    log: str | None = "gradients",
    log_freq: int = 1000,
    idx: int | None = None,
    log_graph: bool = False,
) -> None:
    """See `Run.watch`."""
    _current("watch").watch(models, criterion, log, log_freq, idx, log_graph)


def unwatch(models: Any = None) -> None:
    """See `Run.unwatch`."""
    _current("unwatch").unwatch(models)


def alert(title: str, text: str = "", level: Any = None, wait_duration: int | float | timedelta | None = None) -> None:
    """See `Run.alert`."""
    _current("alert").alert(title, text, level, wait_duration)


def define_metric(
    name: str,
    step_metric: str | Metric | None = None,
    step_sync: bool | None = None,
    hidden: bool | None = None,
    summary: str | None = None,
    goal: str | None = None,
    overwrite: bool | None = None,
) -> Metric:
    """See `Run.define_metric`."""
    return _current("define_metric").define_metric(name, step_metric, step_sync, hidden, summary, goal, overwrite)


def save(glob_str: Any = None, base_path: Any = None, policy: str = "live", glob: bool = True) -> list[str] | bool:
    """See `Run.save`."""
    return _current("save").save(glob_str, base_path, policy, glob)


def restore(name: str, run_path: str | None = None, replace: bool = False, root: str | None = None) -> Any:
    """Return a saved file of a local run, open for reading; of the current run if there is no `run_path`."""
    if run is None and run_path is not None:
        return opening.restore(name, run_path, replace, root)
    return _current("restore").restore(name, run_path, replace, root)


def log_artifact(
    artifact_or_path: Any,
    name: str | None = None,
    type: str | None = None,
    aliases: Sequence[str] | None = None,
    tags: Sequence[str] | None = None,
) -> Artifact:
    """See `Run.log_artifact`."""
    return _current("log_artifact").log_artifact(artifact_or_path, name, type, aliases, tags)


def use_artifact(
    artifact_or_name: Any, type: str | None = None, aliases: Any = None, use_as: str | None = None
) -> Artifact:
    """See `Run.use_artifact`."""
    return _current("use_artifact").use_artifact(artifact_or_name, type, aliases, use_as)


def log_model(path: Any, name: str | None = None, aliases: Sequence[str] | None = None) -> None:
    """See `Run.log_model`."""
    _current("log_model").log_model(path, name, aliases)


def use_model(name: str) -> str:
    """See `Run.use_model`."""
    return _current("use_model").use_model(name)


def link_model(path: Any, registered_model_name: str, name: str | None = None, aliases: Any = None) -> Any:
    """Raise UnsupportedError: there is no registry."""
    return _current("link_model").link_model(path, registered_model_name)


def log_code(
    root: str | None = ".", name: str | None = None, include_fn: Any = None, exclude_fn: Any = None
) -> Artifact | None:
    """See `Run.log_code`."""
    return _current("log_code").log_code(root, name, include_fn, exclude_fn)


def mark_preempting() -> None:
    """See `Run.mark_preempting`."""
    _current("mark_preempting").mark_preempting()


def pin_config_keys(keys: Sequence[str] = ()) -> None:
    """See `Run.pin_config_keys`."""
    _current("pin_config_keys").pin_config_keys(keys)


def sweep(*args: Any, **kwargs: Any) -> str:
    """Raise UnsupportedError: a sweep needs wandb's server."""
    raise UnsupportedError(
        "wandb.sweep needs wandb's server. Search with a library such as Optuna or Ray Tune, with a run for each trial"
    )


agent = controller = sweep


def require(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


def attach(*args: Any, **kwargs: Any) -> Run:
    """Return the current run: a process has its own."""
    return _current("attach")


_attach = attach

__all__ = [
    "AlertLevel",
    "Api",
    "Artifact",
    "Audio",
    "Classes",
    "CommError",
    "Config",
    "Error",
    "EvalTable",
    "Graph",
    "Histogram",
    "Html",
    "Image",
    "JoinedTable",
    "Molecule",
    "Object3D",
    "Plotly",
    "Run",
    "Settings",
    "Summary",
    "Table",
    "UnsupportedError",
    "UsageError",
    "Video",
    "agent",
    "alert",
    "apis",
    "box3d",
    "config",
    "controller",
    "data_types",
    "define_metric",
    "env",
    "finish",
    "init",
    "install",
    "integration",
    "join",
    "link_model",
    "log",
    "log_artifact",
    "log_code",
    "log_model",
    "login",
    "mark_preempting",
    "pin_config_keys",
    "plot",
    "plot_table",
    "require",
    "restore",
    "run",
    "save",
    "sdk",
    "setup",
    "summary",
    "sweep",
    "teardown",
    "termerror",
    "termlog",
    "termsetup",
    "termwarn",
    "uninstall",
    "unwatch",
    "use_artifact",
    "use_model",
    "util",
    "visualize",
    "watch",
]
