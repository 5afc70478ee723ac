"""Convert one row per point into one row per step, in constant memory: SQLite sorts the points on disk."""

from __future__ import annotations

import contextlib
import csv
import os
import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tracelet.backends.csvfile.live import column_of
from tracelet.backends.csvfile.rows import read_rows
from tracelet.filesystem import create

# Columns of the scalars.
_WIDTH = 4
# Cells that a table may have, and those for each of its points: many tags at different steps are mostly empty cells.
_MAX_CELLS, _MAX_CELLS_PER_POINT = 10_000_000, 100

# The k-th point of a tag at a step belongs to the k-th row of that step.
_POINTS = """
SELECT step, nth, tag, value
FROM (SELECT step, tag, value, row_number() OVER (PARTITION BY step, tag ORDER BY rowid) AS nth FROM points)
ORDER BY step, nth
"""


def write_wide(scalars: Path, metrics: Path) -> bool:
    """Read `scalars` (tag, step, wall_time, value), and replace `metrics`: step, then one column per tag.

    Columns are in order of the first point of their tag. If almost all cells would be empty, remove `metrics` and
    return False.

    Raises:
        OSError, sqlite3.Error: the disk is full or cannot be read.
    """
    sorter, draft = metrics.with_name(f".{metrics.name}.db"), metrics.with_name(f".{metrics.name}.new")
    sorter.unlink(missing_ok=True)  # left by a killed process
    columns: dict[str, int] = {}
    try:
        with contextlib.closing(sqlite3.connect(sorter, isolation_level=None)) as db:
            max_cells = _MAX_CELLS + _MAX_CELLS_PER_POINT * _load(db, scalars, columns)
            with create(draft, "w", encoding="utf-8", newline="") as file:
                out = csv.writer(file)
                out.writerow(["step", *map(column_of, columns)])
                rows = _rows(db, len(columns))
                out.writerows(islice(rows, max_cells // (len(columns) + 1)))
                if next(rows, None) is not None:
                    metrics.unlink(missing_ok=True)  # an earlier process had fewer points
                    return False
        os.replace(draft, metrics)
        return True
    finally:
        sorter.unlink(missing_ok=True)
        draft.unlink(missing_ok=True)


def _load(db: sqlite3.Connection, scalars: Path, columns: dict[str, int]) -> int:
    """Load the points, add their tags to `columns`, and return their number."""
    db.executescript(
        "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=FILE; PRAGMA cache_size=-2000;"
        "CREATE TABLE points (step, tag INTEGER, value TEXT);"
    )
    db.execute("BEGIN")
    points = _points(read_rows(scalars, _WIDTH), columns)
    count = db.executemany("INSERT INTO points VALUES (?, ?, ?)", points).rowcount
    db.execute("COMMIT")
    return count


def _points(rows: Iterator[list[str]], columns: dict[str, int]) -> Iterator[tuple[int | str, int, str]]:
    for tag, step, _, value in rows:
        try:
            number = int(step)
        except ValueError:  # a line that somebody added
            continue
        yield _sortable(number), columns.setdefault(tag, len(columns)), value


def _sortable(step: int) -> int | str:
    """Return a step that SQLite sorts correctly: its integers end at 2**63, and texts sort after integers."""
    return step if -(2**63) <= step < 2**63 else f"{step:040d}"


def _rows(db: sqlite3.Connection, width: int) -> Iterator[list[object]]:
    row: list[object] = []
    current: tuple[int | str, int] | None = None
    for step, nth, tag, value in db.execute(_POINTS):
        if (step, nth) != current:
            if current is not None:
                yield row
            current, row = (step, nth), [int(step)] + [""] * width
        row[tag + 1] = value
    if current is not None:
        yield row
