"""Track the progress of one backend through a journal: written records, and the cursor behind confirmed ones."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from tracelet.backends.base import Backend
from tracelet.backends.capabilities import Notifier
from tracelet.backends.filters import FilterState
from tracelet.journal.overflow import RecordSource
from tracelet.journal.tables import Cursor, Rejection, StoredBatch

_MAX_REJECTED = 10_000


class Span(NamedTuple):
    """Outcomes of the records after the previous span, up to `last`. The counts add up to their number."""

    last: int
    delivered: int
    filtered: Mapping[str, int]
    """Counts by the `config` key that excluded the records."""
    rejected: int
    rejections: list[Rejection]
    """The rejections that are not in the journal yet."""
    handed: int | None = None
    """The last record that the backend accepted, 0 if there is none: it does not confirm the filtered and rejected
    ones behind it. If None, it is `last`."""


def advance(cursor: Cursor, written: deque[Span], confirmed: int) -> tuple[Cursor, list[Rejection]] | None:
    """Remove the spans up to `confirmed`. Return the cursor behind them and their rejections, or None without spans.

    `written` holds the spans after the cursor.
    """
    spans = []
    while written and (written[0].last if written[0].handed is None else written[0].handed) <= confirmed:
        spans.append(written.popleft())
    if not spans:
        return None
    return sum_spans(spans, cursor), [rejection for span in spans for rejection in span.rejections]


def replay(batches: Iterable[StoredBatch], last: int, filter_state: FilterState, rejected: set[int]) -> Iterator[Span]:
    """Yield the outcomes of records up to `last` that an earlier process delivered; `rejected` are sequence numbers.

    `filter_state` must match the start of the batches. Afterwards it matches their end.
    """
    for batch in batches:
        if batch.first > last:
            return
        end = min(batch.last, last)
        if batch.damaged:
            yield Span(end, 0, {}, end - batch.first + 1, [])
            continue
        numbers = range(batch.first, end + 1)
        _, excluded = filter_state.apply(batch.first, batch.records[: len(numbers)])
        filter_state.commit(end)
        rejections = sum(seq in rejected for seq in numbers) if rejected else 0
        filtered = Counter(reason for seq, reason in excluded if seq not in rejected)
        yield Span(end, len(numbers) - filtered.total() - rejections, filtered, rejections, [])


def sum_spans(spans: Iterable[Span], start: Cursor | None = None) -> Cursor:
    """Return the cursor behind `spans`, which follow `start`, or begin with the first record if it is None."""
    cursor = Cursor() if start is None else msgspec.structs.replace(start, filtered_by=dict(start.filtered_by))
    for span in spans:
        cursor.position = span.last
        cursor.delivered += span.delivered
        cursor.rejected += span.rejected
        for reason, count in span.filtered.items():
            cursor.filtered += count
            cursor.filtered_by[reason] = cursor.filtered_by.get(reason, 0) + count
    return cursor


class Replay:
    """Read again from the journal what became of the records of one backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.rejected: deque[int] = deque(maxlen=_MAX_REJECTED)
        """Records whose rejection the journal may not have yet."""

    def spans(self, source: RecordSource, after: int, last: int) -> Iterator[Span]:
        """Return the outcomes of the delivered records after `after`, up to `last`."""
        if last <= after:  # a new run may have no journal yet
            return iter(())
        stored = (rejection.seq for rejection in source.reader.rejections(self._backend.name))
        filter_state = self.filter_state(source, after)
        return replay(_batches(source, after), last, filter_state, {*self.rejected, *stored})

    def has_lost(self, source: RecordSource, confirmed: int, position: int) -> bool:
        """Return whether records between the two were delivered. Filtered ones have no place in the store."""
        return any(span.delivered for span in self.spans(source, confirmed, position))

    def filter_state(self, source: RecordSource, position: int) -> FilterState:
        """Return the filter state after the records up to `position`."""
        max_age = self._backend.max_age if isinstance(self._backend, Notifier) else None
        filter_state = FilterState(self._backend.accepts, self._backend.filter, max_age)
        if position and filter_state.is_stateful:
            sum_spans(replay(_batches(source, 0), position, filter_state, set()))
        return filter_state


def _batches(source: RecordSource, after: int) -> Iterator[StoredBatch]:
    while batch := source.next_batch(after):
        yield batch
        after = batch.last
