"""Append events to an offline session, each batch in one write: after a kill, the file has all of it or nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tracelet.backends.notes import note_path, read_note, write_note

EVENTS, LINES, DESCRIPTION = "metrics.jsonl", "log.jsonl", "task.json"
_BLOCK = 1 << 20
_SETTLE_TIMEOUT = 0.25


class Note(msgspec.Struct, kw_only=True):
    """The state of the run's ClearML task, stored in the run's folder.

    The last line that tracelet appended has this `digest` and starts at `offset` or later. With that line, the session
    has every record up to `last`; without it, up to `held`.

    `task` is the server's task for the uploaded session. `taken` is the number of uploaded bytes of each file, and
    `mark` the session's fingerprint at that time.
    """

    id: str
    folder: str | None = None
    held: int = 0
    last: int = 0
    offset: int = 0
    digest: str = ""
    task: str | None = None
    taken: dict[str, int] = {}
    mark: str = ""

    @property
    def exists(self) -> bool:
        """Whether the session's folder still exists."""
        return self.folder is not None and Path(self.folder).is_dir()

    @property
    def is_pending(self) -> bool:
        """Whether a part of the session is not uploaded."""
        return self.exists and self.mark != fingerprint(Path(str(self.folder)))

    @property
    def on_server(self) -> str | None:
        """The server's task if it has all records; otherwise None."""
        if self.folder is None:
            return self.id
        return None if self.is_pending or not self.mark else self.task


def fingerprint(folder: Path) -> str:
    """Return a text that changes when the session does."""
    facts: list[object] = [_size(folder / name) for name in (EVENTS, LINES)]
    with contextlib.suppress(FileNotFoundError):
        facts.append(hashlib.sha256((folder / DESCRIPTION).read_bytes()).hexdigest())
    return " ".join(map(str, facts))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def truncate_partial_line(path: Path) -> None:
    """Remove an incomplete last line, left by a killed process. No other process may be writing the file."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end and not _ends_line(file.fileno(), end):
            start = max(0, end - _BLOCK)
            file.seek(start)
            end = start + file.read(end - start).rfind(b"\n") + 1
        if end < size:
            file.truncate(end)


class NoteFile:
    """The note's file."""

    def __init__(self, folder: Path) -> None:
        self._path = note_path(folder, "clearml")

    def read(self) -> Note | None:
        """Return the note; None if the file is missing or damaged."""
        return read_note(self._path, Note)

    def write(self, note: Note) -> None:
        """Replace the note in one step."""
        write_note(self._path, msgspec.json.encode(note))


class SessionFile:
    """Append lines of events to `folder/metrics.jsonl`, and write the progress to the note.

    Raises:
        OSError: any method failed to read or write the disk.
    """

    def __init__(self, folder: Path, note: Note, notes: NoteFile, *, id: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / EVENTS
        self._notes = notes
        self.last = note.last if _has_line(note) else note.held
        self._base = Note(id=id, folder=str(folder), task=note.task, taken=note.taken, mark=note.mark)
        self._note = msgspec.structs.replace(self._base, held=self.last, last=self.last)
        notes.write(self._note)

    def repair(self) -> None:
        """Remove an incomplete last line. No other process may be writing the session."""
        truncate_partial_line(self._path)

    def append(self, events: list[dict[str, Any]], last: int) -> None:
        """Append one line of events. The session then has every record up to `last`."""
        line = json.dumps(events).encode()
        with self._opened() as descriptor:
            size = os.fstat(descriptor).st_size
            note = msgspec.structs.replace(self._base, held=self.last, last=last, offset=size)
            note.digest = hashlib.sha256(line).hexdigest()
            self._notes.write(note)
            # A killed subprocess may have left an incomplete line: start a new one.
            _write(descriptor, (b"" if _wait_for_line_end(descriptor) else b"\n") + line + b"\n")
        self._note, self.last = note, last

    def advance(self, last: int) -> None:
        """Note that the session has every record up to `last`, without an event."""
        self._note = msgspec.structs.replace(self._base, held=last, last=last)
        self._notes.write(self._note)
        self.last = last

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    """Write the data in one call, so that no other writer can interleave. If the disk is full, undo a partial write."""
    written = os.write(descriptor, data)
    try:
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
        raise


def _wait_for_line_end(descriptor: int) -> bool:
    """Return whether the file ends with a complete line, and wait for it: ClearML writes a long line in pieces."""
    deadline = time.monotonic() + _SETTLE_TIMEOUT
    while not _ends_line(descriptor, os.fstat(descriptor).st_size):
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.001)
    return True


def _ends_line(descriptor: int, size: int) -> bool:
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _has_line(note: Note) -> bool:
    if note.folder is None or not note.digest:
        return note.last == note.held
    try:
        with open(Path(note.folder) / EVENTS, "rb") as file:
            file.seek(note.offset)
            return any(hashlib.sha256(line.rstrip(b"\n")).hexdigest() == note.digest for line in file)
    except FileNotFoundError:
        return False
