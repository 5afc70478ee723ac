"""How records look in wandb: names, histograms, texts, artifact names. Pure functions, no wandb import."""

from __future__ import annotations

import hashlib
import html
import math
import re
import sys
from collections.abc import Mapping
from typing import Any

from tracelet.records import Artifact, Embedding, File, Histogram, Layout, Payload, PRCurve, kind, shown_step

AXIS = "global_step"
MAX_BINS = 512
# wandb 0.31 drops "", "_step" and "_runtime" from a row without a word, reads "_timestamp" as its wall time, keeps
# its own data in "_wandb", and its service dies of a definition named "\" (index out of range).
_RESERVED = frozenset({"", "_step", "_runtime", "_timestamp", "_wandb", AXIS, "\\"})
_PART_BYTES = 160


def metric_name(tag: str) -> str:
    """The key of a tag: the tag itself, or "~" and the tag with "~" as "~0" and "*" as "~1".

    A "*" is escaped because `define_metric` makes a glob of it. No two tags share a key, and `tag_of` goes back.
    """
    if tag in _RESERVED or "*" in tag or tag.startswith("~"):
        return "~" + tag.replace("~", "~0").replace("*", "~1")
    return tag


def tag_of(name: str) -> str:
    """The tag behind a key of `metric_name`."""
    return name[1:].replace("~1", "*").replace("~0", "~") if name.startswith("~") else name


def definable(key: str) -> bool:
    """Whether `define_metric` takes a key of the program as it is, as an exact name."""
    return key not in _RESERVED and "*" not in key


def file_name(name: str) -> str:
    """A key that wandb can use as a file's name too: parts too long for a file system end in a hash, NUL goes."""
    return "/".join(_short(part) for part in name.split("/"))


def _short(part: str) -> str:
    data = part.encode()
    if len(data) <= _PART_BYTES and b"\0" not in data:
        return part
    return f"{data[:_PART_BYTES].replace(bytes(1), b'').decode(errors='ignore')}~{_digest(part)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def artifact_name(name: str) -> str:
    """A name of [A-Za-z0-9_.-], at most 128 characters; what had to change ends in a hash of the original."""
    name = name.rstrip("/")  # a folder
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")
    return plain if plain == name and len(name) <= 128 else f"{plain[:119]}-{_digest(name)}"


def artifact_type(kind: str) -> str:
    """A type without "/" and ":"; "job", "run_table", "code" and "wandb-..." are wandb's own."""
    plain = re.sub(r"[/:]", "-", kind)[:128] or "file"
    return f"tracelet-{plain}" if plain in ("job", "run_table", "code") or plain.startswith("wandb-") else plain


def text_html(text: str) -> str:
    """A page that shows the text as it is; `html.unescape` of what stands inside <pre> gives it back exactly."""
    # A browser drops the line break right after <pre> and turns "\r" into "\n".
    inner = html.escape(text, quote=False).replace("\r", "&#13;")
    return f'<meta charset="utf-8"><pre style="white-space: pre-wrap">\n{inner}</pre>'


def param_name(key: str) -> str:
    """A config key: wandb keeps its own data in "_wandb", and strips every "-" from both ends."""
    return "~_wandb" if key == "_wandb" else key.strip("-")


def plain(value: Any) -> Any:
    """A value for wandb's config: NaN becomes the string "NaN", because wandb makes null of it."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, (str, int, float)) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)


def strict(value: Any) -> Any:
    """A value for an artifact's metadata: wandb refuses the infinities there."""
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    return [strict(item) for item in value] if isinstance(value, list) else plain(value)


def bins(histogram: Histogram) -> tuple[list[float], list[float]]:
    """Counts and edges for `wandb.Histogram`: at most 512 buckets, total and range as they were.

    TensorBoard gives right edges only: an empty first bucket tells the left edge of the first real one.
    """
    limits, counts = histogram.limits, [float(count) for count in histogram.counts]
    if not limits:
        return [0.0], [0.0, 0.0]
    if counts[0] == 0 and len(counts) > 1:
        edges, counts = list(limits), counts[1:]
    else:
        edges = [min(histogram.minimum, limits[0]), *limits]
    edges = [_finite(edge, histogram.minimum, histogram.maximum) for edge in edges]
    size = -(-len(counts) // MAX_BINS)
    starts = range(0, len(counts), size)
    return [sum(counts[at : at + size]) for at in starts], [edges[at] for at in starts] + [edges[-1]]


def _finite(edge: float, minimum: float, maximum: float) -> float:
    """The outermost edge of TensorBoard's buckets is the largest double, or infinite: the data ends before it."""
    if abs(edge) < sys.float_info.max:
        return edge
    bound = minimum if edge < 0 else maximum
    return bound if math.isfinite(bound) else math.copysign(sys.float_info.max, edge)


def histogram_line(histogram: Histogram, step: int) -> dict[str, Any]:
    """The exact histogram as one JSON object."""
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
    """One row a threshold, recall ascending, as wandb's preset draws them."""
    last = max(len(curve.precision) - 1, 1)
    thresholds = [at / last for at in range(len(curve.precision))]
    rows = zip(
        thresholds,
        curve.precision,
        curve.recall,
        curve.true_positives,
        curve.false_positives,
        curve.true_negatives,
        curve.false_negatives,
        strict=True,
    )
    told: list[list[Any]] = [[curve.tag, *row] for row in rows]
    told.reverse()
    return told


def entries(artifact: Artifact) -> dict[str, Payload]:
    """Paths inside the artifact to files: below a target folder, as the target file, or as they are called."""
    if artifact.name.endswith("/"):
        below = artifact.name.lstrip("/")
        return {f.name if f.name.startswith(below) else below + f.name: f for f in artifact.files}
    if len(artifact.files) == 1 and artifact.type == "file":
        return {artifact.name.lstrip("/"): artifact.files[0]}
    return {f.name: f for f in artifact.files}


def files(record: Any) -> tuple[dict[str, Payload], dict[str, Any]]:
    """The payloads of any record by file name, and everything else it says."""
    facts = {name: getattr(record, name) for name in record.__struct_fields__ if name not in ("data", "parts")}
    facts["step"] = shown_step(record.step)
    if isinstance(record, Layout):
        return {"layout.json": facts.pop("layout").encode()}, facts
    parts: tuple[Payload, ...] = record.parts if hasattr(record, "parts") else (record.data,)
    names = [part.name if isinstance(part, File) and part.name else f"{kind(record)}" for part in parts]
    if isinstance(record, Embedding):
        names = list(facts.pop("names"))
    if len(set(names)) < len(names):
        names = [f"{at}-{name}" for at, name in enumerate(names)]
    return dict(zip(names, parts, strict=True)), facts
