"""The metrics of a run that is not finished yet, one row per step."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from tracelet import records as r
from tracelet.backends.csvfile.growing import GrowingTable


class LiveMetrics:
    """Append a row when its step is complete: a point has another step, or its tag is in the row already.

    So rows are in call order, and the last one is not in the file yet. At the end of the run, the file is replaced by a
    sorted one. If the disk is full, rows are left out until then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table: GrowingTable | None = None
        self._row: dict[str, Any] = {}

    def add(self, record: r.Scalar) -> None:
        """Add a point."""
        step, column = r.shown_step(record.step), column_of(record.tag)
        row = self._row
        if row and (row["step"] != step or column in row):
            self._complete()
            row = self._row
        row["step"] = step
        row[column] = float(record.value)

    def write(self) -> None:
        """Write complete rows."""
        table = self._table
        if table is not None:
            try:
                table.write()
            except (OSError, ValueError):
                table.discard()

    def flush(self) -> None:
        """Write all points. Later points of the same step are in another row."""
        if self._row:
            self._complete()
        if self._table is not None:
            with contextlib.suppress(OSError, ValueError):
                self._table.flush()

    def _complete(self) -> None:
        row, self._row = self._row, {}
        if self._table is None:
            with contextlib.suppress(OSError, ValueError):
                self._table = GrowingTable(self._path, continued=True)
        if self._table is not None:
            self._table.add(row)


def column_of(tag: str) -> str:
    """Return the column of a tag: one named "step" must not replace the steps."""
    return "step~2" if tag == "step" else tag
