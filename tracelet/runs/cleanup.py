"""What runs take on the disk, and which of it can go: never what a backend lacks."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tracelet.errors import JournalError, RunInUse
from tracelet.journal.store import FILE_NAME, is_journal, is_live, lock_run
from tracelet.runs.report import RunSummary, summarise

# It takes everything, and has it no longer when its process ends.
_NO_STORE = "memory"
_OURS = {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", f"{FILE_NAME}-journal", "journal.lock"}


def disk_used(folder: Path) -> int:
    """Bytes that the files in a folder take; a file under several names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for path in _files(folder):
        try:
            found = path.stat(follow_symlinks=False)
        except FileNotFoundError:  # a live run's files come and go
            continue
        seen[found.st_dev, found.st_ino] = found.st_size
    return sum(seen.values())


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place, name)


def blocking_reason(summary: RunSummary) -> str | None:
    """Why `collect` would leave a run alone; None where every backend has all of it."""
    if summary.status == "running":
        return "its process is alive"
    return _lacked(summary)


def _lacked(summary: RunSummary) -> str | None:
    stores = [state for state in summary.backends if state.name != _NO_STORE]
    if not stores:
        return "no backend has it: the journal is the only copy"
    for state in stores:
        for count, word in ((state.pending, "waiting"), (state.rejected, "rejected"), (state.filtered, "filtered")):
            if count:
                return f"{state.name} lacks {count} records ({word})"
        if state.pending_upload is not None:
            return f"{state.name} recorded it offline, in {state.pending_upload}, and its server has not got it"
    return None


def collect(folder: Path) -> int:
    """Remove the journal and the files of a run that every backend has; gives the bytes that were freed.

    A folder that a backend made in the run's folder, as csv does, is its store, and stays.

    Raises:
        RunInUse: a process writes the run.
        JournalError: a backend lacks something of it (as `blocking_reason` says), or it cannot be removed.
    """
    _check_not_live(folder)
    with _alone(folder):
        reason = _lacked(summarise(folder))  # `running` is now whoever holds the lock: we do
        if reason is not None:
            raise JournalError(f"{folder} is kept: {reason}")
        before = disk_used(folder)
        shutil.rmtree(folder / "files", ignore_errors=True)
        for path in folder.iterdir():
            if not path.is_dir():  # the journal, its lock, and the notes of backends; a folder is a backend's store
                path.unlink()
    left = disk_used(folder)
    if not any(folder.iterdir()):
        folder.rmdir()
    return before - left


def remove(folder: Path, base: Path | None = None) -> None:
    """Remove a run's folder with everything in it.

    `base` is where run folders are: what has a run's place there is a run, whatever became of its journal.

    Raises:
        RunInUse: a process writes the run.
        JournalError: it cannot be removed, or is no run's folder.
    """
    in_place = base is not None and folder.resolve().parent.parent == base.resolve()
    if not (in_place or is_journal(folder) or {path.name for path in folder.iterdir()} <= _OURS):
        raise JournalError(f"{folder} is kept: its {FILE_NAME} is not tracelet's, and it holds other things")
    _check_not_live(folder)
    with _alone(folder):
        shutil.rmtree(folder)


def _check_not_live(folder: Path) -> None:
    """Also of a process on another host, whose lock is not seen here."""
    with contextlib.suppress(JournalError):  # who cannot be asked is told by the lock alone
        if is_live(folder):
            raise RunInUse(f"another process writes the run in {folder}; wait for its end")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        with lock_run(folder):
            yield
    except OSError as error:
        if isinstance(error, JournalError):
            raise
        raise JournalError(f"cannot remove {folder}: {error}") from error
