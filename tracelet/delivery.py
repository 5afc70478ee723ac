"""One journal to one backend, in order: open, hand over, ask what is held, retry, isolate what is refused, count."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from tracelet.backends.base import Backend, Batch, Status
from tracelet.errors import BackendError, BackendUnavailable, JournalError, RecordRejected
from tracelet.guard import Guard
from tracelet.journal import Cursor, Rejection, StoredBatch
from tracelet.progress import Handed, Progress, accounted, total
from tracelet.records import Record, RunInfo
from tracelet.spool import Files
from tracelet.tail import Source, Tail

_RETRY_FIRST, _RETRY_MOST = 0.5, 30.0
# A server that asks for more than this is asked again all the same.
_RETRY_AFTER_MOST = 300.0
_SETTLE_EVERY = 1.0
# Written in portions that take a moment each: the end of a run, and what a kill repeats, wait for one portion at most.
_PORTION_FIRST, _PORTION_MOST = 64, 4096
_PORTION_SHORT, _PORTION_LONG = 0.1, 0.4
# Where the end of the run waits for nothing else, larger portions: many vendors have a price for each request.
_LAST_SHORT, _LAST_LONG = 0.25, 0.8
# Beside a busy loop, the interpreter time that an SDK takes is the loop's loss. A fifth is enough for a live view,
# and the end of the run ends the pauses.
_REST, _REST_MOST = 4.0, 2.0
# An adapter's defect looks like an outage at first; after so many attempts the batch is taken apart instead.
_ATTEMPTS = 3

_NO_END = "it did not confirm the end of the run in time"
_OFFLINE = "offline: "
_OPEN = ("connected", _OFFLINE)

Report = Callable[[str, Cursor, Sequence[Rejection]], None]


class DeliveryStats(msgspec.Struct, frozen=True, kw_only=True):
    """Where the records of a run are, for one backend; the five numbers add up to the records submitted."""

    delivered: int
    """Held durably by the backend."""
    pending: int
    """In the journal, not yet confirmed by the backend."""
    rejected: int
    """Refused by the backend for good and kept in the journal with the reason, or damaged in the journal's file."""
    filtered: int
    """Of a kind that the backend has no place for."""
    dropped: int
    """Never reached the journal."""
    state: str
    """`connecting`, `connected`, `waiting: <reason>`, `offline: <reason>` (recorded by the vendor's own offline means)
    or `closed`."""


class _Finish(NamedTuple):
    status: Status
    exit_code: int
    deadline: float


_Numbered = tuple[int, Record]


