"""Build the sections of images, histograms, precision-recall curves, tables and texts."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tracelet.records import Histogram, PRCurve, Text, shown_step
from tracelet.runs.format import number
from tracelet.runs.media import Downsample, Gallery, HistogramBars, ImageFrame, TablePreview, TextExcerpt
from tracelet.runs.page.document import table
from tracelet.runs.page.markup import Markup, element, joined

_WIDTH, _HEIGHT, _MAX_BAR = 320.0, 168.0, 64.0
_BINS = 60
_TINY = 96


def images(gallery: Gallery, folder: Path, omissions: list[str]) -> Iterator[Markup]:
    """Yield a figure for each tag. If it has several steps, the page's script shows one at a time."""
    yield Markup('<div class="cards">')
    for tag, selected in gallery.selected_images().items():
        yield joined(Markup('<figure class="card reel">'), _caption(tag), Markup('<div class="frames">'))
        shown = 0
        for image in selected:
            frame = _frame(tag, image, folder, gallery.limits.image_bytes)
            if frame is not None:
                yield frame
                shown += 1
        total = gallery.images[tag].count
        if shown < total:
            omissions.append(f"{total - shown} of {total} images of {tag!r}")
        note = "Too large, missing, or in a format that browsers do not show."
        yield joined(Markup("</div>"), None if shown else element("p", note, class_="hint"), Markup("</figure>"))
    yield Markup("</div>")


def _frame(tag: str, image: ImageFrame, folder: Path, limit: int) -> Markup | None:
    data = image.data(folder, limit)
    if data is None:
        return None
    tiny = 0 < max(image.width, image.height) <= _TINY
    img = element(
        "img",
        src=Markup(f"data:{image.media_type};base64,{base64.b64encode(data).decode()}"),
        alt=f"{tag}, step {image.step}",
        width=image.width or None,
        height=image.height or None,
        class_="tiny" if tiny else None,
        decoding="async",
    )
    below = f"step {image.step}: {image.caption}" if image.caption else f"step {image.step}"
    return element("div", img, element("p", below), class_="frame", data_step=image.step)


def histograms(by_tag: Mapping[str, Downsample[Histogram, HistogramBars]], omissions: list[str]) -> Iterator[Markup]:
    """Yield a ridge plot for each tag, with the last step in front and its statistics below."""
    yield Markup('<div class="cards">')
    for tag, downsample in by_tag.items():
        samples = downsample.samples()
        if len(samples) < downsample.count:
            omissions.append(f"{downsample.count - len(samples)} of {downsample.count} histograms of {tag!r}")
        yield element("figure", _caption(tag), _ridge(tag, samples), _statistics(samples), class_="card")
    yield Markup("</div>")


def _ridge(tag: str, samples: Sequence[HistogramBars]) -> Markup:
    low, high = _range(samples)
    rows = [_rebinned(bars, low, high) for bars in samples]
    tallest = max((max(row) for row in rows), default=0.0) or 1.0
    spread = _HEIGHT - _MAX_BAR - 4
    paths = []
    for index, row in enumerate(rows):
        # The last row is at the bottom. Earlier rows are a little higher, behind it.
        base = _HEIGHT - 2 - spread * (len(rows) - 1 - index) / max(len(rows) - 1, 1)
        points = " ".join(
            f"{edge * _WIDTH / _BINS:.1f},{base - height / tallest * _MAX_BAR:.1f}"
            for bin, height in enumerate(row)
            for edge in (bin, bin + 1)
        )
        shade = f"{0.25 + 0.6 * (index + 1) / len(rows):.2f}"
        paths.append(
            element(
                "polygon", points=f"0,{base:.1f} {points} {_WIDTH:.0f},{base:.1f}", class_="ridge", fill_opacity=shade
            )
        )
    steps = f"step {samples[0].step}" if len(samples) == 1 else f"steps {samples[0].step} to {samples[-1].step}"
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
    pairs = [joined(element("dt", name), element("dd", number(value))) for name, value in statistics.items()]
    return element("dl", *pairs, class_="figures", aria_label=f"Step {last.step}")


def pr_curves(by_tag: Mapping[str, PRCurve]) -> Iterator[Markup]:
    """Yield the last precision-recall curve of each tag."""
    yield Markup('<div class="cards">')
    for tag, curve in by_tag.items():
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


def tables(gallery: Gallery, folder: Path, omissions: list[str]) -> Iterator[Markup]:
    """Yield the start of the last table of each tag."""
    for tag, record in gallery.tables.items():
        preview = gallery.preview(record, folder)
        if preview is None:
            omissions.append(f"the table {tag!r}, which is unreadable or too large")
            continue
        yield element("h3", tag, element("small", f" step {preview.step}"))
        yield _preview(preview)
        if len(preview.rows) < preview.height or len(preview.columns) < preview.width:
            omissions.append(
                f"rows or columns of the table {tag!r}: {len(preview.rows)} of {preview.height} rows and "
                f"{len(preview.columns)} of {preview.width} columns are shown"
            )
        if preview.cut:
            omissions.append(f"the ends of {preview.cut} long cells of the table {tag!r}")


def _preview(preview: TablePreview) -> Markup:
    if not preview.columns:
        return element("p", "No columns.", class_="hint")
    return table(preview.columns, [row or [""] for row in preview.rows])


def texts(by_tag: Mapping[str, Downsample[Text, TextExcerpt]], omissions: list[str]) -> Iterator[Markup]:
    """Yield the texts unchanged. The last text of each tag is open."""
    for tag, downsample in by_tag.items():
        samples = downsample.samples()
        if len(samples) < downsample.count:
            omissions.append(f"{downsample.count - len(samples)} of {downsample.count} texts of {tag!r}")
        yield element("h3", tag)
        yield joined(*_texts(tag, samples, omissions))


def _texts(tag: str, samples: Sequence[TextExcerpt], omissions: list[str]) -> Iterable[Markup]:
    for excerpt in reversed(samples):
        omitted = excerpt.length - len(excerpt.text)
        if omitted > 0:
            omissions.append(f"{omitted} of {excerpt.length} characters of the text {tag!r}, step {excerpt.step}")
        body = element("pre", "\n", excerpt.text, dir="auto")  # browsers drop a line end right after <pre>
        yield element("details", element("summary", f"step {excerpt.step}"), body, open=excerpt is samples[-1])


def _caption(tag: str) -> Markup:
    return element("figcaption", element("h3", tag or "(no name)"))
