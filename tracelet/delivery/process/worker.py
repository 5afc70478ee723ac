"""Run the delivery process. Vendors print to `delivery.log`; tracelet's log lines go to the program."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from operator import attrgetter
from pathlib import Path

import msgspec

from tracelet.backends import configured, secrets_of
from tracelet.backends.base import Backend, Status
from tracelet.delivery.pages import link_pages
from tracelet.delivery.process import messages
from tracelet.delivery.process.messages import (
    BackendSpec,
    Begin,
    Confirm,
    Finish,
    LogLine,
    Losses,
    NewSecrets,
    StatusUpdate,
)
from tracelet.delivery.thread import Delivery
from tracelet.delivery.throttle import Throttle
from tracelet.errors import JournalError, RunInUse
from tracelet.guard import Guard
from tracelet.journal.overflow import OverflowBuffer
from tracelet.journal.store import JournalReader
from tracelet.journal.tables import Cursor, Rejection
from tracelet.journal.writer import JournalWriter
from tracelet.redaction import Secrets

# Seconds between two looks at the journal: the delay of a live view.
_POLL_EVERY = 0.05
# Seconds between two heartbeats, well below the timeout in `journal.store`.
_BEAT_EVERY = 10.0
# Seconds without progress before deliveries are abandoned. A dead program cannot send a deadline.
_STALL_TIMEOUT = 60.0
# Seconds; ten years.
_FOREVER = 10 * 365 * 86400.0
# Seconds that the vendors' exit hooks may take.
_EXIT_TIMEOUT = 5.0
# Added to the niceness: if cores are scarce, training gets them.
_NICENESS = 5
# Rejections remembered per backend, to bound the memory.
_MAX_REJECTIONS = 10_000


def main(channel: int, lock: int | None) -> None:
    """Deliver as the first message describes, until the program ends the run, or dies and everything is delivered."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    connection = Connection(channel)
    try:
        begin = messages.decode_begin(connection.recv_bytes())
    except (EOFError, OSError):  # the program died immediately
        return
    sys.argv[:] = begin.argv
    Process(connection, begin, lock).run()
    exit_timer = threading.Timer(_EXIT_TIMEOUT, os._exit, (0,))
    exit_timer.daemon = True
    exit_timer.start()


