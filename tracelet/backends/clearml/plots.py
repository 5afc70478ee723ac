"""Records that ClearML draws with plotly, as its JSON. Pure functions, no clearml import.

What is drawn is rounded where it must be; what is exact stands in `layout.meta`, as JSON in a string: plotly's own
JSON knows no NaN.
"""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

from tracelet.backends.presentation import CURVE_COLUMNS, bars, curve_rows, histogram_facts
from tracelet.records import Histogram, PRCurve, Table, shown_step

_MOST_BARS = 2000
_MOST_ROWS = 1000
MOST_EXACT = 1_000_000
"""Characters of exact JSON inside a plot; more goes into a file beside it."""


def histogram_plot(record: Histogram) -> str:
    """Bars of their true widths, and the exact buckets."""
    counts, edges = bars(record, _MOST_BARS)
    widths = [right - left for left, right in itertools.pairwise(edges)]
    centres = [left + width / 2 for left, width in zip(edges, widths, strict=False)]
    trace = {"type": "bar", "x": _drawn(centres), "y": _drawn(counts), "width": _drawn(widths), "name": record.tag}
    return _plot([trace], record.tag, histogram_facts(record, shown_step(record.step)), bargap=0)


def curve_plot(record: PRCurve) -> str:
    """Precision over recall, with thresholds and counts as the exact rows."""
    trace = {"type": "scatter", "mode": "lines", "x": _drawn(record.recall), "y": _drawn(record.precision)}
    facts = {"tag": record.tag, "columns": CURVE_COLUMNS, "rows": curve_rows(record)}
    axes = {"xaxis": {"title": "recall"}, "yaxis": {"title": "precision"}}
    return _plot([trace], record.tag, facts, **axes)


def table_plot(record: Table, text: str) -> str:
    """The first rows as cells; the exact JSON unless it is too large.

    Raises:
        ValueError, KeyError, TypeError: `text` is not columns and rows.
    """
    table = json.loads(text)
    columns, rows = [str(name) for name in table["columns"]], [list(row) for row in table["rows"][:_MOST_ROWS]]
    cells = [[_cell(row[at]) if at < len(row) else "" for row in rows] for at in range(len(columns))]
    trace = {"type": "table", "header": {"values": columns}, "cells": {"values": cells}}
    return _plot([trace], record.tag, {"tag": record.tag} | table if len(text) <= MOST_EXACT else {"tag": record.tag})


def _plot(data: list[dict[str, Any]], title: str, exact: dict[str, Any], **layout: Any) -> str:
    whole = {"data": data, "layout": {"title": title, **layout, "meta": {"tracelet": json.dumps(exact)}}}
    return json.dumps(whole)


def _drawn(values: Any) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


def _cell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
