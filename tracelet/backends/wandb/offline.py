"""The recordings of a wandb run, and their upload with `wandb sync`, without the rows that the server has.

`wandb.json` in the run's folder has the id of the wandb run, and its recordings.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from tracelet.backends.notes import note_path, read_note, write_note
from tracelet.backends.wandb.server import Server
from tracelet.backends.wandb.transaction_log import last_mark, row_count, without_first_rows
from tracelet.backends.wandb.watermark import Mark
from tracelet.errors import BackendUnavailable

# Longer than the interval between two writes of wandb's service.
_QUIET, _QUIET_TIMEOUT = 1.0, 4.0

# Exits when this process ends for any reason, because that closes the pipe.
_PROGRAM = """
import os, runpy, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
runpy.run_module("wandb", run_name="__main__", alter_sys=True)
"""
# The service of this process, and variables that would upload the recording to another run.
_FOREIGN = ("WANDB_SERVICE", "WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_PROJECT", "WANDB_NAME")
_COUNT_TIMEOUT = 3.0
_VERIFY_TIMEOUT = 3.0
_POLL = 0.05
# If a program is killed during a request, the request ends within `_FRESH` seconds of the file's last change.
_FRESH, _STEADY = 30.0, 1.0

active_files: set[str] = set()
"""Files that a run of this process still writes or uploads, even if its close was abandoned. A second upload would
duplicate the rows."""


class Recording(msgspec.Struct, kw_only=True):
    """One `.wandb` file of the run: from `wandb.init` to its end."""

    file: str
    online: bool = False
    start: int | None = None
    """Rows of the run at the server before this recording; None if no upload has started."""
    mark: str = ""
    """The mark of the whole recording, once it has ended: the user may delete the file."""
    held: int = 0
    """A sequence number that is known to be in the file: then its loss is one. In files of tracelet 0.1.0, whose rows
    have no marks, the last one."""
    done: bool = False
    """True if the server has all of it."""

    @property
    def uploaded(self) -> bool:
        # If the user runs `wandb sync`, it creates this marker.
        return self.done or os.path.exists(f"{self.file}.synced")

    @property
    def pending(self) -> bool:
        return not self.uploaded and os.path.exists(self.file)

    def current_mark(self, journal: str) -> Mark:
        """Return the journal's mark in the file, or the noted one."""
        if self.mark:
            return Mark.parse(self.mark, journal) or Mark(journal)
        found = last_mark(Path(self.file), journal) if os.path.exists(self.file) else None
        return found or Mark(journal, self.held)


class Note(msgspec.Struct, kw_only=True):
    """The content of `wandb.json`."""

    journal: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex[:8])
    """Distinguishes the journal from others that write to the same wandb run."""
    id: str = ""
    project: str | None = None
    entity: str | None = None
    tags: list[str] = []
    """Tags added after the start of the run. The next recording must include them."""
    recordings: list[Recording] = []

    @classmethod
    def load(cls, folder: Path) -> Note:
        """Read the note of earlier processes; empty if it is missing, unreadable or damaged."""
        try:
            return read_note(note_path(folder, "wandb"), cls) or cls()
        except OSError:
            return cls()

    def save(self, folder: Path) -> None:
        """Replace the file in one step, if the folder exists."""
        if folder.is_dir():
            write_note(note_path(folder, "wandb"), msgspec.json.format(msgspec.json.encode(self)))

    def pending(self) -> list[Recording]:
        """Return recordings that the server lacks, oldest first."""
        return [recording for recording in self.recordings if recording.pending]

    def wait_until_quiet(self) -> None:
        """Wait until pending recordings have not changed for a second.

        wandb's service can outlive a killed program for a moment, and still writes then.
        """
        end = time.monotonic() + _QUIET_TIMEOUT
        for file in (recording.file for recording in self.pending() if recording.file not in active_files):
            while time.time() - os.stat(file).st_mtime < _QUIET and time.monotonic() < end:
                time.sleep(_QUIET / 20)

    def recorded(self) -> Mark:
        """Return what the recordings hold together. If one is lost, later ones do not count."""
        return self._mark(lambda recording: recording.pending or recording.uploaded)

    def delivered(self) -> Mark:
        """Return what the server has of the recordings."""
        return self._mark(lambda recording: recording.uploaded)

    def _mark(self, counts: Callable[[Recording], bool]) -> Mark:
        mark = Mark(self.journal)
        for recording in self.recordings:
            if not counts(recording) and (recording.pending or recording.held > mark.low):
                break
            mark = max(mark, recording.current_mark(self.journal), key=_seen)
        return mark


