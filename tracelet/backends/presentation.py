"""Convert records to plain data, files and images, for vendors without a type for them. Pure functions.

A readable form comes with an exact one: a histogram is an image, and JSON with every digit.
"""

from __future__ import annotations

import html
import io
import itertools
import math
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tracelet.records import Alert, Artifact, Embedding, File, Histogram, Layout, Payload, PRCurve, kind, shown_step


def text_html(text: str) -> str:
    """Return a page that shows the text unchanged. `html.unescape` of the <pre> content restores it exactly."""
    # A browser drops the line break right after <pre> and turns "\r" into "\n".
    inner = html.escape(text, quote=False).replace("\r", "&#13;")
    return f'<meta charset="utf-8"><pre style="white-space: pre-wrap">\n{inner}</pre>'


def alert_page(alert: Alert) -> str:
    """Return an alert as a Markdown page. Level and time make two alerts with the same text different pages."""
    lines = (f"# {alert.title}", alert.text, f"{alert.level}, {_iso_time(alert.wall_time)}")
    return "\n\n".join(line for line in lines if line) + "\n"


def _iso_time(wall_time: float) -> str:
    try:
        return datetime.fromtimestamp(wall_time, timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):  # outside the calendar
        return repr(wall_time)


def histogram_bars(histogram: Histogram, most: int | None = None) -> tuple[list[float], list[float]]:
    """Return counts and finite, ascending edges (one more), in at most `most` buckets, with the same total and range.

    TensorBoard has right edges only. If the first bucket is empty, its edge is the left edge of the next one. An edge
    without a count, or a count without an edge, counts as zero. TensorFlow 1's outermost edges are the largest doubles:
    the empty buckets at such an end are removed.
    """
    limits = list(histogram.limits)
    counts = [float(count) for count in histogram.counts[: len(limits)]]
    counts += [0.0] * (len(limits) - len(counts))
    if not all(map(_is_bounded, limits)):
        limits, counts = _trimmed(limits, counts)
    if not limits:
        return [0.0], [0.0, 0.0]
    if counts[0] == 0 and len(counts) > 1:
        edges, counts = limits, counts[1:]
    else:
        edges = [min(limits[0], histogram.minimum), *limits]
    edges = [_finite(edge, histogram.minimum, histogram.maximum) for edge in edges]
    edges = list(itertools.accumulate((min(edge, max(edges[0], edges[-1])) for edge in edges), max))
    size = -(-len(counts) // most) if most else 1
    starts = range(0, len(counts), size)
    merged = [sum(counts[start : start + size]) for start in starts]
    return merged, [edges[start] for start in starts] + [edges[-1]]


def _is_bounded(edge: float) -> bool:
    return abs(edge) < sys.float_info.max


def _trimmed(limits: list[float], counts: list[float]) -> tuple[list[float], list[float]]:
    """Remove the empty buckets of each end without a bound, except one at the start with the left edge of the next."""
    filled = [index for index, count in enumerate(counts) if count != 0]
    if not filled:
        return [], []
    start = 0 if _is_bounded(limits[0]) else filled[0]
    end = len(limits) if _is_bounded(limits[-1]) else filled[-1] + 1
    if start and _is_bounded(limits[start - 1]):
        start -= 1
    return limits[start:end], counts[start:end]


def _finite(edge: float, minimum: float, maximum: float) -> float:
    """Replace TensorBoard's outermost edge, the largest double or infinite, by the end of the data."""
    if _is_bounded(edge):
        return edge
    bound = minimum if edge < 0 else maximum
    if math.isfinite(bound):
        return bound
    return 0.0 if math.isnan(edge) else math.copysign(sys.float_info.max, edge)


def histogram_facts(histogram: Histogram, step: int) -> dict[str, Any]:
    """Return the exact histogram as one JSON object."""
    return {
        "tag": histogram.tag,
        "step": step,
        "wall_time": histogram.wall_time,
        "limits": histogram.limits,
        "counts": histogram.counts,
        "min": histogram.minimum,
        "max": histogram.maximum,
        "num": histogram.count,
        "sum": histogram.total,
        "sum_squares": histogram.sum_squares,
    }


CURVE_COLUMNS = (
    "class",
    "threshold",
    "precision",
    "recall",
    "true_positives",
    "false_positives",
    "true_negatives",
    "false_negatives",
)


def curve_rows(curve: PRCurve) -> list[list[Any]]:
    """Return one row for each threshold, by ascending recall, as wandb's preset draws them."""
    last = max(len(curve.precision) - 1, 1)
    thresholds = [index / last for index in range(len(curve.precision))]
    columns = zip(
        thresholds,
        curve.precision,
        curve.recall,
        curve.true_positives,
        curve.false_positives,
        curve.true_negatives,
        curve.false_negatives,
        strict=True,
    )
    rows: list[list[Any]] = [[curve.tag, *row] for row in columns]
    rows.reverse()
    return rows


def artifact_files(artifact: Artifact) -> dict[str, Payload]:
    """Return the files by their paths inside the artifact. Its name is a target folder, a target file or unused."""
    if artifact.name.endswith("/"):
        folder = artifact.name.lstrip("/")
        return {f.name if f.name.startswith(folder) else folder + f.name: f for f in artifact.files}
    if len(artifact.files) == 1 and artifact.type == "file":
        return {artifact.name.lstrip("/"): artifact.files[0]}
    return {f.name: f for f in artifact.files}


def files_of_run(artifact: Artifact) -> dict[str, Payload]:
    """Return the files by their paths in a store without names of artifacts: a name is the folder of its files.

    Otherwise `config.json` of one artifact would replace that of another.
    """
    is_named = artifact.type != "file" and not artifact.name.endswith("/")
    prefix = f"{artifact.name.lstrip('/')}/" if is_named else ""
    return {prefix + path: file for path, file in artifact_files(artifact).items()}


def record_files(record: Any) -> tuple[dict[str, Payload], dict[str, Any]]:
    """Return the payloads of any record by file name, and its other fields."""
    facts = {name: getattr(record, name) for name in record.__struct_fields__ if name not in ("data", "parts")}
    facts["step"] = shown_step(record.step)
    if isinstance(record, Layout):
        return {"layout.json": facts.pop("layout").encode()}, facts
    parts: tuple[Payload, ...] = record.parts if hasattr(record, "parts") else (record.data,)
    names = [part.name if isinstance(part, File) and part.name else f"{kind(record)}" for part in parts]
    if isinstance(record, Embedding):
        names = list(facts.pop("names"))
    if len(set(names)) < len(names):
        names = [f"{index}-{name}" for index, name in enumerate(names)]
    return dict(zip(names, parts, strict=True)), facts


def read_payload(payload: Payload) -> bytes:
    """Return the bytes of a payload.

    Raises:
        OSError: the file is missing.
    """
    return payload if isinstance(payload, bytes) else Path(payload.path).read_bytes()


# Images. Pillow draws one in a few milliseconds; matplotlib would take about a hundred during the training.

_SIZE, _MARGIN = (640, 360), (24, 16, 24, 28)
_INK, _FILL, _PAPER = (70, 70, 70), (0, 137, 123), (255, 255, 255)


def histogram_png(histogram: Histogram) -> bytes:
    """Draw the buckets as bars of their true widths. The range and the number of values are below."""
    counts, edges = histogram_bars(histogram)
    heights = [0.0 if math.isnan(count) else max(count, 0.0) for count in counts]
    image, draw = _canvas()
    left, top, right, bottom = _frame()
    low, span, tallest = edges[0], edges[-1] - edges[0], max(heights) or 1.0
    for index, height in enumerate(heights):
        if span > 0 and math.isfinite(span):
            start, end = ((edge - low) / span for edge in edges[index : index + 2])
        else:  # one value, or a range that a float cannot hold: buckets of equal width
            start, end = index / len(heights), (index + 1) / len(heights)
        if height:
            x, until = left + start * (right - left), left + end * (right - left)
            draw.rectangle([x, bottom - height / tallest * (bottom - top), max(until, x + 1), bottom], fill=_FILL)
    lowest, highest = f"{histogram.minimum:.6g}", f"{histogram.maximum:.6g}"
    if not histogram.count > 0:  # TensorFlow 1 writes the largest double as the minimum of nothing
        lowest = highest = ""
    _captions(draw, lowest, f"{histogram.count:.6g} values", highest)
    return _png(image)


def curve_png(curve: PRCurve) -> bytes:
    """Draw precision over recall, both from 0 to 1."""
    image, draw = _canvas()
    left, top, right, bottom = _frame()
    points = [
        (left + recall * (right - left), bottom - precision * (bottom - top))
        for recall, precision in zip(curve.recall, curve.precision, strict=True)
        if math.isfinite(recall) and math.isfinite(precision)
    ]
    if len(points) > 1:
        draw.line(points, fill=_FILL, width=3)
    _captions(draw, "recall 0", "precision 0 to 1", "1")
    return _png(image)


def _canvas() -> tuple[Any, Any]:
    from PIL import Image as Pillow
    from PIL import ImageDraw

    image = Pillow.new("RGB", _SIZE, _PAPER)
    return image, ImageDraw.Draw(image)


def _frame() -> tuple[int, int, int, int]:
    return _MARGIN[0], _MARGIN[1], _SIZE[0] - _MARGIN[2], _SIZE[1] - _MARGIN[3]


def _captions(draw: Any, left: str, middle: str, right: str) -> None:
    x, _, end, y = _frame()
    draw.line([(x, y), (end, y)], fill=_INK)
    draw.text((x, y + 6), left, fill=_INK)
    draw.text(((x + end - draw.textlength(middle)) / 2, y + 6), middle, fill=_INK)
    draw.text((end - draw.textlength(right), y + 6), right, fill=_INK)


def _png(image: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
