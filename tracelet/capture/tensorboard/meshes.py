"""Convert mesh summaries to PLY files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

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
        yield _ply(points, *(batches[key][item] if key in batches else None for key in ("colors", "faces")))


def _ply(vertices: Any, colors: Any | None, faces: Any | None) -> bytes:
    """Encode float32 vertices, uint8 or float32 colors, and int32 faces."""
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
    if faces is not None:
        out.write(_face_list(faces))
    return out.getvalue()


def _face_list(faces: Any) -> bytes:
    import numpy as np

    corners = faces.shape[1]
    if corners > 255 or not np.all(np.abs(faces.astype(float)) < 2**31):
        raise ValueError("PLY faces must have at most 255 corners, with 32-bit indices")
    rows = np.zeros(len(faces), [("corners", "u1"), ("indices", "<i4", (corners,))])
    rows["corners"], rows["indices"] = corners, faces
    return bytes(rows.tobytes())
