"""One journal to one backend, in order: open, hand over, ask what is held, retry, isolate what is refused, count."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tracelet.backends.base import Backend, Batch, Status
from tracelet.backends.filters import FilterState, Numbered
from tracelet.delivery.cursor import Span, accounted, settle, total
from tracelet.delivery.status import DeliveryHandle
from tracelet.delivery.throttle import Throttle
from tracelet.errors import BackendError, BackendUnavailable, JournalError, RecordRejected
from tracelet.guard import Guard
from tracelet.journal.overflow import OverflowBuffer, RecordSource
from tracelet.journal.spool import Files
from tracelet.journal.store import Cursor, Rejection, StoredBatch
from tracelet.records import RunInfo

_RETRY_FIRST, _RETRY_MOST = 0.5, 30.0
# A server that asks for more than this is asked again all the same.
_RETRY_AFTER_MOST = 300.0
_SETTLE_EVERY = 1.0
# An adapter's defect looks like an outage at first; after so many attempts the batch is taken apart instead.
_ATTEMPTS = 3

Report = Callable[[str, Cursor, Sequence[Rejection]], None]


class _Finish(NamedTuple):
    status: Status
    exit_code: int
    deadline: float


class Delivery(DeliveryHandle):
    """Carries one journal to one backend on a thread of its own.

    `report(name, cursor, rejections)` takes the cursor to whoever writes the journal. `opened` is called on this
    thread after every `Backend.open`. `began` is the last number of earlier processes. Nothing of the vendor is touched
    before `may_begin` is set.
    """

    def __init__(
        self,
        backend: Backend,
        folder: Path,
        info: RunInfo,
        cursor: Cursor,
        tail: OverflowBuffer,
        *,
        began: int,
        report: Report,
        guard: Guard,
        opened: Callable[[], None],
        pace: Throttle | None = None,
        may_begin: threading.Event | None = None,
    ) -> None:
        super().__init__(backend.name, cursor)
        self.backend = backend
        self._folder, self._info = folder, info
        self._files = Files(folder / "files")
        self._report, self._guard, self._opened = report, guard, opened
        self._began = began
        self._beyond: deque[Span] = deque()  # the cursor: handed over, not confirmed
        self._sieve: FilterState | None = None
        self._tail = tail
        self._pace = pace or Throttle()
        self._may_begin = may_begin
        self._wake = threading.Event()
        self._finish: _Finish | None = None
        self._flush_to = 0
        self._retry = _RETRY_FIRST
        # Ends a pause between two attempts, and one for the training's sake.
        self._hurry, self._urgent = threading.Event(), threading.Event()
        self._complete = False
        self._thread = threading.Thread(target=self._main, name=f"tracelet-{self.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def ask_confirmed(self, last: int) -> None:
        with self._changed:
            self._flush_to = max(self._flush_to, last)
        self._urgent.set()
        self.wake()

    def finish(self, status: Status, exit_code: int, deadline: float) -> None:
        self._finish = _Finish(status, exit_code, deadline)
        if self._may_begin is not None:
            self._may_begin.set()
        self._hurry.set()
        self._urgent.set()
        self.wake()

    @property
    def is_current_thread(self) -> bool:
        return threading.current_thread() is self._thread

    # The thread.

    def _main(self) -> None:
        if self._may_begin is not None:
            self._may_begin.wait()
        try:
            self._guard.call(self._run)
        finally:
            if self._complete:
                self._set_state("closed")
            elif self._finish is None:
                self._set_state("waiting: for the next start of this run; its delivery ended with an error")
            self._ended.set()

    def _run(self) -> None:
        with RecordSource(self._folder, self._tail) as source, self._files:
            while not self._open(source):
                if self._finish is not None:
                    return
            while not self._over():
                self._wake.clear()
                # Asked before the journal is: what was committed before the end was asked for must still be read.
                finishing = self._finish is not None
                stored = self._read(source)
                if stored is not None:
                    began, worked = time.monotonic(), time.thread_time()
                    self._deliver(stored)
                    self._rest(time.thread_time() - worked, time.monotonic() - began, source)
                elif finishing:
                    break
                else:
                    self._settle(flush=self._flush_to > self.position)
                    self._wake.wait(_SETTLE_EVERY if self._beyond else None)
            self._close(source)

    def _over(self) -> bool:
        """The end was asked for and its deadline has passed."""
        return self._finish is not None and time.monotonic() >= self._finish.deadline

    def _open(self, source: RecordSource) -> bool:
        error = self._guard.attempt(self.backend.open, self._info)
        if error is not None:
            self._opened()  # a vendor that failed may have registered its exit hook all the same
            self._unavailable(error)
            return False
        while not self._aligned(source):
            if self._over():
                return False
        self._opened()
        self.url = self._guard.call(getattr, self.backend, "url")
        self._recovered()
        return True

    def _aligned(self, source: RecordSource) -> bool:
        """Begin where the store is: after a crash it may hold more than the cursor says, or less. Whether the journal
        could be read for it."""
        try:
            self._align(source)
        except JournalError as error:
            self._wait_for_journal(error)
            return False
        return True

    def _align(self, source: RecordSource) -> None:
        confirmed = self._guard.call(self.backend.durable_seq)
        held = self._guard.call(self.backend.resume_after)
        cursor = self.cursor
        if confirmed is not None and confirmed < cursor.position:
            cursor = total(self._accounted(source, 0, confirmed))
            self._guard.say(
                f"rewound {self.name}",
                "tracelet: %s holds %d records of %d that it had confirmed; the others are delivered again",
                self.name,
                cursor.position,
                self.position,
            )
        # What a store has beyond `began` was killed before a full disk took it; its numbers are given anew.
        held = 0 if held is None else min(held, self._began)
        self._restart(cursor, list(self._accounted(source, cursor.position, held)))
        self._settle(flush=False)

    def _accounted(self, source: RecordSource, after: int, last: int) -> Iterator[Span]:
        if last <= after:  # a new run may have no journal yet
            return iter(())
        refused = {one.seq for one in source.reader.rejections(self.name)}
        return accounted(_batches(source, after), last, self._sieve_at(source, after), refused)

    def _sieve_at(self, source: RecordSource, position: int) -> FilterState:
        """As it is once the records up to `position` went through it."""
        sieve = FilterState(self.backend.accepts, self.backend.filter)
        if position and sieve.looks_back:
            total(accounted(_batches(source, 0), position, sieve, set()))
        return sieve

    def _restart(self, cursor: Cursor, beyond: Sequence[Span]) -> None:
        moved = cursor.position != self.position
        with self._changed:
            self._beyond = deque(beyond)
            self.cursor, self.written_seq = cursor, beyond[-1].last if beyond else cursor.position
            self._changed.notify_all()
        self._sieve = None
        if moved:
            self._report(self.name, cursor, [])

    def _read(self, source: RecordSource) -> StoredBatch | None:
        try:
            if self._sieve is None:
                self._sieve = self._sieve_at(source, self.written_seq)
            return source.next_batch(self.written_seq)
        except JournalError as error:
            self._wait_for_journal(error)
            return None

    def _wait_for_journal(self, error: JournalError) -> None:
        self._guard.say(f"read {self.name}", "tracelet: %s: %s", self.name, error)
        self._pause(_RETRY_FIRST)

    def _deliver(self, stored: StoredBatch) -> None:
        if stored.damaged:
            self._guard.count("damaged in the journal")
            self._guard.say(stored.damaged, "tracelet: %s: %s", self._folder, stored.damaged)
        assert self._sieve is not None
        accepted, others = self._sieve.sift(stored.first, stored.records)
        last, portion = stored.last, self._pace.portion
        if len(accepted) > portion:
            last = accepted[portion][0] - 1
            del accepted[portion:]
        rejections: list[Rejection] = []
        left = self._hand_over(accepted, rejections)
        handed = left[0][0] - 1 if left else last
        if handed <= self.written_seq:
            return
        self._sieve.commit(handed)
        written = len(accepted) - len(left) - len(rejections)
        filtered = Counter(reason for seq, reason in others if seq <= handed)
        rejected = len(rejections) + (handed - stored.first + 1 if stored.damaged else 0)
        self._beyond.append(Span(handed, written, filtered, rejected, rejections))
        self.written_seq = handed
        self._guard.attempt(self.backend.on_written, Batch([], handed))
        self._settle(flush=self._flush_to > self.position)

    def _hand_over(self, todo: list[Numbered], rejections: list[Rejection]) -> list[Numbered]:
        """Write `todo`, patiently, taking refused records out singly; gives what is left when the time is over."""
        attempts, size = 0, len(todo)
        while (part := todo[: self._fitting(size)]) and not self._over():
            records = [self._files.locate(record) for _, record in part]
            began = time.monotonic()
            error = self._guard.attempt(self.backend.write, Batch(records, part[-1][0]))
            most = len(part) - isinstance(error, RecordRejected)
            taken = max(0, min(error.written, most)) if isinstance(error, BackendError) else 0
            attempts += 1
            match error:
                case None:
                    self._pace.wrote(len(part), time.monotonic() - began, finishing=self._finish is not None)
                    taken = len(part)
                    attempts, size = 0, len(todo)
                    self._recovered()
                case RecordRejected(whole=True) if len(part) > 1:
                    size = len(part) // 2
                case RecordRejected(reason=reason):
                    rejections.append(self._reject(part[taken], reason))
                    taken += 1
                    attempts = 0
                case BackendUnavailable():
                    self._unavailable(error)
                case _ if attempts < _ATTEMPTS:
                    self._unavailable(error)
                case _ if len(part) > 1:
                    size = len(part) // 2
                case _:
                    rejections.append(self._reject(part[0], f"{type(error).__name__}: {error}"))
                    taken, attempts = 1, 0
            todo = todo[taken:]
        return todo

    def _fitting(self, size: int) -> int:
        """What is under way when the end gives up waiting may be written, and is offered again all the same."""
        return size if self._finish is None else self._pace.fitting(size, self._finish.deadline - time.monotonic())

    def _rest(self, worked: float, passed: float, source: RecordSource) -> None:
        """Leave the interpreter to the training; not where one waits."""
        if not self._pace.yields or self._finish is not None or self._flush_to > self.position:
            return
        self._urgent.clear()
        if self._finish is None and self._flush_to <= self.position:  # asked again: it may have come just now
            self._urgent.wait(self._pace.rest(worked, passed, source.last() - self.written_seq))

    def _reject(self, item: Numbered, reason: str) -> Rejection:
        reason = self._guard.hide(reason)
        self._guard.say(
            f"rejected {self.name} {reason}",
            "tracelet: %s refuses a record: %s (kept in the journal with this reason)",
            self.name,
            reason,
        )
        return Rejection(item[0], reason, item[1])

    def _settle(self, *, flush: bool) -> None:
        """Move the cursor to what the backend confirms."""
        if flush:
            self._guard.attempt(self.backend.flush)
        held = self._guard.call(self.backend.durable_seq)
        if held is None:
            return
        with self._changed:
            moved = settle(self.cursor, self._beyond, held)
            if moved is not None:
                self.cursor = moved[0]
                self._changed.notify_all()
        if moved is not None:
            self._report(self.name, *moved)

    def _close(self, source: RecordSource) -> None:
        assert self._finish is not None
        error = self._guard.attempt(self.backend.close, self._finish.status, self._finish.exit_code)
        if error is not None:
            self._unavailable(error)
        self._settle(flush=False)
        confirmed = self._guard.call(self.backend.durable_seq)
        if confirmed is not None and confirmed < self.position:  # what it took did not get to its server in the end
            self._restart(total(self._accounted(source, 0, confirmed)), [])
        self._complete = error is None

    def _unavailable(self, error: Exception) -> None:
        reason = self._guard.hide(
            error.reason if isinstance(error, BackendError) else f"{type(error).__name__}: {error}"
        )
        self._guard.say(
            f"unavailable {self.name} {reason}",
            "tracelet: %s cannot take records now: %s. The run goes on; they wait in %s",
            self.name,
            reason.removeprefix(f"{self.name}: "),
            self._folder,
        )
        self._trouble = reason
        self._set_state(f"waiting: {reason}")
        # Jitter: many runs that lost one server must not come back to it in step.
        jitter = os.urandom(1)[0] / 255  # the program's generators are its own
        asked = getattr(error, "retry_after", None) or 0.0
        self._pause(max(min(asked, _RETRY_AFTER_MOST), self._retry * (0.5 + jitter / 2)))
        self._retry = min(self._retry * 2, _RETRY_MOST)

    def _recovered(self) -> None:
        self._retry = _RETRY_FIRST
        offline_reason = self._guard.call(getattr, self.backend, "offline_reason")
        if offline_reason:
            self._guard.say(
                f"detour {self.name}",
                "tracelet: %s is not connected: %s. The run goes on, recorded offline until it can be handed over",
                self.name,
                offline_reason.removeprefix(f"{self.name}: "),
            )
        self._opened_on(offline_reason)

    def _pause(self, seconds: float) -> None:
        if self._finish is None:
            self._hurry.wait(seconds)
        else:
            self._ended.wait(max(0.0, min(seconds, 1.0, self._finish.deadline - time.monotonic())))


def _batches(source: RecordSource, after: int) -> Iterator[StoredBatch]:
    while batch := source.next_batch(after):
        yield batch
        after = batch.last
