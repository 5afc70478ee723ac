"""Convert records to serialized TensorBoard events. Pure functions."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from ctypes import c_float
from typing import Any

import google_crc32c
from tensorboard.compat.proto.event_pb2 import Event, TaggedRunMetadata
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

from tracelet import records as r
from tracelet.backends.folder import payload_bytes
from tracelet.backends.tensorboard.ply import arrays_of
from tracelet.float64 import with_float64

# TensorFlow's DataType numbers (tensorflow/core/framework/types.proto) by numpy's kind and size.
_DTYPES = {"f4": 1, "f8": 2, "i4": 3, "u1": 4, "i2": 5, "i1": 6, "c8": 8, "i8": 9, "b1": 10, "u2": 17, "c16": 18}
_DTYPES |= {"f2": 19, "u4": 22, "u8": 23, "bfloat16": 14}
_STRING, _DOUBLE = 7, 2
_DRAWN = ("png", "jpeg", "jpg", "gif", "bmp", "webp")
_SESSION = "_hparams_/session_start_info"


def framed(data: bytes) -> bytes:
    """Return a record of an event file: length, checksum, data, checksum (tensorflow/core/lib/io/record_writer.cc)."""
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def header(wall_time: float) -> bytes:
    """Return the first record of an event file."""
    return framed(Event(wall_time=wall_time, file_version="brain.Event:2").SerializeToString())


def events(record: r.Record, tag: str) -> Iterator[bytes]:
    """Yield the events of a record, framed; none if TensorBoard has no place for it.

    Raises:
        ValueError, OSError: a payload is missing or invalid.
    """
    place: dict[str, Any] = {"wall_time": record.wall_time, "step": _step(getattr(record, "step", None))}
    if isinstance(record, r.Graph) and record.tag == "graph":
        graph, *metadata = map(payload_bytes, record.parts)
        found = [Event(graph_def=graph, **place)] if graph else []
        tagged = (TaggedRunMetadata(tag="step1", run_metadata=data) for data in metadata)
        found += [Event(tagged_run_metadata=one, **place) for one in tagged]
    else:
        values = list(_values(record, tag))
        found = [Event(summary=Summary(value=values), **place)] if values else []
    yield from (framed(event.SerializeToString()) for event in found)


def _values(record: r.Record, tag: str) -> Iterator[Summary.Value]:
    match record:
        case r.Scalar(value=value):
            number = float(value)
            exact = None if _is_float32(number) else _metadata("scalars", with_float64(number))
            yield Summary.Value(tag=tag, simple_value=number, metadata=exact)
        case r.Histogram():
            histogram = HistogramProto(min=record.minimum, max=record.maximum, num=record.count, sum=record.total)
            histogram.sum_squares = record.sum_squares
            histogram.bucket_limit.extend(record.limits)
            histogram.bucket.extend(record.counts)
            yield Summary.Value(tag=tag, histo=histogram)
        case r.Image(data=data) | r.Video(data=data) if record.format in _DRAWN:
            image = Summary.Image(height=record.height, width=record.width, colorspace=3)
            image.encoded_image_string = payload_bytes(data)
            yield Summary.Value(tag=tag, image=image, metadata=_description(record.caption))
        case r.Audio(data=data):
            audio = Summary.Audio(sample_rate=record.sample_rate, content_type=f"audio/{record.format}")
            audio.encoded_audio_string = payload_bytes(data)
            yield Summary.Value(tag=tag, audio=audio, metadata=_description(record.caption))
        case r.Text(text=text):
            yield _strings(tag, "text", [text], ())
        case r.Table(data=data):
            table = json.loads(payload_bytes(data))
            rows = [table["columns"], *table["rows"]]
            cells = [str(cell) for row in rows for cell in row]
            yield _strings(tag, "text", cells, (len(rows), len(table["columns"])))
        case r.PRCurve():
            yield _curve(record, tag)
        case r.Tensor():
            yield from _tensor(record, tag)
        case r.Mesh():
            yield from _mesh(record, tag)
        case r.Graph(parts=parts):
            yield _strings(tag, "graphs", [payload_bytes(part) for part in parts], (len(parts),))
        case r.Layout(layout=layout):
            yield _layout(layout)
        case r.RawSummary(data=data):
            value = Summary.Value.FromString(payload_bytes(data))
            value.tag = tag
            yield value
        case r.Params(values=params):
            yield _hparams(params)


def _description(caption: str) -> SummaryMetadata | None:
    """Return the description of a card. TensorBoard shows that of a tag's first value."""
    return SummaryMetadata(summary_description=caption) if caption else None


