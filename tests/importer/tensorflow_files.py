"""Build summaries as TensorFlow's writers do, of TensorBoard's own messages; TensorFlow is not installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from importer.event_files import BEGUN, framed
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.mesh import metadata as mesh_metadata
from tensorboard.util import tensor_util


def metadata(plugin: str, content: bytes = b"") -> SummaryMetadata:
    return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin, content=content))


def tensor(tag: str, array: Any, plugin: str = "", content: bytes = b"") -> Summary.Value:
    """Return a value with its metadata, or without if `plugin` is empty: TensorFlow 1's second value of a tag."""
    value = Summary.Value(tag=tag, tensor=tensor_util.make_tensor_proto(np.asarray(array)))
    if plugin:
        value.metadata.CopyFrom(metadata(plugin, content))
    return value


def strings(tag: str, array: Any, plugin: str = "") -> Summary.Value:
    return tensor(tag, np.array(array, dtype=object), plugin)


def mesh_part(name: str, kind: int, array: Any, kinds: Sequence[int]) -> Summary.Value:
    """Return one part of a mesh that has the parts `kinds`: 1 for vertices, 2 for faces, 3 for colors."""
    bits = mesh_metadata.get_components_bitmask(kinds)
    data = np.asarray(array)
    made = mesh_metadata.create_summary_metadata(name, None, kind, bits, list(data.shape), json_config="{}")
    return tensor(mesh_metadata.get_instance_name(name, kind), data, "mesh", made.plugin_data.content)


def summary(step: int, *values: Summary.Value, wall_time: float | None = None) -> bytes:
    """Return the framed event of `values`."""
    event = Event(step=step, wall_time=BEGUN + step if wall_time is None else wall_time)
    event.summary.value.extend(values)
    return framed(event.SerializeToString())


def other(**fields: Any) -> bytes:
    """Return a framed event that is no summary."""
    return framed(Event(wall_time=BEGUN + 1.0, **fields).SerializeToString())
