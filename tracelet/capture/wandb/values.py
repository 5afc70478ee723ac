"""Convert one value that a program logs to wandb to records. Pure functions, without importing wandb.

wandb's media classes are recognised by their names and read by their attributes. Bytes are read from their files at
once: wandb moves the files when it logs them.
"""

from __future__ import annotations

import datetime
import enum
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from tracelet.capture import media
from tracelet.capture.ply import ply
from tracelet.capture.values import to_plain, to_text
from tracelet.errors import TraceletError
from tracelet.records import Audio, Histogram, Image, Mesh, Record, Scalar, Table, Tensor, Text, Video

Reader: TypeAlias = Callable[[str, Any, "int | None", float], Iterator[Record]]

_FORMATS = {"jpg": "jpeg"}
_NUMBERS = "biuf"


class _Class:
    """How to read a class of wandb's, and the attributes that an object needs for it."""

    def __init__(self, read: Reader, *attributes: str) -> None:
        self.read, self.attributes = read, attributes


class NotCarried(TraceletError):
    """A value has no form as a record. The message is its type, and why."""


def records_of(name: str, value: Any, step: int | None, wall_time: float) -> Iterator[Record]:
    """Yield the records of one named value.

    A dict yields those of its members as `name/key`, and a list of media those of its items as `name/0`, `name/1`.

    Raises:
        NotCarried: the value, or a part of it, has no form as a record. See also `media_file`.
        OSError: the file of a media object cannot be read.
    """
    reader = media_reader(value)
    if reader is not None:
        yield from reader(name, value, step, wall_time)
        return
    match value:
        case bool() | int() | float():
            yield _number(name, value, step, wall_time)
        case str() | bytes() | None:
            yield Text(name, str(to_plain(value)), step, wall_time)
        case Mapping() if value:
            for key, item in value.items():
                yield from records_of(f"{name}.{key}", item, step, wall_time)
        case list() | tuple() | range() if value and all(media_reader(item) for item in value):
            for index, item in enumerate(value):
                yield from records_of(f"{name}/{index}", item, step, wall_time)
        case enum.Enum():
            yield Text(name, value.name, step, wall_time)
        case datetime.date():
            yield Text(name, value.isoformat(), step, wall_time)
        case _ if hasattr(value, "dtype"):
            yield _array(name, value, step, wall_time)
        case _ if hasattr(value, "to_plotly_json"):
            yield _plotly_figure(name, value, step, wall_time)
        case _ if hasattr(value, "to_dict") and hasattr(value, "columns"):
            yield Table(name, media.table(None, value), step, wall_time)
        case _ if (figure := _figure(value)) is not None:
            data, width, height = media.png(figure, "")
            yield Image(name, data, "png", width, height, step, wall_time)
        case _:
            yield _plain(name, value, step, wall_time)


def media_reader(value: Any) -> Reader | None:
    """Return the function that reads one of wandb's media objects; None for any other value."""
    if value.__class__ in (float, int, str):
        return None
    for base in type(value).__mro__:
        entry = _CLASSES.get(base.__name__)
        if entry is not None and all(hasattr(value, attribute) for attribute in entry.attributes):
            return entry.read
    return None


def media_file(value: Any) -> str | None:
    """Return the path of a media object's file that no record can hold: the program logs it as an artifact."""
    names = {base.__name__ for base in type(value).__mro__}
    path = getattr(value, "_path", None)
    is_file = isinstance(path, str) and os.path.isfile(path)
    return path if is_file and names & {"Object3D", "Molecule", "_SavedModel"} and _points(value) is None else None


def _number(name: str, value: Any, step: int | None, wall_time: float) -> Record:
    try:
        return Scalar(name, float(value), step, wall_time)
    except OverflowError:  # an int beyond float64
        return Text(name, str(to_plain(value)), step, wall_time)


def _plotly_figure(name: str, value: Any, step: int | None, wall_time: float) -> Record:
    return Text(name, str(value.to_json()), step, wall_time)


def _plain(name: str, value: Any, step: int | None, wall_time: float) -> Record:
    plain = to_plain(value)
    if isinstance(plain, bool | int | float):
        return _number(name, plain, step, wall_time)
    return Text(name, plain if isinstance(plain, str) else _json(plain), step, wall_time)


