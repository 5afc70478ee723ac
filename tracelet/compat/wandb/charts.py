"""Draw charts with matplotlib, without its global state (`pyplot`, the backend, the current figure)."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from tracelet.compat.wandb.base import warn_once
from tracelet.compat.wandb.tables import Table
from tracelet.guard import described, translated

Png = tuple[bytes, str, int, int]
"""The bytes, "png", the width and the height."""


class _Drawing(Exception):
    """matplotlib cannot draw these values."""


def draw(spec_name: str, table: Table, fields: dict[str, Any], texts: dict[str, Any]) -> Png | None:
    """Return a chart as PNG. Return None without matplotlib, for an unknown chart, and for values it cannot draw."""
    draw_axes = _CHARTS.get(spec_name.rpartition("/")[0])
    if draw_axes is None:
        return None
    if not matplotlib_is_installed():
        warn_once(
            "matplotlib is not installed; charts of wandb.plot are logged as their tables alone. "
            "Run: pip install matplotlib"
        )
        return None
    try:
        return translated(lambda: _drawn(draw_axes, table, fields, texts), lambda error: _Drawing(described(error)))
    except _Drawing as error:
        warn_once(f"the chart {texts.get('title', '')!r} is logged as its table alone: {error}")
        return None


def matplotlib_is_installed() -> bool:
    """Return True if charts can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def _drawn(draw_axes: _Chart, table: Table, fields: dict[str, Any], texts: dict[str, Any]) -> Png:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), dpi=100, layout="tight")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw_axes(axes, table, fields, texts)
    axes.set_title(texts.get("title", ""))
    out = io.BytesIO()
    canvas.print_png(out)
    width, height = canvas.get_width_height()
    return out.getvalue(), "png", width, height


def _lines(axes: Any, table: Table, x: str, y: str, group: str | None) -> None:
    names = [""] * len(table.data) if group is None else table.get_column(group)
    points: dict[Any, tuple[list[Any], list[Any]]] = {}
    for name, x_value, y_value in zip(names, table.get_column(x), table.get_column(y), strict=True):
        xs, ys = points.setdefault(name, ([], []))
        xs.append(x_value)
        ys.append(y_value)
    for name, (xs, ys) in points.items():
        axes.plot(xs, ys, label=str(name))
    if group is not None and points:
        axes.legend()


def _line(axes: Any, table: Table, fields: dict[str, Any], texts: dict[str, Any]) -> None:
    _lines(axes, table, fields["x"], fields["y"], fields.get("stroke"))
    axes.set(xlabel=fields["x"], ylabel=fields["y"])


def _line_series(axes: Any, table: Table, fields: dict[str, Any], texts: dict[str, Any]) -> None:
    _lines(axes, table, fields["step"], fields["lineVal"], fields["lineKey"])
    axes.set_xlabel(texts.get("xname", ""))


def _area(axes: Any, table: Table, fields: dict[str, Any], texts: dict[str, Any]) -> None:
    _lines(axes, table, fields["x"], fields["y"], fields["class"])
    axes.set(xlabel=texts.get("x-axis-title", ""), ylabel=texts.get("y-axis-title", ""))


def _scatter(axes: Any, table: Table, fields: dict[str, Any], texts: dict[str, Any]) -> None:
    axes.scatter(table.get_column(fields["x"]), table.get_column(fields["y"]))
    axes.set(xlabel=fields["x"], ylabel=fields["y"])


def _bar(axes: Any, table: Table, fields: dict[str, Any], texts: dict[str, Any]) -> None:
    axes.barh([str(label) for label in table.get_column(fields["label"])], table.get_column(fields["value"]))
    axes.set_xlabel(fields["value"])


def _histogram(axes: Any, table: Table, fields: dict[str, Any], texts: dict[str, Any]) -> None:
    axes.hist(table.get_column(fields["value"]), bins="auto")
    axes.set_xlabel(fields["value"])


def _confusion_matrix(axes: Any, table: Table, fields: dict[str, Any], texts: dict[str, Any]) -> None:
    actual, predicted, counts = (table.get_column(fields[key]) for key in ("Actual", "Predicted", "nPredictions"))
    names = list(dict.fromkeys(actual))
    cells = dict(zip(zip(actual, predicted, strict=True), counts, strict=True))
    axes.imshow([[cells.get((row, column), 0) for column in names] for row in names], cmap="Blues")
    for (row, column), count in cells.items():
        color = "white" if 2 * count > max(counts) else "black"
        axes.text(names.index(column), names.index(row), f"{count:g}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(names)), names, rotation=45)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="Predicted", ylabel="Actual")


_Chart = Callable[[Any, Table, dict[str, Any], dict[str, Any]], None]
_CHARTS: dict[str, _Chart] = {
    "wandb/line": _line,
    "wandb/lineseries": _line_series,
    "wandb/scatter": _scatter,
    "wandb/bar": _bar,
    "wandb/histogram": _histogram,
    "wandb/confusion_matrix": _confusion_matrix,
    "wandb/area-under-curve": _area,
}
