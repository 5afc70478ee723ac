"""Define the records that a program can log to TensorBoard or to an `Experiment`, as frozen structs.

`tag` is the full metric name (see `naming`). `step` is the program's integer, or None if it set none (shown as 0, as
in TensorBoard; see `shown_step`). `wall_time` is in seconds since the epoch. `writer` is the namespace of the
SummaryWriter: "" for the root writer and for the `Experiment` methods.

A payload (`data`) is `bytes` until it reaches the journal, and a `File` afterwards: the journal thread stores the
bytes in the spool and replaces them by their digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

_SYSTEM_METRIC = re.compile(r"(rank-\d+/)?system/")


class File(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A file in the run's spool. `path` is set for a backend, and empty in the journal."""

    name: str
    digest: str
    size: int
    path: str = ""


Payload: TypeAlias = bytes | File


class _Record(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="kind"):
    """Base of all records, stored as arrays: add fields only at the end, with a default; never move or remove one."""


class Scalar(_Record, frozen=True, tag="scalar"):
    """One point of a series; `value` is a float64."""

    tag: str
    value: float
    step: int | None
    wall_time: float
    writer: str = ""


class Histogram(_Record, frozen=True, tag="histogram"):
    """A histogram as in TensorBoard: bucket `i` holds `counts[i]` values in `(limits[i - 1], limits[i]]`."""

    tag: str
    limits: tuple[float, ...]
    counts: tuple[float, ...]
    minimum: float
    maximum: float
    count: float
    total: float
    sum_squares: float
    step: int | None
    wall_time: float
    writer: str = ""


class Image(_Record, frozen=True, tag="image"):
    """An encoded image (`format`: png, jpeg, ...), with the same bytes as in the event file."""

    tag: str
    data: Payload
    format: str
    width: int
    height: int
    step: int | None
    wall_time: float
    writer: str = ""
    caption: str = ""


class Video(_Record, frozen=True, tag="video"):
    """An encoded video (`format`: gif, mp4, ...). An unknown width or height is 0."""

    tag: str
    data: Payload
    format: str
    width: int
    height: int
    step: int | None
    wall_time: float
    writer: str = ""
    caption: str = ""


class Audio(_Record, frozen=True, tag="audio"):
    """Encoded audio (`format`: wav, ...); `sample_rate` in Hz."""

    tag: str
    data: Payload
    format: str
    sample_rate: float
    step: int | None
    wall_time: float
    writer: str = ""
    caption: str = ""


class Text(_Record, frozen=True, tag="text"):
    """A text; Markdown if it came from TensorBoard."""

    tag: str
    text: str
    step: int | None
    wall_time: float
    writer: str = ""


class PRCurve(_Record, frozen=True, tag="pr_curve"):
    """A precision-recall curve: six rows with one column per threshold from 0 to 1, as in TensorBoard."""

    tag: str
    true_positives: tuple[float, ...]
    false_positives: tuple[float, ...]
    true_negatives: tuple[float, ...]
    false_negatives: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    step: int | None
    wall_time: float
    writer: str = ""


class Tensor(_Record, frozen=True, tag="tensor"):
    """An array: `dtype` is numpy's name, `data` is in C order and little endian."""

    tag: str
    data: Payload
    dtype: str
    shape: tuple[int, ...]
    step: int | None
    wall_time: float
    writer: str = ""


class Mesh(_Record, frozen=True, tag="mesh"):
    """Point clouds or meshes: one binary PLY file per batch item. `config` is the display configuration as JSON."""

    tag: str
    parts: tuple[Payload, ...]
    config: str
    step: int | None
    wall_time: float
    writer: str = ""


class Embedding(_Record, frozen=True, tag="embedding"):
    """The files of one projector embedding: tensors.tsv, and metadata.tsv and sprite.png if logged."""

    tag: str
    names: tuple[str, ...]
    parts: tuple[Payload, ...]
    step: int | None
    wall_time: float
    writer: str = ""


class Graph(_Record, frozen=True, tag="graph"):
    """A serialised GraphDef, and its serialised RunMetadata if the program passed one."""

    tag: str
    parts: tuple[Payload, ...]
    step: int | None
    wall_time: float
    writer: str = ""


class Layout(_Record, frozen=True, tag="layout"):
    """A custom_scalars layout as JSON: `{"category": [{"title": ..., "chart": [...]}]}`."""

    tag: str
    layout: str
    step: int | None
    wall_time: float
    writer: str = ""


