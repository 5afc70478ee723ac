"""End the run when the host program ends, before any vendor's exit hook, with the right status and exit code."""

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

EndCallback = Callable[[Status, int], None]

KILLED_BY_TERM = 128 + int(signal.SIGTERM)
KILLED_BY_INT = 128 + int(signal.SIGINT)


class ExitHandler:
    """Call `on_end(status, exit_code)` if the program ends without stopping its run.

    From `watch` to `unwatch`: install an atexit callback, a wrapper of `sys.exit`, and a SIGTERM handler (main thread
    only) that calls the previous handler.
    """

    def __init__(self, on_end: EndCallback) -> None:
        self._on_end: EndCallback | None = on_end
        self._pid = os.getpid()
        self._exit_code = 0
        self._got_sigterm = False
        self._original_exit: Any = None
        self._exit_wrapper: Any = None
        self._previous_handler: Any = None
        self._last_error = _last_error()

    def watch(self) -> None:
        _active_handlers.add(self)
        atexit.register(self._at_exit)
        self._wrap_sys_exit()
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGTERM)
            # None: C code installed the handler, and Python cannot restore it. SIG_IGN: the program ignores SIGTERM.
            if previous is not None and previous != signal.SIG_IGN:
                self._previous_handler = previous
                signal.signal(signal.SIGTERM, self._on_sigterm)

    def register_last(self) -> None:
        """Register the exit callback again: callbacks run in reverse order, and a vendor may have added one."""
        atexit.unregister(self._at_exit)
        if self._on_end is not None:
            atexit.register(self._at_exit)

    def unwatch(self) -> None:
        self._on_end = None
        _active_handlers.discard(self)
        atexit.unregister(self._at_exit)
        if sys.exit is self._exit_wrapper:
            sys.exit = self._original_exit
        if (
            self._previous_handler is not None
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) == self._on_sigterm
        ):
            signal.signal(signal.SIGTERM, self._previous_handler)

    def outcome(self) -> tuple[Status, int]:
        """Return the likely status and exit code of a program that is ending now."""
        error = _last_error()
        if self._got_sigterm:
            return "killed", KILLED_BY_TERM
        if error is not None and error is not self._last_error and not hasattr(sys, "ps1"):
            return ("killed", KILLED_BY_INT) if isinstance(error, KeyboardInterrupt) else ("failed", 1)
        return ("failed", self._exit_code) if self._exit_code else ("finished", 0)

    def _at_exit(self) -> None:
        if self._on_end is not None and os.getpid() == self._pid:
            with contextlib.suppress(KeyboardInterrupt):  # the user interrupts the wait: end now
                self._on_end(*self.outcome())

    def _wrap_sys_exit(self) -> None:
        # Exit callbacks do not get the exit code, and an uncaught SystemExit leaves no other trace.
        self._original_exit = original = sys.exit

        @functools.wraps(original)
        def exit(status: Any = None, /) -> NoReturn:
            if threading.current_thread() is threading.main_thread():  # on another thread it ends only the thread
                self._exit_code = 0 if status is None else status & 0xFF if isinstance(status, int) else 1
            original(status)

        sys.exit = self._exit_wrapper = exit

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self._got_sigterm = True
        previous = self._previous_handler
        if callable(previous):
            # The program's own handler decides: it may save a checkpoint, keep logging, and end later or never.
            previous(number, frame)
            return
        if self._on_end is not None and os.getpid() == self._pid:
            self._on_end("killed", KILLED_BY_TERM)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


_active_handlers: weakref.WeakSet[ExitHandler] = weakref.WeakSet()
_fork_state = threading.local()


def _before_fork() -> None:
    # Block SIGTERM: the child would lose a signal that arrives before it has the previous handler again.
    if _active_handlers:
        _fork_state.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _after_fork() -> None:
    mask = getattr(_fork_state, "mask", None)
    if mask is not None:
        _fork_state.mask = None
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    # A forked child must not end the run. A worker of multiprocessing's Pool must also die of SIGTERM immediately: a
    # Python handler that runs just before a semaphore wait would leave it waiting for ever (measured).
    for handler in list(_active_handlers):
        handler.unwatch()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


def _last_error() -> BaseException | None:
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return error if isinstance(error, BaseException) else None
