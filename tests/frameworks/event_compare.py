"""Convert event files and the records of a backend to the same form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tracelet.backends.memory import MemoryBackend
from tracelet.capture.naming import metric_name
from tracelet.records import Graph, Histogram, Image, Params, Scalar, Text, shown_step

PARAMS = "(hyper-parameters)"
Point: TypeAlias = tuple[str, int | None, float, Any]
"""(kind, step, wall time, content)."""


def in_files(base: str | Path, root: str | Path, members: Mapping[str, str]) -> dict[str, list[Point]]:
    """Return the points of each series in the event files below `base`.

    `root` is the directory whose tags have no prefix. `members` has the series of each directory that add_scalars
    created, by the directory's path from `root`.
    """
    top = Path(root).resolve()
    found: defaultdict[str, list[Point]] = defaultdict(list)
    named = {top / directory: name for directory, name in members.items()}
    for folder in sorted({path.parent.resolve() for path in Path(base).rglob("events.out.tfevents.*")}):
        for event in _events(folder):
            for tag, point in _points(event):
                name = tag if tag == PARAMS else named.get(folder) or metric_name(str(top), str(folder), tag)
                found[name].append(point)
    return dict(found)


def in_memory(memory: MemoryBackend) -> dict[str, list[Point]]:
    """Return the points of each series in a MemoryBackend, without data that no event file has."""
    found: defaultdict[str, list[Point]] = defaultdict(list)
    content: Any
    for record in memory.records:
        match record:
            case Params(values=values):
                found[PARAMS].append(("params", None, record.wall_time, _plain(values)))
                continue
            case Scalar(value=value):
                content = _float32(value)
            case Text(text=text):
                content = text
            case Histogram(limits=limits, counts=counts):
                statistics = (record.minimum, record.maximum, record.count, record.total, record.sum_squares)
                content = (limits, counts, statistics)
            case Image(data=data):
                content = memory.data(data)
            case Graph(parts=parts):
                content = memory.data(parts[0])
            case _:
                raise AssertionError(f"cannot compare {record!r}")
        kind = type(record).__name__.lower()
        found[record.tag].append((kind, shown_step(record.step), record.wall_time, content))
    return dict(found)


def _natural_order(path: Path) -> list[int | str]:
    """Return a sort key by which the tenth file of a process follows its ninth."""
    return [int(part) if part.isdigit() else part for part in path.name.split(".")]


def _events(folder: Path) -> Iterator[Any]:
    for path in sorted(folder.glob("events.out.tfevents.*"), key=_natural_order):
        yield from map(Event.FromString, RawEventFileLoader(str(path)).Load())


def _points(event: Any) -> Iterator[tuple[str, Point]]:
    """Yield the tag and the point of each value of an event."""
    step, wall_time = event.step, event.wall_time
    if event.WhichOneof("what") == "graph_def":
        yield "graph", ("graph", step, wall_time, event.graph_def)
    for value in event.summary.value:
        match value.WhichOneof("value"), value.metadata.plugin_data.plugin_name:
            case "simple_value", _:
                yield value.tag, ("scalar", step, wall_time, _float32(value.simple_value))
            case "tensor", "text":
                text = b"\n".join(value.tensor.string_val).decode()
                yield value.tag.removesuffix("/text_summary"), ("text", step, wall_time, text)
            case "histo", _:
                h = value.histo
                statistics = (h.min, h.max, h.num, h.sum, h.sum_squares)
                content = (tuple(h.bucket_limit), tuple(h.bucket), statistics)
                yield value.tag, ("histogram", step, wall_time, content)
            case "image", _:
                yield value.tag, ("image", step, wall_time, value.image.encoded_image_string)
            case _, "hparams":
                data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                if data.WhichOneof("data") == "session_start_info":  # the other two of add_hparams repeat it
                    params = data.session_start_info.hparams.items()
                    values = {name: getattr(param, param.WhichOneof("kind")) for name, param in params}
                    yield PARAMS, ("params", None, wall_time, _plain(values))
            case other:
                raise AssertionError(f"cannot compare {other}")


def _float32(value: float) -> str:
    """Return the text of a number as rounded by an event file: by its text, NaN equals itself."""
    with np.errstate(over="ignore"):
        return repr(float(np.float32(value)))


def _plain(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return hyper-parameters as in an event file: ints and bools are floats, None is left out."""
    floats = {name: float(value) if isinstance(value, int) else value for name, value in values.items()}
    return sorted((name, repr(value)) for name, value in floats.items() if value is not None)
