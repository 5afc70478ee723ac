"""The run that a framework's hook logs to, and what the frameworks log, told to it."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

from tracelet import settings
from tracelet.api import get_active_experiment, start_logging
from tracelet.backends.base import Status
from tracelet.capture import values as snapshot
from tracelet.errors import TraceletError
from tracelet.experiment import Experiment
from tracelet.records import RunInfo

logger = logging.getLogger("tracelet")


class HookRun:
    """The run that the program began, or one that this hook begins by `start_logging(**arguments)` and it alone ends.

    A run of its own goes on where more is logged after its end (`test` after `fit`). Another hook's run is not joined:
    two trainings in one program are two runs.

    Raises:
        TypeError: `start_logging` has no such argument.
    """

    _begun: ClassVar[WeakSet[Experiment]] = WeakSet()

    def __init__(self, hook: str, arguments: Mapping[str, Any]) -> None:
        self._arguments = {name: value for name, value in arguments.items() if value is not None}
        inspect.signature(start_logging).bind_partial(**self._arguments)
        self._hook = hook
        self._own: Experiment | None = None
        self._is_disabled = False
        self._said: set[str] = set()
        self.default_name: str | None = None
        """The name of the run to begin, where none was given."""

    def __getstate__(self) -> dict[str, Any]:
        # A copy, usually for another process, has nothing of the run but how to begin one.
        return self.__dict__ | {"_own": None, "_is_disabled": False}

    @property
    def experiment(self) -> Experiment:
        """The run, begun now if need be."""
        active = get_active_experiment()
        if active is not None and (active is self._own or active not in self._begun):
            if active is not self._own and self._arguments:
                self._say("arguments", "the run %s is active, so that its own arguments are not used", active.run_id)
            return active
        if self._is_disabled and self._own is not None:
            return self._own
        return self._start()

    @property
    def current(self) -> Experiment | None:
        """The run as far as there is one: nothing is begun."""
        active = get_active_experiment()
        return active if active is not None and active not in self._begun else self._own

    @property
    def run_id(self) -> str | None:
        """The id of the run, also of one that is named but not begun yet."""
        return self._arguments.get("run_id") if self.current is None else self.current.run_id

    @property
    def project(self) -> str | None:
        return self._arguments.get("project") if self.current is None else self.current.project

    def log(self, values: Mapping[str, Any], step: int | None, wall_time: float | None = None) -> None:
        """Numbers as metrics, words as texts, dicts as `name/key`; what is none of these is left out, and said once."""
        experiment = self.experiment
        for name, value in _members(values):
            try:
                whole = snapshot.cut_step(step)  # a framework's may be a mean of steps
                if isinstance(value, str):
                    experiment.log_text(name, value, whole)
                else:
                    experiment.log_metric(name, value, whole, wall_time)
            except TraceletError as error:
                self._say(name, "%s. It is left out", error)

    def end(self, status: Status = "finished", exit_code: int = 0) -> None:
        """End the run, if it is the hook's own."""
        if self._own is not None:
            self._own.stop(status=status, exit_code=exit_code)

    def leave(self) -> None:
        """End the run, if it is the hook's own; what is logged next begins another."""
        self.end()
        self._own = None

    def _start(self) -> Experiment:
        arguments = dict(self._arguments)
        if self.default_name is not None:
            arguments.setdefault("exp_name", self.default_name)
        if self._own is not None:  # the program may have changed its directory since
            folder = self._own.folder
            arguments |= {"run_id": folder.name, "dir": folder.parent.parent, "resume": None}
        self._own = start_logging(**arguments)
        self._begun.add(self._own)
        self._is_disabled = get_active_experiment() is not self._own
        return self._own

    def _say(self, cause: str, message: str, *arguments: Any) -> None:
        if cause not in self._said:
            self._said.add(cause)
            logger.warning(f"tracelet: {self._hook}: {message}", *arguments)


@functools.cache
def inert() -> Experiment:
    """An experiment that does nothing, for processes that do not log; the active one is left alone."""
    nobody = RunInfo(run_id="", project=None, name=None, folder=str(Path()))
    return Experiment(settings.load({"mode": "disabled"}), nobody)


def _members(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{key}", member) for key, member in value.items())
        else:
            yield name, value
