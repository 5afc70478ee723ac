"""Define `wandb_sweep`, which makes a sweep of W&B for a task. The trials are runs of `wandb.agent` in it."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, overload

import flyte
from flyte.extend import AsyncFunctionTaskTemplate

from tracelet import forks
from tracelet.backends.environment import set_variable
from tracelet.backends.patches import wrapped
from tracelet.backends.wandb.errors import import_wandb
from tracelet.integrations.flyte import downloads
from tracelet.integrations.flyte.context import (
    SweepConfig,
    get_wandb_context,
    get_wandb_sweep_context,
    wandb_sweep_config,
)
from tracelet.integrations.flyte.current import SWEEP_KEY, get_wandb_sweep_id
from tracelet.integrations.flyte.identity import base_id
from tracelet.integrations.flyte.links import WandbSweep
from tracelet.settings import environment_of

F = TypeVar("F", bound=Callable[..., Any])

MAX_AGENTS = 20
"""Agents that run at the same time in one process."""

_VARIABLES = {"project": "WANDB_PROJECT", "entity": "WANDB_ENTITY"}
_lock = forks.new_lock()
_agents = 0


@overload
def wandb_sweep(_func: F) -> F: ...
@overload
def wandb_sweep(
    *, project: str | None = None, entity: str | None = None, download_logs: bool | None = None, **kwargs: Any
) -> Callable[[F], F]: ...


def wandb_sweep(
    _func: Any = None,
    *,
    project: str | None = None,
    entity: str | None = None,
    download_logs: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Make a sweep in W&B for each call of a Flyte task. It is the outermost decorator.

    Inside, `get_wandb_sweep_id()` is the id for `wandb.agent`. Tasks that this one calls use the same sweep.

    Args:
        _func: The task.
        project: The project; default: that of `wandb_sweep_config`, then of `wandb_config`.
        entity: The team or user; default: as for the project.
        download_logs: True: attach the files of all runs to the task when it has finished.
        kwargs: Further keys of the sweep's configuration. They win over those of `wandb_sweep_config`.

    Raises:
        RuntimeError: the function is no task; in the task, there is no sweep configuration, or more than 20 agents run
            at the same time.
    """
    given = wandb_sweep_config(project=project, entity=entity, download_logs=download_logs, **kwargs)
    return functools.partial(_decorated, given) if _func is None else _decorated(given, _func)


def _decorated(given: SweepConfig, task: Any) -> Any:
    if not isinstance(task, AsyncFunctionTaskTemplate):
        raise RuntimeError(
            "@wandb_sweep can only be used with Flyte tasks. Apply it above @env.task, as the outermost decorator"
        )
    task.links = (*task.links, WandbSweep(project=given.project, entity=given.entity))
    function = task.func

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def with_sweep(*args: Any, **kwargs: Any) -> Any:
            with _sweep(given) as sweep_id:
                result = await function(*args, **kwargs)
                if _wants_download(given):
                    await downloads.attach_sweep(sweep_id)
            return result

    else:

        @functools.wraps(function)
        def with_sweep(*args: Any, **kwargs: Any) -> Any:
            with _sweep(given) as sweep_id:
                result = function(*args, **kwargs)
                if _wants_download(given):
                    downloads.attach_sweep_sync(sweep_id)
            return result

    task.func = with_sweep
    return task


def _wants_download(given: SweepConfig) -> bool:
    context = get_wandb_sweep_context()
    wanted = given.decoded().get("download_logs")
    return bool(context is not None and context.download_logs if wanted is None else wanted)


@contextlib.contextmanager
def _sweep(given: SweepConfig) -> Iterator[str]:
    """Make a sweep, or use that of the context; limit the agents until the end of the block."""
    wandb = import_wandb()
    with contextlib.ExitStack() as undo:
        sweep_id, place = get_wandb_sweep_id(), _place(given)
        configuration = _configuration(given) if sweep_id is None else {}
        # `wandb.sweep` sets these variables for its agents, and never restores them.
        before = environment_of(tuple(_VARIABLES.values()))
        for variable in _VARIABLES.values():
            undo.callback(set_variable, variable, before.get(variable))
        for name, variable in _VARIABLES.items():
            if place[name]:
                set_variable(variable, place[name])
        if sweep_id is None:
            sweep_id = str(wandb.sweep(sweep=configuration, prior_runs=_prior_runs(given), **place))
        undo.enter_context(wrapped(wandb, "agent", _limited))
        undo.enter_context(flyte.custom_context(**{SWEEP_KEY: sweep_id, **wandb_sweep_config(**place)}))
        yield sweep_id


def _configuration(given: SweepConfig) -> Mapping[str, Any]:
    context = get_wandb_sweep_context()
    configuration = {**(context.to_sweep_config() if context is not None else {}), **given.to_sweep_config()}
    if not configuration:
        raise RuntimeError("No wandb sweep config found. Use wandb_sweep_config() as the custom_context of the run")
    if task := flyte.ctx():
        name = base_id(task.action.run_name, task.action.name, is_distributed=False)
        configuration.setdefault("name", name)
    return configuration


def _place(given: SweepConfig) -> dict[str, Any]:
    """Return project and entity: of the decorator, of the sweep's configuration, or of the run's."""
    sources: list[Any] = [given, get_wandb_sweep_context(), get_wandb_context()]
    known = [source for source in sources if source is not None]
    return {
        name: next((getattr(source, name) for source in known if getattr(source, name)), None)
        for name in ("project", "entity")
    }


def _prior_runs(given: SweepConfig) -> Any:
    context = get_wandb_sweep_context()
    return given.prior_runs or (context.prior_runs if context is not None else None) or []


def _limited(agent: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `wandb.agent` unless too many agents run."""
    global _agents
    with _lock:
        if _agents >= MAX_AGENTS:
            raise RuntimeError(f"{MAX_AGENTS} sweep agents run in this process; that is the maximum at a time")
        _agents += 1
    try:
        return agent(*args, **kwargs)
    finally:
        with _lock:
            _agents -= 1
