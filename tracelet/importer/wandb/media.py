"""Convert one value of a row in a `.wandb` file, which refers to media by their paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import msgspec

from tracelet.capture import media
from tracelet.capture.wandb import values
from tracelet.errors import TraceletError
from tracelet.importer.past_run import file_format
from tracelet.importer.wandb.files import RunFiles
from tracelet.records import Audio, Image, Record, Table, Text, Video

_TEXTS = ("html-file", "plotly-file", "bokeh-file")


def records_of(name: str, value: Any, step: int | None, wall_time: float, files: RunFiles) -> Iterator[Record]:
    """Yield the records of one value. Names are as with `tracelet.compat.wandb`: `outer.inner`, `list/0`."""
    match value:
        case {"_type": str(kind)}:
            yield from _media(name, kind, value, step, wall_time, files)
        case dict() if value:
            for key, item in value.items():
                yield from records_of(f"{name}.{key}", item, step, wall_time, files)
        case list() if value and all(isinstance(item, dict) and "_type" in item for item in value):
            for index, item in enumerate(value):
                yield from records_of(f"{name}/{index}", item, step, wall_time, files)
        case _:
            yield from values.records_of(name, value, step, wall_time)


def _media(
    name: str, kind: str, value: dict[str, Any], step: int | None, wall_time: float, files: RunFiles
) -> Iterator[Record]:
    if kind == "images/separated":
        yield from _images(name, value, step, wall_time, files)
        return
    items = next((item for item in value.values() if _is_list_of_media(item)), None)
    if items is not None:  # several sounds, videos, ...
        yield from records_of(name, items, step, wall_time, files)
        return
    if kind == "histogram":
        yield from _histogram(name, value, step, wall_time, files)
        return
    path = value.get("path")
    if not isinstance(path, str):
        yield Text(name, json.dumps(value, ensure_ascii=False), step, wall_time)
        return
    if kind not in ("image-file", "audio-file", "video-file", "table-file", *_TEXTS):
        yield from files.file(path, wall_time)
        return
    if kind == "table-file":
        address = str(value.get("artifact_path") or "")
        files = files.of_table(address)
        data = files.table(address) or files.read(path)
    else:
        data = files.read(path)
    if data is None:
        return
    caption, form = str(value.get("caption") or ""), _format(value, path)
    size = _size(value)
    match kind:
        case "image-file":
            yield Image(name, data, form, *size, step, wall_time, caption=caption)
            yield from _overlays(name, value, step, wall_time, files)
        case "audio-file":
            rate = float(value.get("sample_rate") or values.wav_rate(data))
            yield Audio(name, data, form, rate, step, wall_time, caption=caption)
        case "video-file":
            yield Video(name, data, form, *size, step, wall_time, caption=caption)
        case "table-file":
            yield from _table(name, data, step, wall_time, files)
        case _:
            yield Text(name, data.decode("utf-8", "backslashreplace"), step, wall_time)


def _is_list_of_media(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and "path" in item for item in value)


def _images(name: str, value: dict[str, Any], step: int | None, wall_time: float, files: RunFiles) -> Iterator[Record]:
    captions = value.get("captions") or []
    masks, boxes = value.get("all_masks") or [], value.get("all_boxes") or []
    for index, path in enumerate(value.get("filenames") or []):
        data = files.read(path)
        if data is None:
            continue
        caption = str((captions[index] if index < len(captions) else None) or "")
        yield Image(f"{name}/{index}", data, _format(value, path), *_size(value), step, wall_time, caption=caption)
        own = {"masks": masks[index : index + 1], "boxes": boxes[index : index + 1]}
        overlays = {key: item[0] for key, item in own.items() if item and item[0]}
        yield from _overlays(f"{name}/{index}", overlays, step, wall_time, files)


def _overlays(
    name: str, value: dict[str, Any], step: int | None, wall_time: float, files: RunFiles
) -> Iterator[Record]:
    """Yield the masks of an image as images of their class ids, and its boxes as JSON."""
    for key, mask in (value.get("masks") or {}).items():
        data = files.read(mask["path"])
        if data is not None:
            yield Image(f"{name}/masks/{key}", data, "png", 0, 0, step, wall_time)
    for key, boxes in (value.get("boxes") or {}).items():
        data = files.read(boxes["path"])
        if data is not None:
            yield Text(f"{name}/boxes/{key}", data.decode("utf-8", "backslashreplace"), step, wall_time)


def _histogram(
    name: str, value: dict[str, Any], step: int | None, wall_time: float, files: RunFiles
) -> Iterator[Record]:
    edges = value.get("bins")
    if edges is None:
        packed = value["packedBins"]
        edges = [packed["min"] + packed["size"] * number for number in range(packed["count"] + 1)]
    try:
        record = media.histogram(None, 0, (value["values"], edges))
    except TraceletError as error:
        files.run.damaged(f"{name}: {error}")
        return
    yield msgspec.structs.replace(record, tag=name, step=step, wall_time=wall_time)


def _table(name: str, data: bytes, step: int | None, wall_time: float, files: RunFiles) -> Iterator[Record]:
    """Yield a table. Media in a cell are records `name/column/row`, and the cell has that name."""
    try:
        content = json.loads(data)
        columns, rows = [str(column) for column in content["columns"]], content["data"]
    except (ValueError, KeyError, TypeError) as error:
        files.run.damaged(f"{name}: not a table of wandb ({type(error).__name__})")
        return
    cells = []
    for number, row in enumerate(rows):
        for index, cell in enumerate(row):
            if isinstance(cell, dict) and "_type" in cell:
                tag = f"{name}/{columns[index]}/{number}"
                row[index] = tag
                cells.append((tag, cell))
    yield Table(name, media.table(columns, rows), step, wall_time)
    for tag, cell in cells:
        yield from records_of(tag, cell, step, wall_time, files)


def _format(value: dict[str, Any], path: str) -> str:
    return file_format(value.get("format") or PurePosixPath(path).suffix.removeprefix("."))


def _size(value: dict[str, Any]) -> tuple[int, int]:
    return int(value.get("width") or 0), int(value.get("height") or 0)
