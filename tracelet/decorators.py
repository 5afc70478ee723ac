"""Define `track`, which makes a run of each call of a function."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

from tracelet import settings
from tracelet.api import get_active_experiment, start_logging
from tracelet.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])


@overload
def track(function: F) -> F: ...
@overload
def track(**arguments: Any) -> Callable[[F], F]: ...


def track(function: Any = None, **arguments: Any) -> Any:
    """Make a run of each call of a function: `@tracelet.track` or `@tracelet.track(project="vision")`.

    An exception ends the run as failed, and is raised as usual. Inside, `get_active_experiment()` is the run. A call
    while a run is active uses that run, also a call in another thread or task. The function may be asynchronous.

    Args:
        arguments: As in `context`: they also hold for `start_logging` in functions that this one calls.

    Raises:
        ConfigurationError: the function is a generator, whose call returns before its code runs.
    """
    if function is None:
        return functools.partial(track, **arguments)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"track: {function.__qualname__} is a generator; track the function that reads it")

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def tracked(*args: Any, **kwargs: Any) -> Any:
            with _run(arguments):
                return await function(*args, **kwargs)

    else:

        @functools.wraps(function)
        def tracked(*args: Any, **kwargs: Any) -> Any:
            with _run(arguments):
                return function(*args, **kwargs)

    return tracked


@contextlib.contextmanager
def _run(arguments: dict[str, Any]) -> Iterator[None]:
    with settings.context(**arguments), contextlib.ExitStack() as run:
        if not get_active_experiment():  # none, or one that does not log
            run.enter_context(start_logging())
        yield
