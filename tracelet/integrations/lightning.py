"""`TraceletLogger` for the Trainer of PyTorch Lightning and for Lightning Fabric.

Not needed if Lightning logs to TensorBoard, its default, which is captured. With both, every point arrives twice.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tracelet.backends.base import Backend
from tracelet.errors import MissingDependency
from tracelet.experiment import Experiment
from tracelet.experiment.exit import KILLED_BY_INT
from tracelet.integrations.hook import HookRun, is_silent, silent

_MODULES = ("lightning.pytorch.loggers.logger", "pytorch_lightning.loggers.logger", "lightning_fabric.loggers.logger")
"""Three packages with copies of the Logger class, which do not recognize each other's instances."""


def _logger_module() -> ModuleType:
    """Return the module of the package that is already imported, else of the first installed one."""
    for name in _MODULES:
        if name in sys.modules:
            return sys.modules[name]
    for name in _MODULES:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            return importlib.import_module(name)
    raise MissingDependency("TraceletLogger needs Lightning: pip install lightning")


if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
else:
    Logger = _logger_module().Logger

from lightning_utilities.core.rank_zero import rank_zero_only  # noqa: E402  # its `rank` is set by the package above


class TraceletLogger(Logger):  # type: ignore[misc]
    """Log to the active run, or start one with these arguments.

    Metrics keep their names; `step` is the Trainer's. A run that the logger started ends with the program, with
    `tracelet.stop_logging()`, or when another logger starts one. If a training fails, the run ends as failed.
    `test` after `fit` uses the same run. `logger.experiment` is the `tracelet.Experiment`. In a distributed job,
    `run_mode` sets which ranks log.

    Args:
        exp_name: The run's name.
        project: The run's project, and the logger's `name`.
        backend: As in `start_logging`.
        prefix: Prefix of each metric's name, joined by "-" as in Lightning's own loggers.
        save_dir: Folder of Lightning's checkpoints, `save_dir/name/version`; default: the Trainer's
            `default_root_dir`.
        arguments: Other arguments of `start_logging`.
    """

    def __init__(
        self,
        exp_name: str | None = None,
        project: str | None = None,
        backend: str | Backend | Sequence[str | Backend] | None = None,
        *,
        prefix: str = "",
        save_dir: str | os.PathLike[str] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        own = {"exp_name": exp_name, "project": project, "backend": backend}
        self._run = HookRun("TraceletLogger", own | arguments)
        self._prefix = prefix
        self._save_dir = None if save_dir is None else os.fspath(save_dir)
        _register()

    @property
    def experiment(self) -> Experiment:
        """The run. On ranks that do not log, an experiment that does nothing."""
        return silent() if is_silent(rank_zero_only.rank == 0) else self._run.experiment

    @property
    def name(self) -> str:
        """The run's project, or "lightning_logs" if it has none."""
        return self._run.project or "lightning_logs"

    @property
    def version(self) -> str | None:
        """The run's id, or None if it has not started."""
        return self._run.run_id

    @property
    def save_dir(self) -> str | None:
        """The folder of Lightning's checkpoints. None means the Trainer's `default_root_dir`."""
        return self._save_dir

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log the metrics of one step. A dict becomes `name/key`."""
        if not is_silent(rank_zero_only.rank == 0):
            prefix = f"{self._prefix}-" if self._prefix else ""
            self._run.log({f"{prefix}{name}": value for name, value in metrics.items()}, step)

    def log_hyperparams(
        self,
        params: Mapping[str, Any] | Namespace | None,
        metrics: Mapping[str, Any] | float | None = None,
        step: int | None = None,
    ) -> None:
        """Log hyperparameters, nested ones as dotted names, and `metrics` as in Lightning's TensorBoardLogger."""
        if is_silent(rank_zero_only.rank == 0):
            return
        if params:
            self.experiment.log_params(params)
        if metrics is not None:
            self.log_metrics(metrics if isinstance(metrics, Mapping) else {"hp_metric": metrics}, step)

    def save(self) -> None:
        """Do nothing. Lightning calls this at every step, and records are already in the journal."""

    def finalize(self, status: str) -> None:
        """End the run if the logger started it and the training failed. After a success, more values may follow."""
        if status == "failed":
            # Lightning passes no exception, but calls this within its `except` block.
            if isinstance(sys.exc_info()[1], KeyboardInterrupt):
                self._run.end("killed", KILLED_BY_INT)
            else:
                self._run.end("failed", 1)


def _register() -> None:
    """Make `isinstance` accept TraceletLogger as a Logger of each imported package."""
    for name in _MODULES:
        if name in sys.modules:
            sys.modules[name].Logger.register(TraceletLogger)
