"""Encode points and meshes as binary PLY files."""

from __future__ import annotations

import io
from typing import Any


def ply(vertices: Any, colors: Any | None, faces: Any | None) -> bytes:
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
