"""Convert values that are logged without a data type, and read data types back from an artifact."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from tracelet.compat.wandb.base import Media, StoredPath, Value, to_array
from tracelet.compat.wandb.boxes import BoundingBoxes2D, Classes, ImageMask
from tracelet.compat.wandb.histograms import Histogram
from tracelet.compat.wandb.linked_tables import JoinedTable, PartitionedTable
from tracelet.compat.wandb.media import Audio, Html, Image, is_matplotlib
from tracelet.compat.wandb.objects import Molecule, Object3D, Plotly
from tracelet.compat.wandb.tables import Table
from tracelet.compat.wandb.video import Video
from tracelet.guard import attempted

_PLAIN = frozenset({float, int, str, bool, type(None), bytes, list, tuple, dict})
_MAX_LISTED = 32
"""Elements of an array that is logged as a list; wandb logs a larger one as a histogram of 32 bins."""
_ARRAYS = frozenset({"numpy", "torch", "tensorflow", "jaxlib", "jax"})

Read = Callable[[str], bytes]


def of_value(value: Any) -> Value | None:
    """Return the data type for a figure, PIL image, DataFrame or large array; None for any other value.

    Imports no library to check a type: only the names of the modules that define it are compared.
    """
    kind = type(value)
    if kind in _PLAIN:
        return None
    if isinstance(value, Value):
        return value
    if isinstance(value, ModuleType):
        return Image(value) if is_matplotlib(value) else None
    for base in kind.__mro__:
        package = base.__module__.partition(".")[0]
        if package in _ARRAYS:
            return _of_array(value)
        match package:
            case "matplotlib" if hasattr(value, "savefig") or hasattr(value, "figure"):
                return Image(value)
            case "plotly" if hasattr(value, "to_plotly_json"):
                return Plotly(value)
            case "PIL" if hasattr(value, "save"):
                return Image(value)
            case "pandas" if hasattr(value, "itertuples"):
                return Table(dataframe=value)
    return None


def _of_array(value: Any) -> Histogram | None:
    """Return a histogram of the finite numbers of an array with more than 32 elements."""
    shape = getattr(value, "shape", None)
    if not shape or not hasattr(value, "dtype"):
        return None
    import numpy as np  # a library whose array this is depends on numpy

    array = attempted(lambda: to_array(value), lambda: None)  # a sparse tensor, or one without data
    if array is None or array.size <= _MAX_LISTED or array.dtype.kind not in "biuf":
        return None
    finite = array[np.isfinite(array)]
    return Histogram(finite.astype(np.uint8) if finite.dtype.kind == "b" else finite, num_bins=32)


def read_value(described: Mapping[str, Any], read: Read) -> Value | None:
    """Return the value that an artifact's JSON file describes; `read` returns the bytes of another of its files.

    Return None for an unknown type.
    """
    reader = _READERS.get(described.get("_type", ""))
    return None if reader is None else reader(described, read)


def _stored_path(described: Mapping[str, Any], read: Read) -> str:
    path = StoredPath(described["path"])
    path.data = read(str(path))
    return path


def _image(described: Mapping[str, Any], read: Read) -> Image:
    masks = {
        key: ImageMask({"path": _stored_path(mask, read)}, key) for key, mask in described.get("masks", {}).items()
    }
    boxes = {
        key: BoundingBoxes2D({"box_data": data, "class_labels": {}}, key)
        for key, data in described.get("boxes", {}).items()
    }
    classes = None
    if "classes" in described:
        classes = Classes(json.loads(read(described["classes"]["path"]))["class_set"])
    return Image(
        _stored_path(described, read),
        caption=described.get("caption"),
        grouping=described.get("grouping"),
        classes=classes,
        boxes=boxes,
        masks=masks,
    )


def _media(kind: Callable[..., Media]) -> Callable[[Mapping[str, Any], Read], Media]:
    return lambda described, read: kind(_stored_path(described, read), caption=described.get("caption"))


def _html(described: Mapping[str, Any], read: Read) -> Html:
    return Html(read(os.fspath(described["path"])).decode(), inject=False, data_is_not_path=True)


def _table(described: Mapping[str, Any], read: Read) -> Table:
    columns = described["columns"]
    types = described.get("column_types", {}).get("params", {}).get("type_map", {})
    times = {position for position, column in enumerate(columns) if "timestamp" in str(types.get(str(column)))}
    table = Table(columns, allow_mixed_types=not types, log_mode=described.get("log_mode", "IMMUTABLE"))
    for row in described["data"]:
        table.add_data(*(_cell(cell, position in times, read) for position, cell in enumerate(row)))
    return table


def _cell(cell: Any, is_time: bool, read: Read) -> Any:
    if is_time and isinstance(cell, int | float):
        return datetime.datetime.fromtimestamp(cell / 1000, tz=datetime.timezone.utc)
    if isinstance(cell, dict) and "_type" in cell:
        return read_value(cell, read) or cell
    return cell


def _joined(described: Mapping[str, Any], read: Read) -> JoinedTable:
    return JoinedTable(described["table1"], described["table2"], described["join_key"])


_READERS: dict[str, Callable[[Mapping[str, Any], Read], Value]] = {
    "image-file": _image,
    "audio-file": _media(Audio),
    "video-file": _media(Video),
    "object3D-file": _media(Object3D),
    "molecule-file": _media(Molecule),
    "html-file": _html,
    "table": _table,
    "eval-table": _table,
    "classes": lambda described, _: Classes(described["class_set"]),
    "joined-table": _joined,
    "partitioned-table": lambda described, _: PartitionedTable(described["parts_path"]),
}
