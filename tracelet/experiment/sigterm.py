"""End a run on SIGTERM, without a lock that the interrupted code may hold."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

# Code that holds locks which the end of a run needs.
_LOCKING = frozenset(("tracelet", "logging", "threading", "importlib"))
# Seconds between two attempts to find the main thread outside such code.
_RESEND_EVERY = 0.005
# Seconds of such attempts. Later the main thread waits somewhere, and a thread that waits holds no lock.
_MAX_POSTPONE = 0.25

KILLED_BY_TERM = 128 + int(signal.SIGTERM)


class TermHandler:
    """Handle SIGTERM from `install` to `uninstall`, if called on the main thread.

    Call the program's own handler, if it has one: it may save a checkpoint, keep logging, and end later or never.
    Otherwise call `end()` on a new thread, wait up to `timeout` seconds for it, and let the signal kill the process.
    """

    def __init__(self, end: Callable[[], None], timeout: float) -> None:
        self._end, self._timeout = end, timeout
        self._pid = os.getpid()
        self._previous: Any = None
        self._is_installed = False
        self.exit_code: int | None = None
        """The exit code of the program if SIGTERM ends it."""
        self._is_ending = self._is_waiting = False
        self._ended = threading.Event()
        self._postponed_since: float | None = None
        self._deadline = 0.0
        self._resent = False

    def install(self) -> None:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGTERM)
            # None: C code installed the handler, and Python cannot restore it. SIG_IGN: the program ignores SIGTERM.
            if previous is not None and previous != signal.SIG_IGN:
                self._previous = previous
                self._is_installed = True
                signal.signal(signal.SIGTERM, self._on_signal)

    def uninstall(self) -> None:
        """Restore the handler from before, but none of a run that has ended meanwhile."""
        self._is_installed = False
        if (
            self._previous is not None
            and not (self._is_ending and os.getpid() == self._pid)  # the process dies next
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) == self._on_signal
        ):
            previous = self._previous
            while isinstance(owner := getattr(previous, "__self__", None), TermHandler) and not owner._is_installed:
                previous = owner._previous
            signal.signal(signal.SIGTERM, previous)

    def die_if_received(self) -> None:
        """Let a received signal kill the process, unless the program has a handler of its own."""
        if self._is_ending:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        was_resent, self._resent = self._resent, False
        if self._is_waiting or (was_resent and self._postponed_since is None):
            return
        if callable(self._previous):
            if not (_holds_locks(frame) and self._postpone(_MAX_POSTPONE)):
                self._postponed_since = None
                self._call_previous(number, frame)
            return
        self.exit_code = KILLED_BY_TERM
        if not self._is_ending:
            self._is_ending = True
            atexit.register(self._wait_and_die)  # the interrupted code may be the program's last
            self._deadline = time.monotonic() + self._timeout
            if not _started(self._end_run):
                self._is_waiting = True  # for the exit of the interpreter, which has begun and ends the run
                return
        if not self._ended.is_set() and _holds_locks(frame) and self._postpone(self._timeout):
            return
        self._postponed_since = None
        self._wait_and_die()

    def _wait_and_die(self) -> None:
        if os.getpid() != self._pid:  # a forked child at its exit
            return
        self._is_waiting = True
        with contextlib.suppress(KeyboardInterrupt):  # the user interrupts the wait: end now
            self._ended.wait(max(0.0, self._deadline - time.monotonic()))
        self.die_if_received()

    def _call_previous(self, number: int, frame: FrameType | None) -> None:
        """Call the program's handler. If it returns, the program goes on; if it raises, it ends the program."""
        with contextlib.ExitStack() as stack:
            stack.push(self._set_exit_code)
            self._previous(number, frame)

    def _set_exit_code(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.exit_code = exit_code_of(error.code) if isinstance(error, SystemExit) else 1

    def _end_run(self) -> None:
        # The interrupted call may be about to submit a record: let it do so before the end.
        deadline = time.monotonic() + _MAX_POSTPONE
        while not self._is_waiting and time.monotonic() < deadline:
            time.sleep(_RESEND_EVERY / 5)
        try:
            self._end()
        finally:
            self._ended.set()

    def _postpone(self, seconds: float) -> bool:
        """Send the signal again soon. Return False after `seconds`, or if the program's handler would get it."""
        if signal.getsignal(signal.SIGTERM) != self._on_signal:
            return False
        if self._postponed_since is None:
            self._postponed_since = time.monotonic()
            return _started(self._resend)
        return time.monotonic() - self._postponed_since < seconds

    def _resend(self) -> None:
        while True:
            time.sleep(_RESEND_EVERY)
            if self._postponed_since is None:
                return
            self._resent = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def exit_code_of(status: object) -> int:
    """Return the exit code of a process that ends by `sys.exit(status)`."""
    return 0 if status is None else status & 0xFF if isinstance(status, int) else 1


def _started(function: Callable[[], None]) -> bool:
    """Start a thread. `threading.Thread` takes a lock that the interrupted code may hold."""
    try:
        _thread.start_new_thread(function, ())
    except RuntimeError:  # the interpreter exits
        return False
    return True


def _holds_locks(frame: FrameType | None) -> bool:
    """Return True if the interrupted code may hold a lock of tracelet, of a logger, of a thread or of an import."""
    while frame is not None and frame.f_code is not TermHandler._on_signal.__code__:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _LOCKING:
            return True
        frame = frame.f_back
    return False
