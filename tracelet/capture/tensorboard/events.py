"""Convert a TensorBoard Event to records. Messages are only read, so either library's generated classes work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from tracelet.capture import values as snapshot
from tracelet.capture.tensorboard import tensorflow
from tracelet.capture.tensorboard.meshes import mesh_data, meshes, ply_files
from tracelet.capture.tensorboard.tensors import to_array, to_floats, to_rows
from tracelet.float64 import float64_in
from tracelet.records import (
    Audio,
    Graph,
    Histogram,
    Image,
    Layout,
    Mesh,
    Params,
    PRCurve,
    RawSummary,
    Record,
    Scalar,
    Tensor,
    Text,
    Video,
)

Rename: TypeAlias = Callable[[str, str], tuple[str, str]]
"""Maps (tag in the event, kind of record) to (series name, namespace of the writer)."""
Failed: TypeAlias = Callable[[str], None]
"""Called with the reason if a value cannot be decoded, and therefore becomes a raw record."""

_IMAGE_FORMATS = {b"\x89PNG": "png", b"GIF8": "gif", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp", b"BM": "bmp"}
_MAX_FORMAT = 16


class _Point(NamedTuple):
    step: int | None
    wall_time: float
    rename: Rename


def read(
    event: Any, step: int | None, wall_time: float, rename: Rename, failed: Failed = lambda reason: None
) -> Iterator[Record]:
    """Yield the records of one event; `step` is None if the program passed none."""
    point = _Point(step, wall_time, rename)
    match event.WhichOneof("what"):
        case "summary":
            joined: dict[str, list[Any]] | None = None
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":  # most values
                    name, writer = rename(value.tag, "scalar")
                    yield Scalar(name, _number(value), step, wall_time, writer)
                elif (mesh := mesh_data(value)) is None:
                    yield from _decoded(_value, [value], point, failed)
                else:
                    joined = meshes(event.summary.value) if joined is None else joined
                    if parts := joined.pop(mesh.name, None):
                        yield from _decoded(_mesh, parts, point, failed)
        case "graph_def":
            yield _graph("graph", (bytes(event.graph_def),), point)
        case "meta_graph_def":
            yield _graph("meta_graph", (tensorflow.graph_of(event.meta_graph_def),), point)
        case "tagged_run_metadata":
            yield _graph("graph", (b"", bytes(event.tagged_run_metadata.run_metadata)), point)
        case _:  # file_version, session_log: about the file itself
            return


def _number(value: Any) -> float:
    """Return the value of a scalar: of one that we have written, the float64."""
    exact = float64_in(value.metadata.plugin_data.content) if value.HasField("metadata") else None
    return float(value.simple_value) if exact is None else exact


def _decoded(
    decode: Callable[[Sequence[Any], _Point], Iterator[Record]], values: Sequence[Any], point: _Point, failed: Failed
) -> Iterator[Record]:
    """Yield the records of `values`, or the values themselves if they are not what their plugin says."""
    try:
        records = list(decode(values, point))
    except undecodable() as error:
        failed(f"{type(error).__name__}: {error}")
        records = [_raw(value, point) for value in values]
    yield from records


def undecodable() -> tuple[type[Exception], ...]:
    """Return the errors of messages that contradict themselves."""
    from google.protobuf.message import DecodeError

    return ArithmeticError, DecodeError, LookupError, MemoryError, TypeError, ValueError


def _value(values: Sequence[Any], point: _Point) -> Iterator[Record]:
    (value,) = values
    tag, (step, wall_time, rename) = value.tag, point
    match value.WhichOneof("value"), _plugin(value):
        case "tensor", "scalars":
            number = float(to_floats(value.tensor).reshape(-1)[0])
            name, writer = rename(tag, "scalar")
            yield Scalar(name, number, step, wall_time, writer)
        case "histo", _:
            histo = value.histo
            if len(histo.bucket_limit) != len(histo.bucket):
                raise ValueError("a histogram has other numbers of limits and counts")
            name, writer = rename(tag, "histogram")
            yield Histogram(
                name,
                tuple(histo.bucket_limit),
                tuple(histo.bucket),
                histo.min,
                histo.max,
                histo.num,
                histo.sum,
                histo.sum_squares,
                step,
                wall_time,
                writer,
            )
        case "tensor", "histograms":
            buckets = tensorflow.histogram(value.tensor)
            name, writer = rename(tag, "histogram")
            yield Histogram(name, *buckets, step, wall_time, writer)
        case "image", _:
            image = value.image
            yield _image(tag, image.encoded_image_string, image.width, image.height, point)
        case "tensor", "images":
            width, height, images = tensorflow.images(value.tensor)
            for data in images:
                yield _image(tag, data, width, height, point)
        case "audio", _:
            name, writer = rename(tag, "audio")
            form = _audio_format(value.audio.content_type)
            yield Audio(name, value.audio.encoded_audio_string, form, value.audio.sample_rate, step, wall_time, writer)
        case "tensor", "audio":
            for data, rate in tensorflow.clips(value.tensor):
                name, writer = rename(tag, "audio")
                yield Audio(name, data, "wav", rate, step, wall_time, writer)
        case "tensor", ("text" | "graph_keras_model"):  # a Keras model is JSON
            name, writer = rename(tag.removesuffix("/text_summary"), "text")
            yield Text(name, _text(value.tensor), step, wall_time, writer)
        case "tensor", "pr_curves":
            tp, fp, tn, fn, precision, recall = map(tuple, to_floats(value.tensor).tolist())
            name, writer = rename(tag, "pr_curve")
            yield PRCurve(name, tp, fp, tn, fn, precision, recall, step, wall_time, writer)
        case "tensor", "custom_scalars":
            layout = _layout(value.tensor.string_val[0])
            name, writer = rename(tag, "layout")
            yield Layout(name, layout, step, wall_time, writer)
        case "tensor", "tensor":
            dtype, array = to_array(value.tensor)
            name, writer = rename(tag, "tensor")
            yield Tensor(name, array.tobytes(), dtype, tuple(array.shape), step, wall_time, writer)
        case "tensor", "graphs":
            yield _graph(tag, tuple(value.tensor.string_val), point)
        case "tensor", plugin if plugin in tensorflow.RUN_METADATA:
            yield _graph(tag, (b"", value.tensor.string_val[0]), point)
        case _, "hparams":
            params = hparams_of(value)
            if params is not None:
                yield Params(params, wall_time, rename(tag, "params")[1])
        case _, "mesh":
            raise ValueError("not a part of a mesh")
        case None, "":  # add_video without moviepy writes only a tag
            return
        case _:
            yield _raw(value, point)


def hparams_of(value: Any) -> dict[str, Any] | None:
    """Return the hyperparameters of a session_start_info summary; None for the hparams plugin's other two summaries."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
    if content.WhichOneof("data") != "session_start_info":
        return None
    hparams = sorted(content.session_start_info.hparams.items())  # a protobuf map has no order
    return snapshot.params({name: _plain(value) for name, value in hparams if value.WhichOneof("kind")})


