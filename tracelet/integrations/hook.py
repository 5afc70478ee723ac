"""The run of a framework's hook, and conversion of the values that frameworks log."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar
from weakref import WeakSet

from tracelet import settings
from tracelet.api import active_or_inherited, start_logging
from tracelet.backends.base import Status
from tracelet.capture import values as snapshot
from tracelet.distributed.launchers import find_process
from tracelet.errors import TraceletError
from tracelet.experiment import Experiment
from tracelet.experiment.silent import SilentExperiment
from tracelet.guard import logger
from tracelet.runs.folders import runs_of


class HookRun:
    """Use the program's active run, or start one with `start_logging(**arguments)` that only this hook ends.

    If values are logged after the end of the hook's own run (`test` after `fit`), resume it. Do not join the run of
    another hook: two trainings in one program are two runs.

    Raises:
        TypeError: an argument is unknown to `start_logging`.
    """

    _started: ClassVar[WeakSet[Experiment]] = WeakSet()

    def __init__(self, hook: str, arguments: Mapping[str, Any]) -> None:
        self._arguments = {name: value for name, value in arguments.items() if value is not None}
        inspect.signature(start_logging).bind_partial(**self._arguments)
        self._hook = hook
        self._own: Experiment | None = None
        self._is_disabled = False
        self._warned: set[str] = set()
        self.default_name: str | None = None
        """The name of a new run if none was given."""

    def __getstate__(self) -> dict[str, Any]:
        # A copy, usually for another process, keeps only the arguments to start a run.
        return self.__dict__ | {"_own": None, "_is_disabled": False}

    @property
    def experiment(self) -> Experiment:
        """The run. Start it if necessary."""
        active = active_or_inherited()
        if active is not None and (active is self._own or active not in self._started):
            if active and active is not self._own and self._arguments:
                self._warn_once(
                    "arguments", "run %s is already active; the hook ignores its own arguments", active.run_id
                )
            return active
        if self._is_disabled and self._own is not None:
            return self._own
        return self._start()

    @property
    def current(self) -> Experiment | None:
        """The run, or None if it has not started. Do not start it."""
        active = active_or_inherited()
        return active if active is not None and active not in self._started else self._own

    @property
    def run_id(self) -> str | None:
        """The id of the run, or the given id if it has not started."""
        return self._arguments.get("run_id") if self.current is None else self.current.run_id

    @property
    def project(self) -> str | None:
        return self._arguments.get("project") if self.current is None else self.current.project

    def log(self, values: Mapping[str, Any], step: int | None, wall_time: float | None = None) -> None:
        """Log numbers as metrics, strings as texts, and dicts as `name/key`. Warn once per name about other values."""
        experiment = self.experiment
        for name, value in _members(values):
            try:
                whole = snapshot.cut_step(step)  # a framework may pass a mean of steps
                if isinstance(value, str):
                    experiment.log_text(name, value, whole)
                else:
                    experiment.log_metric(name, value, whole, wall_time)
            except TraceletError as error:
                self._warn_once(name, "%s. The value is skipped", error)

    def end(self, status: Status = "finished", exit_code: int = 0) -> None:
        """End the run if the hook started it."""
        if self._own is not None:
            self._own.stop(status=status, exit_code=exit_code)

    def leave(self) -> None:
        """End the run if the hook started it. The next value starts a new run."""
        self.end()
        self._own = None

    def _start(self) -> Experiment:
        arguments = dict(self._arguments)
        if self.default_name is not None and "name" not in arguments:
            arguments.setdefault("exp_name", self.default_name)
        if self._own:  # the program may have changed its working directory
            arguments |= {"run_id": self._own.run_id, "dir": runs_of(self._own.folder), "resume": None}
        self._own = start_logging(**arguments)
        self._started.add(self._own)
        self._is_disabled = active_or_inherited() is not self._own
        return self._own

    def _warn_once(self, cause: str, message: str, *arguments: Any) -> None:
        if cause not in self._warned:
            self._warned.add(cause)
            logger.warning(f"tracelet: {self._hook}: {message}", *arguments)


@functools.cache
def silent() -> Experiment:
    """Return an experiment that does nothing, for a process that does not log. The active one is not affected."""
    return SilentExperiment(settings.load({}))


def is_silent(is_main: bool) -> bool:
    """Return True in a process that its framework does not regard as the main one, if its launcher is unknown.

    With a known launcher, `start_logging` decides.
    """
    return not is_main and find_process() is None


def _members(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{key}", member) for key, member in value.items())
        else:
            yield name, value
