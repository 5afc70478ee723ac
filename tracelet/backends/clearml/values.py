"""How names, points and parameters look in ClearML. Pure functions, no clearml import."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

from tracelet.records import Scalar, Summary, shown_step

SECTION = "General"
"""The section of the hyper-parameters that `task.connect` uses too."""
EXACT_PARAMS, EXACT_SUMMARY = "tracelet_params", "tracelet_summary"
NOTE = "tracelet point: "
"""What a console line begins with that tells a point no chart can hold."""

Event = dict[str, Any]

# What would be invisible or unwritable in a title: control characters, half surrogates, blanks at the ends. A "%" only
# where it could be read as one of our own escapes.
_ODD = re.compile(r"%(?=[0-9A-F]{2}|u[0-9A-F]{4}|$)|^ +| +$|[\x00-\x1f\x7f-\x9f]|[\ud800-\udfff]")
_ESCAPE = re.compile(r"%u([0-9A-F]{4})|%([0-9A-F]{2})")
_UNSAFE = re.compile(r"[^\w.\-+=@()\[\] ]")
_PART = 80
_STEPS = range(-(2**63), 2**63)
# Where ClearML's own `report_single_value` puts a number.
_SINGLE_PLOT, _SINGLE_STEP = "Summary", -(2**31)


def title_series(tag: str) -> tuple[str, str]:
    """A tag as ClearML's own TensorBoard capture splits it: "loss/train" is the series "train" in the plot "loss", and
    a tag without a "/" is the one series of its own plot. No two tags share both; `tag_of` goes back.

    "loss/loss" would meet "loss": its series is "~loss".
    """
    above, slash, last = tag.rpartition("/")
    if not slash:
        return visible(tag), visible(tag)
    title, series = visible(above), visible(last)
    if title.lstrip("~") == series.lstrip("~") and _tildes(series) >= _tildes(title):
        series = "~" + series
    return title, series


def tag_of(title: str, series: str) -> str:
    """The tag behind a title and a series of `title_series`."""
    if title == series:
        return original(title)
    if title.lstrip("~") == series.lstrip("~") and _tildes(series) > _tildes(title):
        series = series[1:]
    return f"{original(title)}/{original(series)}"


def _tildes(text: str) -> int:
    return len(text) - len(text.lstrip("~"))


def visible(name: str) -> str:
    """A name without what a page cannot show, as %XX; the empty one is "%". `original` goes back."""
    return _ODD.sub(lambda found: "".join(map(_escaped, found[0])), name) or "%"


def original(name: str) -> str:
    """The name behind one of `visible`."""
    return "" if name == "%" else _ESCAPE.sub(lambda found: chr(int(found[1] or found[2], 16)), name)


def _escaped(char: str) -> str:
    return f"%{ord(char):02X}" if ord(char) < 0x100 else f"%u{ord(char):04X}"


def file_name(tag: str, step: int, digest: str, suffix: str) -> str:
    """A path for one medium below the task's folder: the same for the same content, another one for any other."""
    title, series = title_series(tag)
    identity = hashlib.sha256(f"{tag}\0{digest}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{_folder(title)}/{_folder(series)}/{step}_{identity}{suffix}"


def _folder(part: str) -> str:
    return _UNSAFE.sub("_", part)[:_PART].strip(" .") or "_"


def suffix(form: str) -> str:
    """The ending of a file of a format: ".png"."""
    return f".{''.join(letter for letter in form if letter.isalnum() and letter.isascii()) or 'bin'}"


def milliseconds(wall_time: float) -> int:
    """A wall time as an event has it. Nothing before the epoch, and nothing that is no time."""
    return max(0, round(wall_time * 1000)) if math.isfinite(wall_time) else 0


def fits(step: int) -> bool:
    """Whether a server takes this step: it refuses what is beyond 64 bits."""
    return step in _STEPS


def scalar_event(task: str, scalar: Scalar, name: tuple[str, str]) -> Event:
    """A point of a curve; one that no chart can hold is a line of the console.

    A server's store refuses NaN and the infinities, and everything that comes in one request with them; ClearML itself
    sends 0 instead.
    """
    step = shown_step(scalar.step)
    if not (fits(step) and math.isfinite(scalar.value)):
        told = {"tag": scalar.tag, "step": step, "value": repr(scalar.value), "wall_time": scalar.wall_time}
        return console_event(task, scalar.wall_time, NOTE + json.dumps(told))
    return {
        "type": "training_stats_scalar",
        "task": task,
        "timestamp": milliseconds(scalar.wall_time),
        "iter": step,
        "metric": name[0],
        "variant": name[1],
        "value": scalar.value,
    }


def figure_events(task: str, summary: Summary) -> list[Event]:
    """The numbers of a summary as ClearML's single values, as far as a server takes them."""
    return [
        {
            "type": "training_stats_scalar",
            "task": task,
            "timestamp": milliseconds(summary.wall_time),
            "iter": _SINGLE_STEP,
            "metric": _SINGLE_PLOT,
            "variant": visible(name),
            "value": float(value),
        }
        for name, value in summary.values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]


def console_event(task: str, wall_time: float, message: str) -> Event:
    """A line of the task's console."""
    return {
        "type": "log",
        "task": task,
        "timestamp": milliseconds(wall_time),
        "level": "info",
        "worker": "tracelet",
        "msg": message,
    }


def event(task: str, type: str, record: Any, name: tuple[str, str], **more: Any) -> Event:
    """An event of a record that has a tag and a step."""
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
    """Params by the names that ClearML's page shows; a slash of ours does not end the section."""
    return {f"{SECTION}/{visible(name)}": value for name, value in values.items()}
