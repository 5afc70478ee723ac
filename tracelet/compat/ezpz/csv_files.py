"""The files of `CSVBackend`. They are written in the caller's thread, so that each call can be read back at once."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from tracelet.backends.file_names import safe_path
from tracelet.compat.ezpz.base import Caller
from tracelet.forks import new_lock
from tracelet.guard import attempted, logger

_METRICS, _CONFIG = "metrics.csv", "config.json"
# A small file is rewritten whenever a column is new. Rewriting a large one takes at most this share of the time.
_SMALL_CELLS, _SHARE = 20_000, 0.05


class CsvFiles:
    """Write `metrics.csv`, `config.json` and a CSV file per table to a folder.

    A row is appended while its columns are known. With a new column the file is rewritten: at once while it is small;
    later at most for 5% of the time, and rows wait in memory until then.
    """

    name = "csv"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._caller, self._lock = folder.absolute(), Caller(), new_lock()
        self._config: dict[str, Any] = {}
        self._open_row: dict[str, Any] = {}
        self._waiting: list[dict[str, Any]] = []
        self._columns: dict[str, None] = {}
        """Columns of all rows, in the order of their first row. The first `_width` of them are in the file."""
        self._width = 0
        self._file: TextIO | None = None
        self._rows = 0
        self._next_rewrite = 0.0

    def call(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Call a method of this class, if it has one: other kinds of data have no place in these files."""
        function = getattr(self, f"_{method}", None)
        if function is not None:
            with self._lock:
                self._caller.call(self.name, method, lambda: function(*args, **kwargs))

    def _log(self, metrics: Mapping[str, Any], step: int | None = None, commit: bool = True) -> None:
        row = {key: _plain(value) for key, value in metrics.items()}
        row.setdefault("step", step)
        earlier = self._open_row
        if earlier and None not in (earlier["step"], row["step"]) and earlier["step"] != row["step"]:
            self._add(earlier)
            earlier = {}
        step_of_row = row["step"] if row["step"] is not None else earlier.get("step")
        self._open_row = {**earlier, **row, "step": step_of_row}
        if commit:
            row, self._open_row = self._open_row, {}
            self._add(row)
            self._write()

    def _log_config(self, config: Any) -> None:
        self._config.update(config)
        draft = self._folder / f".{_CONFIG}.new"
        draft.write_text(json.dumps(self._config, indent=2, default=str), encoding="utf-8")
        os.replace(draft, self._folder / _CONFIG)

    def _log_table(self, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]]) -> None:
        path = self._folder / f"{safe_path(key)}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            out = csv.writer(file)
            out.writerow(columns)
            out.writerows(data)

    def _finish(self) -> None:
        if self._open_row:
            row, self._open_row = self._open_row, {}
            self._add(row)
        self._write(final=True)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _add(self, row: dict[str, Any]) -> None:
        self._columns |= dict.fromkeys(row)
        self._waiting.append(row)

    def _write(self, *, final: bool = False) -> None:
        if not self._waiting:
            return
        if self._file is None or self._width < len(self._columns):
            is_small = (self._rows + len(self._waiting)) * len(self._columns) <= _SMALL_CELLS
            if not (final or is_small or time.monotonic() >= self._next_rewrite):
                return
            self._rewrite()
        self._append()
        self._rows += len(self._waiting)
        self._waiting.clear()

    def _append(self) -> None:
        """Append the waiting rows. If the disk is full, none of them is in the file."""
        file = self._file
        assert file is not None
        size = os.fstat(file.fileno()).st_size
        try:
            out = csv.writer(file)
            out.writerows([[row.get(column, "") for column in self._columns] for row in self._waiting])
            file.flush()
        except OSError:
            self._file = None
            with contextlib.suppress(OSError):
                file.close()
            os.truncate(self._folder / _METRICS, size)
            raise

    def _rewrite(self) -> None:
        """Replace the file by one with all columns, and open it at its end."""
        started = time.monotonic()
        path, draft = self._folder / _METRICS, self._folder / f".{_METRICS}.new"
        if self._rows == 0 and path.exists():
            self._set_aside(path)
        with open(draft, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            out = csv.writer(file)
            out.writerow(self._columns)
            if self._rows and path.exists():
                missing = [""] * (len(self._columns) - self._width)
                with open(path, encoding="utf-8", newline="") as earlier:
                    rows = csv.reader(earlier)
                    next(rows)
                    out.writerows(row + missing for row in rows)
        os.replace(draft, path)
        if self._file is not None:
            self._file.close()
        self._file = open(path, "a", encoding="utf-8", errors="backslashreplace", newline="")  # noqa: SIM115
        self._width = len(self._columns)
        now = time.monotonic()
        self._next_rewrite = now + (now - started) / _SHARE

    def _set_aside(self, path: Path) -> None:
        """Rename the file of an earlier run."""
        number = 1
        while (target := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
            number += 1
        os.replace(path, target)
        logger.info("tracelet: csv: %s of an earlier run is now %s", path, target.name)


def _plain(value: Any) -> Any:
    """Return a number for an array or tensor of one element. Other values are written as their text."""
    if isinstance(value, str | int | float | bool | None):
        return value
    item = getattr(value, "item", None)
    return attempted(item, lambda: value) if callable(item) else value
