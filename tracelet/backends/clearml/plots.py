"""Convert records to plotly JSON, which ClearML draws. Pure functions, without importing clearml.

The drawn values may be rounded. `layout.meta` has the exact values as JSON in a string, because plotly's own JSON
cannot contain NaN.
"""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

from tracelet.backends.presentation import CURVE_COLUMNS, curve_rows, histogram_bars, histogram_facts
from tracelet.records import Histogram, PRCurve, Table, shown_step

_MAX_BARS = 2000
_MAX_ROWS = 1000
MAX_EXACT = 1_000_000
"""Characters of exact JSON in a plot. Longer JSON is written to a separate file."""


def histogram_plot(record: Histogram) -> str:
    """Return bars with the widths of the buckets, and the exact buckets."""
    counts, edges = histogram_bars(record, _MAX_BARS)
    widths = [right - left for left, right in itertools.pairwise(edges)]
    centres = [left + width / 2 for left, width in zip(edges, widths, strict=False)]
    trace = {"type": "bar", "x": _finite(centres), "y": _finite(counts), "width": _finite(widths), "name": record.tag}
    return _plot([trace], record.tag, histogram_facts(record, shown_step(record.step)), bargap=0)


def curve_plot(record: PRCurve) -> str:
    """Return precision over recall, and exact rows with thresholds and counts."""
    trace = {"type": "scatter", "mode": "lines", "x": _finite(record.recall), "y": _finite(record.precision)}
    facts = {"tag": record.tag, "columns": CURVE_COLUMNS, "rows": curve_rows(record)}
    axes = {"xaxis": {"title": "recall"}, "yaxis": {"title": "precision"}}
    return _plot([trace], record.tag, facts, **axes)


def table_plot(record: Table, text: str) -> str:
    """Return the first rows as cells, and the exact JSON unless it is too large.

    Raises:
        ValueError, KeyError, TypeError: `text` has no columns and rows.
    """
    table = json.loads(text)
    columns, rows = [str(name) for name in table["columns"]], [list(row) for row in table["rows"][:_MAX_ROWS]]
    cells = [[_cell(row[index]) if index < len(row) else "" for row in rows] for index in range(len(columns))]
    trace = {"type": "table", "header": {"values": columns}, "cells": {"values": cells}}
    return _plot([trace], record.tag, {"tag": record.tag} | table if len(text) <= MAX_EXACT else {"tag": record.tag})


def _plot(data: list[dict[str, Any]], title: str, exact: dict[str, Any], **layout: Any) -> str:
    whole = {"data": data, "layout": {"title": title, **layout, "meta": {"tracelet": json.dumps(exact)}}}
    return json.dumps(whole)


def _finite(values: Any) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


def _cell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
