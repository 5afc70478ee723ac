"""`TraceletLogger` for the Trainer of PyTorch Lightning and for Lightning Fabric.

Not needed where Lightning logs to TensorBoard, as it does unless told otherwise: that is captured as it is. With both,
every point is there twice.
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
from tracelet.integrations.hook import HookRun, inert

_MODULES = ("lightning.pytorch.loggers.logger", "pytorch_lightning.loggers.logger", "lightning_fabric.loggers.logger")
"""The same Logger class in three packages, which take each other's for strangers."""


def _logger_module() -> ModuleType:
    """That of the package that the program has imported already, else of the first that is installed."""
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
    """Log to the active run, or to one that is begun by `start_logging` with the arguments given here.

    Metrics keep their names, `step` is the Trainer's. A run that the logger began ends with the program, with
    `tracelet.stop_logging()`, when another logger begins one, or as failed with a training that fails: `test` after
    `fit` belongs to the same run. `logger.experiment` is the `tracelet.Experiment`; ranks other than 0 log nothing.

    Args:
        exp_name: The run's name.
        project: The run's project, and the logger's `name`.
        backend: As in `start_logging`.
        prefix: Put before each metric's name, with a "-" between, as Lightning's own loggers do.
        save_dir: Where Lightning puts checkpoints, as `save_dir/name/version`; left out, the Trainer's
            `default_root_dir`.
        arguments: Any other of `start_logging`.
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
        _be_known()

    @property
    def experiment(self) -> Experiment:
        """The run; on other ranks than 0, one that does nothing."""
        return self._run.experiment if rank_zero_only.rank == 0 else inert()

    @property
    def name(self) -> str:
        """The run's project; "lightning_logs" where it has none."""
        return self._run.project or "lightning_logs"

    @property
    def version(self) -> str | None:
        """The run's id; None before it begins."""
        return self._run.run_id

    @property
    def save_dir(self) -> str | None:
        """Where Lightning puts checkpoints; None: into the Trainer's `default_root_dir`."""
        return self._save_dir

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Points of one step; a dict of them is `name/key`."""
        if rank_zero_only.rank == 0:
            prefix = f"{self._prefix}-" if self._prefix else ""
            self._run.log({f"{prefix}{name}": value for name, value in metrics.items()}, step)

    def log_hyperparams(
        self,
        params: Mapping[str, Any] | Namespace | None,
        metrics: Mapping[str, Any] | float | None = None,
        step: int | None = None,
    ) -> None:
        """Hyper-parameters, nested ones as dotted names; `metrics` as Lightning's TensorBoardLogger takes them."""
        if rank_zero_only.rank != 0:
            return
        if params:
            self.experiment.log_params(params)
        if metrics is not None:
            self.log_metrics(metrics if isinstance(metrics, Mapping) else {"hp_metric": metrics}, step)

    def save(self) -> None:
        """Nothing is left to do: Lightning asks for it at every step, and the journal has what was logged."""

    def finalize(self, status: str) -> None:
        """End a run of the logger's own whose training failed; after one that did not, more may follow."""
        if rank_zero_only.rank == 0 and status == "failed":
            # Lightning says no more than that, from within its own `except`.
            if isinstance(sys.exc_info()[1], KeyboardInterrupt):
                self._run.end("killed", KILLED_BY_INT)
            else:
                self._run.end("failed", 1)


def _be_known() -> None:
    """To `isinstance` in each of the packages that are there by now."""
    for name in _MODULES:
        if name in sys.modules:
            sys.modules[name].Logger.register(TraceletLogger)
