"""Fork safely beside tracelet's threads, which a forked child does not have."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

# Maximum seconds that forks wait for one import. A vendor's package takes 1 to 10 s.
_IMPORT_TIMEOUT = 30.0
# Maximum seconds that forks wait for a moment without a call of SQLite. A call takes milliseconds, unless a disk hangs;
# on a busy machine it takes many looks to find a moment between two.
_CALL_TIMEOUT = 5.0
_POLL_SECONDS = 0.005
_CALL_POLL_SECONDS = 0.0002
# Seconds for which no other thread gets the interpreter before a fork; the usual switch interval, meanwhile.
_LONG_INTERVAL = 0.1
_usual_interval: float | None = None
_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"
# Vendors call SQLite through these parts of SQLAlchemy. In a migration, others run for seconds without a call.
_CALLERS = re.compile(r"[/\\]sqlalchemy[/\\](engine|pool|dialects[/\\]sqlite)[/\\]")
_PACKAGE = os.path.join(os.path.dirname(__file__), "")

_locks: weakref.WeakSet[Any] = weakref.WeakSet()
# The end of the wait for a condition, while it holds.
_timeouts_at: dict[Callable[[], bool], float] = {}


def new_lock() -> Any:
    """Return a reentrant lock that is free in each forked child: the thread that held it is not there."""
    return free_in_child(threading.RLock())


def free_in_child(lock: Any) -> Any:
    """Return a lock, of a vendor for example, that is from now on free in each forked child."""
    _locks.add(lock)
    return lock


no_fork = new_lock()
"""No fork happens while another thread holds this lock. Hold it for a moment only, and import nothing meanwhile."""


# `delayed()` begins under this lock. A fork takes it first, then `no_fork`, so that calls in progress can end.
_entry = new_lock()
# The threads in `delayed()`. A list: threads add and remove themselves without a lock.
_delaying: list[int] = []


@contextlib.contextmanager
def delayed() -> Iterator[None]:
    """Let forks wait for this block: a child must not inherit the locks of a C library in the middle of a call.

    SQLite locks its memory and its list of open files during each call, and a child could never open a database.
    Waiting ends after 5 s, so keep slow work of other kinds out of the block.
    """
    thread = threading.get_ident()
    with contextlib.nullcontext() if thread in _delaying else _entry:
        _delaying.append(thread)
    try:
        yield
    finally:
        _delaying.remove(thread)


class SigtermBlock:
    """Hold back SIGTERM during a fork: `block` before it, `restore` in the parent, and last in the child.

    A child may have a Python handler of its parent, or of a vendor, for a moment. It would lose a signal that arrives
    then, and a worker of multiprocessing's Pool would wait for ever.
    """

    def __init__(self) -> None:
        self._state = threading.local()

    def block(self) -> None:
        self._state.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def restore(self) -> None:
        mask = getattr(self._state, "mask", None)
        if mask is not None:
            self._state.mask = None
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def after_in_child(function: Callable[[], None]) -> None:
    """Call `function` in each forked child, after its locks are released."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def _before_fork() -> None:
    try:
        while _holds_up(_is_importing, _IMPORT_TIMEOUT):
            time.sleep(_POLL_SECONDS)
    finally:
        _entry.acquire()
        try:
            _wait_for_sqlite()
        finally:
            no_fork.acquire()
            while "sqlalchemy" in sys.modules:
                _keep_interpreter()
                if not _holds_up(_is_in_sqlite, _CALL_TIMEOUT):
                    break
                _restore_interval()
                no_fork.release()
                _wait_for_sqlite()
                no_fork.acquire()


def _wait_for_sqlite() -> None:
    while _holds_up(_is_in_sqlite, _CALL_TIMEOUT):
        time.sleep(_CALL_POLL_SECONDS)


def _keep_interpreter() -> None:
    """Let no other thread run between the last check and the fork, also on a busy machine.

    A thread that waits for the interpreter gets it after the switch interval that was set when it began to wait. So
    set a longer one, and let those that wait already have their turn.
    """
    global _usual_interval
    _usual_interval = sys.getswitchinterval()
    end = time.monotonic() + min(1.2 * sys.getswitchinterval(), _LONG_INTERVAL)
    sys.setswitchinterval(_LONG_INTERVAL)
    time.sleep(0)
    while time.monotonic() < end:
        pass


def _restore_interval() -> None:
    global _usual_interval
    if _usual_interval is not None:
        sys.setswitchinterval(_usual_interval)
        _usual_interval = None


def _holds_up(condition: Callable[[], bool], timeout: float) -> bool:
    """Return True while a condition delays a fork. After a timeout, forks wait again only once it has been false."""
    if condition():
        return time.monotonic() < _timeouts_at.setdefault(condition, time.monotonic() + timeout)
    _timeouts_at.pop(condition, None)
    return False


def _is_importing() -> bool:
    """Return True if a thread imports a module for tracelet: in the child, nobody would release the module's lock."""
    return any(map(_imports_for_tracelet, _other_threads()))


def _is_in_sqlite() -> bool:
    if any(thread != threading.get_ident() for thread in _delaying.copy()):
        return True
    return "sqlalchemy" in sys.modules and any(map(_calls_sqlite_for_tracelet, _other_threads()))


def _other_threads() -> list[FrameType]:
    return [frame for thread, frame in sys._current_frames().items() if thread != threading.get_ident()]


def _imports_for_tracelet(frame: FrameType | None) -> bool:
    """Return True if a thread is in an import that our code, or a call from our code, began."""
    is_in_import = False
    while frame is not None:
        path = frame.f_code.co_filename
        if path == _IMPORT_SYSTEM:
            if getattr(frame.f_locals.get("self"), "owner", None) == threading.get_ident():
                return False  # it waits for a module that the forking thread is importing
            is_in_import = True
        elif is_in_import and path.startswith(_PACKAGE):
            return True
        frame = frame.f_back
    return False


def _calls_sqlite_for_tracelet(top: FrameType) -> bool:
    if not _CALLERS.search(top.f_code.co_filename):
        return False
    frame: FrameType | None = top
    while frame is not None and not frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame is not None


def _after_in_parent() -> None:
    _restore_interval()
    no_fork.release()
    _entry.release()


def _release_locks() -> None:
    _restore_interval()
    _delaying[:] = [thread for thread in _delaying if thread == threading.get_ident()]
    for lock in list(_locks):
        lock._at_fork_reinit()
    _release_imports()


def _release_imports() -> None:
    """Let a child import the modules that other threads were importing: it runs their code again, from the start.

    Without this it would wait for ever. There are such modules after a timeout, or if an import began after the check.
    """
    locks: dict[str, Any] = getattr(importlib._bootstrap, "_module_locks", {})
    for name, reference in list(locks.items()):
        if getattr(reference(), "owner", None) not in (None, threading.get_ident()):
            del locks[name]
            if getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False):
                del sys.modules[name]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_release_locks)
