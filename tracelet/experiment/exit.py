"""How the host program ends: with which status and code, and that the run is drained before any vendor's exit hook."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from tracelet.backends.base import Status

End = Callable[[Status, int], None]

KILLED_BY_TERM = 128 + int(signal.SIGTERM)
KILLED_BY_INT = 128 + int(signal.SIGINT)


class ExitHandler:
    """Calls `end(status, exit_code)` when the program ends without having stopped its run.

    From `watch` to `unwatch`: an atexit callback, a note of `sys.exit`'s code, and a SIGTERM handler (main thread only)
    that passes on to the handler before it.
    """

    def __init__(self, end: End) -> None:
        self._end: End | None = end
        self._pid = os.getpid()
        self._exit_code = 0
        self._terminated = False
        self._sys_exit: Any = None
        self._our_exit: Any = None
        self._previous: Any = None
        self._last_error = _last_error()

    def watch(self) -> None:
        _watching.add(self)
        atexit.register(self._at_exit)
        self._wrap_sys_exit()
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGTERM)
            # None: a handler that C code installed, which could not be put back. SIG_IGN: the program wants to live.
            if previous is not None and previous != signal.SIG_IGN:
                self._previous = previous
                signal.signal(signal.SIGTERM, self._on_sigterm)

    def register_last(self) -> None:
        """Exit callbacks run last in, first out: be the last in again after a vendor registered its own."""
        atexit.unregister(self._at_exit)
        if self._end is not None:
            atexit.register(self._at_exit)

    def unwatch(self) -> None:
        self._end = None
        _watching.discard(self)
        atexit.unregister(self._at_exit)
        if sys.exit is self._our_exit:
            sys.exit = self._sys_exit
        if (
            self._previous is not None
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) == self._on_sigterm
        ):
            signal.signal(signal.SIGTERM, self._previous)

    def how(self) -> tuple[Status, int]:
        """Status and exit code of a program that is ending now, as far as it can be told."""
        error = _last_error()
        if self._terminated:
            return "killed", KILLED_BY_TERM
        if error is not None and error is not self._last_error and not hasattr(sys, "ps1"):
            return ("killed", KILLED_BY_INT) if isinstance(error, KeyboardInterrupt) else ("failed", 1)
        return ("failed", self._exit_code) if self._exit_code else ("finished", 0)

    def _at_exit(self) -> None:
        if self._end is not None and os.getpid() == self._pid:
            with contextlib.suppress(KeyboardInterrupt):  # who interrupts the wait was told what waits, and wants out
                self._end(*self.how())

    def _wrap_sys_exit(self) -> None:
        # The interpreter tells no exit callback which code it ends with; an uncaught SystemExit leaves no other trace.
        self._sys_exit = original = sys.exit

        @functools.wraps(original)
        def exit(status: Any = None, /) -> NoReturn:
            if threading.current_thread() is threading.main_thread():  # elsewhere it ends the thread alone
                self._exit_code = 0 if status is None else status & 0xFF if isinstance(status, int) else 1
            original(status)

        sys.exit = self._our_exit = exit

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self._terminated = True
        previous = self._previous
        if callable(previous):
            # The program's own handler decides: it may save a checkpoint, log on, and end later, or not at all.
            previous(number, frame)
            return
        if self._end is not None and os.getpid() == self._pid:
            self._end("killed", KILLED_BY_TERM)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


_watching: weakref.WeakSet[ExitHandler] = weakref.WeakSet()
_forking = threading.local()


def _before_fork() -> None:
    # What comes between the fork and the moment at which the child has the handler of before would be lost there.
    if _watching:
        _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _after_fork() -> None:
    mask = getattr(_forking, "mask", None)
    if mask is not None:
        _forking.mask = None
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    # A forked child's end is not the run's. And a worker that multiprocessing's Pool ends by SIGTERM must die of it at
    # once: with a handler in Python that comes a moment before it waits for a semaphore, it waits for ever (measured).
    for one in list(_watching):
        one.unwatch()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


def _last_error() -> BaseException | None:
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return error if isinstance(error, BaseException) else None
