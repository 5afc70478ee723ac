"""`TraceletTracker` for Hugging Face Accelerate.

Not needed with `log_with="tensorboard"`: that is captured as it is. With both, every point is there twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accelerate.state import PartialState
from accelerate.tracking import GeneralTracker

from tracelet.backends.base import Backend
from tracelet.experiment import Experiment
from tracelet.integrations.hook import HookRun, inert


class TraceletTracker(GeneralTracker):  # type: ignore[misc]
    """`Accelerator(log_with=TraceletTracker(...))`: log to the active run, or to one that is begun by `start_logging`
    with the arguments given here and ended by `accelerator.end_training()`.

    `accelerator.get_tracker("tracelet", unwrap=True)` is the `tracelet.Experiment`; processes other than the main one
    log nothing.

    Args:
        exp_name: The run's name.
        project: The run's project; Accelerate tells a tracker that it was given nothing of `init_trackers`' own.
        backend: As in `start_logging`.
        arguments: Any other of `start_logging`.
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
        """The run; in other processes than the main one, one that does nothing."""
        return self._run.experiment if PartialState().is_main_process else inert()

    def start(self) -> None:
        """Begin the run if none is active."""
        _ = self.tracker

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Log the `config` of `accelerator.init_trackers` as parameters."""
        self.tracker.log_params(values)

    def log(self, values: Mapping[str, Any], step: int | None = None, *, wall_time: float | None = None) -> None:
        """Log what `accelerator.log` is given: numbers, texts, and dicts of numbers as `name/key`."""
        if PartialState().is_main_process:
            self._run.log(values, step, wall_time)

    def log_images(
        self, values: Mapping[str, Sequence[Any]], step: int | None = None, *, dataformats: str = "CHW"
    ) -> None:
        """Log pictures; several of one name are `name/0`, `name/1`, ..."""
        for name, images in values.items():
            for index, image in enumerate(images):
                tag = name if len(images) == 1 else f"{name}/{index}"
                self.tracker.log_image(tag, image, step, dataformats=dataformats)

    def finish(self) -> None:
        """End the run, if it is the tracker's own."""
        if PartialState().is_main_process:
            self._run.end()
