"""Measure the disk use of runs, and remove runs or their journals."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tracelet.errors import JournalError, RunInUse
from tracelet.journal.lock import lock_run
from tracelet.journal.store import FILE_NAME, is_journal, is_live
from tracelet.runs.report import RunSummary, summarise

# This backend accepts every record, and loses all when its process ends.
_VOLATILE_BACKEND = "memory"
_JOURNAL_FILES = {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", f"{FILE_NAME}-journal", "journal.lock"}


def disk_used(folder: Path) -> int:
    """Return the bytes of the files in a folder. Count a file with several hard links once."""
    sizes: dict[tuple[int, int], int] = {}
    for path in _files(folder):
        try:
            status = path.stat(follow_symlinks=False)
        except FileNotFoundError:  # an active run creates and removes files
            continue
        sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent, name)


def blocking_reason(summary: RunSummary) -> str | None:
    """Return why `remove_journal` would fail; None if every backend has the whole run."""
    if summary.status == "running":
        return "its process is alive"
    return _undelivered(summary)


def _undelivered(summary: RunSummary) -> str | None:
    backends = [state for state in summary.backends if state.name != _VOLATILE_BACKEND]
    if not backends:
        return "no backend has it: the journal is the only copy"
    for state in backends:
        for count, word in ((state.pending, "pending"), (state.rejected, "rejected"), (state.filtered, "filtered")):
            if count:
                return f"{state.name} lacks {count} records ({word})"
        if state.pending_upload is not None:
            return f"{state.name} has an offline recording to upload: {state.pending_upload}"
    return None


def remove_journal(folder: Path) -> int:
    """Remove the journal and the files of a run that every backend has. Return the freed bytes.

    Folders of backends in the run folder, such as those of csv, stay.

    Raises:
        RunInUse: if another process writes the run.
        JournalError: if a backend lacks records (see `blocking_reason`), or if the removal fails.
    """
    _check_not_live(folder)
    with _exclusive(folder):
        # Not `blocking_reason`: the status is `running` while this process holds the lock.
        reason = _undelivered(summarise(folder))
        if reason is not None:
            raise JournalError(f"cannot remove the journal in {folder}: {reason}")
        before = disk_used(folder)
        shutil.rmtree(folder / "files", ignore_errors=True)
        for path in folder.iterdir():
            if not path.is_dir():  # the journal, its lock, and notes of backends; folders belong to backends
                path.unlink()
    after = disk_used(folder)
    if not any(folder.iterdir()):
        folder.rmdir()
    return before - after


def remove(folder: Path, base: Path | None = None) -> None:
    """Remove a run's folder with everything in it.

    If `base` is given, `base/PROJECT/RUN` counts as a run folder even if its journal is damaged.

    Raises:
        RunInUse: if another process writes the run.
        JournalError: if `folder` is not a run folder, or if the removal fails.
    """
    is_run_path = base is not None and folder.resolve().parent.parent == base.resolve()
    if not (is_run_path or is_journal(folder) or {path.name for path in folder.iterdir()} <= _JOURNAL_FILES):
        raise JournalError(f"cannot remove {folder}: its {FILE_NAME} is not tracelet's, and it has other files")
    _check_not_live(folder)
    with _exclusive(folder):
        shutil.rmtree(folder)


def _check_not_live(folder: Path) -> None:
    """Raise `RunInUse` if a process writes the run, even one on another host, whose lock is invisible here."""
    with contextlib.suppress(JournalError):  # if the journal is unreadable, the lock alone decides
        if is_live(folder):
            raise RunInUse(f"another process writes the run in {folder}; wait until it ends")


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    try:
        with lock_run(folder):
            yield
    except OSError as error:
        if isinstance(error, JournalError):
            raise
        raise JournalError(f"cannot remove {folder}: {error}") from error
