"""Draw charts into one PNG file."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracelet.errors import ConfigurationError, MissingDependency, TraceletError
from tracelet.runs.charts import Chart, is_stepless

_MAX_CHARTS = 30
_COLUMNS = 3
_MAX_NAMES = 12
_DASHES = ("-", "--", "-.", ":")
_MAX_VALUE = 1e300


def write_png(charts: Sequence[Chart], path: Path, title: str = "") -> None:
    """Draw at most 30 charts. System metrics are drawn only if there are no other charts.

    Raises:
        MissingDependency: if matplotlib is not installed.
        ConfigurationError: if there are no charts, or if `path` does not end in .png.
        TraceletError: if the file cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise ConfigurationError(f"the plot must be a PNG file with a name ending in .png, got {str(path)!r}")
    if not charts:
        raise ConfigurationError("there are no scalars to plot")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("a plot needs matplotlib. Install it with: pip install 'tracelet[plot]'") from error
    charts = [chart for chart in charts if not chart.is_system_metric] or charts
    shown = charts[:_MAX_CHARTS]
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(4.6 * columns, 3.0 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    for index, chart in enumerate(shown, 1):
        _draw(figure.add_subplot(rows, columns, index), chart)
    if len(charts) > len(shown):
        title = f"{title} ({len(shown)} of {len(charts)} charts)"
    figure.suptitle(_plain(title), parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about missing glyphs, and spans beyond a float
        try:
            figure.savefig(path, format="png", dpi=110)
        except OSError as error:
            raise TraceletError(f"cannot write the plot: {error}") from error


def _draw(axes: Any, chart: Chart) -> None:
    curves = chart.points()
    stepless = is_stepless(curves)
    for curve, points in zip(chart.curves, curves, strict=True):
        xs = [point.position if stepless else point.step for point in points]
        ys = [_drawable(point.value) for point in points]
        index = curve.color_index
        style = {"color": f"C{index % 10}", "linestyle": _DASHES[index // 10 % len(_DASHES)]}
        axes.plot(xs, ys, linewidth=1.3, marker="." if len(points) < 40 else None, **style)
    axes.set_title(_plain(chart.title), fontsize=10, parse_math=False)
    axes.set_xlabel("point" if stepless else "step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, alpha=0.3)
    names = [curve.name for curve in chart.curves]
    if names != [chart.title]:
        listed = names[:_MAX_NAMES]
        legend = axes.legend(axes.get_lines()[: len(listed)], [_plain(name) for name in listed], fontsize=7)
        if len(listed) < len(names):
            legend.set_title(f"the first {len(listed)} of {len(names)} curves", prop={"size": 7})
        for text in legend.get_texts():
            text.set_parse_math(False)


def _drawable(value: float) -> float:
    """Return NaN (a gap) for a non-finite value. Clip others, since matplotlib cannot span the largest floats."""
    return max(-_MAX_VALUE, min(value, _MAX_VALUE)) if math.isfinite(value) else math.nan


def _plain(text: str) -> str:
    """Return a short name without control characters. matplotlib would hide one with a leading "_"."""
    printable = "".join(char if char.isprintable() else "?" for char in text)
    printable = printable if len(printable) <= 60 else f"{printable[:57]}..."
    return f" {printable}" if printable.startswith("_") else printable
