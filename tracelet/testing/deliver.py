"""Offering records to a backend as the delivery does, without a journal, a thread or a second try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tracelet.backends.base import Backend, Batch
from tracelet.errors import RecordRejected
from tracelet.records import Record


@dataclass
class Outcome:
    """What became of the records that were offered; the three add up to them."""

    delivered: list[Record] = field(default_factory=list)
    filtered: list[Record] = field(default_factory=list)
    rejected: list[tuple[Record, str]] = field(default_factory=list)


def deliver(backend: Backend, records: Sequence[Record], *, after: int = 0, size: int | None = None) -> Outcome:
    """Offer `records`, numbered from `after + 1`, in batches of `size` (default: one batch).

    Raises:
        BackendUnavailable: the backend's own.
        AssertionError: `durable_seq` was ahead of what had been handed over.
    """
    outcome = Outcome()
    step = size or max(1, len(records))
    for start in range(0, len(records), step):
        chunk = list(enumerate(records[start : start + step], after + start + 1))
        outcome.filtered += [record for _, record in chunk if not isinstance(record, backend.accepts)]
        _offer(backend, [item for item in chunk if isinstance(item[1], backend.accepts)], outcome)
        last = chunk[-1][0]
        backend.on_written(Batch([], last))
        held = backend.durable_seq()
        assert held is None or held <= last, f"confirm() says {held}, but only {last} were handed over"
    return outcome


def _offer(backend: Backend, todo: list[tuple[int, Record]], outcome: Outcome) -> None:
    size = len(todo)
    while todo:
        part = [record for _, record in todo[:size]]
        try:
            backend.write(Batch(part, todo[len(part) - 1][0]))
        except RecordRejected as refusal:
            if refusal.whole and len(part) > 1:
                size = len(part) // 2
                continue
            outcome.delivered += part[: refusal.written]
            outcome.rejected.append((part[refusal.written], refusal.reason))
            todo = todo[refusal.written + 1 :]
        else:
            outcome.delivered += part
            todo, size = todo[len(part) :], len(todo)
