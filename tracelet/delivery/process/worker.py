"""The delivery process itself. Its vendors print into `delivery.log`; what we have to say goes to the program."""

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

from tracelet.backends import configured
from tracelet.backends.base import Backend, Status
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
from tracelet.journal.store import Cursor, JournalReader, Rejection
from tracelet.journal.writer import JournalWriter
from tracelet.redaction import Secrets

_TICK = 0.05
_BEAT_EVERY = 10.0
# The program that would say how long is dead: as long as something moves, and a little longer.
_PATIENCE = 60.0
_FOREVER = 10 * 365 * 86400.0
# What vendors' own exit hooks may take.
_EXIT = 5.0
_LOWER = 5
_REPEATED = 10_000


def main(channel: int, lock: int | None) -> None:
    """Deliver, as the first message says, until the program asks for the end, or dies and all is delivered."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(_LOWER)  # where cores are scarce, they are the training's
    connection = Connection(channel)
    try:
        begin = messages.decode_begin(connection.recv_bytes())
    except (EOFError, OSError):  # the program died at once
        return
    sys.argv[:] = begin.argv
    Process(connection, begin, lock).run()
    stuck = threading.Timer(_EXIT, os._exit, (0,))
    stuck.daemon = True
    stuck.start()


class Process:
    """The deliveries, and what the program is told of them."""

    def __init__(self, connection: Connection, begin: Begin, lock: int | None) -> None:
        self._connection, self._begin, self._lock = connection, begin, lock
        self._folder = Path(begin.info.folder)
        self._secrets = Secrets()
        self._secrets.learn(begin.secrets)
        self._guard = Guard(self._secrets.hide)
        self._deliveries = {one.name: one for one in map(self._delivery, begin.wanted)}
        self._changed = threading.Event()
        self._sending = threading.Lock()
        self._rejections: dict[str, list[Rejection]] = {}
        # Told already; a program that dies may not have written them down.
        self._earlier: dict[str, deque[Rejection]] = {one: deque(maxlen=_REPEATED) for one in self._deliveries}
        self._told: dict[str, StatusUpdate] = {}
        self._counted: dict[str, int] = {}
        self._keeper: JournalWriter | None = None
        self._ending: tuple[Status, int] | None = None
        self._is_alone = False
        logger = logging.getLogger("tracelet")
        logger.addHandler(_Relay(self._send))
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def _delivery(self, wanted: BackendSpec) -> Delivery:
        module, _, name = wanted.target.partition(":")
        cls: type[Backend] = attrgetter(name)(importlib.import_module(module))
        backend = configured(cls, wanted.config)
        return Delivery(
            backend,
            self._folder,
            self._begin.info,
            wanted.cursor,
            OverflowBuffer(0),
            began=self._begin.began,
            report=self._report,
            guard=self._guard,
            opened=partial(self._opened, backend),
            pace=Throttle(yields=False),
        )

    def run(self) -> None:
        for delivery in self._deliveries.values():
            delivery.start()
        threading.Thread(target=self._listen, name="tracelet-orders", daemon=True).start()
        with contextlib.closing(_Watch(self._folder)) as journal:
            while not (self._over() or self._is_orphan()):
                self._changed.wait(_TICK)
                self._changed.clear()
                if journal.has_grown():
                    for delivery in self._deliveries.values():
                        delivery.wake()
                self._tell()
        if self._is_orphan():
            self._finish_alone()
        else:
            self._tell()
            self._let_go()

    def _is_orphan(self) -> bool:
        # A child that the program forked may hold the channel open beyond the program's end.
        return self._is_alone or os.getppid() != self._begin.program

    def _over(self) -> bool:
        return all(one.ended for one in self._deliveries.values())

    def _let_go(self) -> None:
        """The run is the program's alone again, also while vendors' exit hooks still run here."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                os.close(self._lock)

    # What the program asks.

    def _listen(self) -> None:
        while True:
            try:
                order = messages.decode_order(self._connection.recv_bytes())
            except (EOFError, OSError):
                self._is_alone = True
                self._changed.set()
                return
            delivery = self._deliveries[order.name]
            match order:
                case Confirm(last=last):
                    delivery.ask_confirmed(last)
                case Finish(status=status, exit_code=exit_code, seconds=seconds):
                    self._ending = status, exit_code
                    delivery.finish(status, exit_code, time.monotonic() + seconds)
            self._changed.set()

    # What the program is told.

    def _report(self, name: str, cursor: Cursor, rejections: Sequence[Rejection]) -> None:
        """On the deliveries' threads."""
        with self._sending:
            if self._keeper is not None:
                self._keeper.set_cursor(name, cursor, rejections)
            else:
                self._rejections.setdefault(name, []).extend(rejections)
        self._changed.set()

    def _opened(self, backend: Backend) -> None:
        self._secrets.learn(self._guard.call(backend.secrets) or ())
        self._send(NewSecrets(self._secrets.values()))

    def _tell(self) -> None:
        for name, delivery in self._deliveries.items():
            with self._sending:
                rejections = self._rejections.pop(name, [])
                self._earlier[name] += rejections
            told, state = self._told.get(name), delivery.state
            if told is not None and told.state == state:
                url = told.url  # some vendors say a line each time that they are asked
            else:
                url = self._guard.call(getattr, delivery.backend, "url")
            news = StatusUpdate(
                name=name,
                ended=delivery.ended,
                state=state,
                trouble=delivery.trouble,
                was_open=delivery.was_open,
                written_seq=delivery.written_seq,
                cursor=delivery.cursor,
                rejections=rejections,
                url=url,
            )
            if news != told:
                self._told[name] = msgspec.structs.replace(news, rejections=[])
                self._send(news)
        for cause, times in self._guard.counts().items():
            if more := times - self._counted.get(cause, 0):
                self._counted[cause] = times
                self._send(Losses(cause, more))

    def _send(self, message: msgspec.Struct) -> bool:
        try:
            with self._sending:
                self._connection.send_bytes(messages.encode(message))
        except OSError:  # the program is gone: the next turn sees it
            return False
        return True

    # Without the program.

    def _finish_alone(self) -> None:
        """The program died: what it committed is delivered, and the run finished as killed."""
        info = msgspec.structs.replace(self._begin.info, resumed=True)
        try:
            keeper = JournalWriter(self._folder, info, self._guard, 0, lambda: None, self._secrets, lock=self._lock)
        except (RunInUse, JournalError):  # somebody goes on with the run by now: it is theirs
            os._exit(1)
        with self._sending:
            for name, delivery in self._deliveries.items():
                known = [*self._earlier[name], *self._rejections.get(name, [])]
                keeper.set_cursor(name, delivery.cursor, known)
            self._keeper = keeper
        status, exit_code = self._ending or ("killed", 1)
        for delivery in self._deliveries.values():
            if self._ending is None:
                delivery.finish(status, exit_code, time.monotonic() + _FOREVER)
        self._wait_alone(keeper)
        for name, delivery in self._deliveries.items():
            keeper.set_cursor(name, delivery.cursor, [])
            keeper.annotate(f"trouble {name}", delivery.trouble if delivery.position < keeper.last else None)
        for key, value in (("exit_code", exit_code), ("ended", time.time()), ("status", status)):
            keeper.annotate(key, value)
        keeper.close()

    def _wait_alone(self, keeper: JournalWriter) -> None:
        moved, seen, beat = time.monotonic(), -1, time.monotonic()
        while not self._over():
            now, handed = time.monotonic(), sum(one.written_seq + one.position for one in self._deliveries.values())
            if handed != seen:
                moved, seen = now, handed
            if now - moved > _PATIENCE:
                return
            with contextlib.suppress(JournalError):
                keeper.write_notes()
                if now - beat > _BEAT_EVERY:
                    beat = now
                    keeper.beat()
            self._changed.wait(_TICK)
            self._changed.clear()


class _Watch:
    """Tells when the journal has grown; there may be none yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reader: JournalReader | None = None
        self._last = 0

    def has_grown(self) -> bool:
        try:
            if self._reader is None:
                self._reader = JournalReader(self._folder)
            last = self._reader.last()
        except JournalError:
            return False
        grown, self._last = last > self._last, last
        return grown

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


class _Relay(logging.Handler):
    """Our log lines go to the program, and to our own stderr once it is gone."""

    def __init__(self, send: Callable[[LogLine], bool]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not self._send(LogLine(record.levelno, text)):
            sys.stderr.write(f"{text}\n")
