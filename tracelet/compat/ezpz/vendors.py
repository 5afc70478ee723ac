"""The backends of ezpz's tracker: csv files, MLflow and Weights & Biases."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracelet.backends import backend_class, check_installed, configured
from tracelet.backends.base import Backend
from tracelet.compat.ezpz import environment
from tracelet.compat.ezpz.base import PartBackend
from tracelet.compat.ezpz.csv_files import CsvFiles
from tracelet.compat.ezpz.run import Run
from tracelet.distributed.launchers import find_process
from tracelet.guard import logger

_MLFLOW_KEYS = ("run_id", "experiment_id", "run_name", "nested", "parent_run_id", "tags", "description")
_RUN_KEYS = {"id": "run_id", "name": "exp_name", "run_name": "exp_name", "notes": "notes", "group": "group"}
_MLFLOW_FILTER = {"exclude_kinds": ["text", "histogram"]}
"""ezpz skips texts in MLflow, and watches models in wandb only."""


class CSVBackend(PartBackend):
    """Write `metrics.csv`, `config.json` and one CSV file per table to `outdir`, at each call.

    Other ranks than 0 write nothing.
    """

    name = "csv"

    def __init__(self, outdir: Any, rank: int | None = 0, *, _run: Run | None = None) -> None:
        self.outdir = Path(outdir)
        if _rank(rank) == 0:
            self.parts = [CsvFiles(self.outdir), *([] if _run is None else [_run])]


class VendorBackend(PartBackend):
    """A backend whose vendor gets its records from a run of tracelet. Other ranks do nothing."""

    def __init__(
        self,
        project_name: str | None = None,
        config: dict[str, Any] | None = None,
        outdir: Any = None,
        rank: int | None = 0,
        *,
        _run: Run | None = None,
        **kwargs: Any,
    ) -> None:
        self._run = _run or Run()
        if _rank(rank) != 0:
            return
        check_installed(self.name)
        self._run.add(self._backend(project_name, outdir, kwargs))
        self.parts = [self._run]
        if _run is None:
            warn_of_unknown(kwargs, [self])
            self._run.start(environment.wandb_project(project_name), outdir, config, run_arguments(kwargs))

    def _backend(self, project_name: str | None, outdir: Any, kwargs: Mapping[str, Any]) -> Backend:
        """Return the backend of the run. It takes its own `kwargs`, and ignores those of other vendors."""
        raise NotImplementedError(f"{type(self).__name__}._backend")

    @classmethod
    def knows(cls, argument: str) -> bool:
        """Return whether an argument of `setup_tracker` belongs to this vendor."""
        raise NotImplementedError(f"{cls.__name__}.knows")

    @property
    def run(self) -> Any:
        """The vendor's run object; None if the vendor is not connected, and on other ranks."""
        return self._run.native(self.name) if self.parts else None


class WandbBackend(VendorBackend):
    """Log to Weights & Biases. `kwargs` are arguments of `wandb.init`."""

    name = "wandb"

    def _backend(self, project_name: str | None, outdir: Any, kwargs: Mapping[str, Any]) -> Backend:
        import wandb

        cls = backend_class(self.name)
        mode = environment.wandb_mode(kwargs.get("mode"))
        folder = Path(outdir) if outdir is not None else Path.cwd()
        folder.mkdir(parents=True, exist_ok=True)
        given = {name: value for name, value in kwargs.items() if value is not None}
        own = {name: value for name, value in given.items() if name in cls.Config.__struct_fields__}
        if isinstance(own.get("tags"), Mapping):
            own["tags"] = [f"{name}={value}" for name, value in own["tags"].items()]
        known = wandb.Settings.model_fields
        more = {name: value for name, value in given.items() if name in _of_settings() and name in known}
        settings = {**more, **_as_dict(own.pop("settings", None))}
        return configured(
            cls, {"dir": str(folder), **own, "mode": mode, **({"settings": settings} if settings else {})}
        )

    @classmethod
    def knows(cls, argument: str) -> bool:
        return argument in backend_class(cls.name).Config.__struct_fields__ or argument in ("id", *_of_settings())


class MLflowBackend(VendorBackend):
    """Log to MLflow. `kwargs` are arguments of `mlflow.start_run`."""

    name = "mlflow"

    def _backend(self, project_name: str | None, outdir: Any, kwargs: Mapping[str, Any]) -> Backend:
        environment.load_env_files()
        environment.silence_insecure_tls()
        own = {name: kwargs[name] for name in _MLFLOW_KEYS if kwargs.get(name) is not None}
        own["experiment_name"] = environment.mlflow_experiment(project_name)
        return configured(backend_class(self.name), {"layout": "ezpz", **_MLFLOW_FILTER, **own})

    @classmethod
    def knows(cls, argument: str) -> bool:
        return argument in (*_MLFLOW_KEYS, "log_system_metrics")

    @property
    def run_url(self) -> str | None:
        """The page of the run on a server; None for another store."""
        url = next((backend.url for backend in self._run.backends if backend.name == self.name), None)
        return url if self.parts and url and url.startswith(("http://", "https://")) else None


BUILT_IN: dict[str, type[CSVBackend] | type[VendorBackend]] = {
    "csv": CSVBackend,
    "mlflow": MLflowBackend,
    "wandb": WandbBackend,
}


def run_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the run itself: a vendor without its own value uses them."""
    arguments = {ours: kwargs[name] for name, ours in _RUN_KEYS.items() if kwargs.get(name) is not None}
    return arguments | ({"collect": "system"} if kwargs.get("log_system_metrics") else {})


def warn_of_unknown(kwargs: Mapping[str, Any], backends: list[Any]) -> None:
    """Log arguments that nobody takes. Those of a vendor that is not in use are ignored in silence."""
    custom = [type(backend) for backend in backends if type(backend) not in BUILT_IN.values()]
    for name in kwargs:
        is_known = WandbBackend.knows(name) or MLflowBackend.knows(name)
        if not (is_known or any(name in inspect.signature(cls).parameters for cls in custom)):
            logger.warning("tracelet: tracker: unknown argument %r is ignored", name)


def _rank(rank: int | None) -> int:
    if rank is not None:
        return rank
    process = find_process()
    return 0 if process is None else process.rank


def _of_settings() -> tuple[str, ...]:
    """Arguments of `wandb.init` that are settings with the same name."""
    return ("anonymous", "fork_from", "monitor_gym", "reinit", "resume_from")


def _as_dict(settings: Any) -> dict[str, Any]:
    """Return the values of wandb's settings: a dict, or a `wandb.Settings` object with its changed fields."""
    if settings is None or isinstance(settings, Mapping):
        return dict(settings or {})
    return {name: getattr(settings, name) for name in settings.model_fields_set}
