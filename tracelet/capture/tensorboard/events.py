"""Convert a TensorBoard Event to records. Messages are only read, so either library's generated classes work."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from tracelet.capture import values as snapshot
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

# TensorFlow's DataType numbers (tensorflow/core/framework/types.proto): the numpy type, and the field of a TensorProto
# that holds the values if `tensor_content` is empty.
_DTYPES = {
    1: ("<f4", "float_val"),
    2: ("<f8", "double_val"),
    3: ("<i4", "int_val"),
    4: ("|u1", "int_val"),
    5: ("<i2", "int_val"),
    6: ("|i1", "int_val"),
    8: ("<c8", "scomplex_val"),
    9: ("<i8", "int64_val"),
    10: ("|b1", "bool_val"),
    14: ("bfloat16", "half_val"),
    17: ("<u2", "int_val"),
    18: ("<c16", "dcomplex_val"),
    19: ("<f2", "half_val"),
    22: ("<u4", "uint32_val"),
    23: ("<u8", "uint64_val"),
}
_STRING = 7
_MESH_PARTS = {1: "vertices", 2: "faces", 3: "colors"}
_IMAGE_FORMATS = {b"\x89PNG": "png", b"GIF8": "gif", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp", b"BM": "bmp"}


def read(event: Any, step: int | None, wall_time: float, rename: Rename) -> Iterator[Record]:
    """Yield the records of one event; `step` is None if the program passed none."""
    match event.WhichOneof("what"):
        case "summary":
            values = list(event.summary.value)
            meshes = [value for value in values if _plugin(value) == "mesh"]
            if meshes:
                yield from _meshes(meshes, step, wall_time, rename)
            for value in values:
                if _plugin(value) != "mesh":
                    yield from _value(value, step, wall_time, rename)
        case "graph_def":
            name, writer = rename("graph", "graph")
            yield Graph(name, (bytes(event.graph_def),), step, wall_time, writer)
        case "tagged_run_metadata":
            name, writer = rename("graph", "graph")
            yield Graph(name, (b"", bytes(event.tagged_run_metadata.run_metadata)), step, wall_time, writer)
        case _:  # file_version, session_log: about the file itself
            return


def _value(value: Any, step: int | None, wall_time: float, rename: Rename) -> Iterator[Record]:
    tag = value.tag
    match value.WhichOneof("value"), _plugin(value):
        case "simple_value", _:
            name, writer = rename(tag, "scalar")
            yield Scalar(name, value.simple_value, step, wall_time, writer)
        case "tensor", "scalars":
            name, writer = rename(tag, "scalar")
            yield Scalar(name, float(_array(value.tensor)[1].reshape(-1)[0]), step, wall_time, writer)
        case "histo", _:
            name, writer = rename(tag, "histogram")
            histo = value.histo
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
        case "image", _:
            yield _image(value, step, wall_time, rename)
        case "audio", _:
            name, writer = rename(tag, "audio")
            form = value.audio.content_type.rpartition("/")[2].removeprefix("x-") or "wav"
            yield Audio(name, value.audio.encoded_audio_string, form, value.audio.sample_rate, step, wall_time, writer)
        case "tensor", "text":
            name, writer = rename(tag.removesuffix("/text_summary"), "text")
            text = "\n".join(part.decode("utf-8", "replace") for part in value.tensor.string_val)
            yield Text(name, text, step, wall_time, writer)
        case "tensor", "pr_curves":
            name, writer = rename(tag, "pr_curve")
            tp, fp, tn, fn, precision, recall = (tuple(row) for row in _array(value.tensor)[1].astype(float).tolist())
            yield PRCurve(name, tp, fp, tn, fn, precision, recall, step, wall_time, writer)
        case "tensor", "custom_scalars":
            name, writer = rename(tag, "layout")
            yield Layout(name, _layout(value.tensor.string_val[0]), step, wall_time, writer)
        case "tensor", "tensor":
            name, writer = rename(tag, "tensor")
            dtype, array = _array(value.tensor)
            yield Tensor(name, array.tobytes(), dtype, tuple(array.shape), step, wall_time, writer)
        case _, "hparams":
            values = hparams_of(value)
            if values is not None:
                yield Params(values, wall_time, rename(tag, "params")[1])
        case None, "":  # add_video without moviepy writes only a tag
            return
        case _, plugin:
            name, writer = rename(tag, "raw")
            yield RawSummary(name, value.SerializeToString(), plugin, step, wall_time, writer)


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


def _image(value: Any, step: int | None, wall_time: float, rename: Rename) -> Record:
    image = value.image
    data = image.encoded_image_string
    form = image_format(data)
    kind: type[Image] | type[Video] = Video if form == "gif" else Image
    name, writer = rename(value.tag, "video" if kind is Video else "image")
    return kind(name, data, form, image.width, image.height, step, wall_time, writer)


def _plugin(value: Any) -> str:
    return str(value.metadata.plugin_data.plugin_name)


def _layout(serialised: bytes) -> str:
    from google.protobuf.json_format import MessageToDict
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout as LayoutProto

    return json.dumps(MessageToDict(LayoutProto.FromString(serialised)), ensure_ascii=False)


def _array(tensor: Any) -> tuple[str, Any]:
    """Convert a TensorProto to (dtype, numpy array). bfloat16 stays raw 16 bits, since numpy has no such type."""
    import numpy as np

    dtype, field = _DTYPES[tensor.dtype]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    bits = "<u2" if dtype == "bfloat16" else dtype
    if tensor.tensor_content:
        array = np.frombuffer(tensor.tensor_content, bits)
    elif field == "half_val":
        array = _halves(list(tensor.half_val), dtype)
    elif field in ("scomplex_val", "dcomplex_val"):
        parts = np.array(list(getattr(tensor, field)), "<f4" if field == "scomplex_val" else "<f8")
        array = parts.view(bits)
    else:
        # torch stores uint8 in `uint32_val` (torch/utils/tensorboard/summary.py, _TENSOR_TYPE_MAP).
        array = np.array(list(getattr(tensor, field) or tensor.uint32_val), bits)
    # A single value fills the whole tensor (tensorflow/core/framework/tensor.proto).
    return dtype, np.broadcast_to(array[0], shape) if array.size == 1 else array.reshape(shape or -1)


def _halves(numbers: list[int], dtype: str) -> Any:
    """Decode 16-bit floats. torch puts float32 bits in `half_val` (torch/utils/tensorboard/summary.py, half_to_int)."""
    import numpy as np

    if all(0 <= number <= 0xFFFF for number in numbers):
        return np.array(numbers, "<u2").view("<u2" if dtype == "bfloat16" else dtype)
    wide = np.array(numbers, "<i4")
    if dtype == "bfloat16":
        return (wide.view("<u4") >> 16).astype("<u2")
    return wide.view("<f4").astype(dtype)


def _meshes(values: Iterable[Any], step: int | None, wall_time: float, rename: Rename) -> Iterator[Record]:
    from tensorboard.plugins.mesh.plugin_data_pb2 import MeshPluginData

    meshes_by_tag: dict[str, dict[str, Any]] = {}
    configs: dict[str, str] = {}
    for value in values:
        data = MeshPluginData.FromString(value.metadata.plugin_data.content)
        meshes_by_tag.setdefault(data.name, {})[_MESH_PARTS[data.content_type]] = _array(value.tensor)[1]
        configs[data.name] = data.json_config
    for tag, arrays in meshes_by_tag.items():
        name, writer = rename(tag, "mesh")
        # Each is [..., points, 3]: all leading dimensions belong to the batch.
        batches = {key: array.reshape(-1, *array.shape[-2:]) for key, array in arrays.items()}
        parts = tuple(
            _ply(points, *(batches[key][item] if key in batches else None for key in ("colors", "faces")))
            for item, points in enumerate(batches["vertices"])
        )
        yield Mesh(name, parts, configs[tag], step, wall_time, writer)


def _ply(vertices: Any, colors: Any | None, faces: Any | None) -> bytes:
    """Encode a binary PLY file: float32 vertices, uint8 or float32 colors, int32 faces."""
    import numpy as np

    columns: list[tuple[str, str]] = [(axis, "<f4") for axis in "xyz"]
    if colors is not None:
        whole = bool(np.all((colors == np.floor(colors)) & (colors >= 0) & (colors <= 255)))
        columns += [(channel, "u1" if whole else "<f4") for channel in ("red", "green", "blue")]
    points = np.zeros(len(vertices), columns)
    for index, (name, _) in enumerate(columns):
        points[name] = vertices[:, index] if index < 3 else colors[:, index - 3]  # type: ignore[index]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    header += [f"property {'uchar' if dtype == 'u1' else 'float'} {name}" for name, dtype in columns]
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    out = io.BytesIO()
    out.write("\n".join([*header, "end_header", ""]).encode())
    out.write(points.tobytes())
    for face in [] if faces is None else faces.astype(int).tolist():
        out.write(struct.pack(f"<B{len(face)}i", len(face), *face))
    return out.getvalue()
