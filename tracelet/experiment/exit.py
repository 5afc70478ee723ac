"""End the run when the program ends: after its own exit callbacks, and before those of vendors."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

from tracelet import forks
from tracelet.backends.base import Status
from tracelet.distributed.children import is_worker
from tracelet.experiment.exit_callbacks import ExitCallbacks
from tracelet.experiment.sigterm import KILLED_BY_TERM, TermHandler, exit_code_of
from tracelet.guard import attempted

EndCallback = Callable[[Status, int, float], None]

KILLED_BY_INT = 128 + int(signal.SIGINT)
_INTERRUPTED: tuple[Status, int] = ("killed", KILLED_BY_INT)


class ExitHandler:
    """Call `on_end(status, exit_code, timeout)` if the program ends without stopping its run.

    From `watch` to `unwatch`: install an atexit callback, a wrapper of `sys.exit`, and a SIGTERM handler (main thread
    only). The program's exit callbacks run before `on_end`, and after `flush(timeout)`: they may delete the run's
    folder or end the process. Both together get `timeout` seconds.
    """

    def __init__(self, on_end: EndCallback, flush: Callable[[float], object], timeout: float) -> None:
        self._on_end: EndCallback | None = on_end
        self._flush, self._timeout = flush, timeout
        self._pid = os.getpid()
        self._exit_code = 0
        self._original_exit: Any = None
        self._exit_wrapper: Any = None
        self._at_end_of_worker: Any = None
        self._callbacks = ExitCallbacks()
        self._sigterm = TermHandler(lambda: self._end("killed", KILLED_BY_TERM, timeout), timeout + 2)
        self._last_error = _last_error()

    def watch(self) -> None:
        _active_handlers.add(self)
        self._callbacks.watch()
        atexit.register(self._at_exit)
        if is_worker():
            # Before Python 3.14, a process that multiprocessing forked runs these callbacks only.
            from multiprocessing.util import Finalize

            self._at_end_of_worker = Finalize(None, self._at_worker_exit, exitpriority=0)
        self._wrap_sys_exit()
        self._sigterm.install()

    def register_last(self) -> None:
        """Register the exit callback again: callbacks run in reverse order, and a vendor may have added one."""
        self._unregister()
        if self._on_end is not None:
            atexit.register(self._at_exit)

    def _unregister(self) -> None:
        """Unregister the exit callback. If another callback's `__eq__` raises, it stays, and does nothing twice."""
        attempted(lambda: atexit.unregister(self._at_exit), lambda: None)

    def unwatch(self) -> None:
        self._on_end = None
        _active_handlers.discard(self)
        self._unregister()
        self._callbacks.unwatch()
        if self._at_end_of_worker is not None:
            self._at_end_of_worker.cancel()
        if sys.exit is self._exit_wrapper:
            original = self._original_exit
            while (owner := getattr(original, "_owner", None)) is not None:
                if owner._on_end is not None or owner._exit_wrapper is not original:
                    break
                original = owner._original_exit  # that was of a run that has ended meanwhile
            sys.exit = original
        self._sigterm.uninstall()

    def outcome(self) -> tuple[Status, int]:
        """Return the likely status and exit code of a program that is ending now."""
        error = _last_error()
        if self._sigterm.exit_code is not None:
            return "killed", self._sigterm.exit_code
        if error is not None and error is not self._last_error and not hasattr(sys, "ps1"):
            return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else ("failed", 1)
        return ("failed", self._exit_code) if self._exit_code else ("finished", 0)

    def _at_exit(self) -> None:
        if self._on_end is None or os.getpid() != self._pid:
            return
        outcome, timeout = self.outcome(), self._timeout
        if self._callbacks.of_program(self._at_exit):
            started = time.monotonic()
            with contextlib.suppress(KeyboardInterrupt):  # the user interrupts the wait
                self._flush(timeout / 2)
            timeout -= time.monotonic() - started
            with self._callbacks.run_before(self._at_exit):
                self._end(*(outcome if self._sigterm.exit_code is None else self.outcome()), timeout)
        else:
            self._end(*outcome, timeout)
        self._sigterm.die_if_received()
        if outcome == _INTERRUPTED:
            _die_as_interrupted()

    def _at_worker_exit(self) -> None:
        error = sys.exc_info()[1]  # of the function that the worker ran
        if error is not None:
            self._exit_code = exit_code_of(error.code) if isinstance(error, SystemExit) else 1
        self._at_exit()

    def _end(self, status: Status, exit_code: int, timeout: float) -> None:
        with contextlib.suppress(KeyboardInterrupt):  # as above: end now
            if self._on_end is not None and os.getpid() == self._pid:
                self._on_end(status, exit_code, timeout)

    def _wrap_sys_exit(self) -> None:
        # Exit callbacks do not get the exit code, and an uncaught SystemExit leaves no other trace.
        self._original_exit = original = sys.exit

        @functools.wraps(original)
        def exit(status: Any = None, /) -> NoReturn:
            if threading.current_thread() is threading.main_thread():  # on another thread it ends only the thread
                self._exit_code = exit_code_of(status)
            original(status)

        exit._owner = self  # type: ignore[attr-defined]
        sys.exit = self._exit_wrapper = exit


def end_runs_of_all_threads() -> None:
    """Let SIGTERM end the runs of all threads from now on. Only the main thread can watch for it, at any time before.

    A program that handles SIGTERM itself keeps its handler, and decides on its own end.
    """
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        _of_all_threads.install()


def _end_all() -> None:
    for handler in list(_active_handlers):
        handler._end("killed", KILLED_BY_TERM, handler._timeout)


# Longer than a run's own timeout by default: 30 s and two.
_of_all_threads = TermHandler(_end_all, 35.0)
_active_handlers: weakref.WeakSet[ExitHandler] = weakref.WeakSet()
_sigterm_block = forks.SigtermBlock()


def _before_fork() -> None:
    if _active_handlers:
        _sigterm_block.block()


def _after_fork_in_child() -> None:
    # A forked child must not end the run. A worker of multiprocessing's Pool must also die of SIGTERM immediately: a
    # Python handler that runs just before a semaphore wait would leave it waiting for ever (measured).
    for handler in list(_active_handlers):
        handler.unwatch()
    _of_all_threads.uninstall()
    _sigterm_block.restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_sigterm_block.restore, after_in_child=_after_fork_in_child
    )


def _die_as_interrupted() -> None:
    """Let the process die of SIGINT, as after any uncaught KeyboardInterrupt.

    CPython forgets it when a string is executed afterwards, as by dataclasses in a late import
    (`run_eval_code_obj` in Python/pythonrun.c); this string reminds it.
    """
    with contextlib.suppress(KeyboardInterrupt):
        exec("raise KeyboardInterrupt")


def _last_error() -> BaseException | None:
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return error if isinstance(error, BaseException) else None
