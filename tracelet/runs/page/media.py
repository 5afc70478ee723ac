"""Pictures, histograms, curves of precision, tables and texts of a run."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tracelet.records import Histogram, PRCurve, Text, shown_step
from tracelet.runs.format import number
from tracelet.runs.media import Downsample, Gallery, HistogramBars, Picture, TablePreview, TextExcerpt
from tracelet.runs.page.document import table
from tracelet.runs.page.markup import Markup, element, joined

_WIDTH, _HEIGHT, _TALLEST = 320.0, 168.0, 64.0
_BINS = 60
_TINY = 96


def pictures(gallery: Gallery, folder: Path, left_out: list[str]) -> Iterator[Markup]:
    """A figure for each name; of several steps the page's script shows one at a time."""
    yield Markup('<div class="cards">')
    for tag, chosen in gallery.chosen_pictures().items():
        yield joined(Markup('<figure class="card reel">'), _caption(tag), Markup('<div class="frames">'))
        shown = 0
        for picture in chosen:
            frame = _frame(tag, picture, folder, gallery.limits.picture_bytes)
            if frame is not None:
                yield frame
                shown += 1
        of = gallery.pictures[tag].count
        if shown < of:
            left_out.append(f"{of - shown} of {of} pictures of {tag!r}")
        note = "Too large, no longer there, or of a format that browsers do not show."
        yield joined(Markup("</div>"), None if shown else element("p", note, class_="hint"), Markup("</figure>"))
    yield Markup("</div>")


def _frame(tag: str, picture: Picture, folder: Path, most: int) -> Markup | None:
    data = picture.data(folder, most)
    if data is None:
        return None
    tiny = 0 < max(picture.width, picture.height) <= _TINY
    image = element(
        "img",
        src=Markup(f"data:{picture.media};base64,{base64.b64encode(data).decode()}"),
        alt=f"{tag}, step {picture.step}",
        width=picture.width or None,
        height=picture.height or None,
        class_="tiny" if tiny else None,
        decoding="async",
    )
    return element("div", image, element("p", f"step {picture.step}"), class_="frame", data_step=picture.step)


def histograms(found: Mapping[str, Downsample[Histogram, HistogramBars]], left_out: list[str]) -> Iterator[Markup]:
    """A ridge for each name: the earliest step behind, the last in front, with its figures."""
    yield Markup('<div class="cards">')
    for tag, thinned in found.items():
        kept = thinned.kept()
        if len(kept) < thinned.count:
            left_out.append(f"{thinned.count - len(kept)} of {thinned.count} histograms of {tag!r}")
        yield element("figure", _caption(tag), _ridge(tag, kept), _figures(kept), class_="card")
    yield Markup("</div>")


def _ridge(tag: str, kept: Sequence[HistogramBars]) -> Markup:
    low, high = _range(kept)
    heights = [_rebinned(one, low, high) for one in kept]
    tallest = max((max(row) for row in heights), default=0.0) or 1.0
    room = _HEIGHT - _TALLEST - 4
    paths = []
    for at, row in enumerate(heights):
        # The last stands on the bottom line; the one before it a little higher, behind it.
        base = _HEIGHT - 2 - room * (len(heights) - 1 - at) / max(len(heights) - 1, 1)
        points = " ".join(
            f"{place * _WIDTH / _BINS:.1f},{base - height / tallest * _TALLEST:.1f}"
            for bin, height in enumerate(row)
            for place in (bin, bin + 1)
        )
        shade = f"{0.25 + 0.6 * (at + 1) / len(heights):.2f}"
        paths.append(
            element(
                "polygon", points=f"0,{base:.1f} {points} {_WIDTH:.0f},{base:.1f}", class_="ridge", fill_opacity=shade
            )
        )
    steps = f"step {kept[0].step}" if len(kept) == 1 else f"steps {kept[0].step} to {kept[-1].step}"
    return joined(
        element(
            "svg",
            *paths,
            viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}",
            preserveAspectRatio="none",
            role="img",
            aria_label=f"Histograms of {tag}, {steps}, from {number(low)} to {number(high)}",
            class_="ridges",
        ),
        element(
            "div", element("span", number(low)), element("span", steps), element("span", number(high)), class_="ends"
        ),
    )


def _range(kept: Sequence[HistogramBars]) -> tuple[float, float]:
    edges = [edge for one in kept for edge in (one.edges[0], one.edges[-1]) if math.isfinite(edge)]
    low, high = min(edges, default=0.0), max(edges, default=0.0)
    return (low, high) if high > low and math.isfinite(high - low) else (low, low + max(abs(low), 1.0))


