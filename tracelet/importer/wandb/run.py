"""Convert the records of one wandb run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tracelet.backends.wandb.values import AXIS, MARK, tag_of
from tracelet.capture.values import integer_step, params
from tracelet.errors import TraceletError
from tracelet.importer.past_run import PastRun
from tracelet.importer.wandb.files import RunFiles
from tracelet.importer.wandb.log_file import records
from tracelet.importer.wandb.media import records_of
from tracelet.importer.wandb.system_metrics import system_metric
from tracelet.records import Alert, Definition, Params, Record, Scalar, Summary, Tags

_OWN_ROW_KEYS = frozenset(("_step", "_runtime", "_timestamp", "_wandb", MARK))
_NAMES = "tracelet_names"
_OWN_CONFIG = frozenset(("_wandb", _NAMES))
_AGGREGATES = ("min", "max", "mean", "first", "last", "none")
_LEVELS = {"INFO": "info", "WARN": "warning", "ERROR": "error"}


class RunReader:
    """Read the files of one run, and set its end and result."""

    def __init__(self, run: PastRun, paths: list[Path]) -> None:
        self._run, self._paths = run, paths
        self._config: dict[str, Any] = {}
        self._summary: dict[str, Any] = {}
        self._last: dict[str, Any] = {}
        self._tags = frozenset(run.tags)
        self._latest = run.started
        self._is_ours = False
        """True if tracelet wrote the rows, under keys of its own."""

    def records(self, started: float) -> Iterator[Record]:
        """Yield the records of the run; `started` is the time of those without one."""
        self._latest = started
        for path in self._paths:
            self._run.status, self._run.exit_code = "killed", None
            files = RunFiles(path.parent / "files", self._run)
            try:
                for record in records(path, self._run.damaged):
                    yield from self._valid(record, files, path.name)
            except OSError as error:
                self._run.damaged(f"{path}: cannot be read: {error.strerror}")
            yield from files.saved(started)
        final = self._final()
        if final:
            yield Summary(final, started)

    def _valid(self, record: Any, files: RunFiles, name: str) -> Iterator[Record]:
        """Yield the records in `record` up to an invalid value, such as a text that is not JSON."""
        try:
            yield from self._read(record, files)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, TraceletError) as error:
            kind = record.WhichOneof("record_type")
            self._run.damaged(f"{name}: record {record.num} ({kind}) is invalid: {type(error).__name__}: {error}")

    def _read(self, record: Any, files: RunFiles) -> Iterator[Record]:
        match record.WhichOneof("record_type"):
            case "history":
                yield from self._row(record.history, files)
            case "run":
                yield from self._updated(record.run.config)
                new = tuple(tag for tag in record.run.tags if tag not in self._tags)
                self._tags |= frozenset(new)
                if new:
                    yield Tags(new, self._latest)
            case "config":
                yield from self._updated(record.config)
            case "summary":
                _merge(self._summary, record.summary.update)
                for item in record.summary.remove:
                    _remove(self._summary, item)
            case "metric":
                yield from self._definition(record.metric)
            case "stats":
                yield from self._stats(record.stats)
            case "artifact":
                yield from files.artifact(record.artifact, self._latest)
            case "files":
                files.note(record.files)
            case "alert":
                alert = record.alert
                yield Alert(alert.title, alert.text, _LEVELS.get(alert.level, "info"), self._latest)
            case "exit":
                self._run.exit_code = record.exit.exit_code
                self._run.status = "failed" if record.exit.exit_code else "finished"

    def _row(self, history: Any, files: RunFiles) -> Iterator[Record]:
        row: dict[str, Any] = {}
        _merge(row, history.item)
        is_ours = MARK in row
        self._is_ours |= is_ours
        # In a row of tracelet, the axis has the program's step.
        step = integer_step(row.pop(AXIS, None) if is_ours else row.get("_step", history.step.num))
        wall_time = float(row.get("_timestamp", self._latest))
        self._latest = wall_time
        for key, value in row.items():
            if key not in _OWN_ROW_KEYS:
                name = self._name(key) if is_ours else key
                self._last[name] = value
                yield from records_of(name, value, step, wall_time, files)

    def _name(self, key: str) -> str:
        """Return the tag of a key that tracelet wrote."""
        return str(self._config.get(_NAMES, {}).get(key) or tag_of(key))

    def _updated(self, config: Any) -> Iterator[Record]:
        """Yield the parameters that an update of the config sets."""
        changed = {item.key or item.nested_key[0]: None for item in config.update}
        before = {key: self._config.get(key) for key in changed}
        _merge(self._config, config.update)
        values = {key: self._config[key] for key in changed if key not in _OWN_CONFIG}
        values = {key: value for key, value in values.items() if value is None or value != before[key]}
        if values:
            yield Params(params(values), self._latest)

    def _definition(self, metric: Any) -> Iterator[Record]:
        tag = metric.glob_name or metric.name
        if tag in (AXIS, MARK) or metric.expanded_from_glob or not tag:
            return
        step_metric = metric.step_metric if metric.step_metric != AXIS else ""
        summary = tuple(name for name in _AGGREGATES if getattr(metric.summary, name))
        if step_metric or metric.options.hidden or summary:
            yield Definition(tag, step_metric or None, metric.options.hidden, summary, self._latest)

    def _stats(self, stats: Any) -> Iterator[Record]:
        wall_time = stats.timestamp.ToNanoseconds() / 1e9
        step = max(0, int(wall_time - self._run.started))
        for item in stats.item:
            value = json.loads(item.value_json)
            if isinstance(value, (int, float)):
                name, factor = system_metric(item.key)
                yield Scalar(name, float(value * factor), step, wall_time, "system")

    def _final(self) -> dict[str, Any]:
        """Return the summary without the values that follow from the rows."""
        found = {key: value for key, value in self._summary.items() if not key.startswith("_") and not _is_media(value)}
        if self._is_ours:
            found = {self._name(key): value for key, value in found.items() if key != AXIS}
        named = params({name: value for name, value in found.items() if self._last.get(name) != value})
        return {name: value for name, value in named.items() if not self._is_aggregate(name) and value == value}

    def _is_aggregate(self, name: str) -> bool:
        tag, _, last = name.rpartition(".")
        return last in (*_AGGREGATES, "best") and tag in self._last


def _merge(tree: dict[str, Any], items: Any) -> None:
    """Set the values of items by their keys, or by their paths of keys."""
    for item in items:
        *parents, key = item.nested_key or [item.key]
        inner = tree
        for parent in parents:
            child = inner.get(parent)
            if not isinstance(child, dict):
                child = inner[parent] = {}
            inner = child
        inner[key] = _value(item.value_json)


def _value(text: str) -> Any:
    # wandb writes -0.0 as "-0".
    return json.loads(text, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))


def _remove(tree: dict[str, Any], item: Any) -> None:
    *parents, key = item.nested_key or [item.key]
    inner: Any = tree
    for parent in parents:
        inner = inner.get(parent) if isinstance(inner, Mapping) else None
    if isinstance(inner, dict):
        inner.pop(key, None)


def _is_media(value: Any) -> bool:
    return isinstance(value, dict) and "_type" in value
