"""Lock a run for the process that writes it, but not for its forked children."""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tracelet import forks
from tracelet.errors import RunInUse

try:
    import fcntl
except ImportError:  # Windows: opening the lock file locks it instead
    fcntl = None  # type: ignore[assignment]

_NAME = "journal.lock"
# Seconds to wait for the lock: `is_locked` holds it for a moment.
_TIMEOUT = 0.3

_files: weakref.WeakSet[IO[bytes]] = weakref.WeakSet()


@contextlib.contextmanager
def lock_run(folder: Path, descriptor: int | None = None) -> Iterator[int]:
    """Lock the run in `folder`, so that no other process writes it. The lock ends with this process at the latest.

    `descriptor` is that of the lock, if this process inherited it.

    Raises:
        RunInUse: another process writes the run.
        OSError: the folder cannot be written.
    """
    with _opened(folder / _NAME if descriptor is None else descriptor, "ab") as file:
        deadline = time.monotonic() + _TIMEOUT
        while not _try_lock(file):
            if time.monotonic() > deadline:
                raise RunInUse(f"another process writes the run in {folder}; wait until it ends, or start another run")
            time.sleep(0.01)  # `is_locked` holds it for a moment
        yield file.fileno()


def is_locked(folder: Path) -> bool | None:
    """Return True if a process on this host holds the run's lock; None if this cannot be checked."""
    if fcntl is None:
        return None
    try:
        with _opened(folder / _NAME, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:  # another user's run, or a file system without locks
        return None


def has_lock(folder: Path, descriptor: int) -> bool:
    """Return False if the lock file was deleted, moved or replaced: then another process can lock the run."""
    return is_file(folder / _NAME, os.fstat(descriptor))


def is_file(path: Path, status: os.stat_result) -> bool:
    """Return True if `path` is still the file of `status`. Keep it open: no other file gets its number until then."""
    try:
        return os.path.samestat(os.stat(path), status)
    except OSError:
        return False


@contextlib.contextmanager
def _opened(path: Path | int, mode: str) -> Iterator[IO[bytes]]:
    with forks.no_fork:  # a child finds each open file in `_files`
        file: IO[bytes] = open(path, mode, opener=_at_once)  # noqa: SIM115
        _files.add(file)
    with file:
        yield file


def _at_once(path: str, flags: int) -> int:
    """Open a file, and also a pipe without waiting for its other end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)


def _try_lock(file: IO[bytes]) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network file system without locks: the heartbeat is the only protection
        return True
    return True


def _close_in_child() -> None:
    """Close the inherited files: a child shares its parent's lock, and would hold it as long as it lives."""
    for file in list(_files):
        file.close()


forks.after_in_child(_close_in_child)
