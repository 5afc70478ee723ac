"""What the event files of a program hold and what a backend was told, in the same words."""

from collections import defaultdict
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tracelet.capture.naming import metric_name
from tracelet.records import Graph, Histogram, Image, Params, Scalar, Text, shown_step

PARAMS = "(hyper-parameters)"


def in_files(base, root, members):
    """{name of the series: [(kind, step, wall time, content), ...]} of the event files below `base`.

    `root` is the directory whose tags have no prefix. `members` names the one series of each directory that
    add_scalars made, by the directory's path from `root`.
    """
    root, found = Path(root).resolve(), defaultdict(list)
    named = {root / directory: name for directory, name in members.items()}
    for folder in sorted({path.parent.resolve() for path in Path(base).rglob("events.out.tfevents.*")}):
        for event in _events(folder):
            for tag, *said in _said(event):
                name = tag if tag == PARAMS else named.get(folder) or metric_name(str(root), str(folder), tag)
                found[name].append(tuple(said))
    return dict(found)


def as_told(memory):
    """The same of the records in a MemoryBackend, with what no event file holds left out."""
    found = defaultdict(list)
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
                figures = (record.minimum, record.maximum, record.count, record.total, record.sum_squares)
                content = (limits, counts, figures)
            case Image(data=data):
                content = memory.data(data)
            case Graph(parts=parts):
                content = memory.data(parts[0])
            case _:
                raise AssertionError(f"no word for {record!r} yet")
        kind = type(record).__name__.lower()
        found[record.tag].append((kind, shown_step(record.step), record.wall_time, content))
    return dict(found)


def _numbers_as_such(path):
    """The tenth file of a process is later than its ninth."""
    return [int(part) if part.isdigit() else part for part in path.name.split(".")]


def _events(folder):
    for path in sorted(folder.glob("events.out.tfevents.*"), key=_numbers_as_such):
        yield from map(Event.FromString, RawEventFileLoader(str(path)).Load())


def _said(event):
    """(tag, kind, step, wall time, content) of each value of an event."""
    step, wall_time = event.step, event.wall_time
    if event.WhichOneof("what") == "graph_def":
        yield "graph", "graph", step, wall_time, event.graph_def
    for value in event.summary.value:
        match value.WhichOneof("value"), value.metadata.plugin_data.plugin_name:
            case "simple_value", _:
                yield value.tag, "scalar", step, wall_time, _float32(value.simple_value)
            case "tensor", "text":
                text = b"\n".join(value.tensor.string_val).decode()
                yield value.tag.removesuffix("/text_summary"), "text", step, wall_time, text
            case "histo", _:
                h = value.histo
                figures = (h.min, h.max, h.num, h.sum, h.sum_squares)
                yield value.tag, "histogram", step, wall_time, (tuple(h.bucket_limit), tuple(h.bucket), figures)
            case "image", _:
                yield value.tag, "image", step, wall_time, value.image.encoded_image_string
            case _, "hparams":
                data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                if data.WhichOneof("data") == "session_start_info":  # the other two of an add_hparams say nothing more
                    given = data.session_start_info.hparams.items()
                    values = {name: getattr(one, one.WhichOneof("kind")) for name, one in given}
                    yield PARAMS, "params", None, wall_time, _plain(values)
            case other:
                raise AssertionError(f"no word for {other} yet")


def _float32(value):
    """A number as the event file rounds it, by its text: NaN equals itself."""
    with np.errstate(over="ignore"):
        return repr(float(np.float32(value)))


def _plain(values):
    """Hyper-parameters as the event file has them: floats for ints and bools, nothing for None."""
    told = {name: float(one) if isinstance(one, int) else one for name, one in values.items()}
    return sorted((name, repr(one)) for name, one in told.items() if one is not None)