def _json(value: Any) -> str:
    return json.dumps(to_plain(value), ensure_ascii=False)


def _array(name: str, value: Any, step: int | None, wall_time: float) -> Record:
    """Return the record of an array or tensor: a number if it has one element, as wandb stores it."""
    import numpy as np

    array = np.asarray(media.to_host(value))
    if array.size == 1 and array.dtype.kind in _NUMBERS:
        return _number(name, array.reshape(-1)[0].item(), step, wall_time)
    if array.dtype.kind not in _NUMBERS or array.ndim == 0:
        return _plain(name, value, step, wall_time)
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return Tensor(name, array.tobytes(), array.dtype.name, array.shape, step, wall_time)


def _figure(value: Any) -> Any | None:
    """Return the matplotlib figure of a figure, of an artist in one, or of the module pyplot."""
    for candidate in (value, getattr(value, "figure", None)):
        if hasattr(candidate, "savefig"):
            return candidate
    return None


# The readers of wandb's media classes.


def _bytes(value: Any) -> bytes:
    path = value._path
    if "://" in str(path) and not os.path.exists(path):
        raise NotCarried(f"a {type(value).__name__} that refers to external storage")
    with open(path, "rb") as file:
        return file.read()


def _caption(value: Any) -> str:
    caption = getattr(value, "_caption", None)
    return "" if caption is None else to_text(caption)


def _format(value: Any, attribute: str) -> str:
    suffix: str = getattr(value, attribute, None) or os.path.splitext(value._path)[1].removeprefix(".")
    return _FORMATS.get(suffix.lower(), suffix.lower())


def _image(name: str, value: Any, step: int | None, wall_time: float) -> Iterator[Record]:
    """Yield the image, its masks as images of their class ids, and its boxes and class names as JSON."""
    width, height = value._width or 0, value._height or 0
    yield Image(name, _bytes(value), _format(value, "format"), width, height, step, wall_time, caption=_caption(value))
    for key, mask in (value._masks or {}).items():
        labels = _json(getattr(mask, "_val", {}).get("class_labels", {}))
        yield Image(f"{name}/masks/{key}", _bytes(mask), "png", width, height, step, wall_time, caption=labels)
    for key, boxes in (value._boxes or {}).items():
        found = {"class_labels": boxes._class_labels, "box_data": boxes._val}
        yield Text(f"{name}/boxes/{key}", _json(found), step, wall_time)
    if value._classes is not None and not value._masks and not value._boxes:
        yield Text(f"{name}/classes", _json(value._classes._class_set), step, wall_time)


def _audio(name: str, value: Any, step: int | None, wall_time: float) -> Iterator[Record]:
    data = _bytes(value)
    rate = getattr(value, "_sample_rate", None) or wav_rate(data)
    yield Audio(name, data, _format(value, ""), float(rate), step, wall_time, caption=_caption(value))


def wav_rate(data: bytes) -> int:
    """Return the sample rate in the header of a WAV file; 0 for any other."""
    return int.from_bytes(data[24:28], "little") if data[:4] == b"RIFF" and data[12:16] == b"fmt " else 0


def _video(name: str, value: Any, step: int | None, wall_time: float) -> Iterator[Record]:
    width, height = value._width or 0, value._height or 0
    yield Video(name, _bytes(value), _format(value, "_format"), width, height, step, wall_time, caption=_caption(value))


def _histogram(name: str, value: Any, step: int | None, wall_time: float) -> Iterator[Record]:
    record: Histogram = media.histogram(None, 0, (value.histogram, value.bins))
    yield msgspec.structs.replace(record, tag=name, step=step, wall_time=wall_time)


