"""How far one backend is with a journal: handed over, and settled up to its cursor."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from tracelet.backends.filters import FilterState
from tracelet.journal.store import Cursor, Rejection, StoredBatch


class Span(NamedTuple):
    """What became of the records up to `last`, since the one before; the numbers add up to them."""

    last: int
    delivered: int
    filtered: Mapping[str, int]
    """By the key that kept them back."""
    rejected: int
    rejections: list[Rejection]
    """The rejected that the journal does not know of yet."""


def settle(cursor: Cursor, handed: deque[Span], held: int) -> tuple[Cursor, list[Rejection]] | None:
    """The cursor moved, over what was `handed` beyond it, to what the backend holds, with the rejections on the way;
    None where it stays."""
    settled = []
    while handed and handed[0].last <= held:
        settled.append(handed.popleft())
    if not settled:
        return None
    return total(settled, cursor), [one for part in settled for one in part.rejections]


def accounted(batches: Iterable[StoredBatch], last: int, sieve: FilterState, refused: set[int]) -> Iterator[Span]:
    """What became of records, up to number `last`, that a backend has from earlier: `refused` are those it refused.

    The sieve is that of where the batches begin, and afterwards of where they end.
    """
    for batch in batches:
        if batch.first > last:
            return
        end = min(batch.last, last)
        if batch.damaged:
            yield Span(end, 0, {}, end - batch.first + 1, [])
            continue
        numbers = range(batch.first, end + 1)
        _, others = sieve.sift(batch.first, batch.records[: len(numbers)])
        sieve.commit(end)
        rejected = sum(at in refused for at in numbers) if refused else 0
        filtered = Counter(reason for at, reason in others if at not in refused)
        yield Span(end, len(numbers) - filtered.total() - rejected, filtered, rejected, [])


def total(parts: Iterable[Span], before: Cursor | None = None) -> Cursor:
    """The cursor behind `parts`, which begin behind `before`, or with the first record."""
    cursor = Cursor() if before is None else msgspec.structs.replace(before, filtered_by=dict(before.filtered_by))
    for part in parts:
        cursor.position = part.last
        cursor.delivered += part.delivered
        cursor.rejected += part.rejected
        for reason, count in part.filtered.items():
            cursor.filtered += count
            cursor.filtered_by[reason] = cursor.filtered_by.get(reason, 0) + count
    return cursor
