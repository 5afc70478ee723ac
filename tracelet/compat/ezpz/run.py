"""The run that delivers what a tracker logs to all of its vendors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracelet import settings
from tracelet.api import start_separate
from tracelet.backends.base import Backend
from tracelet.backends.mlflow.layout import AGGREGATES, FACTS
from tracelet.capture import values as snapshot
from tracelet.compat.ezpz import facts
from tracelet.compat.ezpz.base import Caller
from tracelet.experiment import Experiment
from tracelet.guard import attempted
from tracelet.records import Params

_CONFIG_TIMEOUT = 5.0
_WATCH = ("log", "log_freq")
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


class Run:
    """One run of tracelet. Backends are added, then the run is started. Without `start`, its calls do nothing."""

    def __init__(self) -> None:
        self.name = ""
        self.backends: list[Backend] = []
        self.experiment: Experiment | None = None
        self._caller = Caller()

    def add(self, backend: Backend) -> None:
        self.backends.append(backend)
        self.name = ",".join(backend.name for backend in self.backends)

    def start(self, project: str, outdir: Any, config: Any, arguments: Mapping[str, Any]) -> None:
        """Start the run in `outdir`, and log `config`. A failure is logged; later calls then do nothing."""
        arguments = {"project": project, "collect": "none", **arguments}
        if outdir is not None and settings.origins()["dir"] == "default":
            arguments["dir"] = str(Path(outdir) / "tracelet_runs")
        self._caller.call(self.name or "csv", "start", lambda: self._start(arguments))
        if config:
            self.call("log_config", config)
        self.call("log_facts")
        self.call("wait")

    def _start(self, arguments: Mapping[str, Any]) -> None:
        self.experiment = start_separate(arguments, self.backends)

    def native(self, name: str) -> Any:
        """Return a vendor's run object; None if the vendor is not connected."""
        experiment = self.experiment
        if experiment is None or name not in [backend.name for backend in self.backends]:
            return None
        return attempted(lambda: experiment.get_backend(name).native, lambda: None)

    def call(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Call a method of this class. A failure is logged."""
        experiment = self.experiment
        if experiment is not None:
            function = getattr(self, f"_{method}")
            self._caller.call(self.name or "csv", method, lambda: function(experiment, *args, **kwargs))

    def _log(
        self, experiment: Experiment, metrics: Mapping[str, Any], step: int | None = None, commit: bool = True
    ) -> None:
        values: dict[str, float | str] = {}
        others: dict[str, Any] = {}
        for key, value in metrics.items():
            number = _number(value)
            if number is not None:
                values[str(key)] = number
            elif isinstance(value, str):
                values[str(key)] = value
            elif value is not None:
                others[str(key)] = value
        values.pop("", None)
        step = snapshot.cut_step(step)
        if others:
            self._log_natively(others, step)
        # MLflow's layout renames `x` beside `x/mean`, if `x/mean` comes first.
        ordered = sorted(values, key=lambda key: not key.endswith(AGGREGATES))
        experiment.log({key: values[key] for key in ordered}, step, commit=commit)

    def _log_natively(self, values: Mapping[str, Any], step: int | None) -> None:
        """Log the vendor's own objects, and other values that only this vendor can show."""
        run = self.native("wandb")
        if run is not None:
            run.log(dict(values), **({} if step is None else {"step": step}), commit=True)

    def _log_config(self, experiment: Experiment, config: Any) -> None:
        experiment.log_params(config)

    def _wait(self, experiment: Experiment) -> None:
        """Wait for connected vendors: a program reads its parameters back from their run objects."""
        experiment.flush(_CONFIG_TIMEOUT)

    def _log_facts(self, experiment: Experiment) -> None:
        experiment._submit(Params(facts.run_facts(), time.time(), FACTS))
        experiment._submit(Params(facts.process_facts(), time.time(), FACTS))

    def _log_table(
        self, experiment: Experiment, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]]
    ) -> None:
        experiment.log_table(key, data, columns=list(columns))

    def _log_image(self, experiment: Experiment, key: str, image_path: Any, caption: str | None = None) -> None:
        from PIL import Image

        with Image.open(image_path) as image:
            shown = image if image.mode in _PNG_MODES else image.convert("RGB")
            experiment.log_image(key, shown, caption=caption or "")

    def _log_artifacts(self, experiment: Experiment, artifacts: Mapping[str, Any]) -> None:
        for label, path in _existing(artifacts):
            experiment.log_artifact(path, label if path.is_dir() else f"{label.rstrip('/')}/")

    def _watch(self, experiment: Experiment, model: Any, **kwargs: Any) -> None:
        if any(backend.name == "wandb" for backend in self.backends):
            options = {name: kwargs[name] for name in _WATCH if kwargs.get(name) is not None}
            experiment.watch(model, **options)

    def _finish(self, experiment: Experiment) -> None:
        experiment.stop()


def _existing(artifacts: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    for label, path in artifacts.items():
        if path is not None and Path(path).exists():
            yield str(label), Path(path)


def _number(value: Any) -> float | None:
    if type(value) is float:
        return value
    return attempted(lambda: float(value), lambda: None)
