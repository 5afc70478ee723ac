"""Define Run, over an Experiment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any

from tracelet.capture.values import params
from tracelet.compat.wandb.alerts import Alerts
from tracelet.compat.wandb.config_object import Config, StaticConfig
from tracelet.compat.wandb.metric import Metric
from tracelet.compat.wandb.rows import Rows
from tracelet.compat.wandb.run_files import RunFiles
from tracelet.compat.wandb.settings import Settings
from tracelet.compat.wandb.state import while_open
from tracelet.compat.wandb.summary_object import Summary
from tracelet.experiment import Experiment
from tracelet.guard import logger, shown


class Run(RunFiles):
    """One run. As a context manager, it finishes at the end of the block, with exit code 1 after an exception."""

    def __init__(
        self,
        experiment: Experiment,
        settings: Settings,
        *,
        owned: bool,
        earlier: Mapping[str, Any] | None = None,
        on_finish: Callable[[Run], None] = lambda run: None,
    ) -> None:
        """`earlier` has the config, summary and step of the earlier process, if the run is resumed."""
        self._experiment, self._settings, self._owned, self._on_finish = experiment, settings, owned, on_finish
        self._is_finished = False
        self._start_time = time.time()
        self._tags = tuple(settings.tags or ())
        self._name: str | None = settings.name
        self._notes: str | None = settings.notes
        self._alerts = Alerts(experiment)
        self._summary = Summary(self._log_summary)
        self._config = Config(self._log_config)
        self._rows = Rows(experiment, self._on_row, self._summary.axes)
        super().__init__(experiment)
        self._first_step = 0 if earlier is None else earlier["step"]
        if earlier is not None:
            self._config._load(earlier["config"])
            self._summary._load(earlier["summary"])
            self._rows.start_at(self._first_step)
        experiment._before_end.append(self._finalise)

    def _on_row(self, row: Mapping[str, Any], step: int, wall_time: float) -> None:
        self._summary.add_row(row, step, wall_time, wall_time - self._start_time)

    @while_open
    def _log_config(self, values: Mapping[str, Any]) -> None:
        if flat := {name: value for name, value in params(values).items() if name}:
            self._experiment.log_params(flat)

    @while_open
    def _log_summary(self, values: Mapping[str, Any]) -> None:
        self._experiment.summary.update(values)

    # What is logged.

    @while_open
    def log(
        self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None, sync: bool | None = None
    ) -> None:
        """Log values of one step: numbers, texts, nested dicts, and wandb's data types. See `Rows`."""
        self._rows.log(data, step, commit)

    @while_open
    def define_metric(
        self,
        name: str,
        step_metric: str | Metric | None = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | None = None,
        goal: str | None = None,
        overwrite: bool | None = None,
    ) -> Metric:
        """Define the x axis and the summary of a key, or of all keys that begin alike: `val/*`."""
        metric = Metric(name, step_metric, step_sync, hidden, summary, goal, overwrite)
        self._summary.define(metric)
        self._rows.define(metric)
        return metric

    @while_open
    def watch(
        self,
        models: Any,
        criterion: Any = None,
        log: str | None = "gradients",
        log_freq: int = 1000,
        idx: int | None = None,
        log_graph: bool = False,
    ) -> None:
        """Log histograms of gradients, parameters or both, every `log_freq` backward passes. See `Experiment.watch`."""
        if log not in ("gradients", "parameters", "all", None):
            raise ValueError(f"watch: log must be gradients, parameters, all or None, got {shown(log)}")
        if log_graph:
            logger.warning("tracelet: wandb: watch(log_graph=True) logs no graph. Use SummaryWriter.add_graph")
        first = idx or 0
        for number, model in enumerate(_as_list(models), first):
            if log is not None:
                name = f"graph_{number}" if number else ""
                self._experiment.watch(model, log=log, log_freq=log_freq, name=name, step=lambda: self.step)  # type: ignore[arg-type]

    def unwatch(self, models: Any = None) -> None:
        """Stop watching some models, or all."""
        for model in [None] if models is None else _as_list(models):
            self._experiment.unwatch(model)

    @while_open
    def alert(
        self, title: str, text: str = "", level: Any = None, wait_duration: int | float | timedelta | None = None
    ) -> None:
        """Send an alert; within `wait_duration` seconds (default 60), the next one with the same title is ignored."""
        self._alerts.send(title, text, level, wait_duration)

    # The end.

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run. If `start_logging` began it, only wait until its records are delivered."""
        if self._is_finished:
            return
        try:
            self._finalise()
        finally:
            self._is_finished = True
            self._on_finish(self)
            with contextlib.suppress(ValueError):
                self._experiment._before_end.remove(self._finalise)
            if self._owned:
                code = int(exit_code or 0)
                self._experiment.stop(status="failed" if code else "finished", exit_code=code)
            else:
                self._experiment.flush()

    join = finish

    def _finalise(self) -> None:
        """Log what is left, at the end of the run or of the program."""
        if self._is_finished:
            return
        self._rows.end()
        self._files.save_changed()
        if summary := self._summary.to_log():
            self._experiment.summary.update(summary)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.finish(0 if error is None else 1)
        return error is None

    @while_open
    def mark_preempting(self) -> None:
        """Log that the machine is about to be taken away."""
        self._experiment.log_params({"preempting": True})

    def status(self) -> dict[str, bool]:
        """Return whether all that was logged has arrived."""
        states = self._experiment.stats().backends.values()
        return {"synced": all(state.pending == 0 for state in states)}

    # What is known of the run.

    @property
    def id(self) -> str:
        return self._experiment.run_id or str(self._settings.id or "")

    @property
    def name(self) -> str | None:
        return self._name or self._experiment.name or self.id

    @name.setter
    @while_open
    def name(self, name: str) -> None:
        self._name = name
        self._experiment.log_params({"run_name": name})

    @property
    def notes(self) -> str | None:
        return self._notes

    @notes.setter
    @while_open
    def notes(self, notes: str) -> None:
        self._notes = notes
        self._experiment.log_params({"run_notes": notes})

    @property
    def tags(self) -> tuple[str, ...]:
        return self._tags

    @tags.setter
    @while_open
    def tags(self, tags: Sequence[str]) -> None:
        new = tuple(dict.fromkeys([tags] if isinstance(tags, str) else tags))
        if removed := [tag for tag in self._tags if tag not in new]:
            logger.warning("tracelet: wandb: tags cannot be removed from the backends: %s", ", ".join(removed))
        self._experiment.add_tags(*(tag for tag in new if tag not in self._tags))
        self._tags = new

    @property
    def entity(self) -> str:
        return str(self._settings.entity or "")

    @property
    def project(self) -> str:
        return self._experiment.project or self._settings.project or "uncategorized"

    project_name = project

    @property
    def group(self) -> str:
        return self._settings.group or ""

    @property
    def job_type(self) -> str:
        return self._settings.job_type or ""

    @property
    def config(self) -> Config:
        return self._config

    @config.setter
    def config(self, values: Any) -> None:
        self._config.update(values)

    @property
    def config_static(self) -> StaticConfig:
        return StaticConfig(self._config.as_dict())

    @property
    def summary(self) -> Summary:
        return self._summary

    @property
    def step(self) -> int:
        return self._rows.step

    @property
    def starting_step(self) -> int:
        return self._first_step

    @property
    def start_time(self) -> float:
        return self._start_time

    @property
    def url(self) -> str | None:
        return self._experiment.url

    project_url = sweep_url = property(lambda self: None)
    sweep_id = property(lambda self: None)

    @property
    def path(self) -> str:
        return "/".join(part for part in (self.entity, self.project, self.id) if part)

    @property
    def offline(self) -> bool:
        return bool(self._settings.mode == "offline")

    @property
    def disabled(self) -> bool:
        return bool(self._settings.mode == "disabled")

    @property
    def resumed(self) -> bool:
        return self._experiment._info.resumed

    @property
    def settings(self) -> Settings:
        return self._settings

    def to_html(self, height: int = 420, hidden: bool = False) -> str:
        return self._experiment._repr_html_() or ""

    def display(self, height: int = 420, hidden: bool = False) -> bool:
        return False

    def _label(self, code: str | None = None, repo: str | None = None, **kwargs: Any) -> None:
        """Ignore the name of the framework."""

    def write_logs(self, text: str) -> None:
        self._experiment.log_text("logs", text, self.step)

    def pin_config_keys(self, keys: Sequence[str] = ()) -> None:
        """Ignore the order of keys on wandb's page."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Run:
        return self  # as in wandb: copies of a model keep its run

    def __repr__(self) -> str:
        return f"<wandb run {self.path}, as {self._experiment!r}>"


def _as_list(models: Any) -> list[Any]:
    return list(models) if isinstance(models, list | tuple) else [models]
