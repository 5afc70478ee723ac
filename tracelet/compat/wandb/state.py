"""What a program sees before a run begins, and after it has ended."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

from tracelet.compat.wandb.errors import NotInitialised, UsageError

P = ParamSpec("P")
T = TypeVar("T")


def while_open(method: Callable[P, T]) -> Callable[P, T]:
    """Raise UsageError if the run is finished."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        run: Any = args[0]
        if run._is_finished:
            raise UsageError(f"Run ({run.id}) is finished. {method.__name__} needs a run that is not finished")
        return method(*args, **kwargs)

    return call


class BeforeInit:
    """Stand for `wandb.config` and `wandb.summary` while there is no run: raise NotInitialised at each use."""

    def __init__(self, name: str) -> None:
        self.__dict__["_name"] = name

    def _raise(self, use: str) -> NoReturn:
        raise NotInitialised(f"You must call wandb.init() before wandb.{self.__dict__['_name']}{use}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._raise(f".{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        self._raise(f".{name}")

    def __getitem__(self, name: str) -> Any:
        self._raise(f"[{name!r}]")

    def __setitem__(self, name: str, value: Any) -> None:
        self._raise(f"[{name!r}]")

    def __repr__(self) -> str:
        return f"<wandb.{self.__dict__['_name']} before wandb.init()>"
