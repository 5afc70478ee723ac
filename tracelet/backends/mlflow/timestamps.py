"""Points that MLflow would take for one: its stores keep a (key, step, time, value) once."""

from __future__ import annotations

import itertools
from typing import TypeAlias

_KEPT = 8192

_Point: TypeAlias = tuple[str, int, int, object]


class TimestampDeduplicator:
    """Gives a point that the program said again, within one millisecond, the next free millisecond.

    What `place` gave is a draft until `settle` says how many records were taken: a batch that is offered again is
    given the same times, so that the store sees that it holds them.
    """

    def __init__(self) -> None:
        self._taken: dict[_Point, int] = {}
        self._draft: dict[_Point, int] = {}
        self._log: list[tuple[int, _Point, int]] = []

    def place(self, index: int, key: str, step: int, time: int, value: float) -> int:
        """The time for the point of record `index` of this batch, in milliseconds."""
        said: object = value if value == value else "nan"
        point, chosen = (key, step, time, said), time
        while (free := self._next((key, step, chosen, said))) is not None:
            chosen = free
        self._note(index, (key, step, chosen, said), chosen + 1)
        if chosen != time:
            self._note(index, point, chosen + 1)
        return chosen

    def settle(self, written: int) -> None:
        """The first `written` records of the batch are taken; the others were never here."""
        for index, point, free in self._log:
            if index < written:
                self._taken.pop(point, None)
                self._taken[point] = free
        self._draft.clear()
        self._log.clear()
        for point in list(itertools.islice(self._taken, max(len(self._taken) - _KEPT, 0))):
            del self._taken[point]

    def _next(self, point: _Point) -> int | None:
        return self._draft.get(point) or self._taken.get(point)

    def _note(self, index: int, point: _Point, free: int) -> None:
        self._draft[point] = free
        self._log.append((index, point, free))
