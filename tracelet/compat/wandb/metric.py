"""Define what `define_metric` returns."""

from __future__ import annotations

from tracelet.compat.wandb.errors import Error
from tracelet.guard import shown

AGGREGATES = ("min", "max", "mean", "last", "first", "none")
_WORDS = (*AGGREGATES, "copy", "best")
_GOALS = ("minimize", "maximize")


class Metric:
    """A definition by `define_metric`. A name that ends in `*` is for all keys that begin like it."""

    name: str

    def __init__(
        self,
        name: str,
        step_metric: str | Metric | None = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | None = None,
        goal: str | None = None,
        overwrite: bool | None = None,
    ) -> None:
        if not name:
            raise Error("define_metric: the name must not be empty")
        axis: str | None = step_metric.name if isinstance(step_metric, Metric) else step_metric
        for argument, value, kind in (
            ("name", name, str),
            ("step_metric", axis, str),
            ("step_sync", step_sync, bool),
            ("hidden", hidden, bool),
            ("summary", summary, str),
            ("goal", goal, str),
            ("overwrite", overwrite, bool),
        ):
            if value is not None and not isinstance(value, kind):
                raise Error(f"define_metric: {argument} must be a {kind.__name__}, got {shown(value)}")
        if "*" in name.removesuffix("*"):
            raise Error(f"define_metric: a * may only end the name, got {shown(name)}")
        self.name, self.step_metric, self.step_sync, self.hidden = name, axis, step_sync, hidden
        self.summary = tuple(word.strip().lower() for word in summary.split(",")) if summary else ()
        unknown = next((word for word in self.summary if word not in _WORDS), None)
        if unknown is not None:
            raise Error(f"define_metric: summary must be some of {', '.join(_WORDS)}, got {shown(unknown)}")
        if goal is not None and goal not in _GOALS:
            raise Error(f"define_metric: goal must be one of {', '.join(_GOALS)}, got {shown(goal)}")
        self.goal = goal