def _plain(value: Any) -> Any:
    """Convert a google.protobuf.Value."""
    match value.WhichOneof("kind"):
        case None | "null_value":
            return None
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "struct_value":
            return {name: _plain(item) for name, item in value.struct_value.fields.items()}
        case kind:
            return getattr(value, kind)


def image_format(data: bytes) -> str:
    """Return the format of an encoded image, by its first bytes."""
    return next((form for magic, form in _IMAGE_FORMATS.items() if data.startswith(magic)), "png")


def _graph(tag: str, parts: tuple[bytes, ...], point: _Point) -> Record:
    name, writer = point.rename(tag, "graph")
    return Graph(name, parts, point.step, point.wall_time, writer)


def _raw(value: Any, point: _Point) -> Record:
    name, writer = point.rename(value.tag, "raw")
    return RawSummary(name, value.SerializeToString(), _plugin(value), point.step, point.wall_time, writer)


def _mesh(values: Sequence[Any], point: _Point) -> Iterator[Record]:
    data: Any = mesh_data(values[-1])
    parts = tuple(ply_files(values))
    name, writer = point.rename(data.name, "mesh")
    yield Mesh(name, parts, data.json_config, point.step, point.wall_time, writer)


def _image(tag: str, data: bytes, width: int, height: int, point: _Point) -> Record:
    form = image_format(data)
    kind: type[Image] | type[Video] = Video if form == "gif" else Image
    name, writer = point.rename(tag, "video" if kind is Video else "image")
    return kind(name, data, form, width, height, point.step, point.wall_time, writer)


def _audio_format(content_type: str) -> str:
    """Return a short word, because it becomes the end of a file's name."""
    form = content_type.rpartition("/")[2].removeprefix("x-")
    return form if form.isascii() and form.isalnum() and len(form) <= _MAX_FORMAT else "wav"


def _text(tensor: Any) -> str:
    """Return the lines of a text, or a Markdown table of its rows."""
    rows = to_rows(tensor)
    if rows is None:
        return "\n".join(part.decode("utf-8", "replace") for part in tensor.string_val)
    lines = ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines)


def _cell(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("|", "\\|").replace("\n", "<br>")


def _plugin(value: Any) -> str:
    return str(value.metadata.plugin_data.plugin_name)


def _layout(serialised: bytes) -> str:
    from google.protobuf.json_format import MessageToDict
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout as LayoutProto

    return json.dumps(MessageToDict(LayoutProto.FromString(serialised)), ensure_ascii=False)
