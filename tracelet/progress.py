"""How far one backend is with a journal: handed over, and settled up to its cursor."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from tracelet.journal import Cursor, Rejection, StoredBatch
from tracelet.records import Record


class Handed(NamedTuple):
    """What became of the records up to `last`, since the one before; the numbers add up to them."""

    last: int
    delivered: int
    filtered: int
    rejected: int
    rejections: list[Rejection]
    """The rejected that the journal does not know of yet."""


class Progress:
    """One backend's cursor, and what it was handed beyond."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.handed = cursor.position
        self._handed: deque[Handed] = deque()

    @property
    def waits(self) -> bool:
        """Something was handed over that is not confirmed."""
        return bool(self._handed)

    def hand(self, part: Handed) -> None:
        self.handed = part.last
        self._handed.append(part)

    def settle(self, held: int) -> tuple[Cursor, list[Rejection]] | None:
        """The cursor moved to what the backend holds, with the rejections on the way; None where it stays."""
        cursor, rejections = msgspec.structs.replace(self.cursor), []
        while self._handed and self._handed[0].last <= held:
            part = self._handed.popleft()
            cursor.position = part.last
            cursor.delivered += part.delivered
            cursor.filtered += part.filtered
            cursor.rejected += part.rejected
            rejections += part.rejections
        if cursor.position == self.cursor.position:
            return None
        self.cursor = cursor
        return cursor, rejections

    def restart(self, cursor: Cursor, beyond: Iterable[Handed] = ()) -> None:
        """Begin again at `cursor`, with what the backend was handed beyond it."""
        self.cursor = cursor
        self.handed = cursor.position
        self._handed.clear()
        for part in beyond:
            self.hand(part)


def accounted(
    batches: Iterable[StoredBatch], last: int, accepts: tuple[type[Record], ...], refused: set[int]
) -> Iterator[Handed]:
    """What became of records, up to number `last`, that a backend has from earlier: `refused` are those it refused."""
    for batch in batches:
        if batch.first > last:
            return
        end = min(batch.last, last)
        if batch.damaged:
            yield Handed(end, 0, 0, end - batch.first + 1, [])
            continue
        numbered = list(enumerate(batch.records[: end - batch.first + 1], batch.first))
        rejected = sum(at in refused for at, _ in numbered)
        filtered = sum(not isinstance(record, accepts) for at, record in numbered if at not in refused)
        yield Handed(end, len(numbered) - filtered - rejected, filtered, rejected, [])


def total(parts: Iterable[Handed]) -> Cursor:
    """The cursor behind `parts`, which begin with the first record."""
    cursor = Cursor()
    for part in parts:
        cursor.position = part.last
        cursor.delivered += part.delivered
        cursor.filtered += part.filtered
        cursor.rejected += part.rejected
    return cursor
