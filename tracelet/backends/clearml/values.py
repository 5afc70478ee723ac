"""Convert names, points, plots and parameters to ClearML's formats. Pure functions, without importing clearml.

A plot is plotly JSON, which ClearML draws. The drawn values may be rounded. `layout.meta` has the exact values as JSON
in a string, because plotly's own JSON cannot contain NaN.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from tracelet import records as r
from tracelet.backends.presentation import CURVE_COLUMNS, curve_rows, histogram_bars, histogram_facts

EXACT_PARAMS, EXACT_SUMMARY = "tracelet_params", "tracelet_summary"
# Prefix of a console line with a point that no chart can hold.
POINT_PREFIX = "tracelet point: "
# Characters of exact JSON in a plot. Longer JSON is written to a separate file.
MAX_EXACT = 1_000_000

Event = dict[str, Any]

# The section of hyper-parameters that `task.connect` uses too.
_SECTION = "General"
# Characters that are invisible or invalid in a title: control characters, lone surrogates, blanks at the ends. Also a
# "%" that would read as an escape.
_ESCAPED = re.compile(r"%(?=[0-9A-F]{2}|u[0-9A-F]{4}|$)|^ +| +$|[\x00-\x1f\x7f-\x9f]|[\ud800-\udfff]")
_UNSAFE_CHARS = re.compile(r"[^\w.\-+=@()\[\] ]")
_MAX_NAME = 80
_STEPS = range(-(2**63), 2**63)
# The plot and step of ClearML's own `report_single_value`.
_SINGLE_PLOT, _SINGLE_STEP = "Summary", -(2**31)
_SCALAR = "training_stats_scalar"
_MAX_BARS = 2000
_MAX_ROWS = 1000


@functools.lru_cache(4096)
def title_series(tag: str) -> tuple[str, str]:
    """Return the plot's title and the series for a tag. They are unique to the tag.

    As in ClearML's own TensorBoard capture, "loss/train" is the series "train" of the plot "loss". A tag without a "/"
    is the one series of its own plot. "loss/loss" has the series "~loss", because "loss" has the series "loss".
    """
    above, slash, last = tag.rpartition("/")
    if not slash:
        return escape(tag), escape(tag)
    title, series = escape(above), escape(last)
    if title.lstrip("~") == series.lstrip("~") and len(series) >= len(title):
        series = "~" + series
    return title, series


def escape(name: str) -> str:
    """Replace the characters that a page cannot show by %XX. The empty name is "%"."""
    return _ESCAPED.sub(lambda match: "".join(map(_escape_char, match[0])), name) or "%"


def _escape_char(char: str) -> str:
    return f"%{ord(char):02X}" if ord(char) < 0x100 else f"%u{ord(char):04X}"


def file_name(tag: str, step: int, digest: str, suffix: str) -> str:
    """Return the path of one medium below the task's folder. Different content has a different path."""
    folders = [_UNSAFE_CHARS.sub("_", part)[:_MAX_NAME].strip(" .") or "_" for part in title_series(tag)]
    identity = hashlib.sha256(f"{tag}\0{digest}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{'/'.join(folders)}/{step}_{identity}{suffix}"


def suffix(form: str) -> str:
    """Return the file name extension of a format, for example ".png"."""
    return f".{''.join(letter for letter in form if letter.isalnum() and letter.isascii()) or 'bin'}"


def is_valid_step(step: int) -> bool:
    """Return whether the step fits 64 bits. A server rejects any other."""
    return step in _STEPS


def event(task: str, type: str, wall_time: float, **fields: Any) -> Event:
    """Return an event. A time before the epoch, NaN and the infinities become 0."""
    milliseconds = max(0, round(wall_time * 1000)) if math.isfinite(wall_time) else 0
    return {"type": type, "task": task, "timestamp": milliseconds, **fields}


def series_event(task: str, type: str, record: Any, label: str = "", **fields: Any) -> Event:
    """Return an event for a record with a tag and a step. `label` is appended to the series."""
    (title, series), step = title_series(record.tag), r.shown_step(record.step)
    return event(task, type, record.wall_time, iter=step, metric=title, variant=series + label, **fields)


def scalar_event(task: str, scalar: r.Scalar) -> Event:
    """Return a point of a curve, or a console line if no chart can hold the point.

    A server rejects NaN and the infinities, together with all other events of the request. ClearML itself sends 0
    instead.
    """
    step = r.shown_step(scalar.step)
    if is_valid_step(step) and math.isfinite(scalar.value):
        return series_event(task, _SCALAR, scalar, value=scalar.value)
    point = {"tag": scalar.tag, "step": step, "value": repr(scalar.value), "wall_time": scalar.wall_time}
    message = POINT_PREFIX + json.dumps(point)
    return event(task, "log", scalar.wall_time, level="info", worker="tracelet", msg=message)


def summary_events(task: str, summary: r.Summary) -> list[Event]:
    """Return the finite numbers of a summary as ClearML's single values."""
    place = {"iter": _SINGLE_STEP, "metric": _SINGLE_PLOT}
    return [
        event(task, _SCALAR, summary.wall_time, **place, variant=escape(name), value=float(value))
        for name, value in summary.values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]


def parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters by ClearML's full names. A slash in a name does not end the section."""
    return {f"{_SECTION}/{escape(name)}": value for name, value in values.items()}


def histogram_plot(record: r.Histogram) -> str:
    """Return bars with the widths of the buckets, and the exact buckets."""
    counts, edges = histogram_bars(record, _MAX_BARS)
    widths = [right - left for left, right in itertools.pairwise(edges)]
    centres = [left + width / 2 for left, width in zip(edges, widths, strict=False)]
    trace = {"type": "bar", "x": _finite(centres), "y": _finite(counts), "width": _finite(widths), "name": record.tag}
    return _plot(trace, record.tag, histogram_facts(record, r.shown_step(record.step)), bargap=0)


def curve_plot(record: r.PRCurve) -> str:
    """Return precision over recall, and exact rows with thresholds and counts."""
    trace = {"type": "scatter", "mode": "lines", "x": _finite(record.recall), "y": _finite(record.precision)}
    facts = {"tag": record.tag, "columns": CURVE_COLUMNS, "rows": curve_rows(record)}
    return _plot(trace, record.tag, facts, xaxis={"title": "recall"}, yaxis={"title": "precision"})


def table_plot(record: r.Table, text: str) -> str:
    """Return the first rows as cells, and the exact JSON unless it is too large.

    Raises:
        ValueError, KeyError, TypeError: `text` has no columns and rows.
    """
    table = json.loads(text)
    columns, rows = [str(name) for name in table["columns"]], [list(row) for row in table["rows"][:_MAX_ROWS]]
    cells = [[_cell(row[index]) if index < len(row) else "" for row in rows] for index in range(len(columns))]
    trace = {"type": "table", "header": {"values": columns}, "cells": {"values": cells}}
    return _plot(trace, record.tag, {"tag": record.tag} | (table if len(text) <= MAX_EXACT else {}))


def _plot(trace: dict[str, Any], title: str, exact: dict[str, Any], **layout: Any) -> str:
    return json.dumps({"data": [trace], "layout": {"title": title, **layout, "meta": {"tracelet": json.dumps(exact)}}})


def _finite(values: Any) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


def _cell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
