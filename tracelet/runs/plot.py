"""Charts as one PNG file."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracelet.errors import ConfigurationError, MissingDependency, TraceletError
from tracelet.runs.charts import Chart, is_stepless

_MOST_CHARTS = 30
_COLUMNS = 3
_MOST_NAMES = 12
_DASHES = ("-", "--", "-.", ":")
_FARTHEST = 1e300


def write_png(charts: Sequence[Chart], path: Path, title: str = "") -> None:
    """Draw the charts; at most 30 of them, and the machine's only where there are no others.

    Raises:
        MissingDependency: matplotlib is not installed.
        ConfigurationError: there is nothing to draw, or `path` is no PNG file.
        TraceletError: the file cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise ConfigurationError(f"the plot is a PNG file; give a name that ends in .png, not {str(path)!r}")
    if not charts:
        raise ConfigurationError("there are no scalars to plot")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("a plot needs matplotlib. Install it with: pip install 'tracelet[plot]'") from error
    charts = [chart for chart in charts if not chart.is_system_metric] or charts
    shown = charts[:_MOST_CHARTS]
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(4.6 * columns, 3.0 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    for place, chart in enumerate(shown, 1):
        _draw(figure.add_subplot(rows, columns, place), chart)
    if len(charts) > len(shown):
        title = f"{title} ({len(shown)} of {len(charts)} charts)"
    figure.suptitle(_plain(title), parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that the font lacks, spans beyond a float: the rest is drawn
        try:
            figure.savefig(path, format="png", dpi=110)
        except OSError as error:
            raise TraceletError(f"cannot write the plot: {error}") from error


def _draw(axes: Any, chart: Chart) -> None:
    drawn = chart.points()
    stepless = is_stepless(drawn)
    for curve, points in zip(chart.curves, drawn, strict=True):
        across = [point.at if stepless else point.step for point in points]
        up = [_drawable(point.value) for point in points]
        # The same place has the same colour, and the same dashes, in every chart.
        look = {"color": f"C{curve.place % 10}", "linestyle": _DASHES[curve.place // 10 % len(_DASHES)]}
        axes.plot(across, up, linewidth=1.3, marker="." if len(points) < 40 else None, **look)
    axes.set_title(_plain(chart.title), fontsize=10, parse_math=False)
    axes.set_xlabel("point" if stepless else "step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, alpha=0.3)
    names = [curve.name for curve in chart.curves]
    if names != [chart.title]:
        told = names[:_MOST_NAMES]
        legend = axes.legend(axes.get_lines()[: len(told)], [_plain(name) for name in told], fontsize=7)
        if len(told) < len(names):
            legend.set_title(f"the first {len(told)} of {len(names)} curves", prop={"size": 7})
        for text in legend.get_texts():
            text.set_parse_math(False)


def _drawable(value: float) -> float:
    """A gap for what is not finite; matplotlib cannot span an axis near the largest float."""
    return max(-_FARTHEST, min(value, _FARTHEST)) if math.isfinite(value) else math.nan


def _plain(text: str) -> str:
    """A name that matplotlib shows as it is: no control characters, short, and not hidden for a leading "_"."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f" {shown}" if shown.startswith("_") else shown
