"""Read the binary PLY files of a mesh record back as the arrays of TensorBoard's mesh plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

VERTEX, FACE, COLOR = 1, 2, 3
"""The numbers of the parts (tensorboard/plugins/mesh/plugin_data.proto, ContentType)."""

_TYPES = {"float": "<f4", "uchar": "u1"}


def arrays_of(files: Sequence[bytes]) -> dict[int, Any]:
    """Return the arrays [meshes, points, 3] by part.

    Raises:
        ValueError, LookupError: a file is not one that tracelet wrote, or the meshes have different sizes.
    """
    import numpy as np

    parts = [_parts(data) for data in files]
    return {part: np.stack([mesh[part] for mesh in parts]) for part in parts[0]}


def _parts(data: bytes) -> dict[int, Any]:
    import numpy as np

    text, separator, body = data.partition(b"end_header\n")
    lines = [line.split() for line in text.decode("ascii").splitlines()]
    if not separator or ["format", "binary_little_endian", "1.0"] not in lines:
        raise ValueError("not a binary PLY file")
    sizes = {line[1]: int(line[2]) for line in lines if line[0] == "element"}
    columns = [(line[2], _TYPES[line[1]]) for line in lines if line[0] == "property" and line[1] != "list"]
    points = np.frombuffer(body, columns, sizes["vertex"])
    parts = {VERTEX: np.stack([points[axis] for axis in "xyz"], axis=-1)}
    if "face" in sizes:
        rest = body[points.nbytes :]
        faces = np.frombuffer(rest, [("corners", "u1"), ("indices", "<i4", ((rest or b"\3")[0],))], sizes["face"])
        parts[FACE] = faces["indices"]
    if "red" in dict(columns):
        parts[COLOR] = np.stack([points[name] for name in ("red", "green", "blue")], axis=-1)
    return parts
