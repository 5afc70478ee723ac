"""Queue records for the journal thread, with the package's only back-pressure rule."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

from tracelet.guard import Guard
from tracelet.journal.sizes import RECORD_BYTES, record_bytes
from tracelet.records import Record, Scalar

# Records and bytes per journal batch: they bound the time of one commit, and the memory of everyone who reads it.
_BATCH_RECORDS = 4096
_BATCH_BYTES = 4 * 2**20
# Bytes that one entry of `_held` stands for.
_UNIT_BYTES = 1024
# Seconds between two checks for room in a full queue.
_POLL_SECONDS = 0.002


class _Barrier:
    """Mark a position in the queue. `committed` is set once all earlier records are committed or discarded."""

    def __init__(self) -> None:
        self.committed = threading.Event()
        self.last: int | None = None


class _ClosedQueue(deque[Any]):
    """Pass each record to `on_append` instead, if no journal thread runs: in a forked child, and after the end."""

    def __init__(self, on_append: Callable[[Any], None]) -> None:
        super().__init__(maxlen=0)
        self._on_append = on_append

    def append(self, item: Any) -> None:
        if isinstance(item, _Barrier):
            item.committed.set()
        else:
            self._on_append(item)


class RecordQueue:
    """Queue records and count them. `start_seq` is the journal's last sequence number at the start.

    Any thread may call the methods of the first part. The journal thread (`consumer`) alone calls those of the second.
    """

    def __init__(self, folder: Path, guard: Guard, *, queue_bytes: int, queue_timeout: float, start_seq: int) -> None:
        self._folder, self._guard = folder, guard
        self.wake = threading.Event()
        """Wakes the journal thread when set."""
        self.consumer: threading.Thread | None = None
        self.pending: list[Record] = []
        """Records taken from the queue that are not in the journal yet."""
        self._queue: deque[Record | _Barrier] = deque()
        # Records taken from the queue, and those of them that could not be stored.
        self._taken, self._discarded = start_seq, 0
        # Odd while the journal thread changes these: a lock would be held by a thread that a signal interrupts.
        self._version = 0
        self._max_records, self._max_units = max(queue_bytes // RECORD_BYTES, 1), max(queue_bytes // _UNIT_BYTES, 1)
        self._max_batch_units = min(_BATCH_BYTES // _UNIT_BYTES, self._max_units)
        # One entry for each `_UNIT_BYTES` of the large records that are not in the journal yet: threads can add to its
        # length, and compare it, without a lock.
        self._held: deque[None] = deque()
        self._pending_units = 0
        self._queue_timeout = queue_timeout
        self._full_since: float | None = None
        self._waited: deque[float] = deque()
        self._drops: deque[str] = deque()
        self._barriers: deque[_Barrier] = deque()  # in the queue; the order does not matter
        self._reached: _Barrier | None = None
        self._closed = threading.Event()
        self._pid = os.getpid()

    def submit(self, record: Record) -> None:
        """Queue a record. Takes no lock: signal handlers and finalisers may call this at any time."""
        if record.__class__ is not Scalar:
            self._submit_payload(record)
        elif len(self._queue) < self._max_records or self._wait_for_room():
            self._queue.append(record)

    def _submit_payload(self, record: Record) -> None:
        if self._is_full() and not self._wait_for_room():
            return
        self._held.extend(repeat(None, _units(record)))
        self._queue.append(record)

    def wait_committed(self, deadline: float) -> int | None:
        """Wait until all earlier records are committed. Return the last sequence number, or None after `deadline`."""
        barrier = _Barrier()
        self._barriers.append(barrier)
        self._queue.append(barrier)
        self.wake.set()
        return barrier.last if barrier.committed.wait(max(0.0, deadline - time.monotonic())) else None

    def drop(self, cause: str) -> None:
        """Count a submitted record that is lost."""
        self._drops.append(cause)
        self._log_drop(cause)

    def _log_drop(self, cause: str) -> None:
        self._guard.count(f"dropped: {cause}")
        self._guard.log_once(cause, "tracelet: records are dropped: %s (%s); training continues", cause, self._folder)

    def counts(self) -> tuple[int, int, int]:
        """Return the number of submitted records, dropped records, and calls that waited."""
        while True:
            version = self._version
            dropped = len(self._drops)
            queued = len(self._queue)
            if self._barriers:  # check after `len`: each is registered before it enters the queue
                queued = sum(not isinstance(item, _Barrier) for item in list(self._queue))
            submitted = self._taken - self._discarded + queued + dropped
            if (version == self._version and version % 2 == 0) or threading.current_thread() is self.consumer:
                return submitted, dropped, len(self._waited)
            time.sleep(0)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        self._version += 1
        try:
            yield
        finally:
            self._version += 1

    @property
    def large_bytes(self) -> int:
        """Bytes of the large records that are not in the journal yet."""
        return len(self._held) * _UNIT_BYTES

    @property
    def is_forked(self) -> bool:
        """True in a forked child of the process that owns the run."""
        return os.getpid() != self._pid

    def detach(self, on_submit: Callable[[Record], None] | None) -> None:
        """Pass later records to `on_submit`, or discard them: this process is a forked child."""
        self._queue = _ClosedQueue(on_submit or self.log_forked)
        self._held = deque(maxlen=0)
        self._version = 0  # the parent's thread may have been changing the counts

    def log_forked(self, record: Record | None = None) -> None:
        """Log once that this process, a forked child, records nothing."""
        self._guard.log_once(
            "fork", "tracelet: a forked process cannot log to its parent's run; its records go to its event files only"
        )

    def _wait_for_room(self) -> bool:
        """Wait until the queue has room. If it stays full past the timeout, drop records until it has room."""
        if threading.current_thread() is self.consumer:  # a finaliser on that thread would wait for itself
            return True
        started = time.monotonic()
        self._guard.log_once(
            "full", "tracelet: the queue to the journal is full; logging calls wait for room (counted in stats())"
        )
        while self._is_full():
            since = self._full_since
            if since is None:
                since = self._full_since = time.monotonic()
            if time.monotonic() - since > self._queue_timeout or self._closed.is_set() or self.is_forked:
                self.drop("the journal could not be written in time")
                return False
            # Polled: a signal handler may interrupt this wait, and would deadlock on a shared lock.
            time.sleep(_POLL_SECONDS)
        self._waited.append(time.monotonic() - started)
        return True

    def _is_full(self) -> bool:
        return len(self._queue) >= self._max_records or len(self._held) >= self._max_units

    # The journal thread.

    def take(self) -> bool:
        """Move queued records to `pending`, up to one batch or the first barrier. Return True to run again at once.

        Records that arrive meanwhile are left for the next turn: a busy program would otherwise keep this thread, and
        the interpreter, busy as well.
        """
        pending, queue = self.pending, self._queue
        with self._changing():
            # Count before checking the barriers and the bytes: both are registered before they enter the queue.
            count = min(_BATCH_RECORDS - len(pending), len(queue))
            if not (self._barriers or self._held):  # the usual case in one step: each step here slows a training loop
                pending += [queue.popleft() for _ in range(count)]  # type: ignore[misc]
                self._taken += count
                return len(pending) == _BATCH_RECORDS
            while (count or self._barriers) and queue and self._reached is None and not self._is_batch_full():
                count -= count > 0
                item = queue.popleft()
                if isinstance(item, _Barrier):
                    self._reached = item
                else:
                    pending.append(item)
                    self._taken += 1
                    self._pending_units += _units(item)
        return self._reached is not None or self._is_batch_full()

    def _is_batch_full(self) -> bool:
        return len(self.pending) >= _BATCH_RECORDS or self._pending_units >= self._max_batch_units

    def remove_first(self, count: int) -> None:
        """Remove the first `count` records of `pending`: they are in the journal."""
        if self._pending_units:
            units = sum(map(_units, self.pending[:count]))
            self._pending_units -= units
            for _ in range(min(units, len(self._held))):
                self._held.popleft()
        del self.pending[:count]
        self._full_since = None

    def discard_first(self, cause: str) -> None:
        """Drop the first record of `pending`: it can never be stored."""
        with self._changing():
            self._discarded += 1
            self._drops.append(cause)
        self._log_drop(cause)
        self.remove_first(1)

    @property
    def has_waiter(self) -> bool:
        """True if a caller waits for the records committed so far."""
        return self._reached is not None

    def release(self, last: int) -> None:
        """Release the waiting caller: everything up to `last` is committed."""
        if self._reached is not None:
            self._reached.last = last
            self._reached.committed.set()
            self._reached = None
            self._barriers.popleft()

    def close(self) -> None:
        """Drop and count the records that are not in the journal, and all later ones."""
        self._closed.set()
        with self._changing():
            queue, self._queue = self._queue, _ClosedQueue(lambda record: self.drop("the run had ended"))
            queued = list(queue)
            discarded = [*self.pending, *(item for item in queued if not isinstance(item, _Barrier))]
            self._taken += len(discarded) - len(self.pending)
            self._discarded += len(discarded)
            self.pending.clear()
            self._held = deque(maxlen=0)
            cause = "the run ended before the journal could be written"
            self._drops.extend([cause] * len(discarded))
        for _ in discarded:
            self._log_drop(cause)
        for barrier in (self._reached, *queued):
            if isinstance(barrier, _Barrier):
                barrier.committed.set()


def _units(record: Record) -> int:
    """Return the number of entries in `_held` for a record. A small one has none: `_max_records` bounds those."""
    if record.__class__ is Scalar:
        return 0
    size = record_bytes(record)
    return 0 if size <= 2 * RECORD_BYTES else -(-size // _UNIT_BYTES)
