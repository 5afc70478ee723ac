"""Measure the disk use of runs, and remove runs or their journals."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from tracelet.backends import WEBHOOK
from tracelet.backends.notes import note_path
from tracelet.errors import JournalError, RunInUse
from tracelet.journal.lock import lock_run
from tracelet.journal.spool import stored_files
from tracelet.journal.store import FILE_NAME, is_journal, is_live
from tracelet.runs import digest, edits
from tracelet.runs.folders import rank_folders
from tracelet.runs.summary import RunSummary, check_journal, is_removed, keep_summary, summarise

# This backend accepts every record, and loses all when its process ends.
_VOLATILE_BACKEND = "memory"
_SPOOL = "files"
_JOURNAL_FILES = (
    FILE_NAME,
    f"{FILE_NAME}-wal",
    f"{FILE_NAME}-shm",
    f"{FILE_NAME}-journal",
    f"{FILE_NAME}.new",
    "journal.lock",
)


def disk_used(folder: Path) -> int:
    """Return the bytes of the files in a folder. Count a file with several hard links once."""
    return _bytes(_files(folder))


def removable_bytes(summary: RunSummary) -> int:
    """Return the bytes that `remove_journal` would free."""
    removable = set(_own_files(summary))
    return disk_used(summary.folder) - _bytes(path for path in _files(summary.folder) if path not in removable)


def _bytes(paths: Iterable[Path]) -> int:
    sizes: dict[tuple[int, int], int] = {}
    for path in paths:
        try:
            status = path.stat(follow_symlinks=False)
        except OSError:  # an active run creates and removes files; a folder may be closed to this user
            continue
        sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent, name)


def _own_files(summary: RunSummary) -> list[Path]:
    """Return the files of the run's spool, notes and journal, by name: users keep files in run folders too."""
    folder = summary.folder
    notes = (note_path(folder, state.name) for state in summary.backends)
    paths = [*stored_files(folder / _SPOOL), *notes, *(folder / name for name in _JOURNAL_FILES)]
    return [path for path in paths if path.is_symlink() or path.is_file()]


def blocking_reason(summary: RunSummary) -> str | None:
    """Return why `remove_journal` would fail; None if every backend has the whole run."""
    if summary.status == "running":
        return "its process is alive"
    return _undelivered(summary)


def _undelivered(summary: RunSummary) -> str | None:
    for state in summary.backends:
        if state.name == WEBHOOK and state.pending:  # it gets only alerts, and holds no copy
            return f"{state.name} lacks {state.pending} records (pending)"
    backends = [state for state in summary.backends if state.name not in (_VOLATILE_BACKEND, WEBHOOK)]
    if not backends:
        return "no backend has it: the journal is the only copy"
    for state in backends:
        for count, word in ((state.pending, "pending"), (state.rejected, "rejected"), (state.filtered, "filtered")):
            if count:
                return f"{state.name} lacks {count} records ({word})"
        if state.pending_upload is not None:
            return f"{state.name} has an offline recording to upload: {state.pending_upload}"
        if state.reason is not None:
            return f"{state.name} lacks the end of the run: {state.reason}"
    for rank in rank_folders(summary.folder):
        if reason := blocking_reason(summarise(rank)):
            return f"{rank.name}: {reason}"
    return None


def remove_journal(folder: Path) -> int:
    """Remove the journal and the files of a run that every backend has. Return the freed bytes.

    Its summary stays, so that `summaries` still lists the run, and so do all other files, such as those of csv or the
    user's own.

    Raises:
        RunInUse: if another process writes the run.
        JournalError: if a backend lacks records (see `blocking_reason`), if the folder is behind a link, or if the
            removal fails.
    """
    check_journal(folder)
    _check_not_live(folder)
    ended = summarise(folder)  # before the lock: while this process holds it, the status is `running`
    with _exclusive(folder):
        summary = summarise(folder)
        reason = link_reason(folder) or _undelivered(summary)
        if reason is not None:
            raise JournalError(f"cannot remove the journal in {folder}: {reason}")
        digest.read(folder, summary.info.created, summary.records)  # its parameters and summary stay, too
        before = disk_used(folder)
        keep_summary(msgspec.structs.replace(summary, status=ended.status, seen=ended.seen, exit_code=ended.exit_code))
        paths = _own_files(summary)
        for path in paths:
            path.unlink(missing_ok=True)
        for parent in (*{path.parent for path in paths} - {folder, folder / _SPOOL}, folder / _SPOOL):
            with contextlib.suppress(OSError):  # not empty, a link, or none
                parent.rmdir()
    return before - disk_used(folder)


def link_reason(folder: Path) -> str | None:
    """Return why `remove_journal` would fail if the run folder is a link, or in one; None if it is not."""
    if folder.is_symlink() or folder.parent.is_symlink():
        return f"it is behind a link. To remove the original, run: tracelet gc {shlex.quote(str(folder.resolve()))}"
    return None


def remove(folder: Path, base: Path | None = None) -> None:
    """Remove a run's folder with everything in it.

    If `base` is given, `base/PROJECT/RUN` counts as a run folder even if its journal is damaged.

    Raises:
        RunInUse: if another process writes the run.
        JournalError: if `folder` is not a run folder, or if the removal fails.
    """
    is_run_path = base is not None and folder.resolve().parent.parent == base.resolve()
    names = {path.name for path in folder.iterdir()}
    has_journal_only = names <= {*_JOURNAL_FILES, digest.FILE_NAME, edits.FILE_NAME}
    if not (is_run_path or is_journal(folder) or is_removed(folder) or has_journal_only):
        raise JournalError(f"cannot remove {folder}: its {FILE_NAME} is not tracelet's, and it has other files")
    for part in (folder, *rank_folders(folder)):
        _check_not_live(part)
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
