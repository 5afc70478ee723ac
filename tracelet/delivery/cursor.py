"""Track the progress of one backend through a journal: written records, and the cursor behind confirmed ones."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from tracelet.backends.filters import FilterState
from tracelet.journal.tables import Cursor, Rejection, StoredBatch


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
