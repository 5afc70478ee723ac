"""Deliver records to a backend without a journal, a thread or retries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tracelet.backends.base import Backend, Batch, Written
from tracelet.errors import RecordRejected
from tracelet.records import Record


@dataclass
class Outcome:
    """The result of a delivery. The lists contain each record once."""

    delivered: list[Record] = field(default_factory=list)
    filtered: list[Record] = field(default_factory=list)
    rejected: list[tuple[Record, str]] = field(default_factory=list)


def deliver(backend: Backend, records: Sequence[Record], *, after: int = 0, size: int | None = None) -> Outcome:
    """Deliver `records`, numbered from `after + 1`, in batches of `size` (default: one batch).

    Raises:
        BackendUnavailable: raised by the backend.
        AssertionError: `durable` is ahead of the last delivered record.
    """
    outcome = Outcome()
    batch_size = size or max(1, len(records))
    for start in range(0, len(records), batch_size):
        chunk = list(enumerate(records[start : start + batch_size], after + start + 1))
        accepts = tuple(backend.accepts)
        outcome.filtered += [record for _, record in chunk if not isinstance(record, accepts)]
        _write(backend, [item for item in chunk if isinstance(item[1], accepts)], outcome)
        last, durable = chunk[-1][0], backend.durable()
        assert durable is None or durable <= last, f"durable must be at most {last}, got {durable}"
    return outcome


def _write(backend: Backend, pending: list[tuple[int, Record]], outcome: Outcome) -> None:
    size = len(pending)
    while pending:
        part = pending[:size]
        records = [record for _, record in part]
        try:
            result = backend.write(Batch(records, [number for number, _ in part]))
        except RecordRejected as error:
            if len(part) > 1:
                size = len(part) // 2
                continue
            result = Written(0, error)
        count = len(part) if result is None else result.count
        outcome.delivered += records[:count]
        if result is not None:
            if not isinstance(result.error, RecordRejected):
                raise result.error
            outcome.rejected.append((records[count], result.error.reason))
            count += 1
        pending, size = pending[count:], len(pending)
