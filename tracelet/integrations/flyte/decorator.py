"""Define `track` and `wandb_init`, which make a run of each call of a Flyte task or function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from flyte.extend import AsyncFunctionTaskTemplate

from tracelet.errors import ConfigurationError
from tracelet.experiment.exit import end_runs_of_all_threads
from tracelet.guard import logger
from tracelet.integrations.flyte import downloads
from tracelet.integrations.flyte.identity import elastic_size
from tracelet.integrations.flyte.links import links_of
from tracelet.integrations.flyte.names import WANDB, canonical, check_arguments
from tracelet.integrations.flyte.runs import Entered, task_run
from tracelet.settings import RankScope, RunMode

F = TypeVar("F", bound=Callable[..., Any])

_NO_LOGS = "tracelet: download_logs is not supported for distributed tasks; download the runs later"


@overload
def track(function: F) -> F: ...
@overload
def track(**arguments: Any) -> Callable[[F], F]: ...


def track(function: Any = None, **arguments: Any) -> Any:
    """Make a run of each call of a Flyte task or function: `@track` or `@track(backend="mlflow")`, above `@env.task`.

    It is `wandb_init` for every backend. An exception ends the run as failed, and is raised as usual.

    Args:
        function: The task or function.
        arguments: Those of `start_logging`, `download_logs`, and `entity`. Arguments that are omitted come from
            `run_config`, and then from tracelet's settings.

    Raises:
        ConfigurationError: an argument is unknown, or the function is a generator.
    """
    given = canonical(arguments)
    check_arguments(given)
    return functools.partial(_decorated, given, None) if function is None else _decorated(given, None, function)


@overload
def wandb_init(_func: F) -> F: ...
@overload
def wandb_init(
    *,
    run_mode: RunMode | None = None,
    rank_scope: RankScope | None = None,
    download_logs: bool | None = None,
    project: str | None = None,
    entity: str | None = None,
    **kwargs: Any,
) -> Callable[[F], F]: ...


def wandb_init(
    _func: Any = None,
    *,
    run_mode: RunMode | None = None,
    rank_scope: RankScope | None = None,
    download_logs: bool | None = None,
    project: str | None = None,
    entity: str | None = None,
    **kwargs: Any,
) -> Any:
    """Make a run in W&B of each call of a Flyte task or function. It is the outermost decorator.

    Args:
        _func: The task or function.
        run_mode: `auto` (default): use the run of the parent task, or begin one. `new`: begin one. `shared`: use the
            run of the parent task. In a distributed task, as in `start_logging`.
        rank_scope: `global` (default) or `worker`: the ranks of a distributed task that belong together.
        download_logs: True: attach the run's files to the task when it has finished.
        project: The project.
        entity: The team or user.
        kwargs: Other arguments of `wandb.init` or `start_logging`, such as `backend`.

    Raises:
        ConfigurationError: an argument is unknown, or the function is a generator.
    """
    given: dict[str, Any] = {"run_mode": run_mode, "rank_scope": rank_scope, "download_logs": download_logs}
    given |= {"project": project, "entity": entity, **kwargs}
    check_arguments(given)
    return functools.partial(_decorated, given, WANDB) if _func is None else _decorated(given, WANDB, _func)


def _decorated(arguments: Mapping[str, Any], default: str | None, function: Any) -> Any:
    """Return the function with a run, or the task itself, whose function has one then."""
    if not isinstance(function, AsyncFunctionTaskTemplate):
        return _wrapped(function, arguments, default, is_task=False)
    size = elastic_size(function.plugin_config)
    if size.is_distributed and inspect.iscoroutinefunction(function.func):
        logger.warning("tracelet: task %s: Elastic runs functions that are not asynchronous", function.name)
    function.links = (*function.links, *links_of(arguments, default, size))
    if size.is_distributed and arguments.get("download_logs"):
        logger.warning(_NO_LOGS)
    end_runs_of_all_threads()  # Flyte calls tasks in threads, and aborts them by SIGTERM
    # In place: its environment has the task already, and Flyte loads it by its name.
    function.func = _wrapped(function.func, arguments, default, is_task=True)
    return function


def _wrapped(function: Any, arguments: Mapping[str, Any], default: str | None, *, is_task: bool) -> Any:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        name = getattr(function, "__qualname__", "the function")
        raise ConfigurationError(f"{name} is a generator, whose call returns before its code runs")

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def tracked(*args: Any, **kwargs: Any) -> Any:
            with task_run(arguments, default, is_task=is_task) as entered:
                result = await function(*args, **kwargs)
            if _wants_download(entered):
                await downloads.attach_run(entered.run.id)
            return result

    else:

        @functools.wraps(function)
        def tracked(*args: Any, **kwargs: Any) -> Any:
            with task_run(arguments, default, is_task=is_task) as entered:
                result = function(*args, **kwargs)
            if _wants_download(entered):
                downloads.attach_run_sync(entered.run.id)
            return result

    return tracked


def _wants_download(entered: Entered) -> bool:
    if not entered.is_own or not entered.options.get("download_logs"):
        return False
    if entered.is_distributed:
        logger.warning(_NO_LOGS)
        return False
    return bool(entered.run.id)