class Uploader:
    """Upload the recordings of one note in order. `save` stores the note after each change."""

    def __init__(self, note: Note, server: Server, save: Callable[[], None]) -> None:
        self._note, self._server, self._save = note, server, save
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, deadline: float) -> None:
        """Upload all pending recordings before `deadline` (monotonic seconds).

        Raises:
            BackendUnavailable: one of them could not be uploaded.
        """
        for recording in self._note.pending():
            self._upload(recording, deadline)

    def stop(self) -> None:
        """Kill the current upload. Safe from any thread."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()

    def verify(self, recording: Recording, timeout: float = _VERIFY_TIMEOUT) -> bool:
        """Check if the server has every row of a recording after its upload."""
        rows, end = row_count(Path(recording.file)), time.monotonic() + timeout
        while True:
            try:
                count = self._rows_uploaded(recording, end)
            except BackendUnavailable:
                if time.monotonic() >= end:
                    raise
            else:
                if count is None or count >= rows:
                    self._mark_done(recording)
                    return True
                if time.monotonic() >= end:
                    return False
            time.sleep(_POLL)

    def _rows_uploaded(self, recording: Recording, deadline: float) -> int | None:
        """Return the number of the recording's rows at the server; None if only wandb can query it."""
        count = self._total_rows(deadline)
        return None if count is None else max(0, count - (recording.start or 0))

    def _steady_rows(self, recording: Recording, deadline: float) -> int:
        """Return the number of rows at the server when it stops changing.

        A program killed a moment ago may have rows under way. If one arrived after the count, it would be sent twice.
        """
        count, since = self._rows_uploaded(recording, deadline) or 0, time.monotonic()
        fresh = recording.online and time.time() - os.stat(recording.file).st_mtime < _FRESH
        while fresh and time.monotonic() < min(since + _STEADY, deadline):
            time.sleep(_STEADY / 10)
            current = self._rows_uploaded(recording, deadline) or 0
            if current != count:
                count, since = current, time.monotonic()
        return count

    def _total_rows(self, deadline: float) -> int | None:
        timeout = min(_COUNT_TIMEOUT, max(0.5, deadline - time.monotonic()))
        history = self._server.history(self._note.project, self._note.entity, self._note.id, timeout)
        return None if history is None else history.rows

    def _mark_done(self, recording: Recording) -> None:
        recording.mark, recording.done = recording.current_mark(self._note.journal).text(), True
        self._save()

    def _upload(self, recording: Recording, deadline: float) -> None:
        if recording.file in active_files:
            raise BackendUnavailable(f"wandb: this process is still uploading {Path(recording.file).parent}")
        if recording.start is None:
            recording.start = self._total_rows(deadline)
            self._save()
        file, count = Path(recording.file), self._steady_rows(recording, deadline)
        rest = file if not count else file.with_name("tracelet-rest.wandb")
        with contextlib.ExitStack() as undo:
            if count:
                undo.callback(_remove, rest)
                without_first_rows(file, rest, count)
                with contextlib.suppress(OSError):  # wandb stores its step offset in this file
                    shutil.copyfile(f"{file}.syncstate", f"{rest}.syncstate")
            self._sync(rest, deadline)
        if not self.verify(recording):
            _remove_marker(file)  # `wandb sync` creates it even if the upload failed
            raise BackendUnavailable(f"wandb: {self._server.shown} did not receive all of {file.parent}")

    def _sync(self, file: Path, deadline: float) -> None:
        """Run `wandb sync`, and kill it at the deadline."""
        command = [sys.executable, "-c", _PROGRAM, "sync", "--include-online", "--include-synced", str(file)]
        environ = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        # Append further recordings of a run to the rows at the server.
        environ |= {"WANDB_BASE_URL": self._server.url, "WANDB_MODE": "online", "WANDB_RESUME": "allow"}
        environ |= {"WANDB_SILENT": "true", "WANDB_DIR": str(file.parent.parent.parent)}
        if self._server.key is not None:
            environ["WANDB_API_KEY"] = self._server.key
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = process = subprocess.Popen(command, env=environ, cwd=file.parent, **streams)  # type: ignore[call-overload]
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise BackendUnavailable(f"wandb: the upload of {file.parent} took too long") from None
        finally:
            self.stop()
            process.wait()
            process.stdin.close()
        if code != 0:
            raise BackendUnavailable(f"wandb: `wandb sync {file.parent}` exited with code {code}")


def _seen(mark: Mark) -> int:
    return mark.seen


def _remove(rest: Path) -> None:
    for path in (rest, Path(f"{rest}.syncstate"), Path(f"{rest}.synced")):
        path.unlink(missing_ok=True)


def _remove_marker(file: Path) -> None:
    Path(f"{file}.synced").unlink(missing_ok=True)
