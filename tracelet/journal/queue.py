"""Where records wait for the journal's thread: one queue, and the only back-pressure rule."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tracelet.guard import Guard
from tracelet.journal.spool import payload_bytes
from tracelet.records import Record, Scalar

_BATCH_RECORDS = 4096
# What a record without a payload is taken to need in the queue.
_RECORD_BYTES = 256
_LARGE = 2048
_POLL = 0.002


class _Barrier:
    """Travels through the queue; `passed` is set once everything before it is committed, or cannot be."""

    def __init__(self) -> None:
        self.passed = threading.Event()
        self.last: int | None = None


class _Nowhere(deque[Any]):
    """The queue where no journal thread is: in a forked child, and after the end. Keeps nothing, and tells of it."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__(maxlen=0)
        self._tell = tell

    def append(self, item: Any) -> None:
        if isinstance(item, _Barrier):
            item.passed.set()
        else:
            self._tell()


class RecordQueue:
    """The queue, and the books of what went through it. `taken` is the journal's last number at first.

    Any thread may call what stands first. What stands below is the journal's thread's, which is `taker`.
    """

    def __init__(self, folder: Path, guard: Guard, *, queue_bytes: int, queue_timeout: float, taken: int) -> None:
        self._folder, self._guard = folder, guard
        self.nudge = threading.Event()
        """Set where the journal's thread should look at once."""
        self.moving = threading.RLock()
        """What makes the queue and the books one sight. `submit` never meets this lock."""
        self.taker: threading.Thread | None = None
        self.pending: list[Record] = []
        """Left the queue, and not in the journal yet."""
        self._queue: deque[Record | _Barrier] = deque()
        # Records that left the queue, and those of them that no journal could keep.
        self._taken, self._spoilt = taken, 0
        self._most_records, self._most_bytes = max(queue_bytes // _RECORD_BYTES, 1), queue_bytes
        self._large: deque[int] = deque()
        self._queue_timeout = queue_timeout
        self._full_since: float | None = None
        self._waits: deque[float] = deque()
        self._drops: deque[str] = deque()
        self._barriers: deque[_Barrier] = deque()  # on their way; the order does not matter
        self._met: _Barrier | None = None
        self._closed = threading.Event()
        self._pid = os.getpid()

    def submit(self, record: Record) -> None:
        """Take a record. No lock: a signal handler and a finaliser may call this at any moment."""
        if record.__class__ is not Scalar:
            self._submit_payload(record)
        elif len(self._queue) < self._most_records or self._wait_for_room():
            self._queue.append(record)

    def _submit_payload(self, record: Record) -> None:
        size = payload_bytes(record)
        if self._is_full() and not self._wait_for_room():
            return
        if size > _LARGE:
            self._large.append(size)
        self._queue.append(record)

    def pass_through(self, deadline: float) -> int | None:
        """Wait until all that was submitted before is committed; gives its last number, None past `deadline`."""
        barrier = _Barrier()
        self._barriers.append(barrier)
        self._queue.append(barrier)
        self.nudge.set()
        return barrier.last if barrier.passed.wait(max(0.0, deadline - time.monotonic())) else None

    def drop(self, cause: str) -> None:
        """Count a record that was submitted and is lost."""
        self._drops.append(cause)
        self._guard.count(f"dropped: {cause}")
        self._guard.say(cause, "tracelet: records are dropped: %s (%s); the training goes on", cause, self._folder)

    def counts(self) -> tuple[int, int, int]:
        """Submitted records, those of them that were dropped, and calls that waited for room; under `moving`."""
        dropped = len(self._drops)
        queued = sum(not isinstance(item, _Barrier) for item in list(self._queue))
        return self._taken - self._spoilt + queued + dropped, dropped, len(self._waits)

    @property
    def large_bytes(self) -> int:
        """Bytes of the large payloads that wait."""
        return sum(self._large.copy())

    @property
    def is_foreign(self) -> bool:
        """This is a forked child of the process that owns the run."""
        return os.getpid() != self._pid

    def disown(self) -> None:
        """In a forked child: what is submitted here goes nowhere."""
        self._queue = _Nowhere(self._say_foreign)
        self._large = deque(maxlen=0)
        self.moving = threading.RLock()  # the parent's thread may have held it

    def _say_foreign(self) -> None:
        self._guard.say(
            "fork", "tracelet: a forked process cannot write its parent's run; what it logs is in its event files only"
        )

    def _wait_for_room(self) -> bool:
        """The back-pressure rule: wait, counted; past the limit drop, counted, until there is room again."""
        if threading.current_thread() is self.taker:  # a finaliser that ran there: it would wait for itself
            return True
        began = time.monotonic()
        self._guard.say("full", "tracelet: the queue to the journal is full; calls wait for it (counted in stats())")
        while self._is_full():
            since = self._full_since
            if since is None:
                since = self._full_since = time.monotonic()
            if time.monotonic() - since > self._queue_timeout or self._closed.is_set() or self.is_foreign:
                self.drop("the journal could not be written in time")
                return False
            # Polled: waiting on a lock here could meet a signal handler that waits on the same one.
            time.sleep(_POLL)
        self._waits.append(time.monotonic() - began)
        return True

    def _is_full(self) -> bool:
        return len(self._queue) >= self._most_records or self.large_bytes >= self._most_bytes

    # The journal's thread.

    def take(self) -> bool:
        """Move what waits to `pending`, up to one batch or to where somebody waits for all before it. Whether the rest
        should be taken at once: what comes meanwhile waits for the next turn, since a busy program would otherwise keep
        this thread, and the interpreter, busy as well."""
        pending, queue = self.pending, self._queue
        with self.moving:
            # Counted before the barriers are looked at: each is announced there before it enters the queue.
            count = min(_BATCH_RECORDS - len(pending), len(queue))
            if not self._barriers:  # the usual turn, in one stroke: each step here is a busy loop's loss
                pending += [queue.popleft() for _ in range(count)]  # type: ignore[misc]
                self._taken += count
            while self._barriers and self._met is None and len(pending) < _BATCH_RECORDS and queue:
                item = queue.popleft()
                if isinstance(item, _Barrier):
                    self._met = item
                else:
                    pending.append(item)
                    self._taken += 1
        return self._met is not None or len(pending) == _BATCH_RECORDS

    def settle(self, count: int) -> None:
        """The first `count` of `pending` are in the journal."""
        if self._large:
            for record in self.pending[:count]:
                if record.__class__ is not Scalar and payload_bytes(record) > _LARGE:
                    self._large.popleft()
        del self.pending[:count]
        self._full_since = None

    def spoil(self, cause: str) -> None:
        """The first of `pending` can never be kept."""
        with self.moving:
            self._spoilt += 1
            self.drop(cause)
        self.settle(1)

    @property
    def is_awaited(self) -> bool:
        """Somebody waits for what is committed by now."""
        return self._met is not None

    def let_pass(self, last: int) -> None:
        """Tell who waits that everything up to `last` is committed."""
        if self._met is not None:
            self._met.last = last
            self._met.passed.set()
            self._met = None
            self._barriers.popleft()

    def close(self) -> None:
        """Count what the journal did not take, and what still comes."""
        self._closed.set()
        with self.moving:
            queue, self._queue = self._queue, _Nowhere(lambda: self.drop("the run had ended"))
            waiting = list(queue)
            left = [*self.pending, *(item for item in waiting if not isinstance(item, _Barrier))]
            self._taken += len(left) - len(self.pending)
            self._spoilt += len(left)
            self.pending.clear()
            for _ in left:
                self.drop("the run ended before the journal could be written")
        for barrier in (self._met, *waiting):
            if isinstance(barrier, _Barrier):
                barrier.passed.set()
