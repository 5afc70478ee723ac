"""Number the rows of a wandb run, by the rules of its service: the steps of its values."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from tracelet.capture.values import cut_step
from tracelet.records import defined_name


class Rows:
    """Count rows. Without `step`, each call is a row and continues the count, unless `commit` is False.

    With `step`, the row stays open for later calls of the same step. A smaller step does not change the count: wandb
    drops such a call, and its values are recorded with the step that the program passed.
    """

    __slots__ = ("next",)

    def __init__(self, first: int = 0) -> None:
        self.next = first

    def of_call(self, step: Any, commit: Any) -> int:
        """Return the step of the row that a call of `log` writes to."""
        if step is None:
            row = self.next
            if commit is None or commit:
                self.next = row + 1
            return row
        row = step if type(step) is int else cut_step(step) or 0
        if row >= self.next:
            self.next = row + 1 if commit else row
        return row


class Axes:
    """The metrics that the program defined with `step_metric`: they have the value of that metric as their step.

    So has that metric itself. As in wandb, its last value counts if a row lacks it. Only whole numbers are steps: a
    metric whose axis has other values, such as fractions of an epoch, has the step of its row.
    """

    def __init__(self) -> None:
        self._defined: dict[str, str | None] = {}
        self._last: dict[str, int | None] = {}
        self._axis_of: dict[str, str | None] = {}

    def __bool__(self) -> bool:
        return bool(self._last)

    def define(self, name: str, step_metric: str | None) -> None:
        """Set the axis of one metric, or of all that begin with `name` if it ends in "*"."""
        if step_metric is not None or name.endswith("*") or name not in self._defined:
            self._defined[name] = step_metric
        if step_metric is not None:
            self._last.setdefault(step_metric, None)
        self._axis_of.clear()

    def note(self, members: Iterable[tuple[str, Any]]) -> None:
        """Store the values of the axes in a row. Names are those of wandb, `outer.inner` for nested dicts."""
        for name, value in members:
            if name in self._last:
                self._last[name] = _whole(value)

    def step_of(self, name: str, row: int) -> int:
        """Return the step of a metric in a row."""
        if name not in self._axis_of:
            self._axis_of[name] = self._find(name)
        axis = self._axis_of[name]
        last = None if axis is None else self._last[axis]
        return row if last is None else last

    def _find(self, name: str) -> str | None:
        if name in self._last:
            return name
        definition = defined_name(name, self._defined)
        return None if definition is None else self._defined[definition]


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not hasattr(value, "__index__") or getattr(value, "shape", None):
        return None
    try:
        return operator.index(value)
    except TypeError:  # a tensor of a fraction
        return None
