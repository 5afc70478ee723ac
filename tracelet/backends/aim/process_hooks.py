"""What Aim does to the process: streams it wraps, and forked children that its exit hook would hang."""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_MISSING = object()
_WRAPPER = "aim.ext.resource.tracker"
_open_runs: weakref.WeakSet[Any] = weakref.WeakSet()
_watching_forks = False


class Streams:
    """`sys.stdout` and `sys.stderr` as they were before Aim captured them."""

    def __init__(self) -> None:
        self._before = [(stream, _own_write(stream)) for stream in (sys.stdout, sys.stderr) if stream is not None]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Around the end of the run: Aim puts its old `write` on whatever is `sys.stdout` by then."""
        streams = dict.fromkeys(stream for stream, _ in self._before)
        streams |= dict.fromkeys(stream for stream in (sys.stdout, sys.stderr) if stream is not None)
        held = [(stream, _own_write(stream)) for stream in streams]
        try:
            yield
        finally:
            if not _captured_by_another():
                for stream, write in held:
                    self._put_back(stream, write)

    def _put_back(self, stream: Any, held: Any) -> None:
        before = next((write for one, write in self._before if one is stream), _MISSING)
        wanted = held if not _is_wrapper(held) else before if not _is_wrapper(before) else _MISSING
        if _own_write(stream) is wanted:
            return
        if wanted is _MISSING:
            del stream.write
        else:
            stream.write = wanted


def _own_write(stream: Any) -> Any:
    return getattr(stream, "__dict__", {}).get("write", _MISSING)


def _is_wrapper(write: Any) -> bool:
    return getattr(write, "__module__", None) == _WRAPPER


def _captured_by_another() -> bool:
    from aim.ext.resource.tracker import ResourceTracker

    return len(ResourceTracker._buffer_registry) > 0


def patch_fork(owner: object) -> None:
    """Until `unpatch_fork(owner)`, a forked child of this process can end."""
    global _watching_forks
    _open_runs.add(owner)
    if not _watching_forks:
        os.register_at_fork(after_in_child=_let_go)
        _watching_forks = True


def unpatch_fork(owner: object) -> None:
    _open_runs.discard(owner)


def _let_go() -> None:
    """In a forked child: Aim's and RocksDB's threads are not there, and their exit hooks would wait for them for ever.

    What the child writes to Aim is lost in any case.
    """
    if not _open_runs:
        return
    from aim.ext.cleanup import AutoClean
    from aim.ext.resource.tracker import ResourceTracker

    for _, finalizer in list(AutoClean._finalizers.values()):
        if finalizer.alive:
            _keep_for_ever(getattr(getattr(finalizer.peek()[1], "__self__", None), "_db", None))
            finalizer.detach()
    AutoClean._finalizers.clear()
    ResourceTracker._buffer_registry.clear()
    _leave_before_the_hooks_of_c()


def _keep_for_ever(database: Any) -> None:
    """The interpreter's end would destroy it, and RocksDB die of that."""
    if database is not None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(database))


def _leave_before_the_hooks_of_c() -> None:
    """End the process with its status once the interpreter is done: RocksDB's own hook comes after, and hangs."""
    libc = ctypes.CDLL(None)
    with suppress(AttributeError):  # glibc's
        libc.on_exit(libc._exit, None)
