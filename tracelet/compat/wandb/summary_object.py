"""Define `run.summary`, and how `define_metric` fills it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from tracelet.compat.wandb.base import Value
from tracelet.compat.wandb.converting import of_value
from tracelet.compat.wandb.metric import Metric
from tracelet.compat.wandb.rows import is_number, merge, taken
from tracelet.guard import attempted
from tracelet.records import defined_name


class _Aggregate:
    """The values of one key by its definition."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._count, self._total = 0, 0.0
        self._found: dict[str, float] = {}

    def add(self, value: float) -> dict[str, float] | None:
        """Add a value. Return what the summary shows, or None if it shows nothing of this key."""
        names = self._metric.summary
        if "none" in names:
            return None
        self._count += 1
        self._total += value
        found = self._found
        for name in names:
            match name:
                case "min":
                    found[name] = _better(found.get(name), value, min)
                case "max":
                    found[name] = _better(found.get(name), value, max)
                case "best":
                    choose = max if self._metric.goal == "maximize" else min
                    found[name] = _better(found.get(name), value, choose)
                case "mean":
                    found[name] = self._total / self._count
                case "first":
                    found.setdefault(name, value)
                case "last":
                    found[name] = value
        return dict(found)


def _better(known: float | None, value: float, choose: Callable[[float, float], float]) -> float:
    """Return the better of two values; NaN if one is, as wandb does."""
    if known is None or math.isnan(value):
        return value
    return known if math.isnan(known) else choose(known, value)


class Summary(MutableMapping[str, Any]):
    """Map each key to its last value, or to what `define_metric` says. A value that the program sets stays.

    Attributes are the same: `run.summary.best = 0.9`.
    """

    def __init__(self, on_set: Callable[[Mapping[str, Any]], None] = lambda values: None) -> None:
        self.__dict__["_on_set"] = on_set
        self.__dict__["_values"] = {}
        self.__dict__["_metrics"] = {}
        self.__dict__["_aggregates"] = {}
        self.__dict__["_known"] = {}
        self.__dict__["_axes"] = {}
        self.__dict__["_last"] = {}

    def _load(self, values: Mapping[str, Any]) -> None:
        """Set the values of an earlier process, which the run has."""
        self._values.update(values)

    def define(self, metric: Metric) -> None:
        """Use a definition from now on."""
        self._metrics[metric.name] = metric
        self._known.clear()
        self._axes.clear()

    def metric_of(self, key: str) -> Metric | None:
        """Return the definition of a key."""
        name = defined_name(key, self._metrics)
        return None if name is None else self._metrics[name]

    def axes(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the last values of the step metrics that the row lacks, as wandb adds them."""
        if not self._metrics:
            return {}
        names = {name for key in row if (name := self._axis_of(key)) is not None and name not in row}
        return {name: self._last[name] for name in names if name in self._last}

    def _axis_of(self, key: str) -> str | None:
        if key not in self._axes:
            metric = self.metric_of(key)
            is_synced = metric is not None and metric.step_sync is not False
            self._axes[key] = metric.step_metric if metric is not None and is_synced else None
        axis: str | None = self._axes[key]
        return axis

    def add_row(self, row: Mapping[str, Any], step: int, wall_time: float, runtime: float) -> None:
        """Add the values of a row."""
        values = self._values
        if not self._metrics:
            for key, value in row.items():
                if type(value) is float:
                    values[key] = value
                else:
                    self._keep(key, value)
        else:
            self._last.update(row)
            for key, value in row.items():
                self._add(key, value)
        values["_step"], values["_timestamp"], values["_runtime"] = step, wall_time, runtime

    def _add(self, key: str, value: Any) -> None:
        shown = self._aggregated(key, value)
        if shown is None and value is not None:
            self._values.pop(key, None)
        else:
            self._keep(key, shown)

    def _aggregated(self, key: str, value: Any) -> Any:
        """Return what the summary shows of a value; None if nothing. Nested keys are `outer.inner`, as in wandb."""
        if isinstance(value, Mapping):
            members = {name: self._aggregated(f"{key}.{name}", member) for name, member in value.items()}
            return {name: member for name, member in members.items() if member is not None}
        if key not in self._known:
            metric = self.metric_of(key)
            self._known[key] = metric if metric is not None and metric.summary else None
        metric = self._known[key]
        if metric is None or not is_number(value):
            return value
        found = self._aggregates.setdefault(key, _Aggregate(metric)).add(float(value))
        return value if found is not None and "copy" in metric.summary else found

    def _keep(self, key: str, value: Any) -> None:
        """Set the last value of a key, as wandb does: not None, and a dict is merged."""
        if value is not None:
            merge(self._values, {key: value})

    def to_log(self) -> dict[str, Any]:
        """Return what a backend lacks: all but media, which are records of their own, and wandb's own keys."""
        return {
            key: value
            for key, value in self.plain().items()
            if not (key.startswith("_") or (isinstance(value, dict) and "_type" in value))
        }

    def plain(self) -> dict[str, Any]:
        """Return all values as plain ones, with a media object as its facts."""
        return {key: plain(value) for key, value in list(self._values.items())}

    def _as_dict(self) -> dict[str, Any]:
        return self.plain()

    @property
    def _json_dict(self) -> dict[str, Any]:
        return self.plain()

    def __getitem__(self, key: str) -> Any:
        value = plain(self._values[key])
        return _Nested(self, (key,), value) if isinstance(value, dict) else value

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        del self._values[key]

    def update(self, values: Any = (), /, **more: Any) -> None:
        """Set several values."""
        new = {key: plain(value) for key, value in taken(dict(values, **more)).items()}
        self._values.update(new)
        self._on_set(new)

    def __iter__(self) -> Iterator[str]:
        return iter([key for key in self._values if key != "_wandb"])

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the summary has no {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"the summary has no {name!r}") from None

    def __repr__(self) -> str:
        return repr(self.plain())

    def __reduce__(self) -> tuple[Any, ...]:
        return _copied, (self.plain(),)


def _copied(values: Mapping[str, Any]) -> Summary:
    """Return a summary without a run, for `copy` and `pickle`."""
    summary = Summary()
    summary._load(values)
    return summary


class _Nested(dict[str, Any]):
    """A dict in the summary; setting a member sets it in the summary."""

    def __init__(self, summary: Summary, path: tuple[str, ...], values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._summary, self._path = summary, path

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return _Nested(self._summary, (*self._path, key), value) if isinstance(value, dict) else value

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the summary has no {'.'.join((*self._path, name))!r}") from None

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        outer = self._summary.plain()
        inner = outer
        for part in self._path:
            inner = inner.setdefault(part, {})
        inner[key] = value
        self._summary.update({self._path[0]: outer[self._path[0]]})

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def plain(value: Any) -> Any:
    """Return a value as the summary shows it: numbers as Python's, and a media object as a dict of its facts."""
    if value is None or isinstance(value, str | bool | int | float):
        return value.item() if isinstance(value, float) and hasattr(value, "item") else value
    if isinstance(value, Mapping):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    if is_number(value):
        return value.item()
    media = value if isinstance(value, Value) else attempted(lambda: of_value(value), lambda: None)
    if media is not None:
        return media.summary()
    return value.tolist() if hasattr(value, "tolist") else str(value)
