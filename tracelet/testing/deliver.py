"""Deliver records to a backend without a journal, a thread or retries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tracelet.backends.base import Backend, Batch
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
        AssertionError: `durable_seq` is ahead of the last delivered record.
    """
    outcome = Outcome()
    batch_size = size or max(1, len(records))
    for start in range(0, len(records), batch_size):
        chunk = list(enumerate(records[start : start + batch_size], after + start + 1))
        outcome.filtered += [record for _, record in chunk if not isinstance(record, backend.accepts)]
        _write(backend, [item for item in chunk if isinstance(item[1], backend.accepts)], outcome)
        last = chunk[-1][0]
        backend.on_written(Batch([], last))
        durable = backend.durable_seq()
        assert durable is None or durable <= last, f"durable_seq must be at most {last}, got {durable}"
    return outcome


def _write(backend: Backend, pending: list[tuple[int, Record]], outcome: Outcome) -> None:
    size = len(pending)
    while pending:
        batch = [record for _, record in pending[:size]]
        try:
            backend.write(Batch(batch, pending[len(batch) - 1][0]))
        except RecordRejected as rejection:
            if rejection.whole and len(batch) > 1:
                size = len(batch) // 2
                continue
            outcome.delivered += batch[: rejection.written]
            outcome.rejected.append((batch[rejection.written], rejection.reason))
            pending = pending[rejection.written + 1 :]
        else:
            outcome.delivered += batch
            pending, size = pending[len(batch) :], len(pending)
