"""Queue, journal thread, one delivery per backend, and the deadline at the end. Formats nothing, names no vendor."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracelet.backends.base import Backend, Status
from tracelet.delivery import Delivery
from tracelet.guard import Guard
from tracelet.journal import Cursor, JournalReader
from tracelet.keeper import Keeper
from tracelet.records import Record, RunInfo, Scalar
from tracelet.redaction import Secrets
from tracelet.settings import Place
from tracelet.spool import payload_bytes
from tracelet.standing import DeliveryStats, Standing
from tracelet.worker.client import Worker

# A commit is at most 100 ms behind the call, also beside a loop that never gives up the interpreter: half of that for
# the interval, half for the few switch intervals (5 ms each) that the commit itself waits for.
_COMMIT_EVERY = 0.05
_BEAT_EVERY = 10.0
_BATCH_RECORDS = 4096
# What a record without a payload is taken to need in the queue.
_RECORD_BYTES = 256
_LARGE = 2048
_POLL = 0.002
# What the end of a run keeps for its last portion and the vendor's own end.
_LAST_MOMENT = 0.3


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


class Orchestrator:
    """Takes records from any thread, journals them on one, and runs the deliveries."""

    def __init__(
        self,
        folder: Path,
        info: RunInfo,
        *,
        guard: Guard,
        queue_bytes: int,
        queue_timeout: float,
        secrets: Secrets | None = None,
    ) -> None:
        self.guard = guard
        self._folder = folder
        self._info = info
        self._secrets = secrets or Secrets()
        self._keeper = Keeper(folder, info, guard, queue_bytes, self._settled, self._secrets)
        self._began = self._keeper.last
        self._queue: deque[Record | _Barrier] = deque()
        # Records that left the queue, those of them that no journal could keep, and what makes the two and the queue
        # one sight for stats(). `submit` never meets this lock.
        self._taken, self._spoilt = self._keeper.last, 0
        self._moving = threading.RLock()
        self._most_records = max(queue_bytes // _RECORD_BYTES, 1)
        self._most_bytes = queue_bytes
        self._large: deque[int] = deque()
        self._queue_timeout = queue_timeout
        self._full_since: float | None = None
        self._waits: deque[float] = deque()
        self._drops: deque[str] = deque()
        self._deliveries: dict[str, Standing] = {}
        self._worker: Worker | None = None
        self._may_begin = threading.Event()
        self._pending: list[Record] = []
        self._barriers: deque[_Barrier] = deque()  # on their way; the order does not matter
        self._barrier_met: _Barrier | None = None
        self._nudge = threading.Event()
        self._closing = threading.Event()
        self._closed = threading.Event()
        self._ended = threading.Event()
        self.status: Status | None = None
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._main, name="tracelet-journal", daemon=True)
        _live.add(self)

    def start(
        self, backends: Sequence[Backend], opened: Callable[[], None], *, place: Place = "thread", at_once: bool = True
    ) -> None:
        """Begin journalling and delivering; `opened()` is called after every `Backend.open`, on its thread.

        With `at_once=False` no backend is touched before `begin`.
        """
        cursors = self._known_cursors()
        if place == "process" and backends:
            self._worker = Worker(
                self._folder,
                self._info,
                backends,
                cursors,
                last=lambda: self._keeper.last,
                lock=self._keeper.lock,
                report=self._keeper.set_cursor,
                guard=self.guard,
                secrets=self._secrets,
            )
            self._deliveries.update(self._worker.deliveries)
        else:
            self._deliveries |= {
                one.name: self._on_thread(one, cursors.get(one.name, Cursor()), opened) for one in backends
            }
        self._thread.start()
        for delivery in self._deliveries.values():
            delivery.start()
        if at_once:
            self.begin()

    def _on_thread(self, backend: Backend, cursor: Cursor, opened: Callable[[], None]) -> Delivery:
        return Delivery(
            backend,
            self._folder,
            self._info,
            cursor,
            self._keeper.tail,
            began=self._began,
            report=self._keeper.set_cursor,
            guard=self.guard,
            opened=functools.partial(self._opened, backend, opened),
            may_begin=self._may_begin,
        )

    def begin(self) -> None:
        """Let the backends connect; on a thread, the import of a vendor's package holds up the program by itself."""
        self._may_begin.set()
        if self._worker is not None:
            self._worker.start()

    @property
    def deliveries(self) -> Mapping[str, Standing]:
        return self._deliveries

    def expect(self, configs: Mapping[str, Mapping[str, Any]]) -> None:
        """Note backends that this run is meant for, and what may be kept of their config."""
        known = self._known_cursors()
        for name, config in configs.items():
            if name not in known:
                self._keeper.set_cursor(name, Cursor(), [])
            self._keeper.annotate(f"config {name}", dict(config))

    def earlier_facts(self) -> dict[str, Any]:
        """What was annotated before this process went on with the run; empty for a new one."""
        if not self._info.resumed:
            return {}
        with JournalReader(self._folder) as reader:
            return reader.facts()

    def _known_cursors(self) -> dict[str, Cursor]:
        if not self._info.resumed:
            return {}
        with JournalReader(self._folder) as reader:
            return reader.cursors()

    def _opened(self, backend: Backend, opened: Callable[[], None]) -> None:
        """On the backend's thread, after every `open`: it may have signed in with what only its vendor knew."""
        self._secrets.learn(self.guard.call(backend.secrets) or ())
        opened()

    def _settled(self) -> int | None:
        """The number up to which every backend has the records."""
        return min((one.position for one in self._deliveries.values()), default=None)

    # The caller's threads.

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

    def annotate(self, key: str, value: Any) -> None:
        """Keep a fact about the run with the next commit."""
        self._keeper.annotate(key, value)

    def flush(self, deadline: float) -> bool:
        """Whether all that was submitted before is confirmed by every connected backend before `deadline`."""
        last = self._barrier(deadline)
        if last is None:
            return False
        connected = [one for one in self._deliveries.values() if one.connected]
        if not connected and self._keeper.tail.oldest() is not None:  # in memory alone
            return False
        for delivery in connected:  # all are asked before the first is waited for
            delivery.ask_confirmed(last)
        return all(delivery.wait_confirmed(last, deadline) for delivery in connected)

    def flush_one(self, name: str, deadline: float) -> bool:
        """`flush` for one backend, connected or not."""
        last = self._barrier(deadline)
        return last is not None and self._deliveries[name].wait_confirmed(last, deadline)

    def stop(self, status: Status, exit_code: int, timeout: float) -> None:
        """Drain, deliver, close; gives up at `timeout` seconds. What is left stays in the journal.

        A run that was opened again, and into which nothing came, keeps the `status` it had.
        """
        began, ended = time.monotonic(), time.time()
        deadline = began + timeout
        try:
            # A journal that cannot be written leaves half of the time for what is in it.
            self._barrier(began + timeout / 2)
            if self._info.resumed and self._keeper.last == self._began:
                status, exit_code, ended = self._earlier_end(ended)
            self.status = status
            for delivery in self._deliveries.values():
                delivery.finish(status, exit_code, deadline - min(_LAST_MOMENT, timeout / 4))
            for delivery in self._deliveries.values():
                delivery.wait_ended(deadline)
        finally:  # also when Ctrl-C ends the wait
            if self._worker is not None:
                self.guard.call(self._worker.end)
            for key, value in (("exit_code", exit_code), ("ended", ended), ("status", status)):
                self.annotate(key, value)
            for name, delivery in self._deliveries.items():
                waits = delivery.position < self._keeper.last
                self.annotate(f"trouble {name}", delivery.trouble if waits else None)
            self._closing.set()
            self._nudge.set()
            self._ended.wait(max(1.0, deadline - time.monotonic()))
            _live.discard(self)

    def _earlier_end(self, now: float) -> tuple[Status, int, float]:
        """How a run ended that was only opened again to deliver what waits; if it never did, its process was killed."""
        facts = self.earlier_facts()
        if facts.get("status") in ("finished", "failed"):
            return facts["status"], facts.get("exit_code", 0), facts.get("ended", now)
        return "killed", facts.get("exit_code", 1), facts.get("ended", now)

    def stats(self) -> tuple[int, dict[str, DeliveryStats], dict[str, int], int]:
        """Submitted records, deliveries, causes of loss with their counts, calls that waited for room."""
        with self._moving:
            dropped = len(self._drops)
            queued = sum(not isinstance(item, _Barrier) for item in list(self._queue))
            submitted = self._taken - self._spoilt + queued + dropped
            deliveries = {
                name: one.stats(submitted, dropped + self._lost(one)) for name, one in self._deliveries.items()
            }
        return submitted, deliveries, self.guard.counts(), len(self._waits)

    def _lost(self, delivery: Standing) -> int:
        """Records that the disk never took, and this backend neither; they are lost once the run has ended."""
        return self._keeper.tail.count_after(delivery.position) if self._ended.is_set() else 0

    def disown(self) -> None:
        """In a forked child: threads and the journal are the parent's; what is submitted here goes nowhere."""
        self._queue = _Nowhere(self._say_foreign)
        self._large = deque(maxlen=0)
        self._moving = threading.RLock()  # the parent's thread may have held it

    @property
    def is_foreign(self) -> bool:
        """This is a forked child of the process that owns the run."""
        return os.getpid() != self._pid

    def _say_foreign(self) -> None:
        self.guard.say(
            "fork", "tracelet: a forked process cannot write its parent's run; what it logs is in its event files only"
        )

    def _barrier(self, deadline: float) -> int | None:
        barrier = _Barrier()
        self._barriers.append(barrier)
        self._queue.append(barrier)
        self._nudge.set()
        return barrier.last if barrier.passed.wait(max(0.0, deadline - time.monotonic())) else None

    def _wait_for_room(self) -> bool:
        """The back-pressure rule: wait, counted; past the limit drop, counted, until there is room again."""
        if threading.current_thread() is self._thread:  # a finaliser that ran there: it would wait for itself
            return True
        began = time.monotonic()
        self.guard.say("full", "tracelet: the queue to the journal is full; calls wait for it (counted in stats())")
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
        return len(self._queue) >= self._most_records or sum(self._large.copy()) >= self._most_bytes

    def drop(self, cause: str) -> None:
        """Count a record that was submitted and is lost."""
        self._drops.append(cause)
        self.guard.count(f"dropped: {cause}")
        self.guard.say(cause, "tracelet: records are dropped: %s (%s); the training goes on", cause, self._folder)

    # The journal thread.

    def _main(self) -> None:
        beat = time.monotonic()
        while not self._closing.is_set():
            self._nudge.wait(_COMMIT_EVERY)
            self._nudge.clear()
            self.guard.call(self._commit)
            if time.monotonic() - beat > _BEAT_EVERY:
                beat = time.monotonic()
                self._beat()
        self.guard.call(self._commit)
        self._closed.set()
        self._give_up()
        self.guard.call(self._keeper.close)
        self._count_lost()
        self._ended.set()

    def _beat(self) -> None:
        with contextlib.suppress(OSError):  # a disk that takes nothing was spoken of
            self._keeper.beat()

    def _count_lost(self) -> None:
        tail = self._keeper.tail
        behind = [tail.count_after(one.position) for one in self._deliveries.values()]
        lost = max(behind) if behind else len(tail)
        for _ in range(lost):
            self.guard.count("dropped: the disk took nothing until the end")
        if lost:
            self.guard.say(
                "lost at the end", "tracelet: %d records are lost: %s took nothing until the end", lost, self._folder
            )

    def _give_up(self) -> None:
        """Count what the journal did not take, and what still comes."""
        with self._moving:
            queue, self._queue = self._queue, _Nowhere(lambda: self.drop("the run had ended"))
            waiting = list(queue)
            left = [*self._pending, *(item for item in waiting if not isinstance(item, _Barrier))]
            self._taken += len(left) - len(self._pending)
            self._spoilt += len(left)
            self._pending.clear()
            for _ in left:
                self.drop("the run ended before the journal could be written")
        for barrier in (self._barrier_met, *waiting):
            if isinstance(barrier, _Barrier):
                barrier.passed.set()

    def _commit(self) -> None:
        """Move the queue into the journal; on a full disk keep what is in hand and try again at the next turn."""
        try:
            while self._commit_batch():
                pass
            self._keeper.catch_up()
            self._keeper.write_notes()
            self._keeper.sync()
        except OSError as error:
            self.guard.say(
                f"journal {error}",
                "tracelet: %s. The training goes on; records wait in memory for the disk to recover",
                error,
            )

    def _commit_batch(self) -> bool:
        """Whether there was more than one batch holds. What comes while it is written waits for the next turn: a busy
        program would otherwise keep this thread, and the interpreter, busy as well."""
        pending, queue = self._pending, self._queue
        with self._moving:
            # Counted before the barriers are looked at: each is announced there before it enters the queue.
            count = min(_BATCH_RECORDS - len(pending), len(queue))
            if not self._barriers:  # the usual turn, in one stroke: each step here is a busy loop's loss
                pending += [queue.popleft() for _ in range(count)]  # type: ignore[misc]
                self._taken += count
            while self._barriers and self._barrier_met is None and len(pending) < _BATCH_RECORDS and queue:
                item = queue.popleft()
                if isinstance(item, _Barrier):
                    self._barrier_met = item
                else:
                    pending.append(item)
                    self._taken += 1
        more = self._barrier_met is not None or len(pending) == _BATCH_RECORDS
        if pending:
            if self._keeper.last == self._began and self._info.resumed:
                self._keeper.annotate("status", "running")
            self._append(pending)
            self._full_since = None
            for delivery in self._deliveries.values():
                delivery.wake()
        if self._barrier_met is not None:
            self._write_notes()
            self._barrier_met.last = self._keeper.last
            self._barrier_met.passed.set()
            self._barrier_met = None
            self._barriers.popleft()
        return more

    def _append(self, pending: list[Record]) -> None:
        try:
            self._settle_first(pending, len(pending))
        except (ValueError, TypeError, OverflowError):
            # One record that has no encoding (a lone surrogate in a name) must not take its neighbours with it.
            while pending:
                try:
                    self._settle_first(pending, 1)
                except (ValueError, TypeError, OverflowError) as error:
                    self.guard.swallowed(error, self._keeper.append)
                    with self._moving:
                        self._spoilt += 1
                        self.drop(f"cannot be encoded ({type(error).__name__})")
                    self._release(pending, 1)

    def _settle_first(self, pending: list[Record], count: int) -> None:
        # Content-addressed: what a failed turn already put into the spool is found there by the next.
        self._keeper.append(pending[:count])
        self._release(pending, count)

    def _release(self, pending: list[Record], count: int) -> None:
        if self._large:
            for record in pending[:count]:
                if record.__class__ is not Scalar and payload_bytes(record) > _LARGE:
                    self._large.popleft()
        del pending[:count]

    def _write_notes(self) -> None:
        """A full disk keeps no cursor; what was submitted before the barrier is on its way all the same."""
        with contextlib.suppress(OSError):
            self._keeper.write_notes()


_live: weakref.WeakSet[Orchestrator] = weakref.WeakSet()


def _after_fork() -> None:
    for orchestrator in list(_live):
        orchestrator.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
