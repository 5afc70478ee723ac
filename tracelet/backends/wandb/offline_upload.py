"""Upload wandb's offline or incomplete recordings with `wandb sync`, without the rows that the server has."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tracelet.backends.wandb.offline_files import Note, Recording, active_files
from tracelet.backends.wandb.server import Server
from tracelet.backends.wandb.transaction_log import row_count, without_first_rows
from tracelet.errors import BackendUnavailable

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
        return self._server.rows(self._note.project, self._note.entity, self._note.id, timeout)

    def _mark_done(self, recording: Recording) -> None:
        recording.done = True
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


def _remove(rest: Path) -> None:
    for path in (rest, Path(f"{rest}.syncstate"), Path(f"{rest}.synced")):
        path.unlink(missing_ok=True)


def _remove_marker(file: Path) -> None:
    Path(f"{file}.synced").unlink(missing_ok=True)
