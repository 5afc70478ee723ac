"""Collect the values of `log` to rows by wandb's rules, and hand over each row as records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from tracelet import forks
from tracelet.capture import values as snapshot
from tracelet.capture.wandb.steps import Axes
from tracelet.compat.wandb.base import FileValue, Value, warn_once
from tracelet.compat.wandb.converting import of_value
from tracelet.compat.wandb.metric import AGGREGATES, Metric
from tracelet.experiment import Experiment
from tracelet.guard import attempted, logger, shown
from tracelet.records import Definition, Record, Scalar, Text

_SIMPLE = frozenset((float, int, str, bool, type(None)))
_OLD_STEP = (
    "tracelet: wandb: step %d is lower than the current step %d. Like wandb, the run ignores these values: %s. "
    "To log in any order, use define_metric with a step_metric"
)


class Rows:
    """The rows of a run. A row has one step. A later value of a key in the same row replaces an earlier one.

    The rules are those of wandb's core: without `step`, a row ends with the call, unless `commit=False`. With `step`,
    it ends when a call has a higher step, or with `commit=True`. Values of a lower step are ignored, with a warning.
    """

    def __init__(
        self,
        experiment: Experiment,
        on_row: Callable[[Mapping[str, Any], int, float], None],
        axes: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    ) -> None:
        """`axes(values)` returns values to add to a row, and `on_row(values, step, wall_time)` gets each whole row."""
        self.step = 0
        """The step of the next call without one, as in `run.step`."""
        self._current = 0
        self._row: dict[str, Any] = {}
        self._experiment, self._on_row, self._axes = experiment, on_row, axes
        self._names: dict[str, str] = {}
        self._axes_of_series = Axes()
        self._is_logging = experiment._orchestrator is not None
        self._lock = forks.new_lock()

    def start_at(self, step: int) -> None:
        """Continue the steps of an earlier process."""
        self.step = self._current = step

    def log(self, values: Mapping[str, Any], step: int | None, commit: bool | None) -> None:
        """Add values to the row.

        Raises:
            TypeError: `values` is not a dict, or a key is not a str.
            ValueError: the step is not a number, or exceeds 64 bits.
            RecursionError: a value contains itself.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"log: the values must be a dict, got {shown(values)}")
        is_simple = True
        for name, value in values.items():
            if not isinstance(name, str):
                raise TypeError(f"log: a key must be a str, got {shown(name)}")
            if type(value) not in _SIMPLE:
                is_simple = False
        if "" in values:
            warn_once("wandb: log ignores the value of an empty key")
            values = {name: value for name, value in values.items() if name}
        if not is_simple:
            values = taken(values)
        if step is not None:
            step = int(step)
            if not -(2**63) <= step < 2**63:
                raise ValueError(f"log: the step must fit into 64 bits, got {shown(step)}")
        with self._lock:
            if step is not None:
                if step < self._current:
                    names = ", ".join(map(shown, values))
                    logger.warning(_OLD_STEP, step, self._current, names)
                    self.step += bool(commit)
                    return
                if step > self._current:
                    self._end_row()
                    self._current = step
                self.step = max(self.step, step)
            ends = step is None if commit is None else commit
            if not ends or self._row:
                merge(self._row, values)
            else:
                self._submit(values)
            if ends:
                if self._row:
                    self._end_row()
                self._current += 1
                self.step += 1

    def define(self, metric: Metric) -> None:
        """Hand over a definition. From now on, a series with a `step_metric` has the steps of that metric."""
        self._axes_of_series.define(metric.name, metric.step_metric)
        if self._is_logging:
            summary = tuple(word for word in metric.summary if word in AGGREGATES)
            record = Definition(metric.name, metric.step_metric, bool(metric.hidden), summary, time.time())
            self._experiment._submit(record)

    def end(self) -> None:
        """Hand over the last row."""
        with self._lock:
            self._end_row()

    def _end_row(self) -> None:
        if self._row:
            row, self._row = self._row, {}
            self._submit(row)

    def _submit(self, row: Mapping[str, Any]) -> None:
        now, step, submit, names = time.time(), self._current, self._experiment._submit, self._names
        if axes := self._axes(row):
            row = {**row, **axes}
        if self._axes_of_series:
            self._axes_of_series.note(leaf for name, value in row.items() for leaf in leaves(name, value))
        for name, value in row.items() if self._is_logging else ():
            if type(value) is float and not self._axes_of_series:
                tag = names.get(name) or self._tag(name)
                submit(Scalar(tag, value, step, now))
            else:
                self._submit_other(name, value, step, now)
        self._on_row(row, step, now)

    def _tag(self, name: str) -> str:
        tag = self._names[name] = self._experiment._name(name)
        return tag

    def _submit_other(self, name: str, value: Any, row_step: int, now: float) -> None:
        submit = self._experiment._submit
        for key, member in leaves(name, value):
            step = self._axes_of_series.step_of(key, row_step)
            number = attempted(partial(snapshot.number, member), lambda: None) if is_number(member) else None
            tag = self._names.get(key) or self._tag(key)
            if number is not None:
                submit(Scalar(tag, number, step, now))
                continue
            for record in records(tag, member, step, now):
                if isinstance(record, FileValue):
                    self._experiment.log_artifact(record.data, record.path)
                else:
                    submit(record)


