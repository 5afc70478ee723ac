"""Control the delivery process from the program: start it, send requests, receive updates, end it."""

from __future__ import annotations

import contextlib
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

from tracelet import replacing
from tracelet.backends import parent_env
from tracelet.backends.base import Backend, Status
from tracelet.backends.capabilities import NativeRun
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
from tracelet.guard import Guard, logger
from tracelet.journal.tables import Cursor, Rejection
from tracelet.records import RunInfo
from tracelet.redaction import Secrets
from tracelet.settings import environment_without, import_path

LOG_NAME = "delivery.log"
"""The file beside the journal with the vendors' output of the delivery process."""
# Seconds before each restart of a process that died. After the last one it is not restarted again.
_RESTART_PAUSES = (1.0, 10.0, 60.0)
# Seconds that the process gets for the vendors' exit hooks, once its deliveries have ended.
_EXIT_TIMEOUT = 1.0

_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from tracelet.delivery.process.worker import main; main({channel}, {lock})"
)


class RemoteDelivery(DeliveryHandle):
    """Hold the last reported status of one backend in the delivery process."""

    def __init__(self, backend: Backend, cursor: Cursor, worker: Worker) -> None:
        super().__init__(backend.name, cursor)
        self._worker = worker
        self._flush_to = 0
        self._finish_args: tuple[Status, int, float, float | None] | None = None

    def start(self) -> None:
        """Do nothing: the process starts all backends together."""

    def wake(self) -> None:
        """Do nothing: the process polls the journal, which costs training less than a message."""

    def request_flush(self, last: int) -> None:
        self._flush_to = max(self._flush_to, last)
        self._worker.send(Confirm(self.name, last))

    def resend(self) -> None:
        """Send the unanswered requests to a restarted process."""
        if self._flush_to > self.position:
            self.request_flush(self._flush_to)
        if self._finish_args is not None:
            self.finish(*self._finish_args)

    def finish(self, status: Status, exit_code: int, deadline: float, ended: float | None = None) -> None:
        self._finish_args = status, exit_code, deadline, ended
        self._worker.finish(Finish(self.name, status, exit_code, max(0.0, deadline - time.monotonic()), ended))

    def apply(self, update: StatusUpdate) -> None:
        with self._changed:
            self.cursor, self.written_seq, self.was_open = update.cursor, update.written_seq, update.was_open
            self._state, self._reason, self.url = update.state, update.reason, update.url
            self._changed.notify_all()
        if update.ended:
            self._ended.set()

    def lost(self, reason: str, *, ended: bool) -> None:
        """Record that the process died."""
        if not self.ended and not (ended and self._reason):  # an earlier reason is more precise
            self._set_state("waiting", reason)
        if ended:
            self._ended.set()


class RemoteBackend(Backend, NativeRun):
    """Stand for a backend of the delivery process in the program."""

    name = ""

    def __init__(self, delivery: RemoteDelivery) -> None:
        super().__init__()
        self.name = delivery.name  # type: ignore[misc]
        self._delivery = delivery

    @property
    def native(self) -> Any:
        """Raise an error: the vendor's run object is in another process.

        Raises:
            NativeUnavailable: always.
        """
        raise NativeUnavailable(
            f"delivery='process': the {self.name} run is in another process, so its run object and the vendor's own "
            "calls are not available here. Use delivery='thread' if you need them"
        )

    @property
    def url(self) -> str | None:
        return self._delivery.url


