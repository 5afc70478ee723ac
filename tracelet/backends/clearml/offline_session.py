"""The events of an offline session: appended in one piece, so that a kill leaves a batch in the file or not at all."""

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

NOTE = "clearml.json"
"""Its name in the run's folder."""
EVENTS, LINES, DESCRIPTION = "metrics.jsonl", "log.jsonl", "task.json"
_BLOCK = 1 << 20
_PATIENCE = 0.25


class Note(msgspec.Struct, kw_only=True):
    """What the run's folder remembers of its ClearML task.

    `held` is the sequence number up to which the session had everything before the line with this `digest`, which
    begins at `offset` or later; with that line it has everything up to `last`.

    `task` is the task on a server that the session was, or is being, handed over to; `taken`: what of the session's
    files the server has, in bytes, and `mark` how the session looked then.
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
    def is_there(self) -> bool:
        """The session's folder was not deleted."""
        return self.folder is not None and Path(self.folder).is_dir()

    @property
    def waits(self) -> bool:
        """Something of the session is on no server."""
        return self.is_there and self.mark != look(Path(str(self.folder)))

    @property
    def on_server(self) -> str | None:
        """The task on a server that holds all of this."""
        if self.folder is None:
            return self.id
        return None if self.waits or not self.mark else self.task


def look(folder: Path) -> str:
    """How a session looks: another text once something came to it."""
    facts: list[object] = [_size(folder / name) for name in (EVENTS, LINES)]
    with contextlib.suppress(FileNotFoundError):
        facts.append(hashlib.sha256((folder / DESCRIPTION).read_bytes()).hexdigest())
    return " ".join(map(str, facts))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def mend(path: Path) -> None:
    """Cut a line off that a killed process left half written. Only for a file that nobody else writes."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end and not _ends_line(file.fileno(), end):
            start = max(0, end - _BLOCK)
            file.seek(start)
            end = start + file.read(end - start).rfind(b"\n") + 1
        if end < size:
            file.truncate(end)


class NoteFile:
    """A note in a file of the run's folder, replaced in one step."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Note | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Note)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write(self, note: Note) -> None:
        draft = self._path.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(note))
        os.replace(draft, self._path)


class SessionFile:
    """Appends lines of events to `folder/metrics.jsonl`, and says in a note beside the journal how far it is.

    Raises:
        OSError: from every method; the disk.
    """

    def __init__(self, folder: Path, note: Note, notes: NoteFile, *, id: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / EVENTS
        self._notes = notes
        self.last = note.last if _has_line(note) else note.held
        self._base = Note(id=id, folder=str(folder), task=note.task, taken=note.taken, mark=note.mark)
        self._note = msgspec.structs.replace(self._base, held=self.last, last=self.last)
        notes.write(self._note)

    def mend(self) -> None:
        """Cut a half line off. Only for a session that nobody else writes."""
        mend(self._path)

    def append(self, events: list[dict[str, Any]], last: int) -> None:
        """One line of events; from then on the session holds everything up to sequence number `last`."""
        line = json.dumps(events).encode()
        with self._opened() as number:
            size = os.fstat(number).st_size
            note = msgspec.structs.replace(self._base, held=self.last, last=last, offset=size)
            note.digest = hashlib.sha256(line).hexdigest()
            self._notes.write(note)
            # Where a killed sub-process left half a line, ours begins one of its own.
            _write(number, (b"" if _settled(number) else b"\n") + line + b"\n")
        self._note, self.last = note, last

    def advance(self, last: int) -> None:
        """Everything up to `last` is held elsewhere in the session."""
        self._note = msgspec.structs.replace(self._base, held=last, last=last)
        self._notes.write(self._note)
        self.last = last

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        number = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            yield number
        finally:
            os.close(number)


def _write(number: int, data: bytes) -> None:
    """All of it in one call, which no other writer comes between; a full disk may take a part: that is taken back."""
    written = os.write(number, data)
    try:
        while written < len(data):
            written += os.write(number, data[written:])
    except OSError:
        os.ftruncate(number, os.fstat(number).st_size - written)
        raise


def _settled(number: int) -> bool:
    """Whether the file ends with a whole line. ClearML writes a long line in pieces: its end is waited for."""
    deadline = time.monotonic() + _PATIENCE
    while not _ends_line(number, os.fstat(number).st_size):
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.001)
    return True


def _ends_line(number: int, size: int) -> bool:
    return size == 0 or os.pread(number, 1, size - 1) == b"\n"


def _has_line(note: Note) -> bool:
    if note.folder is None or not note.digest:
        return note.last == note.held
    try:
        with open(Path(note.folder) / EVENTS, "rb") as file:
            file.seek(note.offset)
            return any(hashlib.sha256(line.rstrip(b"\n")).hexdigest() == note.digest for line in file)
    except FileNotFoundError:
        return False
