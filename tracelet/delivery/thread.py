"""Deliver one journal to one backend in order: open, write, confirm, retry, isolate rejected records, count."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path

from tracelet.backends.base import Backend, Batch, Status, Written
from tracelet.backends.capabilities import NativeRun, OfflineRecording
from tracelet.backends.filters import FilterState, Numbered
from tracelet.delivery import backoff
from tracelet.delivery.backoff import Backoff
from tracelet.delivery.cursor import Replay, Span, advance, sum_spans
from tracelet.delivery.status import DeliveryHandle, Finish
from tracelet.delivery.throttle import Throttle
from tracelet.errors import BackendError, BackendUnavailable, JournalError, RecordRejected, RunNotCreated
from tracelet.guard import Guard, described, shown
from tracelet.journal.overflow import OverflowBuffer, RecordSource
from tracelet.journal.spool import Files
from tracelet.journal.tables import Cursor, Rejection, StoredBatch
from tracelet.records import Record, RunInfo

# Seconds between two checks of `durable` while records are unconfirmed.
_CONFIRM_EVERY = 1.0
# Attempts with a batch after an unexpected exception. Then the batch is split, so that the records before a bad one are
# written. No record is rejected for it: it may be an outage.
_MAX_ATTEMPTS = 3
_STOPPED = "delivery stopped after an error; resume the run to retry"

Report = Callable[[str, Cursor, Sequence[Rejection]], None]


class Delivery(DeliveryHandle):
    """Deliver one journal to one backend on a separate thread.

    `report(name, cursor, rejections)` passes the cursor to the journal's writer. `on_open` is called on this thread
    after every `Backend.open`. `start_seq` is the last sequence number of earlier processes. The backend is not used
    before `may_start` is set.
    """

    def __init__(
        self,
        backend: Backend,
        folder: Path,
        info: RunInfo,
        cursor: Cursor,
        overflow: OverflowBuffer,
        *,
        start_seq: int,
        report: Report,
        guard: Guard,
        on_open: Callable[[], None],
        throttle: Throttle | None = None,
        may_start: threading.Event | None = None,
    ) -> None:
        super().__init__(backend.name, cursor)
        self.backend = backend
        self._folder, self._info = folder, info
        self._files = Files(folder / "files")
        self._report, self._guard, self._on_open = report, guard, on_open
        self._last_known = start_seq
        self._unconfirmed: deque[Span] = deque()  # written after the cursor, not confirmed
        self._handed = 0  # the last record that the backend accepted since `open`
        self._position_at_open = 0  # the store has the records up to it; the backend need not confirm them
        self._replay = Replay(backend)
        self._filter_state: FilterState | None = None
        self._overflow = overflow
        self._throttle = throttle or Throttle()
        self._may_start = may_start
        self._wake = threading.Event()
        self._finish: Finish | None = None
        self._flush_to = 0
        self._backoff = Backoff()
        # The first ends a pause between two attempts, the second a pause for training.
        self._stop_retry_pause, self._stop_pause = threading.Event(), threading.Event()
        self._native: object = None
        self._is_open = self._is_closed = False
        self._thread = threading.Thread(target=self._main, name=f"tracelet-{self.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def request_flush(self, last: int) -> None:
        with self._changed:
            self._flush_to = max(self._flush_to, last)
        self._stop_pause.set()
        self.wake()

    def finish(self, status: Status, exit_code: int, deadline: float, ended: float | None = None) -> None:
        self._finish = Finish(status, exit_code, deadline, ended)
        if self._may_start is not None:
            self._may_start.set()
        self._stop_retry_pause.set()
        self._stop_pause.set()
        self.wake()

    @property
    def is_current_thread(self) -> bool:
        return threading.current_thread() is self._thread

    # The thread.

    def _main(self) -> None:
        if self._may_start is not None:
            self._may_start.wait()
        try:
            if not self._guard.isolate(self._run):  # it raised, perhaps since a vendor called sys.exit
                self._set_state("waiting", _STOPPED)
            elif self._is_closed:
                self._set_state("closed", self._reason)
        finally:
            self._ended.set()

    def _run(self) -> bool:
        """Deliver until `finish`, and return True."""
        with RecordSource(self._folder, self._overflow) as source, self._files:
            while not self._open(source):
                if self._is_past_deadline() or (self._finish is not None and self._state != "connecting"):
                    return True  # "connecting": the run is rank 0's, which may create it in time
            while not self._is_past_deadline():
                if not (self._is_open or self._open(source)):
                    continue
                self._wake.clear()
                # Check `finish` before reading the journal, so that records committed before it are still read.
                finishing = self._finish is not None
                batch = self._read(source)
                if batch is not None:
                    started, cpu_started = time.monotonic(), time.thread_time()
                    self._deliver(batch)
                    self._pause_for_training(time.thread_time() - cpu_started, time.monotonic() - started, source)
                elif finishing:
                    if self._close(source):
                        return True
                else:
                    self._advance_cursor(flush=self._flush_to > self.position)
                    if self._is_open:
                        self._follow_native()
                        self._wake.wait(_CONFIRM_EVERY if self._unconfirmed else None)
            self._close(source)
        return True

    def _is_past_deadline(self) -> bool:
        """Return True if `finish` was called and its deadline has passed."""
        return self._finish is not None and time.monotonic() >= self._finish.deadline

    def _open(self, source: RecordSource) -> bool:
        self.backend.last_known = self._last_known
        position, error = self._guard.outcome(self.backend.open, self._info)
        if error is not None:
            self._on_open()  # a vendor that failed may still have registered an exit hook
            self._handle_unavailable(error)
            return False
        while not self._try_align(source, position):
            if self._is_past_deadline():
                return False
        self._set_recovered()
        self._is_open = True
        return True

    def _try_align(self, source: RecordSource, position: int | None) -> bool:
        """Move the cursor to the `position` of the vendor's store. Return False if the journal could not be read.

        After a crash the store may hold more records than the cursor counts, or fewer.
        """
        try:
            self._align(source, position)
        except JournalError as error:
            self._wait_for_journal(error)
            return False
        return True

    def _align(self, source: RecordSource, position: int | None) -> None:
        cursor = self.cursor
        confirmed = None if position is None else self._guard.call(self.backend.durable)
        confirmed = position if confirmed is None else confirmed
        if confirmed is not None and self._replay.has_lost(source, confirmed, cursor.position):
            cursor = sum_spans(self._replay.spans(source, 0, confirmed))
            self._guard.log_once(
                f"rewound {self.name}",
                "tracelet: %s has %d of %d records that it had confirmed; delivering the others again",
                self.name,
                cursor.position,
                self.position,
            )
        # After a kill, later records may be in the store but not on a full disk; their numbers are used again.
        resume_after = 0 if position is None else min(position, self._last_known)
        self._reset_cursor(cursor, list(self._replay.spans(source, cursor.position, resume_after)))
        self._position_at_open = cursor.position if position is None else 0
        self._advance_cursor(flush=False)

    def _reset_cursor(self, cursor: Cursor, spans: Sequence[Span]) -> None:
        has_moved = cursor.position != self.position
        with self._changed:
            self._unconfirmed = deque(spans)
            self.cursor, self.written_seq = cursor, spans[-1].last if spans else cursor.position
            self._handed = 0
            self._changed.notify_all()
        self._filter_state = None
        if has_moved:
            self._report(self.name, cursor, [])

    def _read(self, source: RecordSource) -> StoredBatch | None:
        try:
            if self._filter_state is None:
                self._filter_state = self._replay.filter_state(source, self.written_seq)
            return source.next_batch(self.written_seq)
        except JournalError as error:
            self._wait_for_journal(error)
            return None

    def _wait_for_journal(self, error: JournalError) -> None:
        self._guard.log_once(f"read {self.name}", "tracelet: %s: %s", self.name, error)
        self._pause(backoff.FIRST)

    def _deliver(self, batch: StoredBatch) -> None:
        if batch.damaged:
            self._guard.count("damaged in the journal")
            self._guard.log_once(batch.damaged, "tracelet: %s: %s", self._folder, batch.damaged)
        assert self._filter_state is not None
        accepted, excluded = self._filter_state.apply(batch.first, batch.records)
        last, batch_size = batch.last, self._throttle.batch_size
        if len(accepted) > batch_size:
            last = accepted[batch_size][0] - 1
            del accepted[batch_size:]
        rejections: list[Rejection] = []
        remaining = self._write(accepted, rejections)
        written_seq = remaining[0][0] - 1 if remaining else last
        if written_seq <= self.written_seq:
            return
        self._filter_state.commit(written_seq)
        written = len(accepted) - len(remaining) - len(rejections)
        filtered = Counter(reason for seq, reason in excluded if seq <= written_seq)
        rejected = len(rejections) + (written_seq - batch.first + 1 if batch.damaged else 0)
        self._unconfirmed.append(Span(written_seq, written, filtered, rejected, rejections, self._handed))
        self.written_seq = written_seq
        self._advance_cursor(flush=self._flush_to > self.position)

    def _write(self, records_left: list[Numbered], rejections: list[Rejection]) -> list[Numbered]:
        """Write records, retry, and remove rejected ones singly. Return the rest if the deadline passes."""
        attempts, size = 0, len(records_left)
        while (part := records_left[: self._fits_in(size)]) and not self._is_past_deadline():
            started = time.monotonic()
            accepted_count, error, is_located = self._write_once(part)
            accepted_count = max(0, min(accepted_count, len(part) - isinstance(error, RecordRejected)))
            if accepted_count:
                self._handed = part[accepted_count - 1][0]
                self._last_known = max(self._last_known, self._handed)
            attempts += 1
            match error:
                case None:
                    self._throttle.measure(len(part), time.monotonic() - started, finishing=self._finish is not None)
                    attempts, size = 0, len(records_left)
                    self._set_recovered()
                case RecordRejected() if is_located or len(part) == 1:
                    rejections.append(self._reject(part[accepted_count], error.reason))
                    accepted_count += 1
                    attempts = 0
                case RecordRejected():
                    size = len(part) // 2
                case BackendUnavailable(reopen=reopen):
                    self._handle_unavailable(error)
                    if reopen:
                        self._is_open = False
                        return records_left[accepted_count:]
                case _ if attempts < _MAX_ATTEMPTS or len(part) == 1:
                    self._handle_unavailable(error)
                case _:
                    size = len(part) // 2
            records_left = records_left[accepted_count:]
        return records_left

    def _write_once(self, part: list[Numbered]) -> tuple[int, Exception | None, bool]:
        """Return the number of records written, the error, and whether the record after them met it."""
        records, error = self._guard.outcome(self._locate, part)
        if records is None:
            return 0, error, False
        result, error = self._guard.outcome(self.backend.write, Batch(records, [number for number, _ in part]))
        match result:
            case None:
                return (len(part) if error is None else 0), error, False
            case Written(count=int(count), error=BackendError() as error):
                return count, error, True
        error = TypeError(f"write must return None or Written, got {shown(result)}")
        self._guard.swallowed(error, self.backend.write)
        return 0, error, False

    def _locate(self, part: list[Numbered]) -> list[Record]:
        return [self._files.locate(record) for _, record in part]

    def _fits_in(self, size: int) -> int:
        """Return how many records to write before the deadline: an interrupted write would be repeated later."""
        return size if self._finish is None else self._throttle.fits_in(size, self._finish.deadline - time.monotonic())

    def _pause_for_training(self, worked: float, elapsed: float, source: RecordSource) -> None:
        """Pause so that training gets the interpreter, unless a caller waits."""
        if not self._throttle.pauses or self._finish is not None or self._flush_to > self.position:
            return
        self._stop_pause.clear()
        if self._finish is None and self._flush_to <= self.position:  # check again: a request may have arrived since
            self._stop_pause.wait(self._throttle.pause_after(worked, elapsed, source.last() - self.written_seq))

    def _reject(self, item: Numbered, reason: str) -> Rejection:
        reason = self._guard.hide(reason)
        self._guard.log_once(
            f"rejected {self.name} {reason}",
            "tracelet: %s rejected a record: %s (stored in the journal)",
            self.name,
            reason,
        )
        self._replay.rejected.append(item[0])
        return Rejection(item[0], reason, item[1])

    def _advance_cursor(self, *, flush: bool) -> None:
        """Advance the cursor to the records that the backend confirms."""
        error = self._guard.attempt(self.backend.flush) if flush else None
        if isinstance(error, BackendUnavailable) and error.reopen:
            self._handle_unavailable(error)
            self._is_open = False
            return
        confirmed, error = self._guard.outcome(self.backend.durable)
        if isinstance(error, BackendError):
            self._guard.log_once(f"durable {self.name} {error}", "tracelet: %s: %s", self.name, error)
        if error is not None:  # it is unknown which records are durable
            return
        with self._changed:
            result = advance(self.cursor, self._unconfirmed, self.written_seq if confirmed is None else confirmed)
            if result is not None:
                self.cursor = result[0]
                self._changed.notify_all()
        if result is not None:
            self._report(self.name, *result)

    def _close(self, source: RecordSource) -> bool:
        """Close the backend. Return False if it must be opened again first."""
        assert self._finish is not None
        self.backend.run_ended = self._finish.ended
        error = self._guard.attempt(self.backend.close, self._finish.status, self._finish.exit_code)
        if error is not None:
            self._handle_unavailable(error)
        if isinstance(error, BackendUnavailable) and error.reopen and not self._is_past_deadline():
            self._is_open = False
            return False
        self._advance_cursor(flush=False)
        confirmed = self._guard.call(self.backend.durable)
        if confirmed is not None:  # fewer than before if accepted records did not reach its server
            confirmed = max(confirmed, self._position_at_open)
            if self._replay.has_lost(source, confirmed, self.position):
                self._reset_cursor(sum_spans(self._replay.spans(source, 0, confirmed)), [])
        self._is_closed = error is None
        return True

    def _handle_unavailable(self, error: Exception) -> None:
        if isinstance(error, RunNotCreated):
            self._set_state("connecting", error.reason)
            self._pause(min(self._backoff.next_pause(None), backoff.LONGEST_FOR_RANK_0))
            return
        reason = self._guard.hide(error.reason if isinstance(error, BackendError) else described(error))
        self._guard.log_once(
            f"unavailable {self.name} {reason}",
            "tracelet: %s is unavailable: %s. Records are stored in %s and will be retried",
            self.name,
            reason.removeprefix(f"{self.name}: "),
            self._folder,
        )
        self._set_state("waiting", reason)
        self._pause(self._backoff.next_pause(getattr(error, "retry_after", None)))

    def _follow_native(self) -> None:
        """Repeat the steps after `open` if the backend has reopened its run: the vendor may have a new exit hook."""
        native = self._guard.call(getattr, self.backend, "native") if isinstance(self.backend, NativeRun) else None
        if not self.was_open or native is not self._native:
            self._native = native
            self._on_open()
            self.url = self._guard.call(getattr, self.backend, "url")

    def _set_recovered(self) -> None:
        self._backoff.reset()
        self._follow_native()
        is_recorder = isinstance(self.backend, OfflineRecording)
        offline_reason = self._guard.call(getattr, self.backend, "offline_reason") if is_recorder else None
        if offline_reason:
            self._guard.log_once(
                f"detour {self.name}",
                "tracelet: %s is not connected: %s. Records are stored offline until they can be uploaded",
                self.name,
                offline_reason.removeprefix(f"{self.name}: "),
            )
        self._set_open(offline_reason)

    def _pause(self, seconds: float) -> None:
        if self._finish is None:
            self._stop_retry_pause.wait(seconds)
        else:
            self._ended.wait(max(0.0, min(seconds, 1.0, self._finish.deadline - time.monotonic())))
