"""Define wandb's charts, as in `wandb.plot`: each is a table and the columns to draw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tracelet.compat.wandb.base import Entry, Value
from tracelet.compat.wandb.charts import draw
from tracelet.compat.wandb.curves import pr_points, roc_points
from tracelet.compat.wandb.errors import Error
from tracelet.compat.wandb.tables import Table
from tracelet.records import Image

_AREA = "wandb/area-under-curve/v0"


@dataclass
class CustomChartSpec:
    """The name of a chart's definition at wandb, and the columns and texts for it."""

    spec_name: str
    fields: dict[str, Any]
    string_fields: dict[str, Any]
    key: str = ""
    panel_type: str = "Vega2"
    split_table: bool = False

    @property
    def table_key(self) -> str:
        """The name under which the chart's table is logged.

        Raises:
            Error: the chart has no name yet, since it is not logged.
        """
        if not self.key:
            raise Error("the chart has no key yet; it gets one when it is logged")
        return f"Custom Chart Tables/{self.key}_table" if self.split_table else f"{self.key}_table"


@dataclass(eq=False)
class CustomChart(Value):
    """A chart: logged as its table, and as an image if matplotlib is installed and has such a chart."""

    table: Table
    spec: CustomChartSpec

    _log_type = "custom-chart"

    def set_key(self, key: str) -> None:
        """Name the chart."""
        self.spec.key = key

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        self.set_key(name)
        yield from self.table.records(self.spec.table_key, step, wall_time)
        image = draw(self.spec.spec_name, self.table, self.spec.fields, self.spec.string_fields)
        if image is not None:
            yield Image(name, *image, step, wall_time)

    def summary(self) -> dict[str, Any]:
        """Return the summary of the table, which belongs under `spec.table_key`."""
        return self.table.summary()

    def described(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        return self.table.described()


def plot_table(
    vega_spec_name: str,
    data_table: Table,
    fields: dict[str, Any],
    string_fields: dict[str, Any] | None = None,
    split_table: bool = False,
) -> CustomChart:
    """Return a chart of a table, by the name of its definition.

    Raises:
        Error: `data_table` is not a Table.
    """
    if not isinstance(data_table, Table):
        raise Error(f"data_table must be a wandb.Table, got a {type(data_table).__name__}")
    return CustomChart(
        data_table, CustomChartSpec(vega_spec_name, fields, string_fields or {}, split_table=split_table)
    )


def line(
    table: Table, x: str, y: str, stroke: str | None = None, title: str = "", split_table: bool = False
) -> CustomChart:
    """Return a line chart of two columns; `stroke` is the column that names the lines."""
    fields = {"x": x, "y": y, "stroke": stroke}
    return plot_table("wandb/line/v0", table, fields, {"title": title}, split_table)


def scatter(table: Table, x: str, y: str, title: str = "", split_table: bool = False) -> CustomChart:
    """Return a scatter plot of two columns."""
    return plot_table("wandb/scatter/v0", table, {"x": x, "y": y}, {"title": title}, split_table)


def bar(table: Table, label: str, value: str, title: str = "", split_table: bool = False) -> CustomChart:
    """Return a bar chart of a column of values, with the labels of another."""
    return plot_table("wandb/bar/v0", table, {"label": label, "value": value}, {"title": title}, split_table)


def histogram(table: Table, value: str, title: str = "", split_table: bool = False) -> CustomChart:
    """Return a histogram of a column."""
    return plot_table("wandb/histogram/v0", table, {"value": value}, {"title": title}, split_table)


def line_series(
    xs: Sequence[Any],
    ys: Sequence[Iterable[Any]],
    keys: Sequence[str] | None = None,
    title: str = "",
    xname: str = "x",
    split_table: bool = False,
) -> CustomChart:
    """Return a chart of several lines, with one x for all of them or one for each.

    Raises:
        ValueError: there are more or fewer lines in `ys` than in `xs` or `keys`.
    """
    if isinstance(xs[0], str | bytes) or not isinstance(xs[0], Iterable):
        xs = [xs] * len(ys)
    names = [f"line_{number}" for number in range(len(ys))] if keys is None else keys
    if not len(xs) == len(names) == len(ys):
        raise ValueError(
            f"xs, ys and keys must have as many lines, got {len(xs)} in xs, {len(ys)} in ys and {len(names)} in keys"
        )
    rows = [
        [x, name, y]
        for line_xs, name, line_ys in zip(xs, names, ys, strict=True)
        for x, y in zip(line_xs, line_ys, strict=False)
    ]
    columns = ["step", "lineKey", "lineVal"]
    fields = {column: column for column in columns}
    return plot_table(
        "wandb/lineseries/v0", Table(columns, rows), fields, {"title": title, "xname": xname}, split_table
    )


def confusion_matrix(
    probs: Sequence[Sequence[float]] | None = None,
    y_true: Sequence[Any] | None = None,
    preds: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
    title: str = "Confusion Matrix Curve",
    split_table: bool = False,
) -> CustomChart:
    """Return the confusion matrix of predictions, or of probabilities [N, classes].

    Raises:
        ValueError: probabilities and predictions are both given or both missing, the numbers of predictions and labels
            differ, or there are more classes than `class_names`.
    """
    if probs is not None and preds is not None:
        raise ValueError("confusion_matrix takes probs or preds, got both")
    if probs is not None:
        import numpy as np

        preds = np.argmax(np.asarray(probs), axis=1).tolist()
    if preds is None or y_true is None:
        raise ValueError("confusion_matrix needs y_true, and probs or preds")
    if len(preds) != len(y_true):
        raise ValueError(f"y_true must have a label for each prediction, got {len(y_true)} for {len(preds)}")
    classes = sorted(set(preds) | set(y_true)) if class_names is None else list(range(len(class_names)))
    if class_names is not None and max(len(set(preds)), len(set(y_true))) > len(class_names):
        raise ValueError(f"class_names must have a name for each class, got {len(class_names)} names")
    names = [f"Class_{number}" for number in range(1, len(classes) + 1)] if class_names is None else class_names
    numbers = {label: number for number, label in enumerate(classes)}
    counts = [[0.0] * len(classes) for _ in classes]
    for actual, predicted in zip(y_true, preds, strict=True):
        counts[numbers[actual]][numbers[predicted]] += 1
    rows = [
        [actual, predicted, count]
        for actual, row in zip(names, counts, strict=True)
        for predicted, count in zip(names, row, strict=True)
    ]
    columns = ["Actual", "Predicted", "nPredictions"]
    fields = {column: column for column in columns}
    return plot_table("wandb/confusion_matrix/v1", Table(columns, rows), fields, {"title": title}, split_table)


def roc_curve(
    y_true: Sequence[Any],
    y_probas: Sequence[Sequence[float]] | None = None,
    labels: Sequence[str] | None = None,
    classes_to_plot: Sequence[Any] | None = None,
    title: str = "ROC Curve",
    split_table: bool = False,
) -> CustomChart:
    """Return the ROC curve of each class, rounded to three digits. Needs scikit-learn and pandas.

    Raises:
        Error: one of them is not installed.
    """
    frame = roc_points(y_true, y_probas, labels, classes_to_plot, Table.MAX_ROWS)
    texts = {"title": title, "x-axis-title": "False positive rate", "y-axis-title": "True positive rate"}
    return plot_table(_AREA, Table(dataframe=frame), {"x": "fpr", "y": "tpr", "class": "class"}, texts, split_table)


def pr_curve(
    y_true: Sequence[Any] | None = None,
    y_probas: Sequence[Sequence[float]] | None = None,
    labels: Sequence[str] | None = None,
    classes_to_plot: Sequence[Any] | None = None,
    interp_size: int = 21,
    title: str = "Precision-Recall Curve",
    split_table: bool = False,
) -> CustomChart:
    """Return the precision-recall curve of each class at `interp_size` recalls. Needs scikit-learn and pandas.

    Raises:
        Error: one of them is not installed.
    """
    frame = pr_points(y_true, y_probas, labels, classes_to_plot, interp_size, Table.MAX_ROWS)
    texts = {"title": title, "x-axis-title": "Recall", "y-axis-title": "Precision"}
    return plot_table(
        _AREA, Table(dataframe=frame), {"x": "recall", "y": "precision", "class": "class"}, texts, split_table
    )


class Visualize(CustomChart):
    """A table for a chart that is defined at wandb; logged as the table."""


def visualize(id: str, value: Table) -> Visualize:
    """Return a table for the chart `id`.

    Raises:
        Error: `value` is not a Table.
    """
    if not isinstance(value, Table):
        raise Error(f"value must be a wandb.Table, got a {type(value).__name__}")
    return Visualize(value, CustomChartSpec(id, {}, {}))


__all__ = [
    "CustomChart",
    "bar",
    "confusion_matrix",
    "histogram",
    "line",
    "line_series",
    "plot_table",
    "pr_curve",
    "roc_curve",
    "scatter",
    "visualize",
]
