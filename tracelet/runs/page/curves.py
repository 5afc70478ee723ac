"""Build charts, which the page's script draws, and tables of curve statistics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tracelet.runs.charts import Chart, is_stepless
from tracelet.runs.format import number
from tracelet.runs.page.document import table
from tracelet.runs.page.markup import Markup, element, joined, json_text
from tracelet.runs.report import DownsampledSeries, Point

_MAX_CHARTS = 200
_MAX_CURVES = 100
_MAX_POINTS = 250_000
_MAX_ROWS = 2_000
_COLORS = 8
_MAX_EXACT_STEP = 1 << 53


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


def chart_parts(charts: Sequence[Chart]) -> Iterator[Markup]:
    """Yield the controls and an empty figure for each chart."""
    yield element(
        "div",
        element("label", "Filter ", element("input", type="search", id="filter", placeholder="part of a name")),
        element("label", element("input", type="checkbox", id="logarithmic"), " Logarithmic"),
        element("span", id="found", role="status"),
        class_="controls",
    )
    yield element("noscript", element("p", "Charts need JavaScript. Their statistics are below."))
    program = [chart for chart in charts if not chart.is_system_metric]
    for heading, group in ((None, program), ("System metrics", charts[len(program) :])):
        if group:
            yield joined(element("h3", heading, class_="group") if heading else None, Markup('<div class="charts">'))
            yield from map(_figure, group)
            yield Markup("</div>")
    yield element(
        "p",
        "Drag over a chart to zoom, double-click to reset. Keyboard: arrows move between points, + and - zoom, Escape "
        "resets. × is NaN, ▲ and ▼ are the infinities. A long curve shows the lowest and highest point of each "
        "interval.",
        class_="hint",
    )


def _figure(chart: Chart) -> Markup:
    names = [curve.name for curve in chart.curves]
    legend = None
    if names != [chart.title]:
        legend = element("ul", *(element("li", _toggle(curve.name, curve.color_index)) for curve in chart.curves))
    return element(
        "figure",
        element(
            "figcaption",
            element("h3", chart.title or "(no name)"),
            element("button", "Reset", type="button", class_="reset", hidden=True),
            element("button", "Expand", type="button", class_="widen", aria_pressed="false"),
        ),
        element("div", class_="plot"),
        legend,
        class_="chart",
    )


def _toggle(name: str, color_index: int) -> Markup:
    return element("button", swatch(color_index), name, type="button", aria_pressed="true")


def swatch(color_index: int) -> Markup:
    """Return a line with the color and the dashes of a curve."""
    line = element("line", x1="0", y1="4", x2="22", y2="4", class_=f"curve {curve_class(color_index)}")
    return element("svg", line, width="22", height="8", aria_hidden="true", class_="swatch")


def curve_class(color_index: int) -> str:
    return f"c{color_index % _COLORS} d{color_index // _COLORS % 4}"


def chart_data(charts: Iterable[Chart]) -> Iterator[Markup]:
    """Yield the charts' points as JSON, in the order of `chart_parts`."""
    yield Markup("[")
    for index, chart in enumerate(charts):
        points_of_curves = chart.points()
        stepless = is_stepless(points_of_curves)
        curves = [
            {
                "name": curve.name,
                "style": curve_class(curve.color_index),
                "count": curve.series.count,
                "x": [point.position if stepless else _step(point) for point in points],
                "y": [_value(point.value) for point in points],
            }
            for curve, points in zip(chart.curves, points_of_curves, strict=True)
        ]
        if index:
            yield Markup(",\n")
        yield json_text({"title": chart.title, "axis": "point" if stepless else "step", "curves": curves})
    yield Markup("]")


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
