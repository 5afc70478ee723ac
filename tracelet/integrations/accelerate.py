"""`TraceletTracker` for Hugging Face Accelerate.

Not needed with `log_with="tensorboard"`, which is captured. With both, every point arrives twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accelerate.state import PartialState
from accelerate.tracking import GeneralTracker

from tracelet.backends.base import Backend
from tracelet.experiment import Experiment
from tracelet.integrations.hook import HookRun, is_silent, silent


class TraceletTracker(GeneralTracker):  # type: ignore[misc]
    """Log to the active run, or start one with these arguments, which `accelerator.end_training()` ends.

    Use it as `Accelerator(log_with=TraceletTracker(...))`. `accelerator.get_tracker("tracelet", unwrap=True)` returns
    the `tracelet.Experiment`. In a distributed job, `run_mode` sets which processes log.

    Args:
        exp_name: The run's name.
        project: The run's project. Accelerate does not pass the project of `init_trackers` to a tracker instance.
        backend: As in `start_logging`.
        arguments: Other arguments of `start_logging`.
    """

    name = "tracelet"
    requires_logging_directory = False

    def __init__(
        self,
        exp_name: str | None = None,
        project: str | None = None,
        backend: str | Backend | Sequence[str | Backend] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        own = {"exp_name": exp_name, "project": project, "backend": backend}
        self._run = HookRun("TraceletTracker", own | arguments)

    @property
    def tracker(self) -> Experiment:
        """The run. In processes that do not log, an experiment that does nothing."""
        return silent() if is_silent(PartialState().is_main_process) else self._run.experiment

    def start(self) -> None:
        """Start a run if none is active."""
        _ = self.tracker

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Log the `config` of `accelerator.init_trackers` as parameters."""
        self.tracker.log_params(values)

    def log(self, values: Mapping[str, Any], step: int | None = None, *, wall_time: float | None = None) -> None:
        """Log the values of `accelerator.log`: numbers, texts, and dicts of numbers as `name/key`."""
        if not is_silent(PartialState().is_main_process):
            self._run.log(values, step, wall_time)

    def log_images(
        self, values: Mapping[str, Sequence[Any]], step: int | None = None, *, dataformats: str = "CHW"
    ) -> None:
        """Log images. If there are several of one name, number them as `name/0`, `name/1`, ..."""
        for name, images in values.items():
            for index, image in enumerate(images):
                tag = name if len(images) == 1 else f"{name}/{index}"
                self.tracker.log_image(tag, image, step, dataformats=dataformats)

    def finish(self) -> None:
        """End the run if the tracker started it."""
        self._run.end()
