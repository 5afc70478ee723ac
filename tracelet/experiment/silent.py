"""Define SilentExperiment, for a process that does not log."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tracelet.backends.base import Status
from tracelet.experiment.experiment import Experiment
from tracelet.records import RunInfo
from tracelet.settings import Settings


class SilentExperiment(Experiment):
    """An experiment whose methods do nothing. It is falsy: `if experiment: ...` is the code of the rank that logs.

    It has no run: no id, folder, thread or backend. Event files of this process are written as without tracelet.
    `warning` is logged once, at the first call of a logging method.
    """

    def __init__(
        self,
        settings: Settings,
        warning: str = "",
        *,
        on_stop: Callable[[Experiment], None] = lambda experiment: None,
    ) -> None:
        self._warning = warning
        info = RunInfo(run_id="", project=settings.project, name=settings.exp_name, folder="")
        super().__init__(msgspec.structs.replace(settings, mode="disabled"), info, on_stop=on_stop)

    def get_backend(self, name: str) -> None:
        """Return None: this rank has no backend."""

    def stop(self, timeout: float | None = None, *, status: Status = "finished", exit_code: int = 0) -> None:
        """Make this experiment no longer the active one."""
        self._on_stop(self)

    def __bool__(self) -> bool:
        return False

    @property
    def _running(self) -> bool:
        if self._warning:
            self._guard.log_once("silent", "%s", self._warning)
        return False

    def __repr__(self) -> str:
        return "<tracelet run of another process: this one is silent>"
