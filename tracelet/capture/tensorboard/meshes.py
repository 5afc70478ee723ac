"""Convert mesh summaries to PLY files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tracelet.capture.ply import ply
from tracelet.capture.tensorboard.tensors import to_array

_PARTS = {1: "vertices", 2: "faces", 3: "colors"}
# Of a mesh with more, an event could be small and its files many.
_MAX_FILES = 4096


def mesh_data(value: Any) -> Any | None:
    """Return the MeshPluginData of a summary value, or None if it is not a part of a mesh."""
    from google.protobuf.message import DecodeError
    from tensorboard.plugins.mesh.plugin_data_pb2 import MeshPluginData

    if value.metadata.plugin_data.plugin_name != "mesh":
        return None
    try:
        data = MeshPluginData.FromString(value.metadata.plugin_data.content)
    except DecodeError:
        return None
    return data if data.content_type in _PARTS else None


def meshes(values: Iterable[Any]) -> dict[str, list[Any]]:
    """Return the values that are parts of meshes, by the tag of the mesh."""
    values_by_tag: dict[str, list[Any]] = {}
    for value in values:
        data = mesh_data(value)
        if data is not None:
            values_by_tag.setdefault(data.name, []).append(value)
    return values_by_tag


def ply_files(values: Iterable[Any]) -> Iterator[bytes]:
    """Yield a binary PLY file for each mesh of the batch that `values` are the parts of.

    Raises:
        ArithmeticError, LookupError, TypeError, ValueError: the parts are not a mesh.
    """
    arrays = {_PARTS[mesh_data(value).content_type]: to_array(value.tensor)[1] for value in values}  # type: ignore[union-attr]
    if "vertices" not in arrays:
        raise ValueError("the mesh has no vertices")
    # Each is [..., points, 3]: all leading dimensions belong to the batch.
    batches = {key: array.reshape(-1, *array.shape[-2:]) for key, array in arrays.items()}
    if len(batches["vertices"]) > _MAX_FILES:
        raise ValueError(f"{len(batches['vertices'])} meshes in a batch, more than {_MAX_FILES}")
    for item, points in enumerate(batches["vertices"]):
        yield ply(points, *(batches[key][item] if key in batches else None for key in ("colors", "faces")))
