"""The program's own `wandb.log` on a run that we write to as well."""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tracelet.backends.wandb.values import AXIS, definable

# What a row may hold back until it is complete: later changes to the program's objects do not reach these.
_SETTLED = (str, int, float, bool, type(None))
_METHODS = ("log", "finish", "define_metric")


class SharedRun:
    """Stands for `log` of one run object, and for `wandb.log`, until `undo`.

    Our rows move wandb's own step on, so that a program's `log(..., step=e)` would be dropped. Here `e` becomes the
    axis column instead. A row that wandb would keep open (`step=`, `commit=False`) is kept open here, because wandb
    would mix it with our next row.
    """

    def __init__(self, wandb: Any, run: Any, define: Callable[[str], None]) -> None:
        self._wandb, self._run, self._define = wandb, run, define
        self._row: dict[str, Any] | None = None
        self._step: int | None = None
        self._defined: list[str] = []
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._originals = {name: getattr(run, name) for name in _METHODS}
        self._ours = {name: _standing_for(self._originals[name], getattr(self, f"_{name}")) for name in _METHODS}
        self.log, self.define_metric = self._originals["log"], self._originals["define_metric"]
        for name, ours in self._ours.items():
            setattr(run, name, ours)
            if getattr(wandb, name) == self._originals[name]:
                setattr(wandb, name, ours)

    def undo(self) -> None:
        """Put back what is still ours."""
        for name, ours in self._ours.items():
            if vars(self._run).get(name) is ours:
                del vars(self._run)[name]
            if getattr(self._wandb, name) is ours:
                setattr(self._wandb, name, self._originals[name])

    def commit(self) -> None:
        """Hand the open row to wandb."""
        with self._lock:
            row, step = self._row, self._step
            self._row = self._step = None
            if row is None:
                return
            if step is not None and AXIS not in row:
                for key in filter(self._undefined, _leaves(row)):
                    self._define(key)
                row[AXIS] = step
            self.log(row)

    def _log(self, data: Any, step: Any = None, commit: bool | None = None) -> None:
        readable = isinstance(data, Mapping) and all(isinstance(key, str) for key in data)
        if not readable or self._pid != os.getpid():  # wandb's own error; a fork holds a copy of the open row
            self.log(data, step=step, commit=commit)
            return
        wanted = None if step is None else operator.index(step)
        with self._lock:
            if wanted is None and commit is not False and self._row is None:
                self.log(data, commit=commit)
                return
            if self._row is not None and wanted is not None and self._step not in (None, wanted):
                self.commit()
            self._row = {**(self._row or {}), **data}
            self._step = self._step if wanted is None else wanted
            ends = wanted is None if commit is None else commit
            keepable = (*_SETTLED, self._wandb.data_types.WBValue)
            if ends or not all(isinstance(value, keepable) for value in data.values()):
                self.commit()

    def _finish(self, *args: Any, **kwargs: Any) -> Any:
        self.commit()
        return self._originals["finish"](*args, **kwargs)

    def _define_metric(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self._defined.append(name)
        return self.define_metric(name, *args, **kwargs)

    def _undefined(self, key: str) -> bool:
        """Whether the program left the axis of this key to us."""
        told = any(key.startswith(name[:-1]) if name.endswith("*") else key == name for name in self._defined)
        return definable(key) and not told


def _standing_for(original: Any, ours: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def standing(*args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs)

    return standing


def _leaves(row: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in row.items():
        if isinstance(value, Mapping) and value and all(isinstance(inner, str) for inner in value):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


@contextlib.contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable that the user did not set; afterwards it is gone, unless somebody changed it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        if os.environ.get(name) == value:
            del os.environ[name]
