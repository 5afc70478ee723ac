"""Read series from a CSV file: one row a point (tag, step, value), or a column a series beside one of steps."""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tracelet.capture.values import integer_step
from tracelet.errors import ConfigurationError, TraceletError
from tracelet.importer.past_run import PastRun
from tracelet.records import Record, Scalar

if TYPE_CHECKING:
    from tracelet.importer.stores import Selection

# The names of columns, in lower case with "_" for a space. The first that a file has counts.
_STEP = ("step", "_step", "global_step", "iteration", "iter", "epoch")
_TIME = ("wall_time", "walltime", "_timestamp", "timestamp", "time")
_RUN = ("run", "run_id", "run_name")
_TAG, _VALUE = ("tag", "metric", "key", "series", "name"), ("value",)
_LATEST_SECONDS = 1e11
"""Larger times are milliseconds."""


def runs(source: str, selection: Selection) -> Iterator[PastRun]:
    """Yield the runs of the file: one for each value of its column `run`, or a single one.

    Raises:
        ConfigurationError: it is not a CSV file with a header that names steps and values.
    """
    path = Path(source)
    try:
        table = _Table(path, selection.step_column)
        names = table.runs()
        changed = path.stat().st_mtime
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"cannot read {source} as CSV: {error}") from error
    for name in names:
        run = PastRun("csv", f"{path.resolve()}\0{name}" if name else str(path.resolve()), source)
        run.name, run.status, run.exit_code = name or path.stem, "finished", 0
        run.started = table.first_time(name) or changed
        run.records = lambda started, name=name, run=run: _points(table, name, started, run)  # type: ignore[misc]
        yield run


def _points(table: _Table, name: str, started: float, run: PastRun) -> Iterator[Record]:
    try:
        yield from table.points(name, started)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        run.damaged(f"{table.path.name}: cannot be read to its end: {error}")
    for column, (count, line, cell) in table.invalid.items():
        run.damaged(
            f"{table.path.name}, column {column!r}: {count} cells are invalid; the first is {cell!r} in line {line}"
        )
    table.invalid.clear()


class _Table:
    """The columns of a file by their meaning."""

    def __init__(self, path: Path, step_column: str | None) -> None:
        self.path = path
        self.invalid: dict[str, tuple[int, int, str]] = {}
        """By column: the number of invalid cells, and the line and text of the first."""
        header = self._header()
        self._run, self._time = _find(header, _RUN), _find(header, _TIME)
        self._value, self._tag = _find(header, _VALUE), _find(header, _TAG)
        self._step = _find(header, _STEP) if step_column is None else _find(header, (_plain(step_column),))
        if step_column is not None and self._step is None:
            raise ConfigurationError(f"{path} has no column {step_column!r}: {', '.join(header)}")
        if self._value is None and self._step is None:
            raise ConfigurationError(
                f"{path} has no column of steps ({', '.join(_STEP)}). Name it with --step-column; the columns are: "
                f"{', '.join(header) or 'none'}"
            )
        others = (self._run, self._time, self._step)
        if self._value is None:
            self._series = {number: name for number, name in enumerate(header) if number not in others and name}
        else:  # without a column of tags, as TensorBoard exports one series, the file's name is the tag
            self._series = {self._value: "" if self._tag is not None else path.stem}

    def runs(self) -> list[str]:
        """Return the values of the column `run` in the order of the file; one empty value if there is none."""
        if self._run is None:
            return [""]
        return list(dict.fromkeys(_cell(row, self._run) for _, row in self._rows()))

    def first_time(self, run: str) -> float:
        """Return the time of the run's first row; 0 if the file has none."""
        for line, row in self._rows():
            if self._time is not None and self._is_of(row, run):
                return self._wall_time(row, line, 0.0)
        return 0.0

    def points(self, run: str, started: float) -> Iterator[Scalar]:
        """Yield the points of a run. Empty cells are none; invalid ones are counted."""
        self.invalid.clear()
        for line, row in self._rows():
            if not self._is_of(row, run):
                continue
            wall_time = self._wall_time(row, line, started)
            step = self._as_step(row, line)
            for number, name in self._series.items():
                tag = name or _cell(row, self._tag)
                if text := _cell(row, number):
                    try:
                        value = float(text)
                    except ValueError:
                        self._count(name or "value", line, text)
                    else:
                        yield Scalar(tag, value, step, wall_time)

    def _is_of(self, row: list[str], run: str) -> bool:
        return self._run is None or _cell(row, self._run) == run

    def _as_step(self, row: list[str], line: int) -> int | None:
        text = _cell(row, self._step)
        if not text:
            return None
        try:
            return integer_step(int(text))
        except (ValueError, TraceletError):
            pass
        try:
            return integer_step(float(text))
        except (ValueError, TraceletError):
            self._count("step", line, text)
            return None

    def _wall_time(self, row: list[str], line: int, started: float) -> float:
        text = _cell(row, self._time)
        if not text:
            return started
        with contextlib.suppress(ValueError):
            number = float(text)
            if math.isfinite(number):
                return number / 1000 if abs(number) > _LATEST_SECONDS else number
        try:
            moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            self._count("time", line, text)
            return started
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()

    def _count(self, column: str, line: int, cell: str) -> None:
        count, *first = self.invalid.get(column, (0, line, cell))
        self.invalid[column] = (count + 1, *first)  # type: ignore[assignment]

    def _header(self) -> list[str]:
        with self._open() as file:
            line = file.readline()
            self._delimiter = max(",\t;", key=line.count)
            return [cell.strip() for cell in next(csv.reader([line], delimiter=self._delimiter), [])]

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        with self._open() as file:
            reader = csv.reader(file, delimiter=self._delimiter)
            next(reader, None)
            yield from ((reader.line_num, row) for row in reader if row)

    def _open(self) -> TextIO:
        return open(self.path, encoding="utf-8-sig", newline="")


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _find(header: list[str], names: tuple[str, ...]) -> int | None:
    columns = {_plain(name): number for number, name in reversed(list(enumerate(header)))}
    return next((columns[name] for name in names if name in columns), None)


def _cell(row: list[str], number: int | None) -> str:
    return row[number].strip() if number is not None and number < len(row) else ""
