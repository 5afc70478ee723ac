"""Convert the names and values of Aim's sequences."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from tracelet.backends.aim.objects import EXACT
from tracelet.capture import media
from tracelet.errors import TraceletError
from tracelet.importer.past_run import PastRun, file_format
from tracelet.records import Alert, Audio, Histogram, Image, Record, Scalar, Text

_SYSTEM, _LOG_RECORDS = "__system__", "__log_records"
_GPU_NAMES = {
    "gpu": "percent",
    "gpu_memory_percent": "memory_percent",
    "gpu_power_watts": "power_watts",
    "gpu_temp": "temperature_celsius",
}
_LEVELS = {logging.WARNING: "warning", logging.ERROR: "error"}


def named(name: str, context: Mapping[str, str]) -> tuple[str, str]:
    """Return the tag of a sequence, and its writer: "val/loss" and "val" for `loss` in `{"subset": "val"}`.

    Other keys of the context are `key=value/` before the name.
    """
    if name.startswith(_SYSTEM):
        own = name.removeprefix(_SYSTEM)
        gpu = context.get("gpu")
        return f"system/{own if gpu is None else f'gpu/{gpu}/{_GPU_NAMES.get(own, own)}'}", "system"
    writer = context.get("subset", "")
    others = [f"{key}={value}" for key, value in sorted(context.items()) if key != "subset"]
    return "/".join([part for part in (writer, *others) if part] + [name]), writer


def records_of(
    tag: str,
    name: str,
    context: Mapping[str, Any],
    value: Any,
    step: int | None,
    wall_time: float,
    writer: str,
    run: PastRun,
) -> Iterator[Record]:
    """Yield the record of a point; of a list of objects, one for each as `tag/0`, `tag/1`."""
    if isinstance(value, (bool, int, float)):
        yield Scalar(tag, float(value), step, wall_time, writer)
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from records_of(f"{tag}/{index}", name, context, item, step, wall_time, writer, run)
        return
    if name == _LOG_RECORDS:
        yield _alert(value, wall_time)
        return
    kind = type(value).__name__
    try:
        record = _object(kind, tag, value, step, wall_time, writer)
    except (KeyError, ValueError, TypeError, AttributeError, TraceletError) as error:
        run.damaged(f"{tag}: a damaged {kind} ({type(error).__name__}: {error})")
        return
    if record is None:
        run.damaged(f"{tag}: a value of the type {kind} is not imported")
    else:
        yield record


def _object(kind: str, tag: str, value: Any, step: int | None, wall_time: float, writer: str) -> Record | None:
    """Return the record of one of Aim's objects; None for another type."""
    if isinstance(value, str):
        return Text(tag, value, step, wall_time, writer)
    storage = value.storage
    match kind:
        case "Text" | "LogLine":
            return Text(tag, str(storage["data"].load()), step, wall_time, writer)
        case "Figure":
            return Text(tag, json.dumps(value.json()), step, wall_time, writer)
        case "Image":
            caption = str(storage["caption"] or "")
            size = int(storage["width"]), int(storage["height"])
            data = bytes(storage["data"].load())
            return Image(tag, data, file_format(storage["format"]), *size, step, wall_time, writer, caption)
        case "Audio":
            data, form = bytes(storage["data"].load()), file_format(storage["format"])
            rate = int.from_bytes(data[24:28], "little") if data[12:16] == b"fmt " else 0
            return Audio(tag, data, form, float(rate), step, wall_time, writer, str(storage["caption"] or ""))
        case "Distribution":
            record = _histogram(value)
            return msgspec.structs.replace(record, tag=tag, step=step, wall_time=wall_time, writer=writer)
    return None


def _histogram(value: Any) -> Histogram:
    """Return the exact buckets that tracelet attached, or Aim's own."""
    exact = value.storage.get(EXACT, None)
    if exact is None:
        return media.histogram(None, 0, value.to_np_histogram())
    facts = json.loads(exact.load())
    limits, counts = (tuple(float(number) for number in facts[name]) for name in ("limits", "counts"))
    low, high, count, total, squares = (float(facts[name]) for name in ("min", "max", "num", "sum", "sum_squares"))
    return Histogram("", limits, counts, low, high, count, total, squares, None, 0.0)


def _alert(record: Any, wall_time: float) -> Alert:
    storage = record.storage
    extra = storage.get("extra_args", None) or {}
    message, level = str(storage["message"]), _LEVELS.get(storage["log_level"], "info")
    return Alert(str(extra.get("title", message)), str(extra.get("text", "")), level, wall_time)
