"""Build charts, which the page's script draws, and tables of curve statistics."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tracelet.runs.charts import Chart, Curve, is_stepless
from tracelet.runs.format import number
from tracelet.runs.page.document import table
from tracelet.runs.page.markup import Markup, element, json_text
from tracelet.runs.report import DownsampledSeries, Point

_MAX_CHARTS = 200
_MAX_CURVES = 100
_MAX_POINTS = 250_000
_MAX_ROWS = 2_000
_COLORS = 8
_MAX_EXACT_STEP = 1 << 53
_END_OF_TIME = 8.64e12
"""Seconds that JavaScript's dates end at. A program may log any wall time."""
_OTHER, _SYSTEM = "Charts", "System metrics"
_AXES = {"step": "Step", "relative": "Relative time", "wall": "Wall time"}


def limit_charts(charts: Sequence[Chart], omissions: list[str]) -> list[Chart]:
    """Return the first charts within the limits. A chart with too many points is skipped."""
    selected: list[Chart] = []
    remaining = _MAX_POINTS
    for chart in charts:
        if len(selected) == _MAX_CHARTS:
            break
        limited = chart._replace(curves=chart.curves[:_MAX_CURVES])
        points = sum(map(len, limited.points()))
        if points > remaining:
            continue
        remaining -= points
        selected.append(limited)
        if len(limited.curves) < len(chart.curves):
            omissions.append(
                f"{len(chart.curves) - _MAX_CURVES} of {len(chart.curves)} curves of the chart {chart.title!r}; their "
                "statistics are in the table"
            )
    if len(selected) < len(charts):
        omissions.append(f"{len(charts) - len(selected)} of {len(charts)} charts; their statistics are in the table")
    return selected


def without_single_values(charts: Sequence[Chart]) -> tuple[list[Chart], list[DownsampledSeries]]:
    """Separate the system metrics with one point each, such as the size of the memory: a table shows them better."""
    single = [chart for chart in charts if chart.is_system_metric and all(c.series.count == 1 for c in chart.curves)]
    return [chart for chart in charts if chart not in single], [c.series for chart in single for c in chart.curves]


def arrange(charts: Sequence[Chart], omissions: list[str]) -> dict[str, list[Chart]]:
    """Return the charts within the limits by section, in the order of the page.

    Charts whose names begin with the same part form a section. All others come first, system metrics last.
    """
    charts = limit_charts(charts, omissions)
    counts = [count for chart in charts for count in _counts(chart)]
    long = [(drawn, total) for drawn, total in counts if drawn < total]
    if long:
        omitted, total = sum(total - drawn for drawn, total in long), sum(total for _, total in counts)
        omissions.append(
            f"{omitted:,} of {total:,} points, in {len(long)} long curves. The first, the last, and the lowest and the "
            "highest of each interval are drawn"
        )
    sizes = Counter(chart.section for chart in charts)
    sections: dict[str, list[Chart]] = {_OTHER: []}
    for chart in sorted(charts, key=lambda chart: chart.is_system_metric):
        name = chart.section if sizes[chart.section] > 1 else ""
        sections.setdefault(_SYSTEM if chart.is_system_metric else name or _OTHER, []).append(chart)
    return {name: group for name, group in sections.items() if group}


def chart_parts(sections: Mapping[str, Sequence[Chart]], *, legends: bool = True) -> Iterator[Markup]:
    """Yield the controls and an empty figure for each chart."""
    if not sections:
        return
    yield element(
        "div",
        element("label", "Search ", element("input", type="search", id="filter", placeholder="regular expression")),
        element(
            "label",
            "Smoothing ",
            element("input", type="range", id="smoothing", min="0", max="0.99", step="0.01", value="0"),
            element("output", "0.00", id="smoothed"),
        ),
        element("label", "X axis ", element("select", *(_option(value) for value in _AXES), id="axis")),
        element("label", element("input", type="checkbox", id="logarithmic"), " Logarithmic"),
        element("span", id="found", role="status"),
        class_="controls",
    )
    yield element("noscript", element("p", "Charts need JavaScript. Their statistics are below."))
    for name, group in sections.items():
        if len(sections) > 1:
            count = f"{len(group)} chart{'' if len(group) == 1 else 's'}"
            yield Markup('<details class="group" open>')
            yield element("summary", name, " ", element("small", count))
        yield Markup('<div class="charts">')
        for chart in group:
            yield _figure(chart, legends)
        yield Markup("</div>")
        if len(sections) > 1:
            yield Markup("</details>")
    yield element(
        "p",
        "Drag over a chart to zoom, double-click to reset. Keyboard: arrows move between points, + and - zoom, Escape "
        "resets. × is NaN, ▲ and ▼ are the infinities. Smoothing is TensorBoard's.",
        class_="hint",
    )


def _option(value: str) -> Markup:
    return element("option", _AXES[value], value=value)


