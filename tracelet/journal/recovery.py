"""Recover the file of a journal after a kill in the middle of a commit, and after its deletion."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from tracelet.errors import RunInUse
from tracelet.journal.lock import lock_run


def roll_back(path: Path) -> None:
    """Undo a commit that a kill cut short on a network file system: a read-only connection cannot."""
    with contextlib.suppress(OSError, RunInUse, sqlite3.Error, UnicodeDecodeError):
        if os.path.getsize(f"{path}-journal"):
            with lock_run(path.parent), contextlib.closing(sqlite3.connect(path)) as db:
                db.execute("SELECT count(*) FROM sqlite_master").fetchone()


def copy_deleted(db: sqlite3.Connection, path: Path) -> Path:
    """Copy the deleted file that `db` has open to a draft beside `path`, and return the draft."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as copy:
            db.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error:  # a full disk
        draft.unlink(missing_ok=True)
        raise
    return draft


def put_in_place(draft: Path, path: Path) -> None:
    """Rename the draft to `path`. SQLite would read the deleted file's log as a part of the new one: remove it."""
    for suffix in ("-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    os.replace(draft, path)
