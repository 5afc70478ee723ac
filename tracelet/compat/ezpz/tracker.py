"""A tracker with several backends, and how to make one."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tracelet.compat.ezpz import environment
from tracelet.compat.ezpz.base import Part, PartBackend, TrackerBackend
from tracelet.compat.ezpz.run import Run
from tracelet.compat.ezpz.vendors import BUILT_IN, CSVBackend, run_arguments, warn_of_unknown
from tracelet.compat.ezpz.worker import FINISH_TIMEOUT, Worker
from tracelet.distributed.launchers import find_process
from tracelet.errors import MissingDependency
from tracelet.guard import described, logger, translated

_registered: dict[str, Any] = {}


def register_backend(name: str, cls: type[TrackerBackend]) -> None:
    """Make `cls` available to `setup_tracker` as `name`. It replaces an earlier backend of that name."""
    _registered[name.strip().lower()] = cls


class Tracker:
    """Pass each call to all backends. A backend that fails or is slow does not affect the others or the program."""

    def __init__(self, backends: Sequence[TrackerBackend] | None = None) -> None:
        self.backends: list[Any] = list(backends or ())
        self._parts: list[Part] = []
        for backend in self.backends:
            is_ours = isinstance(backend, PartBackend) and type(backend) in BUILT_IN.values()
            parts: Sequence[Part] = backend.parts if is_ours else [Worker(backend)]
            self._parts += [part for part in parts if part not in self._parts]

    def log(self, metrics: dict[str, Any], step: int | None = None, commit: bool = True) -> None:
        """Log the values of one step. With `commit=False`, the next call belongs to the same step."""
        self._call("log", metrics, step=step, commit=commit)

    def log_config(self, config: dict[str, Any]) -> None:
        """Log hyper-parameters. Later calls add to them."""
        self._call("log_config", config)

    def log_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:
        """Log a table of rows."""
        self._call("log_table", key, columns, data)

    def log_image(self, key: str, image_path: Any, caption: str | None = None) -> None:
        """Log an image file."""
        self._call("log_image", key, image_path, caption=caption)

    def log_artifacts(self, artifacts: Mapping[str, Any]) -> None:
        """Log files and folders by their labels. Missing ones are skipped."""
        self._call("log_artifacts", artifacts)

    def watch(self, model: Any, **kwargs: Any) -> None:
        """Log histograms of a model's gradients to wandb."""
        self._call("watch", model, **kwargs)

    def finish(self) -> None:
        """Deliver what is pending, and end all runs."""
        self._call("finish")
        deadline = time.monotonic() + FINISH_TIMEOUT
        for part in self._parts:
            if isinstance(part, Worker):
                part.end(max(0.0, deadline - time.monotonic()))

    def get_backend(self, name: str) -> Any:
        """Return a backend, or None."""
        return next((backend for backend in self.backends if getattr(backend, "name", None) == name), None)

    @property
    def wandb_run(self) -> Any:
        """The `wandb.Run`; None if wandb is not in use or not connected."""
        return getattr(self.get_backend("wandb"), "run", None)

    @property
    def mlflow_run(self) -> Any:
        """The `mlflow.entities.Run`; None if MLflow is not in use or not connected."""
        return getattr(self.get_backend("mlflow"), "run", None)

    def _configure(self, config: dict[str, Any]) -> None:
        """Log the config of `setup_tracker` to backends that do not have it from their constructor."""
        for part in self._parts:
            if not isinstance(part, Run) and not (isinstance(part, Worker) and part.has_config):
                part.call("log_config", config)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> None:
        for part in self._parts:
            part.call(method, *args, **kwargs)


class NullTracker(Tracker):
    """A tracker without backends: every call does nothing."""

    def __init__(self) -> None:
        super().__init__([])


def setup_tracker(
    project_name: str | None = None,
    backends: str | list[str] | None = None,
    config: dict[str, Any] | None = None,
    outdir: Any = None,
    rank: int | None = None,
    **kwargs: Any,
) -> Tracker:
    """Return a tracker. A backend that is unknown or fails is skipped with a warning.

    Args:
        project_name: Project of wandb, and experiment of MLflow.
        backends: Names, as a list or separated by commas. If omitted, EZPZ_TRACKER_BACKENDS, EZPZ_TRACKERS, or wandb.
        config: Hyper-parameters.
        outdir: Folder of the csv files, of wandb's files and of the journal; default: the working directory.
        rank: Only rank 0 logs. If omitted, the rank in the distributed job.
        kwargs: Arguments of `wandb.init` and `mlflow.start_run`. Each vendor gets its own.
    """
    if rank is None:
        process = find_process()
        rank = 0 if process is None else process.rank
    run = Run()
    arguments = {"project_name": project_name, "config": config, "outdir": outdir, "rank": rank}
    active: list[Any] = []
    for name in environment.backend_names(backends):
        backend = _created(name, arguments, kwargs, run)
        if backend is not None:
            active.append(backend)
    if not active:
        return NullTracker()
    if rank == 0 and any(type(backend) in BUILT_IN.values() for backend in active):
        warn_of_unknown(kwargs, active)
        run.start(environment.wandb_project(project_name), outdir, config, run_arguments(kwargs))
    tracker = Tracker(active)
    if config:
        tracker._configure(config)
    return tracker


def _created(name: str, arguments: Mapping[str, Any], kwargs: Mapping[str, Any], run: Run) -> Any:
    """Return a backend, or None after a warning."""
    cls = _registered.get(name) or BUILT_IN.get(name)
    if cls is None:
        known = ", ".join(sorted({*_registered, *BUILT_IN}))
        logger.warning("tracelet: unknown tracker backend %r is skipped. Backends: %s", name, known)
        return None
    try:
        return translated(
            partial(_create, cls, arguments, kwargs, run),
            lambda error: _CreationFailed(described(error)),
            keep=(ImportError, MissingDependency),
        )
    except (ImportError, MissingDependency) as error:
        logger.warning("tracelet: tracker backend %s is skipped because of a missing dependency: %s", name, error)
    except _CreationFailed as failure:
        logger.warning("tracelet: tracker backend %s is skipped, its start failed: %s", name, failure)
    return None


class _CreationFailed(Exception):
    pass


def _create(cls: Any, arguments: Mapping[str, Any], kwargs: Mapping[str, Any], run: Run) -> Any:
    if cls is CSVBackend:
        return cls(arguments["outdir"] or Path.cwd(), arguments["rank"], _run=run)
    if cls in BUILT_IN.values():
        return cls(**arguments, **kwargs, _run=run)
    accepted = inspect.signature(cls).parameters
    given = {**kwargs, **arguments}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):
        return cls(**given)
    return cls(**{name: value for name, value in given.items() if name in accepted})
