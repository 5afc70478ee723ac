"""Journal thread, one delivery per backend, and the deadline at the end. Formats nothing, names no vendor."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracelet.backends.base import Backend, Status
from tracelet.delivery.status import DeliveryHandle, DeliveryStats
from tracelet.delivery.thread import Delivery
from tracelet.guard import Guard
from tracelet.journal.queue import RecordQueue
from tracelet.journal.store import Cursor, JournalReader, Rejection
from tracelet.journal.writer import JournalWriter
from tracelet.records import Record, RunInfo
from tracelet.redaction import Secrets
from tracelet.settings import DeliveryMode

if TYPE_CHECKING:
    from tracelet.delivery.process.client import Worker

# A commit is at most 100 ms behind the call, also beside a loop that never gives up the interpreter: half of that for
# the interval, half for the few switch intervals (5 ms each) that the commit itself waits for.
_COMMIT_EVERY = 0.05
_BEAT_EVERY = 10.0
# What the end of a run keeps for its last portion and the vendor's own end.
_LAST_MOMENT = 0.3


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
        self._keeper = JournalWriter(folder, info, guard, queue_bytes, self._settled, self._secrets)
        self._began = self._keeper.last
        self._intake = RecordQueue(
            folder, guard, queue_bytes=queue_bytes, queue_timeout=queue_timeout, taken=self._keeper.last
        )
        self.submit, self.drop = self._intake.submit, self._intake.drop
        self._deliveries: dict[str, DeliveryHandle] = {}
        self.urls: dict[str, str] = {}
        """The backends' last known pages, by name; they outlive the backends."""
        self._worker: Worker | None = None
        self._may_begin = threading.Event()
        self._closing = threading.Event()
        self._ended = threading.Event()
        self.status: Status | None = None
        self._thread = self._intake.taker = threading.Thread(target=self._main, name="tracelet-journal", daemon=True)
        _live.add(self)

    def start(
        self,
        backends: Sequence[Backend],
        opened: Callable[[], None],
        *,
        place: DeliveryMode = "thread",
        at_once: bool = True,
    ) -> None:
        """Begin journalling and delivering; `opened()` is called after every `Backend.open`, on its thread.

        With `at_once=False` no backend is touched before `begin`.
        """
        cursors = self._known_cursors()
        if place == "process" and backends:
            from tracelet.delivery.process.client import (
                Worker,  # sockets and subprocesses, which no other run's start waits for
            )

            self._worker = Worker(
                self._folder,
                self._info,
                backends,
                cursors,
                last=lambda: self._keeper.last,
                lock=self._keeper.lock,
                report=self._moved,
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

    def elsewhere(self) -> Mapping[str, Backend]:
        """For each backend that a process beside this one has, what stands in for it here; by name."""
        return self._worker.stand_ins() if self._worker else {}

    def _on_thread(self, backend: Backend, cursor: Cursor, opened: Callable[[], None]) -> Delivery:
        return Delivery(
            backend,
            self._folder,
            self._info,
            cursor,
            self._keeper.tail,
            began=self._began,
            report=self._moved,
            guard=self.guard,
            opened=functools.partial(self._opened, backend, opened),
            may_begin=self._may_begin,
        )

    def _moved(self, name: str, cursor: Cursor, rejections: Sequence[Rejection]) -> None:
        """Keep a cursor, and where a person can look at what it counts."""
        self._keeper.set_cursor(name, cursor, rejections)
        url = self._deliveries[name].url
        if url is not None and url != self.urls.get(name):
            self.urls[name] = url
            self._keeper.annotate(f"url {name}", self._secrets.hide(str(url)))

    def begin(self) -> None:
        """Let the backends connect; on a thread, the import of a vendor's package holds up the program by itself."""
        self._may_begin.set()
        if self._worker is not None:
            self._worker.start()

    @property
    def deliveries(self) -> Mapping[str, DeliveryHandle]:
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

    @property
    def is_untouched(self) -> bool:
        """The run was opened again, and nothing came into it yet."""
        with self._intake.moving:
            return self._info.resumed and self._intake.counts()[0] == self._began

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

    # The caller's threads, which also `submit` and `drop`.

    def annotate(self, key: str, value: Any) -> None:
        """Keep a fact about the run with the next commit."""
        self._keeper.annotate(key, value)

    def flush(self, deadline: float) -> bool:
        """Whether all that was submitted before is confirmed by every connected backend before `deadline`."""
        last = self._intake.pass_through(deadline)
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
        last = self._intake.pass_through(deadline)
        return last is not None and self._deliveries[name].wait_confirmed(last, deadline)

    def stop(self, status: Status, exit_code: int, timeout: float) -> None:
        """Drain, deliver, close; gives up at `timeout` seconds. What is left stays in the journal.

        A run that was opened again, and into which nothing came, keeps the `status` it had.
        """
        began, ended = time.monotonic(), time.time()
        deadline = began + timeout
        try:
            # A journal that cannot be written leaves half of the time for what is in it.
            self._intake.pass_through(began + timeout / 2)
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
            self._intake.nudge.set()
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
        intake = self._intake
        with intake.moving:
            submitted, dropped, waits = intake.counts()
            deliveries = {
                name: one.stats(submitted, dropped + self._lost(one)) for name, one in self._deliveries.items()
            }
        return submitted, deliveries, self.guard.counts(), waits

    def _lost(self, delivery: DeliveryHandle) -> int:
        """Records that the disk never took, and this backend neither; they are lost once the run has ended."""
        return self._keeper.tail.count_after(delivery.position) if self._ended.is_set() else 0

    def disown(self) -> None:
        """In a forked child: threads and the journal are the parent's."""
        self._intake.disown()

    @property
    def is_foreign(self) -> bool:
        """This is a forked child of the process that owns the run."""
        return self._intake.is_foreign

    # The journal thread.

    def _main(self) -> None:
        beat = time.monotonic()
        while not self._closing.is_set():
            self._intake.nudge.wait(_COMMIT_EVERY)
            self._intake.nudge.clear()
            self.guard.call(self._commit)
            if time.monotonic() - beat > _BEAT_EVERY:
                beat = time.monotonic()
                self._beat()
        self.guard.call(self._commit)
        self._intake.close()
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
        """Whether there is more to commit at once."""
        intake = self._intake
        more = intake.take()
        if intake.pending:
            if self._keeper.last == self._began and self._info.resumed:
                self._keeper.annotate("status", "running")
            self._append(intake.pending)
            for delivery in self._deliveries.values():
                delivery.wake()
        if intake.is_awaited:
            self._write_notes()
            intake.let_pass(self._keeper.last)
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
                    self._intake.spoil(f"cannot be encoded ({type(error).__name__})")

    def _settle_first(self, pending: list[Record], count: int) -> None:
        # Content-addressed: what a failed turn already put into the spool is found there by the next.
        self._keeper.append(pending[:count])
        self._intake.settle(count)

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
