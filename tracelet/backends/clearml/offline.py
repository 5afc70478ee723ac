"""Append records to an offline session, and upload it into one task by ClearML's own import, each part of it once.

After each batch, `metrics.jsonl` has the sequence number of its last record, in the same line and the same write: after
a kill, the file has both or neither. ClearML's import ignores that event, because it names another task.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from tracelet import forks
from tracelet.backends.clearml import host
from tracelet.backends.clearml.config import ClearmlConfig
from tracelet.backends.clearml.connection import sign_in
from tracelet.backends.notes import note_path, read_note, write_note
from tracelet.errors import BackendUnavailable
from tracelet.filesystem import replacing

EVENTS, LINES, DESCRIPTION = "metrics.jsonl", "log.jsonl", "task.json"
_COPY = f"tracelet-{DESCRIPTION}"
_SETTLE_TIMEOUT = 0.25
_NUMBER = re.compile(rb"(\d+)\}\]\n")


class Note(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The state of the run's ClearML task, stored in the run's folder.

    `task` is the server's task for the uploaded session. `taken` is the number of uploaded bytes of each file, and
    `mark` the session's fingerprint at that time. The other fields are those of earlier releases, whose sessions have
    no sequence numbers: the last line had `digest` and began at `offset` or later. With that line, the session has
    every record up to `last`; without it, up to `held`.
    """

    id: str
    folder: str | None = None
    task: str | None = None
    taken: dict[str, int] = {}
    mark: str = ""
    held: int = 0
    last: int = 0
    offset: int = 0
    digest: str = ""

    @classmethod
    def read(cls, run: Path) -> Note | None:
        """Return the note in a run's folder; None if it is missing or damaged."""
        return read_note(note_path(run, "clearml"), cls)

    def write(self, run: Path) -> None:
        """Replace the note in a run's folder in one step."""
        write_note(note_path(run, "clearml"), msgspec.json.encode(self))

    @property
    def exists(self) -> bool:
        """Whether the session's folder still exists."""
        return self.folder is not None and Path(self.folder).is_dir()

    @property
    def is_pending(self) -> bool:
        """Whether a part of the session is not uploaded."""
        return self.exists and self.mark != _fingerprint(Path(str(self.folder)))

    @property
    def on_server(self) -> str | None:
        """The server's task if it has all records; otherwise None."""
        if self.folder is None:
            return self.id
        return None if self.is_pending or not self.mark else self.task

    def last_record(self, run_id: str) -> int:
        """Return the number of the last record that the session has; 0 if none."""
        data, key = _content(Path(str(self.folder)) / EVENTS), _mark(run_id)
        end = len(data)
        while (end := data.rfind(key, 0, end)) >= 0:
            if number := _NUMBER.match(data, end + len(key)):
                return int(number[1])
        lines = bytes(data[self.offset :]).split(b"\n") if self.digest else []
        return self.last if any(hashlib.sha256(line).hexdigest() == self.digest for line in lines) else self.held


def _fingerprint(folder: Path) -> str:
    """Return a text that changes when the session does."""
    facts: list[object] = [_size(folder / name) for name in (EVENTS, LINES)]
    with contextlib.suppress(FileNotFoundError):
        facts.append(hashlib.sha256((folder / DESCRIPTION).read_bytes()).hexdigest())
    return " ".join(map(str, facts))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _content(path: Path) -> mmap.mmap | bytes:
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, ValueError):  # ValueError: the file is empty
        return b""


def truncate_partial_line(path: Path) -> None:
    """Remove an incomplete last line, left by a killed process. No other process may be writing the file."""
    if path.exists():
        os.truncate(path, _content(path).rfind(b"\n") + 1)


def save_description(folder: Path) -> None:
    """Copy an offline session's description: a kill during an edit may destroy the original."""
    with contextlib.suppress(ValueError, FileNotFoundError):  # ValueError: a thread of ClearML is writing it now
        json.loads(data := (folder / DESCRIPTION).read_bytes())
        with replacing(folder / _COPY) as file:
            file.write(data)


def restore_description(folder: Path) -> None:
    """Restore a session's description, left incomplete by a killed process, from its copy."""
    try:
        json.loads((folder / DESCRIPTION).read_bytes())
    except (ValueError, FileNotFoundError):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(folder / _COPY, folder / DESCRIPTION)


