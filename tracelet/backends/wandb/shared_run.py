"""Make the program's own `wandb.log` work on a run to which tracelet writes too."""

from __future__ import annotations

import contextlib
import functools
import operator
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tracelet import forks
from tracelet.backends.wandb.values import AXIS, definable

# Values that an open row may hold, because the program cannot change them later.
_IMMUTABLE = (str, int, float, bool, type(None))
_METHODS = ("log", "finish", "define_metric")


class SharedRun:
    """Replace `log`, `finish` and `define_metric` of a run object and of `wandb`, until `undo`.

    Our rows advance wandb's own step, so wandb would drop a program's `log(..., step=e)`. Here `e` becomes the axis
    column instead. If wandb would hold a row open (`step=`, `commit=False`), this class holds it instead, because wandb
    would merge it with our next row.
    """

    def __init__(self, wandb: Any, run: Any, define: Callable[[str], None]) -> None:
        self._wandb, self._run, self._define = wandb, run, define
        self._row: dict[str, Any] | None = None
        self._step: int | None = None
        self._defined: list[str] = []
        self._lock = forks.new_lock()
        self._pid = os.getpid()
        self._originals = {name: getattr(run, name) for name in _METHODS}
        self._wrappers = {name: _wrapper(self._originals[name], getattr(self, f"_{name}")) for name in _METHODS}
        self.log, self.define_metric = self._originals["log"], self._originals["define_metric"]
        for name, wrapper in self._wrappers.items():
            setattr(run, name, wrapper)
            if getattr(wandb, name) == self._originals[name]:
                setattr(wandb, name, wrapper)

    def undo(self) -> None:
        """Restore the original methods, except those that somebody else has replaced since."""
        for name, wrapper in self._wrappers.items():
            if vars(self._run).get(name) is wrapper:
                del vars(self._run)[name]
            if getattr(self._wandb, name) is wrapper:
                setattr(self._wandb, name, self._originals[name])

    def commit(self) -> None:
        """Log the open row."""
        with self._lock:
            row, step = self._row, self._step
            self._row = self._step = None
            if row is None or self._pid != os.getpid():
                return
            if step is not None and AXIS not in row:
                for key in filter(self._undefined, _leaves(row)):
                    self._define(key)
                row[AXIS] = step
            self.log(row)

    def _log(self, data: Any, step: Any = None, commit: bool | None = None) -> None:
        valid = isinstance(data, Mapping) and all(isinstance(key, str) for key in data)
        if not valid or self._pid != os.getpid():  # wandb raises its own error; a fork has a copy of the open row
            self.log(data, step=step, commit=commit)
            return
        row_step = None if step is None else operator.index(step)
        with self._lock:
            if row_step is None and commit is not False and self._row is None:
                self.log(data, commit=commit)
                return
            if self._row is not None and row_step is not None and self._step not in (None, row_step):
                self.commit()
            self._row = {**(self._row or {}), **data}
            self._step = self._step if row_step is None else row_step
            complete = row_step is None if commit is None else commit
            holdable = (*_IMMUTABLE, self._wandb.data_types.WBValue)
            if complete or not all(isinstance(value, holdable) for value in data.values()):
                self.commit()

    def _finish(self, *args: Any, **kwargs: Any) -> Any:
        self.commit()
        return self._originals["finish"](*args, **kwargs)

    def _define_metric(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self._defined.append(name)
        return self.define_metric(name, *args, **kwargs)

    def _undefined(self, key: str) -> bool:
        """Check if the program has not defined the axis of this key itself."""
        defined = any(key.startswith(name[:-1]) if name.endswith("*") else key == name for name in self._defined)
        return definable(key) and not defined


def _wrapper(original: Any, replacement: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return replacement(*args, **kwargs)

    return wrapper


def _leaves(row: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in row.items():
        if isinstance(value, Mapping) and value and all(isinstance(inner, str) for inner in value):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


@contextlib.contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable if the user has not. Remove it afterwards, unless somebody has changed it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        if os.environ.get(name) == value:
            del os.environ[name]
