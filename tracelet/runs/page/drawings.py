"""Draw histograms and precision-recall curves. The page's script adds the values under the pointer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from tracelet.records import Histogram, PRCurve, shown_step
from tracelet.runs.format import number
from tracelet.runs.media import Downsample, HistogramBars
from tracelet.runs.page.markup import Markup, element

_WIDTH, _HEIGHT, _MAX_BAR = 320.0, 168.0, 64.0
_STEPS, _AXIS = 58.0, 20.0
"""Room for the steps beside, and for the values below."""
_BINS = 60
_SIDE, _LEFT, _TOP = 240.0, 46.0, 8.0


def caption(tag: str) -> Markup:
    return element("figcaption", element("h3", tag or "(no name)"))


def histograms(by_tag: Mapping[str, Downsample[Histogram, HistogramBars]], omissions: list[str]) -> Iterator[Markup]:
    """Yield a ridge plot for each tag, with the last step in front and its statistics below."""
    yield Markup('<div class="cards broad">')
    for tag, downsample in by_tag.items():
        samples = downsample.samples()
        if len(samples) < downsample.count:
            omissions.append(f"{downsample.count - len(samples)} of {downsample.count} histograms of {tag!r}")
        drawing = element("div", _ridges(tag, samples), class_="drawing")
        yield element("figure", caption(tag), drawing, _statistics(samples), class_="card")
    yield Markup("</div>")


def _ridges(tag: str, samples: Sequence[HistogramBars]) -> Markup:
    low, high = _range(samples)
    rows = [_rebinned(bars, low, high) for bars in samples]
    tallest = max((max(row) for row in rows), default=0.0) or 1.0
    spread = _HEIGHT - _MAX_BAR - 4
    shapes: list[Markup] = []
    labels: list[Markup] = []
    free_until = math.inf
    for index in reversed(range(len(rows))):
        # The last row is at the bottom. Earlier rows are a little higher, behind it.
        base = _HEIGHT - 2 - spread * (len(rows) - 1 - index) / max(len(rows) - 1, 1)
        shapes.insert(0, _ridge(rows[index], base, tallest, samples[index].step, (index + 1) / len(rows)))
        if base <= free_until - 13 or index == len(rows) - 1:
            free_until = base
            step = _short_step(samples[index].step)
            labels.append(element("text", step, x=f"{_WIDTH + 6:.0f}", y=f"{base + 3:.1f}"))
    steps = f"step {samples[0].step}" if len(samples) == 1 else f"steps {samples[0].step} to {samples[-1].step}"
    return element(
        "svg",
        *shapes,
        *labels,
        element("text", "step", x=f"{_WIDTH + 6:.0f}", y=f"{_HEIGHT + 15:.0f}"),
        *_values_axis(low, high),
        viewBox=f"0 0 {_WIDTH + _STEPS:.0f} {_HEIGHT + _AXIS:.0f}",
        role="img",
        aria_label=f"Histograms of {tag}, {steps}, from {number(low)} to {number(high)}",
        class_="histogram",
        data_low=repr(low),
        data_high=repr(high),
        data_width=f"{_WIDTH:.0f}",
    )


def _ridge(row: Sequence[float], base: float, tallest: float, step: int, part: float) -> Markup:
    points = " ".join(
        f"{edge * _WIDTH / _BINS:.1f},{base - height / tallest * _MAX_BAR:.1f}"
        for bin, height in enumerate(row)
        for edge in (bin, bin + 1)
    )
    return element(
        "polygon",
        points=f"0,{base:.1f} {points} {_WIDTH:.0f},{base:.1f}",
        class_="ridge",
        fill_opacity=f"{0.25 + 0.6 * part:.2f}",
        data_step=step,
        data_base=f"{base:.1f}",
        data_counts=" ".join(f"{count:.4g}" for count in row),
    )


def _values_axis(low: float, high: float) -> list[Markup]:
    line = element("line", x1="0", x2=f"{_WIDTH:.0f}", y1=f"{_HEIGHT:.0f}", y2=f"{_HEIGHT:.0f}", class_="frame-line")
    places = ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    return [
        line,
        *(
            element(
                "text",
                number(low * (1 - part) + high * part),
                x=f"{_WIDTH * part:.0f}",
                y=f"{_HEIGHT + 15:.0f}",
                text_anchor=anchor,
            )
            for part, anchor in places
        ),
    ]


def _short_step(step: int) -> str:
    return str(step) if abs(step) < 10_000_000 else f"{step:.2e}"


def _range(samples: Sequence[HistogramBars]) -> tuple[float, float]:
    edges = [edge for bars in samples for edge in (bars.edges[0], bars.edges[-1]) if math.isfinite(edge)]
    low, high = min(edges, default=0.0), max(edges, default=0.0)
    return (low, high) if high > low and math.isfinite(high - low) else (low, low + max(abs(low), 1.0))


def _rebinned(bars: HistogramBars, low: float, high: float) -> list[float]:
    """Return counts in equal bins from `low` to `high`. Distribute a bucket over all bins that it spans."""
    bins = [0.0] * _BINS
    for count, left, right in zip(bars.counts, bars.edges, bars.edges[1:], strict=False):
        if not count > 0 or not math.isfinite(count):
            continue
        begin, end = ((edge - low) / (high - low) * _BINS for edge in (left, right))
        begin, end = (min(max(edge, 0.0), float(_BINS)) if edge == edge else 0.0 for edge in (begin, end))
        if end <= begin:
            bins[min(int(begin), _BINS - 1)] += count
            continue
        for bin in range(int(begin), min(math.ceil(end), _BINS)):
            bins[bin] += count * (min(end, bin + 1) - max(begin, bin)) / (end - begin)
    return bins


def _statistics(samples: Sequence[HistogramBars]) -> Markup:
    last = samples[-1]
    statistics: dict[str, float] = {"values": last.number}
    if last.number > 0:
        statistics |= {"lowest": last.minimum, "highest": last.maximum}
        mean = last.total / last.number
        variance = max(0.0, last.sum_squares / last.number - mean * mean)
        statistics["mean"] = mean
        statistics["deviation"] = math.sqrt(variance) if mean == mean else mean
    pairs = [element("div", element("dt", name), element("dd", number(value))) for name, value in statistics.items()]
    return element("dl", *pairs, class_="figures", aria_label=f"Step {last.step}")


def pr_curves(by_tag: Mapping[str, Downsample[PRCurve, PRCurve]], omissions: list[str]) -> Iterator[Markup]:
    """Yield the precision-recall curves of each tag, one drawing for each step."""
    yield Markup('<div class="cards">')
    for tag, downsample in by_tag.items():
        samples = downsample.samples()
        if len(samples) < downsample.count:
            omissions.append(
                f"{downsample.count - len(samples)} of {downsample.count} precision-recall curves of {tag!r}"
            )
        frames = element("div", *(_pr_frame(tag, curve) for curve in samples), class_="frames")
        yield element("figure", caption(tag), frames, class_="card reel pr")
    yield Markup("</div>")


def _pr_frame(tag: str, curve: PRCurve) -> Markup:
    step = shown_step(curve.step)
    count = max(len(curve.recall), len(curve.precision))
    values = [
        (index / max(count - 1, 1), precision, recall)
        for index, (precision, recall) in enumerate(zip(curve.precision, curve.recall, strict=False))
        if math.isfinite(recall) and math.isfinite(precision)
    ]
    points = " ".join(f"{_across(recall):.1f},{_up(precision):.1f}" for _, precision, recall in values)
    drawing = element(
        "svg",
        *_unit_axes(),
        element("polyline", points=points, class_="curve c0"),
        viewBox=f"0 0 {_LEFT + _SIDE + 14:.0f} {_TOP + _SIDE + 38:.0f}",
        role="img",
        aria_label=f"Precision over recall of {tag}, step {step}",
        class_="precision",
        data_values=";".join(",".join(f"{number:.4g}" for number in row) for row in values),
    )
    return element(
        "div", element("div", drawing, class_="drawing"), element("p", f"step {step}"), class_="frame", data_step=step
    )


def _across(recall: float) -> float:
    return _LEFT + min(max(recall, 0.0), 1.0) * _SIDE


def _up(precision: float) -> float:
    return _TOP + _SIDE - min(max(precision, 0.0), 1.0) * _SIDE


def _unit_axes() -> Iterator[Markup]:
    """Yield a grid from 0 to 1, with recall on the x axis and precision on the y axis."""
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = f"{_across(part):.1f}", f"{_up(part):.1f}"
        yield element("line", x1=x, x2=x, y1=_TOP, y2=_TOP + _SIDE, class_="grid")
        yield element("line", x1=_LEFT, x2=_LEFT + _SIDE, y1=y, y2=y, class_="grid")
        yield element("text", f"{part:g}", x=x, y=_TOP + _SIDE + 15, text_anchor="middle")
        yield element("text", f"{part:g}", x=_LEFT - 6, y=_up(part) + 4, text_anchor="end")
    yield element("text", "recall", x=_across(0.5), y=_TOP + _SIDE + 32, text_anchor="middle")
    middle = _up(0.5)
    yield element("text", "precision", x=11, y=middle, text_anchor="middle", transform=f"rotate(-90 11 {middle:g})")
