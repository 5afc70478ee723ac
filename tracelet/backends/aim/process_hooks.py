"""Limit Aim's effects on the process: wrapped streams, and exit hooks that would hang a forked child."""

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
_is_fork_hook_registered = False


class Streams:
    """The `write` methods of `sys.stdout` and `sys.stderr` before Aim captured them."""

    def __init__(self) -> None:
        self._originals = [(stream, _own_write(stream)) for stream in (sys.stdout, sys.stderr) if stream is not None]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restore the streams after a block that ends the run: Aim sets its old `write` on the current `sys.stdout`."""
        streams = dict.fromkeys(stream for stream, _ in self._originals)
        streams |= dict.fromkeys(stream for stream in (sys.stdout, sys.stderr) if stream is not None)
        current = [(stream, _own_write(stream)) for stream in streams]
        try:
            yield
        finally:
            if not _captured_by_another():
                for stream, write in current:
                    self._restore(stream, write)

    def _restore(self, stream: Any, current: Any) -> None:
        original = next((write for captured, write in self._originals if captured is stream), _MISSING)
        wanted = current if not _is_wrapper(current) else original if not _is_wrapper(original) else _MISSING
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
    """Make forked children of this process able to exit, until `unpatch_fork(owner)`."""
    global _is_fork_hook_registered
    _open_runs.add(owner)
    if not _is_fork_hook_registered:
        os.register_at_fork(after_in_child=_release_in_child)
        _is_fork_hook_registered = True


def unpatch_fork(owner: object) -> None:
    """Undo `patch_fork(owner)`."""
    _open_runs.discard(owner)


def _release_in_child() -> None:
    """Disable the exit hooks of Aim and RocksDB in a forked child: they would wait for ever for threads of the parent.

    Data that the child writes to Aim is lost in any case.
    """
    if not _open_runs:
        return
    from aim.ext.cleanup import AutoClean
    from aim.ext.resource.tracker import ResourceTracker

    for _, finalizer in list(AutoClean._finalizers.values()):
        if finalizer.alive:
            _keep_alive(getattr(getattr(finalizer.peek()[1], "__self__", None), "_db", None))
            finalizer.detach()
    AutoClean._finalizers.clear()
    ResourceTracker._buffer_registry.clear()
    _exit_before_c_hooks()


def _keep_alive(database: Any) -> None:
    """Keep the database object until the process ends: RocksDB crashes if the interpreter destroys it at exit."""
    if database is not None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(database))


def _exit_before_c_hooks() -> None:
    """End the process, with its status, after the interpreter has ended but before RocksDB's hook, which would hang."""
    libc = ctypes.CDLL(None)
    with suppress(AttributeError):  # only in glibc
        libc.on_exit(libc._exit, None)