def _figure(chart: Chart, legends: bool) -> Markup:
    names = [curve.name for curve in chart.curves]
    legend = None
    if legends and names != [chart.title]:
        legend = element("ul", *(element("li", _toggle(curve.name, curve.color_index)) for curve in chart.curves))
    drawn, total = (sum(counts) for counts in zip(*_counts(chart), strict=True))
    return element(
        "figure",
        element(
            "figcaption",
            element("h3", chart.title or "(no name)"),
            element("button", "Reset", type="button", class_="reset", hidden=True),
            element("button", "CSV", type="button", class_="csv", title="Download the points of this chart"),
            element("button", "Expand", type="button", class_="widen", aria_pressed="false"),
        ),
        element("div", class_="plot"),
        element("p", f"{drawn:,} of {total:,} points", class_="drawn") if drawn < total else None,
        legend,
        class_="chart",
    )


def _counts(chart: Chart) -> list[tuple[int, int]]:
    """Return the number of drawn points and of all points of each curve."""
    return [(len(points), curve.series.count) for curve, points in zip(chart.curves, chart.points(), strict=True)]


def single_values(series: Sequence[DownsampledSeries]) -> Iterator[Markup]:
    """Yield a table of system metrics that have one point."""
    if series:
        yield element(
            "details",
            element("summary", "System metrics of one point ", element("small", str(len(series)))),
            table(("metric", "value"), ([one.tag, *short_numbers(one, "last")] for one in series), numbers=(1,)),
            class_="single",
            open=True,
        )


def _toggle(name: str, color_index: int) -> Markup:
    return element("button", swatch(color_index), name, type="button", aria_pressed="true")


def swatch(color_index: int) -> Markup:
    """Return a line with the color and the dashes of a curve."""
    classes = f"curve c{color_index % _COLORS} d{color_index // _COLORS % 4}"
    line = element("line", x1="0", y1="4", x2="22", y2="4", class_=classes)
    return element("svg", line, width="22", height="8", aria_hidden="true", class_="swatch")


def chart_data(sections: Mapping[str, Sequence[Chart]]) -> Iterator[Markup]:
    """Yield the charts' points as JSON, in the order of `chart_parts`."""
    yield Markup("[")
    for index, chart in enumerate(itertools.chain.from_iterable(sections.values())):
        points_of_curves = chart.points()
        stepless = is_stepless(points_of_curves)
        curves = [_curve(curve, points, stepless) for curve, points in zip(chart.curves, points_of_curves, strict=True)]
        if index:
            yield Markup(",\n")
        data: dict[str, Any] = {"title": chart.title, "axis": "point" if stepless else "step", "curves": curves}
        if chart.is_system_metric and all(curve.series.tag.endswith("_bytes") for curve in chart.curves):
            data["unit"] = "bytes"
        yield json_text(data)
    yield Markup("]")


def _curve(curve: Curve, points: Sequence[Point], stepless: bool) -> dict[str, Any]:
    """Return a curve: steps `x`, wall times `t` in ms after `start`, values `y` and, if it is long, means `m`."""
    data: dict[str, Any] = {
        "name": curve.name,
        "color": curve.color_index,
        "count": curve.series.count,
        "x": [point.position if stepless else _step(point) for point in points],
        "y": [_value(point.value) for point in points],
    }
    if all(abs(point.wall_time) < _END_OF_TIME for point in points):
        start = points[0].wall_time if points else 0.0
        data |= {"start": start, "t": [round((point.wall_time - start) * 1000) for point in points]}
    means = curve.series.means()
    if means is not None:
        data["m"] = [_mean(means.get(point.position)) for point in points]
    return data


def _mean(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _step(point: Point) -> int | str:
    """Return a step too large for JavaScript's numbers as text. It is displayed exactly, but drawn inexactly."""
    return point.step if abs(point.step) <= _MAX_EXACT_STEP else str(point.step)


def _value(value: float) -> float | str:
    """Return NaN and the infinities as text, since JSON lacks them. `Number` in JavaScript parses it."""
    if math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def statistics(scalars: Iterable[DownsampledSeries], omissions: list[str]) -> Markup:
    """Return a table of the curves with count, first, last and extreme values."""
    scalars = list(scalars)
    count = len(scalars)
    if count > _MAX_ROWS:
        omissions.append(f"the statistics of {count - _MAX_ROWS} of {count} curves")
    headings = ("scalar", "points", "first", "last", "lowest", "highest", "curve")
    rows = [_row(series) for series in scalars[:_MAX_ROWS]]
    return element(
        "details",
        element("summary", f"Statistics of {count} curve{'' if count == 1 else 's'}"),
        table(headings, rows, numbers=range(1, 6)),
        open=count <= 12,
    )


def _row(series: DownsampledSeries) -> list[Any]:
    points = f"{series.count} ({series.nans} NaN)" if series.nans else str(series.count)
    bars = element("span", series.sparkline(24), class_="bars", aria_hidden="true")
    return [series.tag, points, *short_numbers(series, "first", "last", "minimum", "maximum"), bars]


def short_numbers(series: DownsampledSeries, *names: str) -> list[Markup]:
    """Return statistics of a curve with few digits, and all digits as tooltips."""
    values = [getattr(series, name) for name in names]
    return [element("span", number(value, series.tag), title=repr(value)) for value in values]
