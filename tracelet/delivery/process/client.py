"""The program's side of its delivery process: starts it, asks it, listens to it, and ends it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

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
from tracelet.delivery.status import DeliveryHandle
from tracelet.errors import ConfigurationError, NativeUnavailable
from tracelet.guard import Guard
from tracelet.journal.store import Cursor, Rejection
from tracelet.records import RunInfo
from tracelet.redaction import Secrets
from tracelet.settings import environment_without

_logger = logging.getLogger("tracelet")

LOG_NAME = "delivery.log"
"""Beside the journal: what vendors print in the delivery process."""
# A process that dies is started again after so many seconds, and then no more.
_RESTARTS = (1.0, 10.0, 60.0)
_LAST_WORDS = 1.0

_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from tracelet.delivery.process.worker import main; main({channel}, {lock})"
)


class RemoteDelivery(DeliveryHandle):
    """One backend of the delivery process, as far as it was heard of."""

    def __init__(self, backend: Backend, cursor: Cursor, worker: Worker) -> None:
        super().__init__(backend.name, cursor)
        self._worker = worker
        self._asked = 0
        self._order: tuple[Status, int, float] | None = None

    def start(self) -> None:
        """All backends of the process begin together."""

    def wake(self) -> None:
        """The process looks into the journal by itself: telling it would cost the training more."""

    def ask_confirmed(self, last: int) -> None:
        self._asked = max(self._asked, last)
        self._worker.send(Confirm(self.name, last))

    def repeat(self) -> None:
        """Ask a new process what none answered before."""
        if self._asked > self.position:
            self.ask_confirmed(self._asked)
        if self._order is not None:
            self.finish(*self._order)

    def finish(self, status: Status, exit_code: int, deadline: float) -> None:
        self._order = status, exit_code, deadline
        self._worker.finish(Finish(self.name, status, exit_code, max(0.0, deadline - time.monotonic())))

    def stands(self, news: StatusUpdate) -> None:
        with self._changed:
            self.cursor, self.written_seq, self.was_open = news.cursor, news.written_seq, news.was_open
            self._state, self._trouble, self.url = news.state, news.trouble, news.url
            self._changed.notify_all()
        if news.ended:
            self._ended.set()

    def lost(self, reason: str, *, ended: bool) -> None:
        """The process is gone."""
        if not self.ended and not (ended and self._trouble):  # what kept the end from coming says more
            self._trouble = reason
            self._set_state(f"waiting: {reason}")
        if ended:
            self._ended.set()


class RemoteBackend(Backend):
    """A backend of the delivery process, as the program sees it."""

    name = ""

    def __init__(self, delivery: RemoteDelivery) -> None:
        super().__init__()
        self.name = delivery.name  # type: ignore[misc]
        self._delivery = delivery

    @property
    def native(self) -> Any:
        """Always raises.

        Raises:
            NativeUnavailable: the vendor's run object is in another process.
        """
        raise NativeUnavailable(
            f"delivery='process': the {self.name} run is in a process of its own, so that its run object and the "
            "vendor's own calls are not to be had here. Use delivery='thread' for them"
        )

    @property
    def url(self) -> str | None:
        return self._delivery.url


class Worker:
    """The delivery process of one run.

    `report(name, cursor, rejections)` takes cursors to the journal's writer; `last()` is the journal's last number;
    `lock` is the descriptor by which the run is locked, which the process keeps when this one dies.

    Raises:
        ConfigurationError: a backend cannot be made in another process.
    """

    def __init__(
        self,
        folder: Path,
        info: RunInfo,
        backends: Sequence[Backend],
        cursors: Mapping[str, Cursor],
        *,
        last: Callable[[], int],
        lock: int | None,
        report: Callable[[str, Cursor, Sequence[Rejection]], None],
        guard: Guard,
        secrets: Secrets,
    ) -> None:
        self._folder, self._info, self._last, self._lock = folder, info, last, lock
        self._report, self._guard, self._secrets = report, guard, secrets
        self._wanted = {one.name: (_target(one), _plain_config(one)) for one in backends}
        self._foreign = {name for one in backends for name in one.parent_env}
        self.deliveries = {one.name: RemoteDelivery(one, cursors.get(one.name, Cursor()), self) for one in backends}
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Any = None
        self._sending = threading.Lock()
        self._spawning = threading.Lock()
        self._given_up = False
        self._began = last()
        self._ending = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="tracelet-deliveries", daemon=True)

    def stand_ins(self) -> dict[str, Backend]:
        """For each backend, what the program sees of it."""
        return {name: RemoteBackend(delivery) for name, delivery in self.deliveries.items()}

    def start(self) -> None:
        """Start the process; it imports vendors and connects behind this call. Where none can be had, records wait."""
        self._listener.start()

    def _spawn(self, began: int) -> None:
        with self._spawning:
            self._process = None
            if not self._given_up:
                self._process = self._popen(began)
        for delivery in self.deliveries.values():
            delivery.repeat()

    def _popen(self, began: int) -> subprocess.Popen[bytes]:
        from multiprocessing.connection import Connection  # here: off the program's own thread

        ours, theirs = socket.socketpair()
        lock = self._lock
        command = _PROGRAM.format(path=sys.path, channel=theirs.fileno(), lock=lock)
        with ours, theirs, self._log() as log:
            process = subprocess.Popen(
                [sys.executable, "-c", command],
                env=environment_without(self._foreign),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno(), *([] if lock is None else [lock])],
                start_new_session=True,  # Ctrl-C is for the program, which then says what is to be done
            )
            with self._sending:
                if self._channel is not None:
                    self._channel.close()
                self._channel = Connection(ours.detach())
                with contextlib.suppress(OSError):  # its end is seen where its news are
                    self._channel.send_bytes(messages.encode(self._begin(began)))  # before anything else
        return process

    def _begin(self, began: int) -> Begin:
        wanted = [
            BackendSpec(target, config, self.deliveries[name].cursor) for name, (target, config) in self._wanted.items()
        ]
        return Begin(
            info=self._info,
            wanted=wanted,
            began=began,
            secrets=self._secrets.values(),
            program=os.getpid(),
            argv=sys.argv,
        )

    def _log(self) -> contextlib.AbstractContextManager[IO[bytes] | int]:
        try:
            return open(os.open(self._folder / LOG_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb")
        except OSError:  # a disk that takes nothing
            return contextlib.nullcontext(subprocess.DEVNULL)

    def send(self, message: msgspec.Struct) -> None:
        """From any thread; a process that is gone is spoken of where its end is seen."""
        with self._sending, contextlib.suppress(OSError):
            if self._channel is not None:
                self._channel.send_bytes(messages.encode(message))

    def finish(self, order: Finish) -> None:
        self._ending.set()
        self.send(order)

    def end(self) -> None:
        """Let the process go, whose deliveries have ended or are given up; what it says until then is heard."""
        self._ending.set()
        with self._spawning:
            self._given_up = True
            process = self._process
        if process is None:
            self._listener.join(_LAST_WORDS)
            return
        try:
            if all(one.ended for one in self.deliveries.values()):
                process.wait(_LAST_WORDS)  # for the vendors' own exit hooks
        except subprocess.TimeoutExpired:
            pass
        finally:  # also when Ctrl-C ends the wait
            process.kill()
            process.wait()
            self._listener.join(_LAST_WORDS)
            self._channel.close()

    # The listening thread.

    def _listen(self) -> None:
        self._guard.call(self._spawn, self._began)
        for pause in (*_RESTARTS, None):
            while (news := self._receive()) is not None:
                self._guard.call(self._hear, news)
            code = None if self._process is None else self._process.wait()
            how = "could not be started" if code is None else f"ended with {code}"
            over = self._ending.is_set() or pause is None
            for delivery in self.deliveries.values():
                delivery.lost(f"its delivery process {how}", ended=over)
            if over:
                return
            self._guard.say(
                f"worker {how} {pause}",
                "tracelet: the delivery process %s; it is tried again (see %s)",
                how,
                self._folder / LOG_NAME,
            )
            if not self._ending.wait(pause):
                self._guard.call(self._spawn, self._last())

    def _receive(self) -> bytes | None:
        if self._process is None:
            return None
        try:
            received: bytes = self._channel.recv_bytes()
        except (EOFError, OSError):
            return None
        return received

    def _hear(self, packet: bytes) -> None:
        match messages.decode_news(packet):
            case StatusUpdate() as news:
                delivery = self.deliveries[news.name]
                moved = news.cursor != delivery.cursor
                delivery.stands(news)
                if moved or news.rejections:
                    self._report(news.name, news.cursor, news.rejections)
            case LogLine(level=level, text=text):
                _logger.log(level, "%s", text)
            case Losses(cause=cause, times=times):
                for _ in range(times):
                    self._guard.count(cause)
            case NewSecrets(secrets=secrets):
                self._secrets.learn(secrets)


def _target(backend: Backend) -> str:
    cls = type(backend)
    if cls.__module__ == "__main__" or "<" in cls.__qualname__:
        raise ConfigurationError(
            f"delivery='process': the backend {backend.name!r} is {cls.__module__}.{cls.__qualname__}, which "
            "another process cannot import. Move it into a module, or use delivery='thread'"
        )
    return f"{cls.__module__}:{cls.__qualname__}"


def _plain_config(backend: Backend) -> dict[str, Any]:
    config: dict[str, Any] = backend.filter.plain()
    for key in backend.config.__struct_fields__:
        value = getattr(backend.config, key)
        try:
            config[key] = msgspec.to_builtins(value)
        except TypeError as error:
            raise ConfigurationError(
                f"delivery='process': config key {key!r} of backend {backend.name!r} is no plain data: {error}"
            ) from error
    return config