def merge(target: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Set values in `target`; a dict is merged into the dict that has its name there."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            known = target.get(name)
            target[name] = inner = dict(known) if isinstance(known, Mapping) else {}
            merge(inner, value)
        else:
            target[name] = value


def taken(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as they are now: numbers, texts, data types, and lists and dicts of these.

    What the program does to an array or a figure after the call has no effect, and no tensor is kept with its graph.

    Raises:
        RecursionError: a dict contains itself.
    """
    try:
        return {str(name): _taken(value) for name, value in values.items()}
    except RecursionError:
        raise RecursionError("a dict is nested too deeply, or contains itself") from None


def _taken(value: Any) -> Any:
    if type(value) in _SIMPLE or isinstance(value, Value):
        return value
    if isinstance(value, Mapping):
        return {str(key): _taken(member) for key, member in value.items()}
    if is_number(value):
        item = getattr(value, "item", None)
        number = attempted(item, lambda: value) if callable(item) else value
        return number if type(number) in _SIMPLE else snapshot.to_plain(number)
    media = of_value(value)
    if media is not None:
        return media
    if _is_sequence(value) and any(isinstance(member, Value) for member in value):
        return [member if isinstance(member, Value) else snapshot.to_plain(member) for member in value]
    return snapshot.to_plain(value)


def leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dicts, named `outer.inner` as in wandb's charts."""
    if isinstance(value, Mapping):
        for key, member in value.items():
            yield from leaves(f"{name}.{key}", member)
    else:
        yield name, value


def is_number(value: Any) -> bool:
    """Return True for a number, and for an array or a tensor of one element."""
    if isinstance(value, int | float):
        return True
    if isinstance(value, str | bytes | Value) or not hasattr(value, "item"):
        return False
    return attempted(lambda: _size(value) == 1, lambda: False)


def _size(value: Any) -> int:
    size = getattr(value, "size", 1)  # a number in numpy, a method in torch
    return int(value.numel() if callable(size) else size)


def records(tag: str, value: Any, step: int, now: float) -> Iterator[Record | FileValue]:
    """Yield the records of any value that is not a number. None has none."""
    if value is None:
        return
    if isinstance(value, str):
        yield Text(tag, snapshot.to_text(value), step, now)
        return
    media = value if isinstance(value, Value) else of_value(value)
    if media is not None:
        yield from media.records(tag, step, now)
    elif _is_sequence(value) and any(isinstance(member, Value) for member in value):
        for number, member in enumerate(value):
            yield from records(f"{tag}/{number}", member, step, now)
    else:
        yield Text(tag, _json(value), step, now)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _json(value: Any) -> str:
    import json  # only for values that have no record of their own

    plain = snapshot.to_plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