def _rebinned(one: HistogramBars, low: float, high: float) -> list[float]:
    """Counts in equal bins from `low` to `high`; a bucket that spans several is spread over them."""
    bins = [0.0] * _BINS
    for count, left, right in zip(one.counts, one.edges, one.edges[1:], strict=False):
        if not count > 0 or not math.isfinite(count):
            continue
        begin, end = ((edge - low) / (high - low) * _BINS for edge in (left, right))
        begin, end = (min(max(place, 0.0), float(_BINS)) if place == place else 0.0 for place in (begin, end))
        if end <= begin:
            bins[min(int(begin), _BINS - 1)] += count
            continue
        for bin in range(int(begin), min(math.ceil(end), _BINS)):
            bins[bin] += count * (min(end, bin + 1) - max(begin, bin)) / (end - begin)
    return bins


def _figures(kept: Sequence[HistogramBars]) -> Markup:
    last = kept[-1]
    told: dict[str, float] = {"values": last.number, "lowest": last.minimum, "highest": last.maximum}
    if last.number > 0:
        mean = last.total / last.number
        told["mean"] = mean
        told["deviation"] = math.sqrt(max(0.0, last.sum_squares / last.number - mean * mean)) if mean == mean else mean
    pairs = [joined(element("dt", name), element("dd", number(value))) for name, value in told.items()]
    return element("dl", *pairs, class_="figures", aria_label=f"Step {last.step}")


def pr_curves(found: Mapping[str, PRCurve]) -> Iterator[Markup]:
    """Precision over recall, the last of each name."""
    yield Markup('<div class="cards">')
    for tag, curve in found.items():
        points = " ".join(
            f"{min(max(recall, 0.0), 1.0) * 300 + 10:.1f},{210 - min(max(precision, 0.0), 1.0) * 200:.1f}"
            for recall, precision in zip(curve.recall, curve.precision, strict=False)
            if math.isfinite(recall) and math.isfinite(precision)
        )
        drawing = element(
            "svg",
            element("rect", x="10", y="10", width="300", height="200", class_="frame-line"),
            element("polyline", points=points, class_="curve c0"),
            viewBox="0 0 320 220",
            role="img",
            aria_label=f"Precision over recall of {tag}",
            class_="ridges",
        )
        ends = element("div", element("span", "recall 0"), element("span", "precision 0 to 1"), element("span", "1"))
        step = element("p", f"step {shown_step(curve.step)}", class_="hint")
        yield element("figure", _caption(tag), drawing, ends, step, class_="card pr")
    yield Markup("</div>")


def tables(gallery: Gallery, folder: Path, left_out: list[str]) -> Iterator[Markup]:
    """The beginning of the last table of each name."""
    for tag, record in gallery.tables.items():
        sheet = gallery.sheet(record, folder)
        if sheet is None:
            left_out.append(f"the table {tag!r}, which cannot be read, or not in so little room")
            continue
        yield element("h3", tag, element("small", f" step {sheet.step}"))
        yield _sheet(sheet)
        if len(sheet.rows) < sheet.height or len(sheet.columns) < sheet.width:
            left_out.append(
                f"rows or columns of the table {tag!r}: {len(sheet.rows)} of {sheet.height} rows and "
                f"{len(sheet.columns)} of {sheet.width} columns are shown"
            )
        if sheet.cut:
            left_out.append(f"the ends of {sheet.cut} long cells of the table {tag!r}")


def _sheet(sheet: TablePreview) -> Markup:
    if not sheet.columns:
        return element("p", "No columns.", class_="hint")
    return table(sheet.columns, [row or [""] for row in sheet.rows])


def texts(found: Mapping[str, Downsample[Text, TextExcerpt]], left_out: list[str]) -> Iterator[Markup]:
    """Texts as they were given; the last of each name is open."""
    for tag, thinned in found.items():
        kept = thinned.kept()
        if len(kept) < thinned.count:
            left_out.append(f"{thinned.count - len(kept)} of {thinned.count} texts of {tag!r}")
        yield element("h3", tag)
        yield joined(*_texts(tag, kept, left_out))


def _texts(tag: str, kept: Sequence[TextExcerpt], left_out: list[str]) -> Iterable[Markup]:
    for one in reversed(kept):
        if len(one.text) < one.letters:
            left_out.append(
                f"{one.letters - len(one.text)} of {one.letters} letters of the text {tag!r}, step {one.step}"
            )
        body = element("pre", "\n", one.text, dir="auto")  # a browser drops the line end right after <pre>
        yield element("details", element("summary", f"step {one.step}"), body, open=one is kept[-1])


def _caption(tag: str) -> Markup:
    return element("figcaption", element("h3", tag or "(no name)"))