class Process:
    """Run the deliveries and report their status to the program."""

    def __init__(self, connection: Connection, begin: Begin, lock: int | None) -> None:
        self._connection, self._begin, self._lock = connection, begin, lock
        self._folder = Path(begin.info.folder)
        self._secrets = Secrets()
        self._secrets.add(begin.secrets)
        self._guard = Guard(self._secrets.hide)
        self._deliveries = {delivery.name: delivery for delivery in map(self._delivery, begin.backends)}
        backends = [delivery.backend for delivery in self._deliveries.values()]
        link_pages(backends, self._deliveries, self._folder, self._secrets)
        self._changed = threading.Event()
        self._send_lock = threading.Lock()
        self._rejections: dict[str, list[Rejection]] = {}
        # Already sent. A program that dies may not have stored them.
        self._sent_rejections: dict[str, deque[Rejection]] = {
            name: deque(maxlen=_MAX_REJECTIONS) for name in self._deliveries
        }
        self._sent: dict[str, StatusUpdate] = {}
        self._sent_counts: dict[str, int] = {}
        self._writer: JournalWriter | None = None
        self._finish_request: tuple[Status, int, float | None] | None = None
        self._disconnected = False
        logger = logging.getLogger("tracelet")
        logger.addHandler(_Relay(self._send))
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def _delivery(self, spec: BackendSpec) -> Delivery:
        module, _, name = spec.target.partition(":")
        cls: type[Backend] = attrgetter(name)(importlib.import_module(module))
        backend = configured(cls, spec.config)
        return Delivery(
            backend,
            self._folder,
            self._begin.info,
            spec.cursor,
            OverflowBuffer(0),
            start_seq=self._begin.start_seq,
            report=self._report,
            guard=self._guard,
            on_open=partial(self._on_open, backend),
            throttle=Throttle(pauses=False),
        )

    def run(self) -> None:
        for delivery in self._deliveries.values():
            delivery.start()
        threading.Thread(target=self._listen, name="tracelet-orders", daemon=True).start()
        with contextlib.closing(_JournalWatch(self._folder)) as journal:
            while not (self._all_ended() or self._is_orphaned()):
                self._changed.wait(_POLL_EVERY)
                self._changed.clear()
                if journal.has_grown():
                    for delivery in self._deliveries.values():
                        delivery.wake()
                self._send_updates()
        if self._is_orphaned():
            self._finish_alone()
        else:
            self._send_updates()
            self._release_lock()

    def _is_orphaned(self) -> bool:
        # A forked child of the program may keep the channel open after the program ended.
        return self._disconnected or os.getppid() != self._begin.program

    def _all_ended(self) -> bool:
        return all(delivery.ended for delivery in self._deliveries.values())

    def _release_lock(self) -> None:
        """Release the run's lock, so that the program can end while the vendors' exit hooks still run here."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                os.close(self._lock)

    # Requests from the program.

    def _listen(self) -> None:
        while True:
            try:
                request = messages.decode_request(self._connection.recv_bytes())
            except (EOFError, OSError):
                self._disconnected = True
                self._changed.set()
                return
            delivery = self._deliveries[request.name]
            match request:
                case Confirm(last=last):
                    delivery.request_flush(last)
                case Finish(status=status, exit_code=exit_code, seconds=seconds, ended=ended):
                    self._finish_request = status, exit_code, ended
                    delivery.finish(status, exit_code, time.monotonic() + seconds, ended)
            self._changed.set()

    # Updates to the program.

    def _report(self, name: str, cursor: Cursor, rejections: Sequence[Rejection]) -> None:
        """Store a cursor. Called on the delivery threads."""
        with self._send_lock:
            if self._writer is not None:
                self._writer.set_cursor(name, cursor, rejections)
            else:
                self._rejections.setdefault(name, []).extend(rejections)
        self._changed.set()

    def _on_open(self, backend: Backend) -> None:
        self._secrets.add(self._guard.call(secrets_of, backend) or ())
        self._send(NewSecrets(self._secrets.values()))

    def _send_updates(self) -> None:
        for name, delivery in self._deliveries.items():
            with self._send_lock:
                rejections = self._rejections.pop(name, [])
                self._sent_rejections[name] += rejections
            previous, state = self._sent.get(name), delivery.state
            if previous is not None and previous.state == state:
                url = previous.url  # some vendors print a line at each access
            else:
                url = self._guard.call(getattr, delivery.backend, "url")
            update = StatusUpdate(
                name=name,
                ended=delivery.ended,
                state=state,
                reason=delivery.reason,
                was_open=delivery.was_open,
                written_seq=delivery.written_seq,
                cursor=delivery.cursor,
                rejections=rejections,
                url=url,
            )
            if update != previous:
                self._sent[name] = msgspec.structs.replace(update, rejections=[])
                self._send(update)
        for cause, count in self._guard.counts().items():
            if added := count - self._sent_counts.get(cause, 0):
                self._sent_counts[cause] = count
                self._send(Losses(cause, added))

    def _send(self, message: msgspec.Struct) -> bool:
        try:
            with self._send_lock:
                self._connection.send_bytes(messages.encode(message))
        except OSError:  # the program died: the main loop sees it next
            return False
        return True

    # Without the program.

    def _finish_alone(self) -> None:
        """Deliver the journal and finish the run as killed, after the program died."""
        died = time.time()
        info = msgspec.structs.replace(self._begin.info, resumed=True)
        try:
            writer = JournalWriter(self._folder, info, self._guard, 0, lambda: None, self._secrets, lock=self._lock)
        except (RunInUse, JournalError):  # another process has resumed the run and owns it now
            os._exit(1)
        with self._send_lock:
            for name, delivery in self._deliveries.items():
                rejections = [*self._sent_rejections[name], *self._rejections.get(name, [])]
                writer.set_cursor(name, delivery.cursor, rejections)
            self._writer = writer
        status, exit_code, ended = self._finish_request or ("killed", 1, died)
        for delivery in self._deliveries.values():
            if self._finish_request is None:
                delivery.finish(status, exit_code, time.monotonic() + _FOREVER, ended)
        self._wait_for_deliveries(writer)
        for name, delivery in self._deliveries.items():
            writer.set_cursor(name, delivery.cursor, [])
            writer.annotate(f"trouble {name}", None if delivery.has_all(writer.last) else delivery.reason)
        for key, value in (("exit_code", exit_code), ("ended", ended), ("status", status)):
            writer.annotate(key, value)
        writer.close()

    def _wait_for_deliveries(self, writer: JournalWriter) -> None:
        last_progress, last_sum, beat = time.monotonic(), -1, time.monotonic()
        while not self._all_ended():
            now = time.monotonic()
            progress = sum(delivery.written_seq + delivery.position for delivery in self._deliveries.values())
            if progress != last_sum:
                last_progress, last_sum = now, progress
            if now - last_progress > _STALL_TIMEOUT:
                return
            with contextlib.suppress(JournalError):
                writer.write_facts()
                if now - beat > _BEAT_EVERY:
                    beat = now
                    writer.beat()
            self._changed.wait(_POLL_EVERY)
            self._changed.clear()


class _JournalWatch:
    """Detect new records in the journal, which may not exist yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reader: JournalReader | None = None
        self._last = 0

    def has_grown(self) -> bool:
        try:
            if self._reader is None:
                self._reader = JournalReader(self._folder)
            self._reader.follow()
            last = self._reader.last()
        except JournalError:
            return False
        has_grown, self._last = last > self._last, last
        return has_grown

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


class _Relay(logging.Handler):
    """Send log lines to the program, or to stderr once it has died."""

    def __init__(self, send: Callable[[LogLine], bool]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not self._send(LogLine(record.levelno, text)):
            sys.stderr.write(f"{text}\n")
