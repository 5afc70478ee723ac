"""Charts for the page's script to draw, and the figures of the curves for everybody else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tracelet.runs.charts import Chart, is_stepless
from tracelet.runs.format import number
from tracelet.runs.page.document import table
from tracelet.runs.page.markup import Markup, element, joined, json_text
from tracelet.runs.report import DownsampledSeries, Point

_MOST_CHARTS = 200
_MOST_CURVES = 100
_MOST_POINTS = 250_000
_MOST_ROWS = 2_000
_COLOURS = 8
_EXACT = 1 << 53


def fitting(charts: Sequence[Chart], left_out: list[str]) -> list[Chart]:
    """The charts that the page takes, from the first on; one that is too large makes room for the next."""
    shown: list[Chart] = []
    room = _MOST_POINTS
    for chart in charts:
        if len(shown) == _MOST_CHARTS:
            break
        drawn = chart._replace(curves=chart.curves[:_MOST_CURVES])
        points = sum(map(len, drawn.points()))
        if points > room:
            continue
        room -= points
        shown.append(drawn)
        if len(drawn.curves) < len(chart.curves):
            left_out.append(
                f"{len(chart.curves) - _MOST_CURVES} of {len(chart.curves)} curves of the chart {chart.title!r}; their "
                "figures are in the table"
            )
    if len(shown) < len(charts):
        left_out.append(f"{len(charts) - len(shown)} of {len(charts)} charts; their figures are in the table")
    return shown


def chart_parts(charts: Sequence[Chart]) -> Iterator[Markup]:
    """The places of the charts, with what steers them."""
    yield element(
        "div",
        element("label", "Filter ", element("input", type="search", id="filter", placeholder="part of a name")),
        element("label", element("input", type="checkbox", id="logarithmic"), " Logarithmic"),
        element("span", id="found", role="status"),
        class_="controls",
    )
    yield element("noscript", element("p", "The charts are drawn by this page's own script; the figures are below."))
    own = [chart for chart in charts if not chart.is_system_metric]
    for heading, group in ((None, own), ("The machine", charts[len(own) :])):
        if group:
            yield joined(element("h3", heading, class_="group") if heading else None, Markup('<div class="charts">'))
            yield from map(_figure, group)
            yield Markup("</div>")
    yield element(
        "p",
        "Drag over a chart to look closer, double-click to see all of it again. With the keyboard: arrows move from "
        "point to point, + and - change the view, Escape shows all of it. × is NaN, ▲ and ▼ are the infinities. A long "
        "curve is drawn by the lowest and highest point of each stretch.",
        class_="hint",
    )


def _figure(chart: Chart) -> Markup:
    names = [curve.name for curve in chart.curves]
    legend = None
    if names != [chart.title]:
        legend = element("ul", *(element("li", _toggle(curve.name, curve.place)) for curve in chart.curves))
    return element(
        "figure",
        element(
            "figcaption",
            element("h3", chart.title or "(no name)"),
            element("button", "Reset", type="button", class_="reset", hidden=True),
            element("button", "Widen", type="button", class_="widen", aria_pressed="false"),
        ),
        element("div", class_="plot"),
        legend,
        class_="chart",
    )


def _toggle(name: str, place: int) -> Markup:
    return element("button", swatch(place), name, type="button", aria_pressed="true")


def swatch(place: int) -> Markup:
    """A line of the colour, and of the dashes, that curves of this place have."""
    line = element("line", x1="0", y1="4", x2="22", y2="4", class_=f"curve {curve_class(place)}")
    return element("svg", line, width="22", height="8", aria_hidden="true", class_="swatch")


def curve_class(place: int) -> str:
    return f"c{place % _COLOURS} d{place // _COLOURS % 4}"


def chart_data(charts: Iterable[Chart]) -> Iterator[Markup]:
    """The charts' points as JSON, in the order of `chart_parts`."""
    yield Markup("[")
    for at, chart in enumerate(charts):
        drawn = chart.points()
        stepless = is_stepless(drawn)
        curves = [
            {
                "name": curve.name,
                "style": curve_class(curve.place),
                "count": curve.series.count,
                "x": [point.at if stepless else _step(point) for point in points],
                "y": [_value(point.value) for point in points],
            }
            for curve, points in zip(chart.curves, drawn, strict=True)
        ]
        if at:
            yield Markup(",\n")
        yield json_text({"title": chart.title, "axis": "point" if stepless else "step", "curves": curves})
    yield Markup("]")


def _step(point: Point) -> int | str:
    """A step beyond what JavaScript's numbers hold is told as a text, and only placed inexactly."""
    return point.step if abs(point.step) <= _EXACT else str(point.step)


def _value(value: float) -> float | str:
    """JSON has no word for these; `Number` reads them all."""
    if math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def figures(scalars: Iterable[DownsampledSeries], left_out: list[str]) -> Markup:
    """The curves' figures."""
    every = list(scalars)
    if len(every) > _MOST_ROWS:
        left_out.append(f"the figures of {len(every) - _MOST_ROWS} of {len(every)} curves")
    headings = ("scalar", "points", "first", "last", "lowest", "highest", "curve")
    rows = [_row(one) for one in every[:_MOST_ROWS]]
    return element(
        "details",
        element("summary", f"Figures of {len(every)} curve{'' if len(every) == 1 else 's'}"),
        table(headings, rows, numbers=range(1, 6)),
        open=len(every) <= 12,
    )


def _row(one: DownsampledSeries) -> list[Any]:
    points = f"{one.count} ({one.nans} NaN)" if one.nans else str(one.count)
    bars = element("span", one.sparkline(24), class_="bars", aria_hidden="true")
    return [one.tag, points, *map(figure, (one.first, one.last, one.minimum, one.maximum)), bars]


def figure(value: float) -> Markup:
    """A number in few digits; pointing at it shows all of them."""
    return element("span", number(value), title=repr(value))
