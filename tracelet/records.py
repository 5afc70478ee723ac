"""The vocabulary: what a program can say to TensorBoard or to an `Experiment`, as frozen, plain records.

`tag` is the full metric name (see `naming`). `step` is the integer the program gave, or None where it gave
none (TensorBoard shows that as 0, and so does `shown_step`). `wall_time` is seconds since the epoch. `writer` is the
namespace of the SummaryWriter that spoke: "" for the root writer and for the `Experiment` methods.

A payload (`data`) is `bytes` between the caller and the journal, and a `File` from the journal on: the journal's
thread puts the bytes into the spool and keeps the digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec


class File(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A file of the run's spool. `path` is filled in for a backend, and empty in the journal."""

    name: str
    digest: str
    size: int
    path: str = ""


Payload: TypeAlias = bytes | File


class _Record(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="kind"):
    """Arrays on disk: a field may be added at the end, with a default; none may move or go."""


class Scalar(_Record, frozen=True, tag="scalar"):
    """One point of one curve; `value` is the float64 of the argument."""

    tag: str
    value: float
    step: int | None
    wall_time: float
    writer: str = ""


class Histogram(_Record, frozen=True, tag="histogram"):
    """Bucket `i` holds `counts[i]` values in `(limits[i - 1], limits[i]]`, as in TensorBoard's HistogramProto."""

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
    """An encoded picture (`format`: png, jpeg, ...), byte for byte as the event file holds it."""

    tag: str
    data: Payload
    format: str
    width: int
    height: int
    step: int | None
    wall_time: float
    writer: str = ""


class Video(_Record, frozen=True, tag="video"):
    """An encoded moving picture (`format`: gif, mp4, ...); 0 where the size is not known."""

    tag: str
    data: Payload
    format: str
    width: int
    height: int
    step: int | None
    wall_time: float
    writer: str = ""


class Audio(_Record, frozen=True, tag="audio"):
    """Encoded sound (`format`: wav, ...); `sample_rate` in Hz."""

    tag: str
    data: Payload
    format: str
    sample_rate: float
    step: int | None
    wall_time: float
    writer: str = ""


class Text(_Record, frozen=True, tag="text"):
    """A text, Markdown where it came from TensorBoard."""

    tag: str
    text: str
    step: int | None
    wall_time: float
    writer: str = ""


class PRCurve(_Record, frozen=True, tag="pr_curve"):
    """Six rows of equal length, one column a threshold from 0 to 1, as TensorBoard's pr_curves plugin keeps them."""

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
    """An array: `dtype` in numpy's spelling, C order, little endian in `data`."""

    tag: str
    data: Payload
    dtype: str
    shape: tuple[int, ...]
    step: int | None
    wall_time: float
    writer: str = ""


class Mesh(_Record, frozen=True, tag="mesh"):
    """Point clouds or meshes, one binary PLY file for each of the batch; `config` is the display's JSON."""

    tag: str
    parts: tuple[Payload, ...]
    config: str
    step: int | None
    wall_time: float
    writer: str = ""


class Embedding(_Record, frozen=True, tag="embedding"):
    """The files of one projector embedding: tensors.tsv, and metadata.tsv and sprite.png where given."""

    tag: str
    names: tuple[str, ...]
    parts: tuple[Payload, ...]
    step: int | None
    wall_time: float
    writer: str = ""


class Graph(_Record, frozen=True, tag="graph"):
    """A serialised GraphDef, with its serialised RunMetadata where the program gave one."""

    tag: str
    parts: tuple[Payload, ...]
    step: int | None
    wall_time: float
    writer: str = ""


class Layout(_Record, frozen=True, tag="layout"):
    """A custom_scalars layout as JSON: `{"category": [{"title": ..., "charts": [...]}]}`."""

    tag: str
    layout: str
    step: int | None
    wall_time: float
    writer: str = ""


class RawSummary(_Record, frozen=True, tag="raw"):
    """A summary of a plugin that has no record of its own: the serialised `Summary.Value`, so that nothing is lost."""

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
    """Hyper-parameters: dotted names to plain values (str, int, float, bool, None, lists of those)."""

    values: Mapping[str, Any]
    wall_time: float
    writer: str = ""


class Artifact(_Record, frozen=True, tag="artifact"):
    """Files the program handed over. `files` hold their path inside the artifact in `File.name`.

    `name` is the target: of the type "file" the path of the one file; with a trailing "/" the folder that the files
    lie in; otherwise the name of a vendor's artifact. `type` and `metadata` are the program's words, where it had any.
    """

    name: str
    files: tuple[File, ...]
    wall_time: float
    type: str = "file"
    metadata: Mapping[str, Any] = {}


class Summary(_Record, frozen=True, tag="summary"):
    """Final figures of the run: names to plain values. A name said again takes the new value."""

    values: Mapping[str, Any]
    wall_time: float


class Tags(_Record, frozen=True, tag="tags"):
    """Words that the run is found by, beside those it began with."""

    tags: tuple[str, ...]
    wall_time: float


class Alert(_Record, frozen=True, tag="alert"):
    """Something that a person should look at; `level` is info, warning or error."""

    title: str
    text: str
    level: str
    wall_time: float


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
)

RunRecord: TypeAlias = Params | Artifact | Summary | Tags | Alert
"""What is said of the run as a whole: these have neither tag nor step."""

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
)


def kind(record: Record | type[Record]) -> str:
    """The record's kind in one lower-case word, as the journal spells it."""
    return str(record.__struct_config__.tag)


def shown_step(step: int | None) -> int:
    """A step as TensorBoard shows it: none given is 0."""
    return 0 if step is None else step


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What every backend is told about the run. Holds no credential: it is stored in the journal."""

    run_id: str
    project: str | None
    name: str | None
    folder: str
    tags: tuple[str, ...] = ()
    notes: str | None = None
    group: str | None = None
    created: float = 0.0
    resumed: bool = False
    program: str | None = None
    """The program's `sys.argv[0]`: what vendors call the run's source."""