class RawSummary(_Record, frozen=True, tag="raw"):
    """A summary of a plugin without its own record type, as the serialised `Summary.Value`."""

    tag: str
    data: Payload
    plugin: str
    step: int | None
    wall_time: float
    writer: str = ""


class Table(_Record, frozen=True, tag="table"):
    """A table; `data` is UTF-8 JSON `{"columns": [...], "rows": [[...], ...]}` (NaN and Infinity as literals)."""

    tag: str
    data: Payload
    step: int | None
    wall_time: float
    writer: str = ""


class Params(_Record, frozen=True, tag="params"):
    """Hyper-parameters: dotted names mapped to plain values (str, int, float, bool, None, lists of those)."""

    values: Mapping[str, Any]
    wall_time: float
    writer: str = ""


class Artifact(_Record, frozen=True, tag="artifact"):
    """Files logged by the program. `File.name` is their path inside the artifact.

    `name` is the path of the file if `type` is "file". With a trailing "/" it is the folder of the files; otherwise
    it is the name of a vendor's artifact. `type` and `metadata` come from the program.
    """

    name: str
    files: tuple[File, ...]
    wall_time: float
    type: str = "file"
    metadata: Mapping[str, Any] = {}


class Summary(_Record, frozen=True, tag="summary"):
    """Final metrics of the run: names mapped to plain values. A later value replaces an earlier one."""

    values: Mapping[str, Any]
    wall_time: float


class Tags(_Record, frozen=True, tag="tags"):
    """Tags added after the start of the run."""

    tags: tuple[str, ...]
    wall_time: float


class Alert(_Record, frozen=True, tag="alert"):
    """An alert for the user; `level` is info, warning or error."""

    title: str
    text: str
    level: str
    wall_time: float


class Definition(_Record, frozen=True, tag="definition"):
    """How the series `tag` is meant; a `tag` that ends in `*` is for all that begin like it.

    `step_metric` is the series for the x axis. `summary` has the aggregates for the summary: min, max, mean, first,
    last, none.
    """

    tag: str
    step_metric: str | None
    hidden: bool
    summary: tuple[str, ...]
    wall_time: float


def defined_name(tag: str, names: Iterable[str]) -> str | None:
    """Return which of the names of definitions is about the series `tag`; None if no one is.

    As in wandb, its own name comes first, then the longest that ends in `*`.
    """
    found = [name for name in names if name == tag or (name.endswith("*") and tag.startswith(name[:-1]))]
    return max(found, key=lambda name: (name == tag, len(name)), default=None)


Record: TypeAlias = (
    Scalar
    | Histogram
    | Image
    | Video
    | Audio
    | Text
    | PRCurve
    | Tensor
    | Mesh
    | Embedding
    | Graph
    | Layout
    | RawSummary
    | Table
    | Params
    | Artifact
    | Summary
    | Tags
    | Alert
    | Definition
)

RunRecord: TypeAlias = Params | Artifact | Summary | Tags | Alert | Definition
"""Records of the whole run, without a step."""

KINDS: tuple[type[Record], ...] = (
    Scalar,
    Histogram,
    Image,
    Video,
    Audio,
    Text,
    PRCurve,
    Tensor,
    Mesh,
    Embedding,
    Graph,
    Layout,
    RawSummary,
    Table,
    Params,
    Artifact,
    Summary,
    Tags,
    Alert,
    Definition,
)


def kind(record: Record | type[Record]) -> str:
    """Return the record's kind as one lower-case word, as in the journal."""
    return str(record.__struct_config__.tag)


def is_system_metric(tag: str) -> bool:
    """Return True for a collected metric, also one of a rank of a shared run."""
    return _SYSTEM_METRIC.match(tag) is not None


def shown_step(step: int | None) -> int:
    """Return the step that TensorBoard shows: 0 for None."""
    return 0 if step is None else step


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Describe the run for backends. Contains no credential: it is stored in the journal."""

    run_id: str
    project: str | None
    name: str | None
    folder: str
    tags: tuple[str, ...] = ()
    notes: str | None = None
    group: str | None = None
    created: float = 0.0
    resumed: bool = False
    is_past: bool = False
    """True if another process delivers the run after its end. Nothing that a vendor measures there belongs to it."""
    program: str | None = None
    """The program's `sys.argv[0]`, which vendors show as the run's source."""
    label: str | None = None
    """Names this process in a run that several processes share; None in a run of one process."""
    prefix: str = ""
    """Begins the names of this process in such a run. The first one, which creates the run and ends it, has none."""

    @property
    def is_primary(self) -> bool:
        """True for the process that creates the run and ends it."""
        return not self.prefix
