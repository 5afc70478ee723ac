"""The curves of a run as one PNG file."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracelet.errors import ConfigurationError, MissingDependency, TraceletError
from tracelet.report import Series

_MOST_CHARTS = 30
_COLUMNS = 3
_FARTHEST = 1e300


def write_png(series: Mapping[str, Series], path: Path, title: str = "") -> None:
    """Draw the series, those that end in the same word (`loss`, `val/loss`) in one chart; at most 30 charts.

    Raises:
        MissingDependency: matplotlib is not installed.
        ConfigurationError: there is nothing to draw, or `path` is no PNG file.
        TraceletError: the file cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise ConfigurationError(f"the plot is a PNG file; give a name that ends in .png, not {str(path)!r}")
    if not series:
        raise ConfigurationError("the run has no scalars, so there is nothing to plot")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("a plot needs matplotlib. Install it with: pip install 'tracelet[plot]'") from error
    groups = charts(series)
    shown = list(groups.items())[:_MOST_CHARTS]
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(4.6 * columns, 3.0 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (word, members) in enumerate(shown, 1):
        _draw(figure.add_subplot(rows, columns, place), word, members)
    if len(groups) > len(shown):
        title = f"{title} ({len(shown)} of {len(groups)} charts)"
    figure.suptitle(_plain(title), parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that the font lacks, spans beyond a float: the rest is drawn
        try:
            figure.savefig(path, format="png", dpi=110)
        except OSError as error:
            raise TraceletError(f"cannot write the plot: {error}") from error


def charts(series: Mapping[str, Series]) -> dict[str, list[Series]]:
    """Series by the last part of their names, in the order of the program."""
    groups: dict[str, list[Series]] = {}
    for name, one in series.items():
        groups.setdefault(name.rstrip("/").rpartition("/")[2], []).append(one)
    return groups


def _draw(axes: Any, word: str, members: Sequence[Series]) -> None:
    drawn = [(one, one.points()) for one in members]
    # Where the program gave no steps, all points would be at 0.
    stepless = all(len({point.step for point in points}) == 1 for _, points in drawn)
    for _, points in drawn:
        across = [point.at if stepless else point.step for point in points]
        up = [_drawable(point.value) for point in points]
        axes.plot(across, up, linewidth=1.3, marker="." if len(points) < 40 else None)
    axes.set_title(_plain(word), fontsize=10, parse_math=False)
    axes.set_xlabel("point" if stepless else "step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, alpha=0.3)
    if 1 < len(members) <= 12:
        legend = axes.legend(axes.get_lines(), [_plain(one.tag) for one in members], fontsize=7)
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
