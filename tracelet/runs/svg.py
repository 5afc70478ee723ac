"""Draw charts as static SVG inside HTML, for notebooks: no scripts, no style sheets, and a bounded size."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tracelet.runs.charts import Chart, Curve, is_stepless
from tracelet.runs.format import number
from tracelet.runs.page.markup import Markup, element, joined
from tracelet.runs.report import Point

BUCKETS = 40
"""The resolution of the curves: at most 80 buckets of six points. A chart is 260 pixels wide."""
_MAX_CHARTS, _MAX_CURVES, _MAX_MARKS = 24, 8, 20
_WIDTH, _HEIGHT = 330, 170
_LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT = 58, 10, 262, 138
# Readable on light and dark pages; axes and texts have the page's own color.
_COLORS = ("#4c78a8", "#e4812b", "#439c5a", "#d6494b", "#9c6bb3", "#8c6d50", "#d268a8", "#2a9fb0")


def charts_html(charts: Sequence[Chart]) -> Markup:
    """Return the charts in sections of two or more. System metrics are drawn only if there are no other charts."""
    charts = [chart for chart in charts if not chart.is_system_metric] or charts
    sizes = Counter(chart.section for chart in charts)
    sections: dict[str, list[Chart]] = {"": []}
    for chart in charts:
        sections.setdefault(chart.section if sizes[chart.section] > 1 else "", []).append(chart)
    room, parts = _MAX_CHARTS, list[Markup]()
    for name, members in sections.items():
        drawn = members[: max(0, room)]
        room -= len(members)
        if drawn:
            heading = element("h4", name, style="margin: 8px 0 0") if name else None
            figures = joined(*map(_figure, drawn))
            parts += [joined(heading, element("div", figures, style="display: flex; flex-wrap: wrap; gap: 4px 16px"))]
    if room < 0:
        parts.append(element("p", f"{_MAX_CHARTS} of {len(charts)} charts"))
    return joined(*parts)


def _figure(chart: Chart) -> Markup:
    curves = chart.curves[:_MAX_CURVES]
    legend = element("div", *(_entry(curve, chart) for curve in curves), style="font-size: 11px; line-height: 1.3")
    more = len(chart.curves) - len(curves)
    return element(
        "figure",
        element("figcaption", chart.title or "(no name)", style="font-weight: 600; overflow-wrap: anywhere"),
        _plot(curves),
        legend,
        element("div", f"and {more} more", style="font-size: 11px") if more else None,
        style=f"margin: 6px 0; width: {_WIDTH}px",
    )


def _entry(curve: Curve, chart: Chart) -> Markup:
    """Return a line of the legend: the name, and the last value."""
    series = curve.series
    line = element("span", "●", style=f"color: {_color(curve)}")
    name = None if curve.name == chart.title else f"{curve.name}: "
    extremes = f"{series.count} points, lowest {series.minimum!r}, highest {series.maximum!r}"
    return element(
        "div", line, " ", name, number(series.last, series.tag), title=extremes, style="overflow-wrap: anywhere"
    )


def _plot(curves: Sequence[Curve]) -> Markup:
    points = [curve.series.points() for curve in curves]
    stepless = is_stepless(points)
    xs = [_x(point, stepless) for line in points for point in line]
    ys = [point.value for line in points for point in line if math.isfinite(point.value)]
    left, right, low, high = min(xs), max(xs), min(ys, default=0.0), max(ys, default=0.0)
    to_x, to_y = _horizontal(left, right), _vertical(low, high)
    drawn = [
        part
        for curve, line in zip(curves, points, strict=True)
        for part in _curve(curve, [(to_x(_x(point, stepless)), point.value) for point in line], to_y)
    ]
    name = ", ".join(curve.name for curve in curves)
    return element(
        "svg",
        element("title", name),
        *(_labels(low, high, curves[0].series.tag) if ys else ()),
        _text(_LEFT, _HEIGHT - 8, str(left), anchor="start"),
        _text(_LEFT + _PLOT_WIDTH, _HEIGHT - 8, str(right), anchor="end") if right != left else None,
        *drawn,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        width=_WIDTH,
        height=_HEIGHT,
        role="img",
    )


def _x(point: Point, stepless: bool) -> int:
    return point.position if stepless else point.step


def _horizontal(low: int, high: int) -> Callable[[int], float]:
    """Return the position of a step. Steps are whole numbers of any size, whose ratio is exact."""
    if low == high:
        return lambda step: _LEFT + _PLOT_WIDTH / 2
    return lambda step: _LEFT + (step - low) / (high - low) * _PLOT_WIDTH


def _vertical(low: float, high: float) -> Callable[[float], float]:
    if low == high:
        return lambda value: _TOP + _PLOT_HEIGHT / 2
    # The span of the largest floats overflows; half of the smallest float is 0.
    factor = 1.0 if math.isfinite(high - low) else 0.5
    span = high * factor - low * factor
    return lambda value: _TOP + (1 - (value * factor - low * factor) / span) * _PLOT_HEIGHT


def _labels(low: float, high: float, tag: str) -> Iterator[Markup]:
    """Yield the lines and numbers of the value axis; more digits if the short numbers are equal."""
    values = [low] if low == high else [low, low / 2 + high / 2, high]
    texts = [number(value, tag) for value in values]
    if len(set(texts)) < len(values):
        texts = [f"{value:.9g}" for value in values]
    for value, text in zip(values, texts, strict=True):
        y = _vertical(low, high)(value)
        path = f"M{_LEFT} {y:.1f}h{_PLOT_WIDTH}"
        yield element("path", d=path, stroke="currentColor", stroke_opacity="0.2")
        yield _text(_LEFT - 4, y + 3, text, anchor="end")


def _curve(curve: Curve, points: Sequence[tuple[float, float]], to_y: Callable[[float], float]) -> Iterator[Markup]:
    """Yield the line, with a gap at each value that is not finite, and the marks in the gaps."""
    segments: list[list[str]] = [[]]
    marks = []
    for x, value in points:
        if math.isfinite(value):
            segments[-1].append(f"{x:.1f} {to_y(value):.1f}")
            continue
        segments.append([])
        marks.append((x, "×" if value != value else "▲" if value > 0 else "▼"))
    # A line of no length is a dot.
    path = "".join(f"M{'L'.join(segment)}{'h0' if len(segment) == 1 else ''}" for segment in segments if segment)
    color = _color(curve)
    if path:
        single = all(len(segment) < 2 for segment in segments)
        yield element(
            "path", d=path, fill="none", stroke=color, stroke_width=5 if single else 1.5, stroke_linecap="round"
        )
    for x, mark in marks[:_MAX_MARKS]:
        yield _text(x, _TOP + _PLOT_HEIGHT if mark == "▼" else _TOP, mark, anchor="middle", color=color)


def _text(x: float, y: float, text: str, *, anchor: str, color: str = "currentColor") -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", fill=color, font_size=10, text_anchor=anchor)


def _color(curve: Curve) -> str:
    return _COLORS[curve.color_index % len(_COLORS)]
