"""Separate points that MLflow would merge: its stores keep each (key, step, time, value) once."""

from __future__ import annotations

import itertools
from typing import TypeAlias

_MAX_POINTS = 8192

_Point: TypeAlias = tuple[str, int, int, object]


class TimestampDeduplicator:
    """Assign the next free millisecond to a point that repeats within one millisecond.

    Assigned times are a draft until `commit` is called with the number of written records. If a batch is retried, its
    points get the same times again, so the store recognizes the points that it has.
    """

    def __init__(self) -> None:
        self._taken: dict[_Point, int] = {}
        self._draft: dict[_Point, int] = {}
        self._log: list[tuple[int, _Point, int]] = []

    def assign(self, index: int, key: str, step: int, time: int, value: float) -> int:
        """Return the time for the point of record `index` of this batch, in milliseconds."""
        identity: object = value if value == value else "nan"
        point, assigned = (key, step, time, identity), time
        while (free := self._next((key, step, assigned, identity))) is not None:
            assigned = free
        self._append(index, (key, step, assigned, identity), assigned + 1)
        if assigned != time:
            self._append(index, point, assigned + 1)
        return assigned

    def commit(self, written: int) -> None:
        """Keep the times of the first `written` records of the batch, and discard the others."""
        for index, point, free in self._log:
            if index < written:
                self._taken.pop(point, None)
                self._taken[point] = free
        self._draft.clear()
        self._log.clear()
        for point in list(itertools.islice(self._taken, max(len(self._taken) - _MAX_POINTS, 0))):
            del self._taken[point]

    def _next(self, point: _Point) -> int | None:
        return self._draft.get(point) or self._taken.get(point)

    def _append(self, index: int, point: _Point, free: int) -> None:
        self._draft[point] = free
        self._log.append((index, point, free))
