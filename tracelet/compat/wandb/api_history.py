"""Read the history of a run: one row per step, with the values that were logged at it."""

from __future__ import annotations

import contextlib
import heapq
import importlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

from tracelet.guard import logger
from tracelet.journal.store import JournalReader
from tracelet.records import (
    Audio,
    File,
    Histogram,
    Image,
    Record,
    Scalar,
    Table,
    Text,
    Video,
    is_system_metric,
    shown_step,
)
from tracelet.runs.folders import journals
from tracelet.runs.media import Downsample

_Value: TypeAlias = Scalar | Text | Histogram | Image | Video | Audio | Table

_MIN_WINDOW = 1000
"""Rows that are open at the same time: series may log the same step at different times."""


class HistoryScan:
    """Iterate over the rows of a run, in the order in which their steps were logged first. Each iteration starts anew.

    The journal is streamed, and nothing is left out. Values of one step that are further apart than `page_size` steps
    (at least 1000) are in two rows, as are two values of one series for one step.
    """

    def __init__(
        self,
        folder: Path,
        created: float,
        *,
        keys: Collection[str] | None = None,
        page_size: int = _MIN_WINDOW,
        min_step: int | None = None,
        max_step: int | None = None,
        system: bool = False,
    ) -> None:
        self._folder, self._created, self._keys, self._system = folder, created, keys, system
        self._window = max(page_size, _MIN_WINDOW)
        self._min_step, self._max_step = min_step, max_step
        self._rows: Iterator[dict[str, Any]] | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self._all_rows():
            step = row["_step"]
            if (self._min_step is not None and step < self._min_step) or (
                self._max_step is not None and step >= self._max_step
            ):
                continue
            if self._keys is None:
                yield row
            elif all(key in row for key in self._keys):
                yield {key: row[key] for key in self._keys}

    def __next__(self) -> dict[str, Any]:
        if self._rows is None:
            self._rows = iter(self)
        return next(self._rows)

    next = __next__

    def _all_rows(self) -> Iterator[dict[str, Any]]:
        """Yield each row when the window is full, or the journal ends."""
        rows: OrderedDict[int, dict[str, Any]] = OrderedDict()
        for record in self._records():
            step, wall_time = shown_step(record.step), record.wall_time
            tag = record.tag.rpartition("system/")[2] if self._system else record.tag
            row = rows.get(step)
            if row is not None and tag in row:  # a repeated step: no value replaces another
                yield rows.pop(step)
                row = None
            if row is None:
                if len(rows) >= self._window:
                    yield rows.popitem(last=False)[1]
                row = rows[step] = {"_step": step, "_timestamp": wall_time, "_runtime": wall_time - self._created}
            row[tag] = _value(record)
        yield from rows.values()

    def _records(self) -> Iterator[Any]:
        with contextlib.ExitStack() as stack:
            readers = [stack.enter_context(JournalReader(journal)) for journal in journals(self._folder)]
            streams = [reader.records() for reader in readers]
            merged = streams[0] if len(streams) == 1 else heapq.merge(*streams, key=lambda record: record.wall_time)
            for record in merged:
                if _is_value(record) and is_system_metric(record.tag) == self._system:
                    yield record


def sampled(scan: HistoryScan, samples: int) -> list[dict[str, Any]]:
    """Return at most `samples` rows, evenly spread, with the first and the last."""
    selected: Downsample[dict[str, Any], dict[str, Any]] = Downsample(samples, lambda row: row)
    for row in scan:
        selected.add(row)
    rows = selected.samples()[: max(samples, 0)]
    if len(rows) < selected.count:
        logger.info(
            "tracelet: history returns %d of %d rows; pass samples, or use scan_history", len(rows), selected.count
        )
    return rows


def as_frame(rows: list[dict[str, Any]]) -> Any:
    """Return rows as a DataFrame or, without pandas, as they are."""
    try:
        pandas = importlib.import_module("pandas")
    except ModuleNotFoundError:
        logger.warning("tracelet: history returns a list, since pandas is not installed; pass pandas=False")
        return rows
    return pandas.DataFrame.from_records(rows)


def _is_value(record: Record) -> TypeGuard[_Value]:
    return type(record) in _CONVERT


def _value(record: Any) -> Any:
    return _CONVERT[type(record)](record)


def _media(kind: str, *names: str) -> Callable[[Any], dict[str, Any]]:
    """Return a function that describes a file in the run's spool."""

    def described(record: Any) -> dict[str, Any]:
        file = record.data
        assert isinstance(file, File)
        fields = {name: getattr(record, name) for name in names}
        return {"_type": kind, "path": file.name, "size": file.size, "sha256": file.digest, **fields}

    return described


def _histogram(record: Histogram) -> dict[str, Any]:
    return {"_type": "histogram", "bins": [record.minimum, *record.limits], "values": list(record.counts)}


_CONVERT: dict[type[Any], Callable[[Any], Any]] = {
    Scalar: lambda record: record.value,
    Text: lambda record: record.text,
    Histogram: _histogram,
    Image: _media("image-file", "format", "width", "height", "caption"),
    Video: _media("video-file", "format", "width", "height", "caption"),
    Audio: _media("audio-file", "format", "sample_rate", "caption"),
    Table: _media("table-file"),
}
