"""Define DormantExperiment, for a child process that may log to the run of its parent."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tracelet.backends.base import Status
from tracelet.capture.series import SeriesNames
from tracelet.capture.trials import Trials
from tracelet.experiment.capturing import interceptors
from tracelet.experiment.experiment import Experiment
from tracelet.records import RunInfo
from tracelet.settings import Settings


class DormantExperiment(Experiment):
    """An experiment that joins the parent's run when something is logged.

    Until then this process has no journal, no thread and no backend: most workers of a `DataLoader` never log. `info`
    describes the parent's run. `rejoin` starts the experiment again, with a journal.
    """

    def __init__(
        self,
        settings: Settings,
        info: RunInfo,
        rejoin: Callable[[Experiment], None],
        *,
        on_stop: Callable[[Experiment], None],
    ) -> None:
        super().__init__(msgspec.structs.replace(settings, mode="disabled"), info, on_stop=on_stop, rejoin=rejoin)
        self._series = SeriesNames(settings.root_logdir, lambda key, value: None)
        trials = Trials.resumed({}, lambda key, value: None)
        self._interceptor = interceptors(
            settings, self._submit_after_joining, self._snapshot, self._series, self._guard, trials
        )
        self._interceptor.install()

    def stop(self, timeout: float | None = None, *, status: Status = "finished", exit_code: int = 0) -> None:
        """Make this experiment no longer the active one. Nothing was logged to it."""
        self._interceptor.uninstall()
        self._on_stop(self)

    @property
    def _is_outside(self) -> bool:
        return True

    def _join(self) -> None:
        super()._join()
        self.__class__ = Experiment  # type: ignore[assignment]
