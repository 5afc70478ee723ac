"""The files of `CSVBackend`. They are written in the caller's thread, so that each call can be read back at once."""

from __future__ import annotations

import atexit
import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

from tracelet.backends.csvfile.growing import GrowingTable
from tracelet.backends.file_names import safe_path
from tracelet.compat.ezpz.base import Caller
from tracelet.filesystem import replacing
from tracelet.forks import new_lock
from tracelet.guard import attempted, logger

_METRICS, _CONFIG = "metrics.csv", "config.json"

_in_use: WeakSet[CsvFiles] = WeakSet()


class CsvFiles:
    """Write `metrics.csv`, `config.json` and a CSV file per table to a folder."""

    name = "csv"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._caller, self._lock = folder.absolute(), Caller(), new_lock()
        self._config: dict[str, Any] = {}
        self._open_row: dict[str, Any] = {}
        self._metrics: GrowingTable | None = None
        self._pid, self._ends_at_exit = os.getpid(), False
        _in_use.add(self)

    def call(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Call a method of this class, if it has one: other kinds of data have no place in these files."""
        function = getattr(self, f"_{method}", None)
        if function is not None:
            with self._lock:
                self._caller.call(self.name, method, lambda: function(*args, **kwargs))

    def _log(self, metrics: Mapping[str, Any], step: int | None = None, commit: bool = True) -> None:
        if not self._ends_at_exit:
            self._ends_at_exit = True
            atexit.register(self._end_at_exit)
        row = {key: _plain(value) for key, value in metrics.items()}
        row.setdefault("step", step)
        earlier = self._open_row
        if earlier and None not in (earlier["step"], row["step"]) and earlier["step"] != row["step"]:
            self._table().add(earlier)
            earlier = {}
        if row["step"] is None and earlier:
            row["step"] = earlier["step"]
        self._open_row = earlier | row
        if commit:
            self._commit()
            self._table().write()

    def _commit(self) -> None:
        row, self._open_row = self._open_row, {}
        self._table().add(row)

    def _log_config(self, config: Any) -> None:
        self._config.update(config)
        with replacing(self._folder / _CONFIG, "w", encoding="utf-8") as file:
            json.dump(self._config, file, indent=2, default=str)

    def _log_table(self, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]]) -> None:
        name = f"{safe_path(key)}.csv"
        path = self._folder / (name if name.lower() != _METRICS else f"table-{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            out = csv.writer(file)
            out.writerow(columns)
            out.writerows(data)

    def _end_at_exit(self) -> None:
        """Write the rows that wait, if the program ends without `finish`. A forked child has none of its own."""
        if os.getpid() == self._pid:
            self.call("finish")

    def _finish(self) -> None:
        atexit.unregister(self._end_at_exit)
        self._ends_at_exit = False
        if self._open_row:
            self._commit()
        if self._metrics is not None:
            self._metrics.flush()

    def _table(self) -> GrowingTable:
        if self._metrics is None:
            path = self._folder / _METRICS
            if path.exists():
                self._set_aside(path)
            self._metrics = GrowingTable(path)
        return self._metrics

    def _set_aside(self, path: Path) -> None:
        """Rename the file of an earlier run, or of another tracker in the same folder, which goes on in it."""
        number = 1
        while (target := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
            number += 1
        os.replace(path, target)
        for other in list(_in_use):
            if other._metrics is not None and other._metrics.path == path:
                other._metrics.path = target
        logger.info("tracelet: csv: %s of an earlier run is now %s", path, target.name)


def _plain(value: Any) -> Any:
    """Return a number for an array or tensor of one element. Other values are written as their text."""
    if isinstance(value, str | int | float | bool | None):
        return value
    item = getattr(value, "item", None)
    return attempted(item, lambda: value) if callable(item) else value