def _is_float32(number: float) -> bool:
    return number != number or c_float(number).value == number


def _step(step: int | None) -> int:
    return 0 if step is None else min(max(step, -(2**63)), 2**63 - 1)


def _metadata(plugin: str, content: bytes = b"") -> SummaryMetadata:
    return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin, content=content))


def _shape(shape: Sequence[int]) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])


def _doubles(tag: str, plugin: str, numbers: Sequence[float], shape: Sequence[int], content: bytes = b"") -> Any:
    tensor = TensorProto(dtype=_DOUBLE, double_val=numbers, tensor_shape=_shape(shape))
    return Summary.Value(tag=tag, tensor=tensor, metadata=_metadata(plugin, content))


def _strings(tag: str, plugin: str, texts: Sequence[str | bytes], shape: Sequence[int]) -> Summary.Value:
    data = [text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace") for text in texts]
    tensor = TensorProto(dtype=_STRING, string_val=data, tensor_shape=_shape(shape))
    return Summary.Value(tag=tag, tensor=tensor, metadata=_metadata(plugin))


def _curve(curve: r.PRCurve, tag: str) -> Summary.Value:
    from tensorboard.plugins.pr_curve.plugin_data_pb2 import PrCurvePluginData

    rows = [curve.true_positives, curve.false_positives, curve.true_negatives, curve.false_negatives]
    rows += [curve.precision, curve.recall]
    thresholds = len(curve.recall)
    content = PrCurvePluginData(num_thresholds=thresholds).SerializeToString()
    return _doubles(tag, "pr_curves", [number for row in rows for number in row], (6, thresholds), content)


def _tensor(record: r.Tensor, tag: str) -> Iterator[Summary.Value]:
    import numpy as np

    number = _DTYPES.get("bfloat16" if record.dtype == "bfloat16" else np.dtype(record.dtype).str[1:])
    if number is not None:
        tensor = TensorProto(dtype=number, tensor_content=payload_bytes(record.data), tensor_shape=_shape(record.shape))
        yield Summary.Value(tag=tag, tensor=tensor, metadata=_metadata("tensor"))


def _mesh(record: r.Mesh, tag: str) -> Iterator[Summary.Value]:
    from tensorboard.plugins.mesh import metadata

    arrays = arrays_of([payload_bytes(part) for part in record.parts])
    components = metadata.get_components_bitmask(arrays)
    for part, array in arrays.items():
        made = metadata.create_summary_metadata(tag, None, part, components, list(array.shape), None, record.config)
        number, shape = _DTYPES[array.dtype.str[1:]], _shape(array.shape)
        tensor = TensorProto(dtype=number, tensor_content=array.tobytes(), tensor_shape=shape)
        yield Summary.Value(tag=metadata.get_instance_name(tag, part), tensor=tensor, metadata=made)


def _layout(layout: str) -> Summary.Value:
    from google.protobuf.json_format import ParseDict
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout as LayoutProto
    from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG

    data = ParseDict(json.loads(layout), LayoutProto()).SerializeToString()
    return _strings(CONFIG_SUMMARY_TAG, "custom_scalars", [data], ())


def _hparams(params: Mapping[str, Any]) -> Summary.Value:
    from google.protobuf.struct_pb2 import Struct
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

    values = Struct()
    values.update(params)
    content = HParamsPluginData(version=0, session_start_info=SessionStartInfo(hparams=dict(values.fields)))
    return Summary.Value(tag=_SESSION, metadata=_metadata("hparams", content.SerializeToString()))


def projector_entry(tag: str, step: int, folder: str, names: Sequence[str]) -> bytes:
    """Return an embedding's entry of projector_config.pbtxt."""
    from google.protobuf.text_format import MessageToString
    from tensorboard.plugins.projector.projector_config_pb2 import EmbeddingInfo, ProjectorConfig

    entry = EmbeddingInfo(tensor_name=f"{tag}:{step:05d}", tensor_path=f"{folder}/tensors.tsv")
    if "metadata.tsv" in names:
        entry.metadata_path = f"{folder}/metadata.tsv"
    if "sprite.png" in names:
        entry.sprite.image_path = f"{folder}/sprite.png"
    return str(MessageToString(ProjectorConfig(embeddings=[entry]))).encode()
