"""Convert names, points and parameters to ClearML's formats. Pure functions, without importing clearml."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

from tracelet.records import Scalar, Summary, shown_step

SECTION = "General"
"""The section of hyper-parameters that `task.connect` uses too."""
EXACT_PARAMS, EXACT_SUMMARY = "tracelet_params", "tracelet_summary"
POINT_PREFIX = "tracelet point: "
"""Prefix of a console line with a point that no chart can hold."""

Event = dict[str, Any]

# Characters that are invisible or invalid in a title: control characters, lone surrogates, blanks at the ends. Also a
# "%" that would read as an escape.
_ESCAPED = re.compile(r"%(?=[0-9A-F]{2}|u[0-9A-F]{4}|$)|^ +| +$|[\x00-\x1f\x7f-\x9f]|[\ud800-\udfff]")
_ESCAPE_SEQUENCE = re.compile(r"%u([0-9A-F]{4})|%([0-9A-F]{2})")
_UNSAFE_CHARS = re.compile(r"[^\w.\-+=@()\[\] ]")
_MAX_NAME = 80
_STEPS = range(-(2**63), 2**63)
# The plot and step of ClearML's own `report_single_value`.
_SINGLE_PLOT, _SINGLE_STEP = "Summary", -(2**31)


def title_series(tag: str) -> tuple[str, str]:
    """Return the plot's title and the series for a tag. They are unique to the tag; `tag_of` is the inverse.

    As in ClearML's own TensorBoard capture, "loss/train" is the series "train" of the plot "loss". A tag without a "/"
    is the one series of its own plot. "loss/loss" has the series "~loss", because "loss" has the series "loss".
    """
    above, slash, last = tag.rpartition("/")
    if not slash:
        return escape(tag), escape(tag)
    title, series = escape(above), escape(last)
    if title.lstrip("~") == series.lstrip("~") and _tildes(series) >= _tildes(title):
        series = "~" + series
    return title, series


def tag_of(title: str, series: str) -> str:
    """Return the tag for the results of `title_series`."""
    if title == series:
        return unescape(title)
    if title.lstrip("~") == series.lstrip("~") and _tildes(series) > _tildes(title):
        series = series[1:]
    return f"{unescape(title)}/{unescape(series)}"


def _tildes(text: str) -> int:
    return len(text) - len(text.lstrip("~"))


def escape(name: str) -> str:
    """Replace the characters that a page cannot show by %XX. The empty name is "%"; `unescape` is the inverse."""
    return _ESCAPED.sub(lambda match: "".join(map(_escape_char, match[0])), name) or "%"


def unescape(name: str) -> str:
    """Return the name for a result of `escape`."""
    return "" if name == "%" else _ESCAPE_SEQUENCE.sub(lambda match: chr(int(match[1] or match[2], 16)), name)


def _escape_char(char: str) -> str:
    return f"%{ord(char):02X}" if ord(char) < 0x100 else f"%u{ord(char):04X}"


def file_name(tag: str, step: int, digest: str, suffix: str) -> str:
    """Return the path of one medium below the task's folder. Different content has a different path."""
    title, series = title_series(tag)
    identity = hashlib.sha256(f"{tag}\0{digest}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{_folder(title)}/{_folder(series)}/{step}_{identity}{suffix}"


def _folder(part: str) -> str:
    return _UNSAFE_CHARS.sub("_", part)[:_MAX_NAME].strip(" .") or "_"


def suffix(form: str) -> str:
    """Return the file name extension of a format, for example ".png"."""
    return f".{''.join(letter for letter in form if letter.isalnum() and letter.isascii()) or 'bin'}"


def milliseconds(wall_time: float) -> int:
    """Return a wall time in milliseconds. A time before the epoch, NaN and the infinities become 0."""
    return max(0, round(wall_time * 1000)) if math.isfinite(wall_time) else 0


def is_valid_step(step: int) -> bool:
    """Return whether the step fits 64 bits. A server rejects any other."""
    return step in _STEPS


def scalar_event(task: str, scalar: Scalar, name: tuple[str, str]) -> Event:
    """Return a point of a curve, or a console line if no chart can hold the point.

    A server rejects NaN and the infinities, together with all other events of the request. ClearML itself sends 0
    instead.
    """
    step = shown_step(scalar.step)
    if not (is_valid_step(step) and math.isfinite(scalar.value)):
        point = {"tag": scalar.tag, "step": step, "value": repr(scalar.value), "wall_time": scalar.wall_time}
        return console_event(task, scalar.wall_time, POINT_PREFIX + json.dumps(point))
    return {
        "type": "training_stats_scalar",
        "task": task,
        "timestamp": milliseconds(scalar.wall_time),
        "iter": step,
        "metric": name[0],
        "variant": name[1],
        "value": scalar.value,
    }


def summary_events(task: str, summary: Summary) -> list[Event]:
    """Return the finite numbers of a summary as ClearML's single values."""
    return [
        {
            "type": "training_stats_scalar",
            "task": task,
            "timestamp": milliseconds(summary.wall_time),
            "iter": _SINGLE_STEP,
            "metric": _SINGLE_PLOT,
            "variant": escape(name),
            "value": float(value),
        }
        for name, value in summary.values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]


def console_event(task: str, wall_time: float, message: str) -> Event:
    """Return a line of the task's console."""
    return {
        "type": "log",
        "task": task,
        "timestamp": milliseconds(wall_time),
        "level": "info",
        "worker": "tracelet",
        "msg": message,
    }


def event(task: str, type: str, record: Any, name: tuple[str, str], **more: Any) -> Event:
    """Return an event for a record with a tag and a step."""
    return {
        "type": type,
        "task": task,
        "timestamp": milliseconds(record.wall_time),
        "iter": shown_step(record.step),
        "metric": name[0],
        "variant": name[1],
        **more,
    }


def parameters(values: dict[str, Any]) -> dict[str, Any]:
    """Return parameters by ClearML's full names. A slash in a name does not end the section."""
    return {f"{SECTION}/{escape(name)}": value for name, value in values.items()}