class Delivery:
    """Carries one journal to one backend on a thread of its own.

    `report(name, cursor, rejections)` takes the cursor to whoever writes the journal. `opened` is called on this
    thread after every `Backend.open`. `began` is the last number of earlier processes.
    """

    def __init__(
        self,
        backend: Backend,
        folder: Path,
        info: RunInfo,
        cursor: Cursor,
        tail: Tail,
        *,
        began: int,
        report: Report,
        guard: Guard,
        opened: Callable[[], None],
    ) -> None:
        self.backend = backend
        self.name = backend.name
        self._folder, self._info = folder, info
        self._files = Files(folder / "files")
        self._report, self._guard, self._opened = report, guard, opened
        self._began = began
        self._progress = Progress(cursor)
        self._tail = tail
        self._portion = _PORTION_FIRST
        self._seconds_each = 0.0
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._state = "connecting"
        self._trouble: str | None = None
        self.was_open = False
        self._finish: _Finish | None = None
        self._flush_to = 0
        self._retry = _RETRY_FIRST
        self._hurry = threading.Event()
        self._ended = threading.Event()
        self._complete = False
        self._thread = threading.Thread(target=self._main, name=f"tracelet-{self.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # What other threads may call.

    def wake(self) -> None:
        """There may be something new to deliver."""
        self._wake.set()

    @property
    def connected(self) -> bool:
        return self._state == "connected"

    @property
    def state(self) -> str:
        return self._state

    @property
    def is_detoured(self) -> bool:
        """The vendor records offline what it is handed."""
        return self._state.startswith(_OFFLINE)

    @property
    def trouble(self) -> str | None:
        """The last reason why the backend could not take records, or takes a detour; None if there was none since."""
        return self._trouble

    @property
    def handed(self) -> int:
        """Every record up to here was handed to the vendor."""
        return self._progress.handed

    @property
    def position(self) -> int:
        """Every record up to here is settled."""
        return self._progress.cursor.position

    def wait_opened(self, deadline: float) -> bool:
        """Whether the backend is open, or gave its first refusal, before `deadline` (monotonic seconds)."""
        return self._wait(lambda: self._state != "connecting", deadline) and self._state.startswith(_OPEN)

    def ask_confirmed(self, last: int) -> None:
        """Make the backend flush what it has up to `last`."""
        with self._changed:
            self._flush_to = max(self._flush_to, last)
        self.wake()

    def wait_confirmed(self, last: int, deadline: float) -> bool:
        """Whether the backend confirmed everything up to `last` before `deadline`."""
        self.ask_confirmed(last)
        return self._wait(lambda: self.position >= last, deadline)

    def finish(self, status: Status, exit_code: int, deadline: float) -> None:
        """Deliver what is in the journal, close the backend, end; give up waiting for the vendor at `deadline`."""
        self._finish = _Finish(status, exit_code, deadline)
        self._hurry.set()
        self.wake()

    def wait_ended(self, deadline: float) -> bool:
        """Whether the backend was closed, or given up, before `deadline`."""
        if self._ended.wait(max(0.0, deadline - time.monotonic())):
            return True
        if self.was_open and self._trouble is None:
            self._trouble = _NO_END
            self._set_state(f"waiting: {_NO_END}")
        return False

    @property
    def is_current_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def stats(self, submitted: int, dropped: int) -> DeliveryStats:
        cursor = self._progress.cursor
        settled = cursor.delivered + cursor.rejected + cursor.filtered
        return DeliveryStats(
            delivered=cursor.delivered,
            pending=submitted - dropped - settled,
            rejected=cursor.rejected,
            filtered=cursor.filtered,
            dropped=dropped,
            state=self._state,
        )

    # The thread.

    def _main(self) -> None:
        try:
            self._guard.call(self._run)
        finally:
            if self._complete:
                self._set_state("closed")
            elif self._finish is None:
                self._set_state("waiting: for the next start of this run; its delivery ended with an error")
            self._ended.set()

    def _run(self) -> None:
        with Source(self._folder, self._tail) as source, self._files:
            while not self._open(source):
                if self._finish is not None:
                    return
            while not self._over():
                self._wake.clear()
                # Asked before the journal is: what was committed before the end was asked for must still be read.
                finishing = self._finish is not None
                stored = self._read(source)
                if stored is not None:
                    self._deliver(stored)
                elif finishing:
                    break
                else:
                    self._settle(flush=self._flush_to > self.position)
                    self._wake.wait(_SETTLE_EVERY if self._progress.waits else None)
            self._close(source)

    def _over(self) -> bool:
        """The end was asked for and its deadline has passed."""
        return self._finish is not None and time.monotonic() >= self._finish.deadline

    def _open(self, source: Source) -> bool:
        error = self._guard.attempt(self.backend.open, self._info)
        if error is not None:
            self._opened()  # a vendor that failed may have registered its exit hook all the same
            self._unavailable(error)
            return False
        while not self._aligned(source):
            if self._over():
                return False
        self._opened()
        self._recovered()
        return True

    def _aligned(self, source: Source) -> bool:
        """Begin where the store is: after a crash it may hold more than the cursor says, or less. Whether the journal
        could be read for it."""
        try:
            self._align(source)
        except JournalError as error:
            self._wait_for_journal(error)
            return False
        return True

    def _align(self, source: Source) -> None:
        confirmed = self._guard.call(self.backend.confirm)
        held = self._guard.call(self.backend.held)
        cursor = self._progress.cursor
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

    def _accounted(self, source: Source, after: int, last: int) -> Iterator[Handed]:
        if last <= after:  # a new run may have no journal yet
            return iter(())
        refused = {one.seq for one in source.reader.rejections(self.name)}
        return accounted(_batches(source, after), last, self.backend.accepts, refused)

    def _restart(self, cursor: Cursor, beyond: Sequence[Handed]) -> None:
        moved = cursor.position != self.position
        with self._changed:
            self._progress.restart(cursor, beyond)
            self._changed.notify_all()
        if moved:
            self._report(self.name, cursor, [])

    def _read(self, source: Source) -> StoredBatch | None:
        try:
            return source.next_batch(self._progress.handed)
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
        elif len(stored.records) > self._portion:
            stored = StoredBatch(stored.first, stored.first + self._portion - 1, stored.records[: self._portion])
        accepted = [
            (seq, record)
            for seq, record in enumerate(stored.records, stored.first)
            if isinstance(record, self.backend.accepts)
        ]
        rejections: list[Rejection] = []
        left = self._hand_over(accepted, rejections)
        handed = left[0][0] - 1 if left else stored.last
        if handed <= self._progress.handed:
            return
        written = len(accepted) - len(left) - len(rejections)
        passed = handed - stored.first + 1
        rejected = len(rejections) + (passed if stored.damaged else 0)
        self._progress.hand(Handed(handed, written, passed - rejected - written, rejected, rejections))
        self._guard.attempt(self.backend.handed, Batch([], handed))
        self._settle(flush=self._flush_to > self.position)

    def _hand_over(self, todo: list[_Numbered], rejections: list[Rejection]) -> list[_Numbered]:
        """Write `todo`, patiently, taking refused records out singly; gives what is left when the time is over."""
        attempts, size = 0, len(todo)
        while (part := todo[: self._fitting(size)]) and not self._over():
            records = [self._files.locate(record) for _, record in part]
            began, worked = time.monotonic(), time.thread_time()
            error = self._guard.attempt(self.backend.write, Batch(records, part[-1][0]))
            most = len(part) - isinstance(error, RecordRejected)
            taken = max(0, min(error.written, most)) if isinstance(error, BackendError) else 0
            attempts += 1
            match error:
                case None:
                    self._pace(len(part), time.monotonic() - began)
                    self._rest(time.thread_time() - worked)
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

    def _pace(self, size: int, seconds: float) -> None:
        self._seconds_each = seconds / size
        short, long = (_PORTION_SHORT, _PORTION_LONG) if self._finish is None else (_LAST_SHORT, _LAST_LONG)
        if seconds > long:
            self._portion = max(1, size // 2)
        elif seconds < short and size == self._portion:
            self._portion = min(size * 2, _PORTION_MOST)

    def _fitting(self, size: int) -> int:
        """As many of `size` records as are written before the deadline, if they take as long as the last ones: what is
        under way when the end gives up waiting may be written, and is offered again all the same."""
        if self._finish is None or not self._seconds_each:
            return size
        left = self._finish.deadline - time.monotonic()
        return min(size, max(0, int(left / self._seconds_each)))

    def _rest(self, worked: float) -> None:
        """Leave the interpreter to the training for a multiple of the time this thread had it; not where one waits."""
        if self._finish is None and self._flush_to <= self.position:
            self._hurry.wait(min(worked * _REST, _REST_MOST))

    def _reject(self, item: _Numbered, reason: str) -> Rejection:
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
        held = self._guard.call(self.backend.confirm)
        if held is None:
            return
        with self._changed:
            moved = self._progress.settle(held)
            if moved is not None:
                self._changed.notify_all()
        if moved is not None:
            self._report(self.name, *moved)

    def _close(self, source: Source) -> None:
        assert self._finish is not None
        error = self._guard.attempt(self.backend.close, self._finish.status, self._finish.exit_code)
        if error is not None:
            self._unavailable(error)
        self._settle(flush=False)
        confirmed = self._guard.call(self.backend.confirm)
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
        detour = self._guard.call(getattr, self.backend, "detour")
        if detour:
            self._guard.say(
                f"detour {self.name}",
                "tracelet: %s is not connected: %s. The run goes on, recorded offline until it can be handed over",
                self.name,
                detour.removeprefix(f"{self.name}: "),
            )
        self.was_open, self._trouble = True, detour
        self._set_state(f"{_OFFLINE}{detour}" if detour else "connected")

    def _pause(self, seconds: float) -> None:
        if self._finish is None:
            self._hurry.wait(seconds)
        else:
            self._ended.wait(max(0.0, min(seconds, 1.0, self._finish.deadline - time.monotonic())))

    def _set_state(self, state: str) -> None:
        if state != self._state:
            with self._changed:
                self._state = state
                self._changed.notify_all()

    def _wait(self, reached: Callable[[], bool], deadline: float) -> bool:
        with self._changed:
            return self._changed.wait_for(reached, max(0.0, deadline - time.monotonic()))


def _batches(source: Source, after: int) -> Iterator[StoredBatch]:
    while batch := source.next_batch(after):
        yield batch
        after = batch.last
