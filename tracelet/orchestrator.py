"""Run the journal thread and one delivery per backend, and end them before a deadline. Names no vendor."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracelet import forks
from tracelet.backends import secrets_of
from tracelet.backends.base import Backend, Status
from tracelet.delivery.pages import link_pages
from tracelet.delivery.past import recorded_end
from tracelet.delivery.status import DeliveryHandle
from tracelet.delivery.thread import Delivery
from tracelet.distributed.labels import labeller
from tracelet.guard import Guard
from tracelet.journal.queue import RecordQueue
from tracelet.journal.status import BackendStatus
from tracelet.journal.store import JournalReader
from tracelet.journal.tables import Cursor, Rejection
from tracelet.journal.writer import JournalWriter
from tracelet.records import Record, RunInfo
from tracelet.redaction import Secrets
from tracelet.settings import DeliveryMode

if TYPE_CHECKING:
    from tracelet.delivery.process.client import Worker

# Seconds between commits. A record is committed within 100 ms, even beside a loop that never releases the interpreter:
# half for this interval, half for the switch intervals (5 ms each) of the commit.
_COMMIT_EVERY = 0.05
# Seconds between two heartbeats, well below the timeout in `journal.store`.
_BEAT_EVERY = 10.0
# Seconds reserved at the end of a run for the last batch and the vendor's `close`.
_CLOSE_RESERVE = 0.3
# Seconds for a thread that has done its last step to leave `threading.enumerate()`. It takes far less.
_JOIN_TIMEOUT = 1.0


class Orchestrator:
    """Accept records from any thread, write them to the journal on one thread, and run the deliveries."""

    def __init__(
        self,
        folder: Path,
        info: RunInfo,
        *,
        guard: Guard,
        queue_bytes: int,
        queue_timeout: float,
        secrets: Secrets | None = None,
        on_forked_submit: Callable[[Record], None] | None = None,
    ) -> None:
        """`on_forked_submit` gets the records of a forked child, which are discarded otherwise."""
        self.guard = guard
        self._folder = folder
        self._info = info
        self._secrets = secrets or Secrets()
        self._writer = JournalWriter(folder, info, guard, queue_bytes, self._delivered_seq, self._secrets)
        self._start_seq = self._writer.last
        self._queue = RecordQueue(
            folder, guard, queue_bytes=queue_bytes, queue_timeout=queue_timeout, start_seq=self._writer.last
        )
        self.submit, self.drop, self.log_forked = self._queue.submit, self._queue.drop, self._queue.log_forked
        self._on_forked_submit = on_forked_submit
        if info.prefix:
            label, submit = labeller(info.prefix), self._queue.submit
            self.submit = lambda record: submit(record if self.is_forked else label(record))
        self._deliveries: dict[str, DeliveryHandle] = {}
        self.urls: dict[str, str] = {}
        """The last known web page of each backend, by name; valid after the backend is closed."""
        self._worker: Worker | None = None
        self._may_start = threading.Event()
        self._closing = threading.Event()
        self._ended = threading.Event()
        self.status: Status | None = None
        self._thread = self._queue.consumer = threading.Thread(target=self._main, name="tracelet-journal", daemon=True)
        _live.add(self)

    def start(
        self,
        backends: Sequence[Backend],
        on_open: Callable[[], None],
        *,
        delivery_mode: DeliveryMode = "thread",
        connect_now: bool = True,
    ) -> None:
        """Start the journal thread and the deliveries. Call `on_open()` after every `Backend.open`, on its thread.

        If `connect_now` is False, no backend is used before `connect` is called.
        """
        cursors = self._stored_cursors()
        if delivery_mode == "process" and backends:
            # Imported here: it needs sockets and subprocesses, which other runs do not.
            from tracelet.delivery.process.client import Worker

            self._worker = Worker(
                self._folder,
                self._info,
                backends,
                cursors,
                last=lambda: self._writer.last,
                lock=self._writer.lock,
                report=self._save_cursor,
                guard=self.guard,
                secrets=self._secrets,
            )
            self._deliveries.update(self._worker.deliveries)
        else:
            self._deliveries |= {
                backend.name: self._delivery_thread(backend, cursors.get(backend.name, Cursor()), on_open)
                for backend in backends
            }
            link_pages(backends, self._deliveries, self._folder, self._secrets)
        self._thread.start()
        for delivery in self._deliveries.values():
            delivery.start()
        if connect_now:
            self.connect()

    def remote_backends(self) -> Mapping[str, Backend]:
        """Return the proxies of the backends in the delivery process, by name."""
        return self._worker.proxies() if self._worker else {}

    def _delivery_thread(self, backend: Backend, cursor: Cursor, on_open: Callable[[], None]) -> Delivery:
        return Delivery(
            backend,
            self._folder,
            self._info,
            cursor,
            self._writer.overflow,
            start_seq=self._start_seq,
            report=self._save_cursor,
            guard=self.guard,
            on_open=functools.partial(self._on_open, backend, on_open),
            may_start=self._may_start,
        )

    def _save_cursor(self, name: str, cursor: Cursor, rejections: Sequence[Rejection]) -> None:
        """Store a cursor, and the backend's web page if it changed."""
        self._writer.set_cursor(name, cursor, rejections)
        url = self._deliveries[name].url
        if url is not None and url != self.urls.get(name):
            self.urls[name] = url
            self._writer.annotate(f"url {name}", self._secrets.hide(str(url)))

    def connect(self) -> None:
        """Let the backends connect. Importing a vendor's package on a thread slows the program down."""
        self._may_start.set()
        if self._worker is not None:
            self._worker.start()

    @property
    def deliveries(self) -> Mapping[str, DeliveryHandle]:
        return self._deliveries

    def register(self, configs: Mapping[str, Mapping[str, Any]]) -> None:
        """Store the names of this run's backends, and the part of their config that may be stored."""
        cursors = self._stored_cursors()
        for name, config in configs.items():
            if name not in cursors:
                self._writer.set_cursor(name, Cursor(), [])
            self._writer.annotate(f"config {name}", dict(config))

    def previous_facts(self) -> dict[str, Any]:
        """Return the facts from before this process resumed the run; empty for a new run."""
        if not self._info.resumed:
            return {}
        with JournalReader(self._folder) as reader:
            return reader.facts()

    @property
    def is_unchanged(self) -> bool:
        """True if the run was resumed and has no new record yet."""
        return self._info.resumed and self._queue.counts()[0] == self._start_seq

    def _stored_cursors(self) -> dict[str, Cursor]:
        if not self._info.resumed:
            return {}
        with JournalReader(self._folder) as reader:
            return reader.cursors()

    def _on_open(self, backend: Backend, on_open: Callable[[], None]) -> None:
        """Add the backend's secrets after `open`, which may have loaded credentials. Runs on the backend's thread."""
        self._secrets.add(self.guard.call(secrets_of, backend) or ())
        on_open()

    def _delivered_seq(self) -> int | None:
        """Return the sequence number up to which every backend has the records, or None without backends."""
        return min((delivery.position for delivery in self._deliveries.values()), default=None)

    # Called from the program's threads, like `submit` and `drop`.

    def annotate(self, key: str, value: Any) -> None:
        """Store a fact about the run with the next commit."""
        self._writer.annotate(key, value)

    def flush(self, deadline: float) -> bool:
        """Return True if every connected backend confirms all earlier records before `deadline`."""
        last = self._queue.wait_committed(deadline)
        if last is None:
            return False
        connected = [delivery for delivery in self._deliveries.values() if delivery.connected]
        if not connected and self._writer.overflow.oldest() is not None:  # stored in memory only
            return False
        for delivery in connected:  # request all before waiting for the first
            delivery.request_flush(last)
        return all(delivery.wait_confirmed(last, deadline) for delivery in connected)

    def wait_committed(self, deadline: float) -> bool:
        """Return True if the journal has all earlier records before `deadline`, and after the end of the run."""
        return self._ended.is_set() or self._queue.wait_committed(deadline) is not None

    def flush_one(self, name: str, deadline: float) -> bool:
        """Flush one backend, connected or not."""
        last = self._queue.wait_committed(deadline)
        return last is not None and self._deliveries[name].wait_confirmed(last, deadline)

    def stop(self, status: Status, exit_code: int, timeout: float, *, keeps_end: bool = True) -> None:
        """Commit, deliver and close within `timeout` seconds. Undelivered records stay in the journal.

        A resumed run without new records keeps its previous `status`, unless `keeps_end` is False.
        """
        started, ended = time.monotonic(), time.time()
        deadline = started + timeout
        try:
            # If the journal cannot be written, half of the time remains to deliver its records.
            self._queue.wait_committed(started + timeout / 2)
            if keeps_end and self._info.resumed and self._writer.last == self._start_seq:
                status, exit_code, ended = recorded_end(self._folder, ended)
            self.status = status
            for delivery in self._deliveries.values():
                delivery.finish(status, exit_code, deadline - min(_CLOSE_RESERVE, timeout / 4), ended)
            for delivery in self._deliveries.values():
                delivery.wait_ended(deadline)
        finally:  # also when Ctrl-C ends the wait
            if self._worker is not None:
                self.guard.call(self._worker.end)
            for key, value in (("exit_code", exit_code), ("ended", ended), ("status", status)):
                self.annotate(key, value)
            for name, delivery in self._deliveries.items():
                has_all = delivery.has_all(self._writer.last)
                self.annotate(f"trouble {name}", None if has_all else delivery.reason)
            self._closing.set()
            self._queue.wake.set()
            if self._ended.wait(max(1.0, deadline - time.monotonic())):
                self._thread.join(_JOIN_TIMEOUT)
            _live.discard(self)

    def stats(self) -> tuple[int, dict[str, BackendStatus], dict[str, int], int]:
        """Return the number of submitted records, the backends, the causes of loss, and the calls that waited."""
        # The cursors first: each record that they count is submitted.
        cursors = {name: delivery.cursor for name, delivery in self._deliveries.items()}
        submitted, dropped, waited = self._queue.counts()
        backends = {
            name: delivery.status(cursors[name], submitted, dropped + self._count_lost(delivery))
            for name, delivery in self._deliveries.items()
        }
        return submitted, backends, self.guard.counts(), waited

    def _count_lost(self, delivery: DeliveryHandle) -> int:
        """Return the number of records that neither the disk nor this backend has, once the run has ended."""
        return self._writer.count_lost(delivery.position)[0] if self._ended.is_set() else 0

    def detach(self) -> None:
        """Discard later records, or pass them on: this process is a forked child without the parent's threads."""
        self._queue.detach(self._on_forked_submit)

    @property
    def is_forked(self) -> bool:
        """True in a forked child of the process that owns the run."""
        return self._queue.is_forked

    # The journal thread.

    def _main(self) -> None:
        beat = time.monotonic()
        while not self._closing.is_set():
            self._queue.wake.wait(_COMMIT_EVERY)
            self._queue.wake.clear()
            self.guard.isolate(self._commit)
            if time.monotonic() - beat > _BEAT_EVERY:
                beat = time.monotonic()
                self.guard.isolate(self._beat)
        for step in (self._commit, self._queue.close, self._writer.close, self._report_lost):
            self.guard.isolate(step)
        self._ended.set()

    def _beat(self) -> None:
        with contextlib.suppress(OSError):  # a full disk was logged already
            self._writer.beat()

    def _report_lost(self) -> None:
        positions = [delivery.position for delivery in self._deliveries.values()]
        lost, reason = self._writer.count_lost(min(positions, default=0))
        for _ in range(lost):
            self.guard.count(f"dropped: {reason}")
        if lost:
            self.guard.log_once("lost at the end", "tracelet: %d records are lost: %s (%s)", lost, reason, self._folder)

    def _commit(self) -> None:
        """Write the queue to the journal. On a full disk keep the records and retry at the next turn."""
        try:
            while self._commit_batch():
                pass
            self._writer.catch_up()
            self._writer.write_facts()
            self._writer.sync()
        except OSError as error:
            self.guard.log_once(
                f"journal {error}",
                "tracelet: %s. Training continues; records stay in memory until the disk is writable",
                error,
            )

    def _commit_batch(self) -> bool:
        """Commit one batch. Return True if more should be committed now."""
        queue = self._queue
        more = queue.take()
        if queue.pending:
            if self._writer.last == self._start_seq and self._info.resumed:
                self._writer.annotate("status", "running")
            self._append(queue.pending)
            for delivery in self._deliveries.values():
                delivery.wake()
        if queue.has_waiter:
            self._write_facts()
            queue.release(self._writer.last)
        return more

    def _append(self, pending: list[Record]) -> None:
        try:
            self._append_first(pending, len(pending))
        except (ValueError, TypeError, OverflowError):
            # A record that cannot be encoded (a lone surrogate in a name) must not drop the others.
            while pending:
                try:
                    self._append_first(pending, 1)
                except (ValueError, TypeError, OverflowError) as error:
                    self.guard.swallowed(error, self._writer.append)
                    self._queue.discard_first(f"cannot be encoded ({type(error).__name__})")

    def _append_first(self, pending: list[Record], count: int) -> None:
        # The spool is content-addressed: a retry finds the files that a failed turn stored.
        self._writer.append(pending[:count])
        self._queue.remove_first(count)

    def _write_facts(self) -> None:
        """Write the facts, but ignore a full disk: records before the barrier are still delivered."""
        with contextlib.suppress(OSError):
            self._writer.write_facts()


_live: weakref.WeakSet[Orchestrator] = weakref.WeakSet()


def _after_fork() -> None:
    for orchestrator in list(_live):
        orchestrator.detach()


forks.after_in_child(_after_fork)
