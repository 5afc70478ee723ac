"""A CSV file that can be read while rows and columns are added."""

from __future__ import annotations

import csv
import errno
import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracelet.filesystem import no_follow, replacing

# A small file is rewritten whenever a column is new. A larger one is rewritten for at most this share of the time.
_SMALL_CELLS, _SHARE = 20_000, 0.05
_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}


class GrowingTable:
    """Append rows to a file, with columns in the order of their first row. Missing cells are empty.

    If a row has a new column, the file is rewritten. If that takes too much time, this row and later ones wait in
    memory until it is due, or until `flush`. `continued`: an existing file gets further rows; otherwise it is replaced.
    """

    def __init__(self, path: Path, *, continued: bool = False) -> None:
        self.path = path
        self._columns: dict[str, None] = {}
        """Those of all rows. The first `_width` of them are in the file."""
        self._width = self._rows = 0
        self._waiting: list[Mapping[str, Any]] = []
        self._next_rewrite = 0.0
        self._is_ours = False
        if continued and path.exists():
            with open(path, encoding="utf-8", newline="") as file:
                rows = csv.reader(file)
                self._columns = dict.fromkeys(next(rows, ()))
                self._rows = sum(1 for _ in rows)
            self._width = len(self._columns)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row, which `write` writes."""
        self._columns |= dict.fromkeys(row)
        self._waiting.append(row)

    def write(self) -> None:
        """Write the rows, unless they wait for a rewrite.

        Raises:
            OSError: the disk is full. The rows are not written; call this again.
        """
        if not self._waiting:
            return
        if not self._is_ours or self._width < len(self._columns) or not self.path.exists():
            is_small = (self._rows + len(self._waiting)) * len(self._columns) <= _SMALL_CELLS
            if not (is_small or time.monotonic() >= self._next_rewrite):
                return
            self._rewrite()
        self._append()

    def flush(self) -> None:
        """Write all rows now. Errors are those of `write`."""
        self._next_rewrite = 0.0
        self.write()

    def discard(self) -> None:
        """Leave out the rows that wait."""
        self._waiting.clear()

    def _append(self) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([[row.get(column, "") for column in self._columns] for row in self._waiting])
        data = text.getvalue().encode("utf-8", "backslashreplace")
        # The file is not kept open: a program may never finish its run.
        with open(self.path, "ab", buffering=0, opener=no_follow) as file:
            size = file.tell()
            try:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            except OSError:
                file.truncate(size)  # none of the rows is in the file
                raise
        self._rows += len(self._waiting)
        self._waiting.clear()

    def _rewrite(self) -> None:
        """Replace the file by one with all columns."""
        started = time.monotonic()
        with replacing(self.path, "w", **_TEXT) as file:
            out = csv.writer(file)
            out.writerow(self._columns)
            if self._rows and self.path.exists():
                missing = [""] * (len(self._columns) - self._width)
                with open(self.path, encoding="utf-8", newline="") as earlier:
                    rows = csv.reader(earlier)
                    next(rows, None)
                    out.writerows(row + missing for row in rows)
        self._is_ours = True
        self._width = len(self._columns)
        now = time.monotonic()
        self._next_rewrite = now + (now - started) / _SHARE