def _table(name: str, value: Any, step: int | None, wall_time: float) -> Iterator[Record]:
    """Yield the table. Media in a cell are records `name/column/row`, and the cell has that name.

    Raises:
        NotCarried: after all others, if the media of some cells have no form as a record.
    """
    columns = [str(column) for column in value.columns]
    rows, cells = [], []
    for number, row in enumerate(value.data):
        named = zip(columns, row, strict=True)
        names = [f"{name}/{column}/{number}" if media_reader(cell) else "" for column, cell in named]
        cells += [(tag, cell) for tag, cell in zip(names, row, strict=True) if tag]
        rows.append([tag or cell for tag, cell in zip(names, row, strict=True)])
    yield Table(name, media.table(columns, rows), step, wall_time)
    failed = None
    for tag, cell in cells:
        try:
            yield from records_of(tag, cell, step, wall_time)
        except NotCarried as error:
            failed = error
    if failed is not None:
        raise failed


def _joined_table(name: str, value: Any, step: int | None, wall_time: float) -> Iterator[Record]:
    for index, table in enumerate((value._table1, value._table2), 1):
        if media_reader(table) is None:
            raise NotCarried("a JoinedTable of tables in an artifact")
        yield from records_of(f"{name}/table{index}", table, step, wall_time)
    yield Text(f"{name}/join_key", _json(value._join_key), step, wall_time)


def _chart(name: str, value: Any, step: int | None, wall_time: float) -> Iterator[Record]:
    """Yield the table that a chart of `wandb.plot` shows."""
    yield from records_of(name, value.table, step, wall_time)


def _text_file(name: str, value: Any, step: int | None, wall_time: float) -> Iterator[Record]:
    """Yield the text of HTML, or the JSON of a Plotly or Bokeh figure."""
    yield Text(name, _bytes(value).decode("utf-8", "backslashreplace"), step, wall_time)


def _graph(name: str, value: Any, step: int | None, wall_time: float) -> Iterator[Record]:
    yield Text(name, _json(value._to_graph_json()), step, wall_time)


def _trace(name: str, value: Any, step: int | None, wall_time: float) -> Iterator[Record]:
    yield Text(name, _json({"root_span": value._root_span, "model": value._model_dict}), step, wall_time)


def _object_3d(name: str, value: Any, step: int | None, wall_time: float) -> Iterator[Record]:
    points = _points(value)
    if points is None:
        raise NotCarried(f"a {type(value).__name__}, which is a file")
    yield Mesh(name, (ply(points[:, :3], points[:, 3:] if points.shape[1] > 3 else None, None),), "", step, wall_time)


def _points(value: Any) -> Any | None:
    """Return the points of an Object3D, [N, 3] or with colors [N, 6]; None for a scene, categories or a model file."""
    import numpy as np

    if not str(value._path).endswith(".pts.json"):
        return None
    points = json.loads(_bytes(value))
    array = np.asarray(points, float) if isinstance(points, list) and points else np.zeros((0, 0))
    return array if array.ndim == 2 and array.shape[1] in (3, 6) else None


def _file(name: str, value: Any, step: int | None, wall_time: float) -> Iterator[Record]:
    raise NotCarried(f"a {type(value).__name__}, which is a file")
    yield


def _no_record(name: str, value: Any, step: int | None, wall_time: float) -> Iterator[Record]:
    raise NotCarried(f"a {type(value).__name__}")
    yield


# The reader of each class, and the attributes that it needs. `WBValue` is the base of all others.
_CLASSES = {
    "Image": _Class(_image, "_path", "_masks", "_boxes", "_classes", "_width", "_height"),
    "Audio": _Class(_audio, "_path"),
    "Video": _Class(_video, "_path", "_width", "_height"),
    "Table": _Class(_table, "columns", "data", "_pk_col"),
    "JoinedTable": _Class(_joined_table, "_table1", "_table2", "_join_key"),
    "CustomChart": _Class(_chart, "table", "spec"),
    "Visualize": _Class(_chart, "table", "spec"),
    "Histogram": _Class(_histogram, "histogram", "bins"),
    "Html": _Class(_text_file, "_path"),
    "Plotly": _Class(_text_file, "_path"),
    "Bokeh": _Class(_text_file, "_path"),
    "Graph": _Class(_graph, "_to_graph_json"),
    "WBTraceTree": _Class(_trace, "_root_span", "_model_dict"),
    "Object3D": _Class(_object_3d, "_path"),
    "Molecule": _Class(_file, "_path"),
    "WBValue": _Class(_no_record),
}
