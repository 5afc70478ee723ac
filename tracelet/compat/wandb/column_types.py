"""Infer the types of a table's columns, check rows against them, and describe them as wandb's tables do."""

from __future__ import annotations

import datetime
import math
from typing import Any, NamedTuple

from tracelet.compat.wandb.base import Value, derives_from

_NUMPY_KINDS = {"b": "boolean", "i": "number", "u": "number", "f": "number", "c": "number", "M": "timestamp"}
_NUMPY_KINDS |= {"U": "string", "S": "string"}


class ColumnType(NamedTuple):
    """A type of cells. `detail` depends on `name`:

    list: the type of the elements and the length of the last list; typedDict: the type of each key;
    ndarray: the shape; pythonObject: the name of the class.
    """

    name: str
    detail: Any = None
    optional: bool = False


UNKNOWN = ColumnType("unknown")
NONE = ColumnType("none")
ANY = ColumnType("any")
_CLASSES: dict[type, str] = {
    int: "number",
    float: "number",
    str: "string",
    bool: "boolean",
    datetime.datetime: "timestamp",
    datetime.date: "timestamp",
}


def type_of(value: Any) -> ColumnType:
    """Return the type of a cell. NaN is no value, as in wandb."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NONE
    if type(value) in _CLASSES:
        return ColumnType(_CLASSES[type(value)])
    match value:
        case Value():
            return ColumnType(value._log_type)
        case dict():
            return ColumnType("typedDict", {key: type_of(item) for key, item in value.items()})
        case list() | tuple() | set() | frozenset():
            return ColumnType("list", (_common(list(value)), len(value)))
    if derives_from(value, "numpy") and hasattr(value, "dtype"):
        if type(value).__name__ == "ndarray":
            return ColumnType("ndarray", tuple(value.shape))
        if value.dtype.kind in _NUMPY_KINDS:
            return ColumnType(_NUMPY_KINDS[value.dtype.kind])
    inherited = next((name for kind, name in _CLASSES.items() if isinstance(value, kind)), None)
    return ColumnType(inherited) if inherited is not None else ColumnType("pythonObject", type(value).__name__)


def _common(items: list[Any]) -> ColumnType:
    common = UNKNOWN._replace(optional=None in items)
    for item in items:
        merged = merge(common, type_of(item))
        if merged is None:
            return ColumnType("invalid")
        common = merged
    return common


def merge(column: ColumnType, cell: ColumnType) -> ColumnType | None:
    """Return the type of a column that also has this cell, or None if the cell does not fit."""
    if cell.name == "none":
        return column if column.optional or column.name == "none" else None
    if column.name == "any":
        return column
    if column.name == "unknown":
        return cell._replace(optional=column.optional or cell.optional)
    if column.name == "ndarray" and cell.name == "list":
        return column
    if column.name != cell.name:
        return column if cell.name == "unknown" else None
    if column.name == "list":
        return _merged_list(column, cell)
    if column.name == "typedDict":
        return _merged_dict(column, cell)
    return column if column.detail == cell.detail else None


def _merged_list(column: ColumnType, cell: ColumnType) -> ColumnType | None:
    (element, _), (other, length) = column.detail, cell.detail
    if other.optional and not element.optional and element.name != "unknown":
        return None
    merged = merge(element, other)
    if merged is None:
        return None
    return column._replace(detail=(merged, length))


def _merged_dict(column: ColumnType, cell: ColumnType) -> ColumnType | None:
    types, cells = column.detail, cell.detail
    if set(cells) - set(types):
        return None
    merged = {key: merge(kind, cells.get(key, NONE)) for key, kind in types.items()}
    return None if None in merged.values() else column._replace(detail=merged)


def of_dtype(dtype: Any, optional: bool) -> ColumnType:
    """Return the type for a `dtype` argument: None, a class such as `int` or `wandb.Image`, or an example."""
    return _of_dtype(dtype)._replace(optional=optional)


def _of_dtype(dtype: Any) -> ColumnType:
    match dtype:
        case None:
            return UNKNOWN
        case ColumnType():
            return dtype
        case type() if issubclass(dtype, Value):
            return ColumnType(dtype._log_type)
        case type() if dtype in _CLASSES:
            return ColumnType(_CLASSES[dtype])
        case type() if dtype in (list, tuple, set, frozenset):
            return ColumnType("list", (UNKNOWN, None))
        case type() if dtype.__module__.partition(".")[0] == "numpy":
            return ColumnType(_numpy_name(dtype))
        case list() if len(dtype) == 1:
            return ColumnType("list", (_of_dtype(dtype[0]), None))
        case dict():
            return ColumnType("typedDict", {key: _of_dtype(item) for key, item in dtype.items()})
        case Value():
            return type_of(dtype)
    return ANY


def _numpy_name(dtype: type) -> str:
    import numpy as np

    return _NUMPY_KINDS.get(np.dtype(dtype).kind, "any") if issubclass(dtype, np.generic) else "any"


def describe(column: ColumnType) -> dict[str, Any]:
    """Return the type as plain data, in the form of wandb's `column_types`."""
    if column.optional:
        allowed = sorted((column._replace(optional=False), NONE), key=_text)
        return {"wb_type": "union", "params": {"allowed_types": [describe(kind) for kind in allowed]}}
    match column:
        case ColumnType("list", (element, length)):
            return {"wb_type": "list", "params": {"element_type": describe(element), "length": length}}
        case ColumnType("typedDict", dict(types)):
            return {
                "wb_type": "typedDict",
                "params": {"type_map": {key: describe(kind) for key, kind in types.items()}},
            }
        case ColumnType("ndarray", tuple(shape)):
            return _describe_array(shape)
        case ColumnType("pythonObject", name):
            return {"wb_type": "pythonObject", "params": {"class_name": name}}
    return {"wb_type": column.name}


def _describe_array(shape: tuple[int, ...]) -> dict[str, Any]:
    """Describe an array as nested lists, which is how its cells are stored."""
    described: dict[str, Any] = {"wb_type": "number"}
    for length in reversed(shape):
        described = {"wb_type": "list", "params": {"element_type": described, "length": length}}
    return described


def _text(column: ColumnType) -> str:
    """Return the name by which wandb sorts the types of a union."""
    match column:
        case ColumnType("list", (element, _)):
            return f"{_text(element)}[]"
        case ColumnType("typedDict"):
            return "{"
        case ColumnType("ndarray", tuple(shape)):
            return _text(ColumnType("list", (ColumnType("number"), shape[-1] if shape else 0)))
    return column.name.capitalize()
