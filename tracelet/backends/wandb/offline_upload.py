"""What wandb recorded offline, or could not upload, delivered by `wandb sync`; rows that the server has go no second
time."""

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

# Ends with this process, however that ends: its end of the pipe is closed then.
_PROGRAM = """
import os, runpy, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
runpy.run_module("wandb", run_name="__main__", alter_sys=True)
"""
# The service of this process, and what would make another run of the recording.
_FOREIGN = ("WANDB_SERVICE", "WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_PROJECT", "WANDB_NAME")
_COUNT_TIMEOUT = 3.0
_COUNT_PATIENCE = 3.0
_POLL = 0.05
# A request that was under way when its program was killed ends within `_FRESH` seconds of the file's last change.
_FRESH, _STEADY = 30.0, 1.0


class HandOver:
    """Delivers the recordings of one note in order; `save` keeps what is known by then."""

    def __init__(self, note: Note, server: Server, save: Callable[[], None]) -> None:
        self._note, self._server, self._save = note, server, save
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, deadline: float) -> None:
        """Deliver all that waits before `deadline` (monotonic seconds), or raise BackendUnavailable."""
        for recording in self._note.waiting():
            self._deliver(recording, deadline)

    def stop(self) -> None:
        """End the upload that is under way, from any thread."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()

    def verify(self, recording: Recording, patience: float = _COUNT_PATIENCE) -> bool:
        """Whether the server has every row of a recording whose upload has ended."""
        rows, end = row_count(Path(recording.file)), time.monotonic() + patience
        while True:
            try:
                has = self._has(recording, end)
            except BackendUnavailable:
                if time.monotonic() >= end:
                    raise
            else:
                if has is None or has >= rows:
                    self._settle(recording)
                    return True
                if time.monotonic() >= end:
                    return False
            time.sleep(_POLL)

    def _has(self, recording: Recording, deadline: float) -> int | None:
        """How many rows of the recording the server has; None where it cannot be asked."""
        count = self.count(deadline)
        return None if count is None else max(0, count - (recording.start or 0))

    def _steady(self, recording: Recording, deadline: float) -> int:
        """How many rows the server has, once what a program killed a moment ago sent has arrived there.

        A row that arrives after the count would be sent a second time.
        """
        has, since = self._has(recording, deadline) or 0, time.monotonic()
        fresh = recording.online and time.time() - os.stat(recording.file).st_mtime < _FRESH
        while fresh and time.monotonic() < min(since + _STEADY, deadline):
            time.sleep(_STEADY / 10)
            now = self._has(recording, deadline) or 0
            if now != has:
                has, since = now, time.monotonic()
        return has

    def count(self, deadline: float) -> int | None:
        left = min(_COUNT_TIMEOUT, max(0.5, deadline - time.monotonic()))
        return self._server.rows(self._note.project, self._note.entity, self._note.id, left)

    def _settle(self, recording: Recording) -> None:
        recording.done = True
        self._save()

    def _deliver(self, recording: Recording, deadline: float) -> None:
        if recording.file in active_files:
            raise BackendUnavailable(f"wandb: this process is still uploading {Path(recording.file).parent}")
        if recording.start is None:
            recording.start = self.count(deadline)
            self._save()
        file, has = Path(recording.file), self._steady(recording, deadline)
        rest = file if not has else file.with_name("tracelet-rest.wandb")
        with contextlib.ExitStack() as undo:
            if has:
                undo.callback(_remove, rest)
                without_first_rows(file, rest, has)
                with contextlib.suppress(OSError):  # where wandb keeps by how much it moves the steps
                    shutil.copyfile(f"{file}.syncstate", f"{rest}.syncstate")
            self._sync(rest, deadline)
        if not self.verify(recording):
            _remove_mark(file)  # `wandb sync` makes it also where the upload failed
            raise BackendUnavailable(f"wandb: {self._server.shown} did not take all of {file.parent}")

    def _sync(self, file: Path, deadline: float) -> None:
        """`wandb sync`, killed at the deadline."""
        command = [sys.executable, "-c", _PROGRAM, "sync", "--include-online", "--include-synced", str(file)]
        environ = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        # A further recording of a run goes on after the rows that the server has.
        environ |= {"WANDB_BASE_URL": self._server.url, "WANDB_MODE": "online", "WANDB_RESUME": "allow"}
        environ |= {"WANDB_SILENT": "true", "WANDB_DIR": str(file.parent.parent.parent)}
        if self._server.key is not None:
            environ["WANDB_API_KEY"] = self._server.key
        given = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = process = subprocess.Popen(command, env=environ, cwd=file.parent, **given)  # type: ignore[call-overload]
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise BackendUnavailable(f"wandb: the upload of {file.parent} took too long") from None
        finally:
            self.stop()
            process.wait()
            process.stdin.close()
        if code != 0:
            raise BackendUnavailable(f"wandb: `wandb sync {file.parent}` ended with {code}")


def _remove(rest: Path) -> None:
    for path in (rest, Path(f"{rest}.syncstate"), Path(f"{rest}.synced")):
        path.unlink(missing_ok=True)


def _remove_mark(file: Path) -> None:
    Path(f"{file}.synced").unlink(missing_ok=True)