class SessionFile:
    """Append lines of events to a session's `metrics.jsonl`. ClearML's own writer in this process must hold `lock`.

    Raises:
        OSError: the disk cannot be written.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = forks.new_lock()
        self._path, self._mark = folder / EVENTS, _mark(run_id)

    def append(self, events: list[dict[str, Any]], last: int) -> None:
        """Append events. The session then has every record up to `last`."""
        line = (json.dumps(events)[:-1] + ", " * bool(events)).encode() + self._mark + b"%d}]\n" % last
        with self.lock, open(self._path, "ab+", buffering=0) as file:
            # A killed subprocess may have left an incomplete line: start a new one.
            _write(file.fileno(), line if _wait_for_line_end(file.fileno()) else b"\n" + line)


def _mark(run_id: str) -> bytes:
    """Return the start of an event that ends with a sequence number. Several runs may share a session."""
    event = {"type": "log", "task": "tracelet", "msg": "", "run": run_id, "last": 0}
    return json.dumps(event)[: -len("0}")].encode()


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
    while (size := os.fstat(descriptor).st_size) and os.pread(descriptor, 1, size - 1) != b"\n":
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.001)
    return True


def upload(clearml: Any, config: ClearmlConfig, run: Path, note: Note, deadline: float) -> None:
    """Upload the session of a process that has ended, and write the progress to the note in the run's folder.

    Raises:
        BackendUnavailable: the server is unreachable, or the upload is incomplete at the deadline.
    """
    session, api = Path(str(note.folder)), clearml.backend_api.Session
    restore_description(session)
    for name in (EVENTS, LINES):
        truncate_partial_line(session / name)
    mark, taken = _fingerprint(session), {name: _size(session / name) for name in (EVENTS, LINES)}
    with contextlib.ExitStack() as undo:
        undo.enter_context(host.offline_mode(False))
        for name in ("api_version", "force_max_api_version"):  # ClearML's import changes them to the session's
            undo.callback(setattr, api, name, getattr(api, name))
        undo.enter_context(host.quiet(clearml))
        server = sign_in(config, undo)
        if note.task is not None and not server.has_task(note.task):  # deleted: upload everything
            note.task, note.taken = None, {}
        folder = undo.enter_context(_remaining(session, note.taken, run))
        # ClearML itself continues after a failed file upload.
        server.must_stop = lambda: bool(server.failures) or time.monotonic() > deadline
        try:
            with server.raise_failures():
                _importer(clearml.Task, note, run).import_offline_session(str(folder))
        finally:
            if time.monotonic() > deadline:
                raise BackendUnavailable("clearml: the offline session was not imported in time")
    note.taken, note.mark = taken, mark
    note.write(run)


def _importer(task_class: Any, note: Note, run: Path) -> Any:
    """Return a subclass of `Task` that imports into the noted task.

    The task is noted before the first request to it. A repeated import then uses the same task.
    """

    class Importer(task_class):  # type: ignore[misc]
        @classmethod
        def import_task(cls, task_data: dict[str, Any], target_task: Any = None, update: bool = False) -> Any:
            _unquote_artifacts(task_data)
            if note.task is not None:
                task = task_class.get_task(task_id=note.task)
                task.mark_started(force=True)  # a finished task accepts no changes
            else:
                task = task_class.create(project_name=task_data.get("project_name"), task_name=task_data.get("name"))
                note.task = str(task.id)
                note.write(run)
            return task_class.import_task(task_data, target_task=task, update=update)

    return Importer


@contextlib.contextmanager
def _remaining(session: Path, taken: dict[str, int], run: Path) -> Iterator[Path]:
    """Create a temporary session folder with the parts that are not uploaded."""
    with tempfile.TemporaryDirectory(prefix="clearml-import-", dir=run) as name:
        folder = Path(name)
        shutil.copyfile(session / DESCRIPTION, folder / DESCRIPTION)
        for file in (EVENTS, LINES):
            (folder / file).write_bytes(memoryview(_content(session / file))[taken.get(file, 0) :])
        (folder / "data").symlink_to(session / "data", target_is_directory=True)
        yield folder


def _unquote_artifacts(data: dict[str, Any]) -> None:
    """Unquote the URIs of artifacts: ClearML writes them quoted, and then looks for files of these names."""
    for artifact in (data.get("execution") or {}).get("artifacts") or ():
        path = unquote(artifact["uri"])
        if path != artifact["uri"] and Path(path).is_file():
            artifact["uri"] = path