class Worker:
    """Manage the delivery process of one run.

    `report(name, cursor, rejections)` passes cursors to the journal's writer. `last()` returns the journal's last
    sequence number. `lock` is the descriptor of the run's lock; the process keeps it if this one dies.

    Raises:
        ConfigurationError: another process cannot create a backend.
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
        self._specs = {backend.name: (_target(backend), _plain_config(backend)) for backend in backends}
        self._parent_env = parent_env(type(backend) for backend in backends)
        self.deliveries = {
            backend.name: RemoteDelivery(backend, cursors.get(backend.name, Cursor()), self) for backend in backends
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Any = None
        self._send_lock = threading.Lock()
        self._spawn_lock = threading.Lock()
        self._abandoned = False
        self._start_seq = last()
        self._finishing = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="tracelet-deliveries", daemon=True)

    def proxies(self) -> dict[str, Backend]:
        """Return the program's proxy of each backend, by name."""
        return {name: RemoteBackend(delivery) for name, delivery in self.deliveries.items()}

    def start(self) -> None:
        """Start the process in the background. If it cannot be started, records stay pending."""
        self._listener.start()

    def _spawn(self, start_seq: int) -> None:
        with self._spawn_lock:
            self._process = None
            if not self._abandoned:
                self._process = self._popen(start_seq)
        for delivery in self.deliveries.values():
            delivery.resend()

    def _popen(self, start_seq: int) -> subprocess.Popen[bytes]:
        from multiprocessing.connection import Connection  # imported here, off the program's own thread

        parent_socket, child_socket = socket.socketpair()
        lock = self._lock
        command = _PROGRAM.format(path=import_path(), channel=child_socket.fileno(), lock=lock)
        with parent_socket, child_socket, self._log() as log:
            process = subprocess.Popen(
                [sys.executable, "-c", command],
                env=replacing.without(environment_without(self._parent_env)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[child_socket.fileno(), *([] if lock is None else [lock])],
                start_new_session=True,  # Ctrl-C reaches the program only, which then sends requests
            )
            with self._send_lock:
                if self._channel is not None:
                    self._channel.close()
                self._channel = Connection(parent_socket.detach())
                with contextlib.suppress(OSError):  # the listening thread sees a dead process
                    self._channel.send_bytes(messages.encode(self._begin(start_seq)))  # must be the first message
        return process

    def _begin(self, start_seq: int) -> Begin:
        backends = [
            BackendSpec(target, config, self.deliveries[name].cursor) for name, (target, config) in self._specs.items()
        ]
        return Begin(
            info=self._info,
            backends=backends,
            start_seq=start_seq,
            secrets=self._secrets.values(),
            program=os.getpid(),
            argv=[str(argument) for argument in sys.argv],
        )

    def _log(self) -> contextlib.AbstractContextManager[IO[bytes] | int]:
        try:
            return open(os.open(self._folder / LOG_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb")
        except OSError:  # a full disk
            return contextlib.nullcontext(subprocess.DEVNULL)

    def send(self, message: msgspec.Struct) -> None:
        """Send a message from any thread. Ignore a dead process: the listening thread reports it."""
        with self._send_lock, contextlib.suppress(OSError):
            if self._channel is not None:
                self._channel.send_bytes(messages.encode(message))

    def finish(self, request: Finish) -> None:
        self._finishing.set()
        self.send(request)

    def end(self) -> None:
        """End the process, whose deliveries have ended or are abandoned. Read its updates until then."""
        self._finishing.set()
        with self._spawn_lock:
            self._abandoned = True
            process = self._process
        if process is None:
            self._listener.join(_EXIT_TIMEOUT)
            return
        try:
            if all(delivery.ended for delivery in self.deliveries.values()):
                process.wait(_EXIT_TIMEOUT)  # for the vendors' exit hooks
        except subprocess.TimeoutExpired:
            pass
        finally:  # also when Ctrl-C ends the wait
            process.kill()
            process.wait()
            self._listener.join(_EXIT_TIMEOUT)
            self._channel.close()

    # The listening thread.

    def _listen(self) -> None:
        self._guard.call(self._spawn, self._start_seq)
        for pause in (*_RESTART_PAUSES, None):
            while (update := self._receive()) is not None:
                self._guard.call(self._handle, update)
            code = None if self._process is None else self._process.wait()
            outcome = "could not be started" if code is None else f"ended with {code}"
            ended = self._finishing.is_set() or pause is None
            for delivery in self.deliveries.values():
                delivery.lost(f"its delivery process {outcome}", ended=ended)
            if ended:
                return
            self._guard.log_once(
                f"worker {outcome} {pause}",
                "tracelet: the delivery process %s; restarting it (see %s)",
                outcome,
                self._folder / LOG_NAME,
            )
            if not self._finishing.wait(pause):
                self._guard.call(self._spawn, self._last())

    def _receive(self) -> bytes | None:
        if self._process is None:
            return None
        try:
            received: bytes = self._channel.recv_bytes()
        except (EOFError, OSError):
            return None
        return received

    def _handle(self, packet: bytes) -> None:
        match messages.decode_update(packet):
            case StatusUpdate() as update:
                delivery = self.deliveries[update.name]
                has_moved = update.cursor != delivery.cursor
                delivery.apply(update)
                if has_moved or update.rejections:
                    self._report(update.name, update.cursor, update.rejections)
            case LogLine(level=level, text=text):
                logger.log(level, "%s", text)
            case Losses(cause=cause, count=count):
                for _ in range(count):
                    self._guard.count(cause)
            case NewSecrets(secrets=secrets):
                self._secrets.add(secrets)


def _target(backend: Backend) -> str:
    cls = type(backend)
    if cls.__module__ == "__main__" or "<" in cls.__qualname__:
        raise ConfigurationError(
            f"delivery='process': the backend {backend.name!r} is {cls.__module__}.{cls.__qualname__}, which "
            "another process cannot import. Move it into a module, or use delivery='thread'"
        )
    return f"{cls.__module__}:{cls.__qualname__}"


def _plain_config(backend: Backend) -> dict[str, Any]:
    config: dict[str, Any] = backend.filter.to_config()
    for key in backend.config.__struct_fields__:
        value = getattr(backend.config, key)
        try:
            config[key] = msgspec.to_builtins(value)
        except TypeError as error:
            raise ConfigurationError(
                f"delivery='process': config key {key!r} of backend {backend.name!r} must be plain data: {error}"
            ) from error
    return config
