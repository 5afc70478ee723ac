"""Upload an offline session into one task by ClearML's own import, and each part of it once."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from tracelet.backends.clearml import environment, process_hooks
from tracelet.backends.clearml.connection import Connection, session_ended
from tracelet.backends.clearml.environment import Server
from tracelet.backends.clearml.offline_session import (
    DESCRIPTION,
    EVENTS,
    LINES,
    Note,
    NoteFile,
    fingerprint,
    truncate_partial_line,
)
from tracelet.backends.clearml.start import sign_in
from tracelet.backends.clearml.task import restore_description
from tracelet.backends.clearml.uploads import Uploads
from tracelet.errors import BackendUnavailable


class OfflineUpload:
    """Upload one session of a process that has ended, and leave its files unchanged."""

    def __init__(self, clearml: Any, server: Server, run: Path, notes: NoteFile, note: Note, deadline: float) -> None:
        self._clearml, self._server, self._run, self._deadline = clearml, server, run, deadline
        self._notes, self._note = notes, note
        self._session = Path(str(note.folder))
        self._uploads = Uploads()

    def run(self) -> None:
        """Import the session, and write the progress to the note.

        Raises:
            BackendUnavailable: the server is unreachable, or the upload is incomplete at the deadline.
        """
        restore_description(self._session)
        for name in (EVENTS, LINES):
            truncate_partial_line(self._session / name)
        mark = fingerprint(self._session)
        taken = {name: _size(self._session / name) for name in (EVENTS, LINES)}
        with contextlib.ExitStack() as undo:
            undo.enter_context(environment.offline_mode(False))
            undo.enter_context(_api_version(self._clearml))
            for patch in (process_hooks.reduced_output(self._clearml), process_hooks.logs_on_stderr()):
                undo.enter_context(patch)
            undo.callback(self._uploads.close)
            connection = sign_in(self._server, undo)
            if self._note.task is not None and not connection.has_task(self._note.task):  # deleted: upload everything
                self._note = msgspec.structs.replace(self._note, task=None, taken={})
            self._import(connection, undo.enter_context(self._remaining()))
        self._write(taken=taken, mark=mark)

    def _import(self, connection: Connection, folder: Path) -> None:
        files = str(self._clearml.backend_api.Session.get_files_server_host())
        with _stopped(connection, self._must_stop), connection.raise_failures(), self._uploads.fail_fast(files):
            try:
                self._importer().import_offline_session(str(folder))
            finally:  # the cause of an exception of ClearML
                connection.check()
                if time.monotonic() > self._deadline:
                    raise BackendUnavailable("clearml: the offline session was not imported in time")

    def _must_stop(self) -> bool:
        """Return whether to send no more requests. ClearML itself continues after a failed file upload."""
        return self._uploads.failed or time.monotonic() > self._deadline

    def _importer(self) -> Any:
        """Return a subclass of `Task` that imports into the noted task.

        The task is noted before the first request to it. A repeated import then uses the same task.
        """
        task_class, upload = self._clearml.Task, self

        class Importer(task_class):  # type: ignore[misc, valid-type]
            @classmethod
            def import_task(cls, task_data: dict[str, Any], target_task: Any = None, update: bool = False) -> Any:
                _unquote_artifacts(task_data)
                task = upload._target_task(task_data)
                return task_class.import_task(task_data, target_task=task, update=update)

        return Importer

    def _target_task(self, data: dict[str, Any]) -> Any:
        """Return the noted task, or create one and note it."""
        if self._note.task is not None:
            task = self._clearml.Task.get_task(task_id=self._note.task)
            task.mark_started(force=True)  # a finished task accepts no changes
            return task
        name, project = data.get("name"), data.get("project_name")
        task = self._clearml.Task.create(project_name=project, task_name=name)
        self._write(task=str(task.id))
        return task

    @contextlib.contextmanager
    def _remaining(self) -> Iterator[Path]:
        """Create a temporary session folder with the parts that are not uploaded."""
        with tempfile.TemporaryDirectory(prefix="clearml-import-", dir=self._run) as name:
            folder = Path(name)
            shutil.copyfile(self._session / DESCRIPTION, folder / DESCRIPTION)
            for file in (EVENTS, LINES):
                _copy_from(self._session / file, folder / file, self._note.taken.get(file, 0))
            (folder / "data").symlink_to(self._session / "data", target_is_directory=True)
            yield folder

    def _write(self, **changes: Any) -> None:
        self._note = msgspec.structs.replace(self._note, **changes)
        self._notes.write(self._note)


@contextlib.contextmanager
def _stopped(connection: Connection, must_stop: Callable[[], bool]) -> Iterator[None]:
    """Answer all requests with an error after the first failure, and when `must_stop()`.

    An exception would be no alternative: ClearML would retry without a pause.
    """
    original = connection.send

    def send(*args: Any, **options: Any) -> Any:
        return session_ended() if connection.has_failed or must_stop() else original(*args, **options)

    connection.send = send  # type: ignore[method-assign]
    try:
        yield
    finally:
        del connection.send


@contextlib.contextmanager
def _api_version(clearml: Any) -> Iterator[None]:
    """Restore the API version: ClearML's import changes it to that of the session, and an error leaves it so."""
    session = clearml.backend_api.Session
    before = session.api_version, session.force_max_api_version
    try:
        yield
    finally:
        session.api_version, session.force_max_api_version = before


def _unquote_artifacts(data: dict[str, Any]) -> None:
    """Unquote the URIs of artifacts: ClearML writes them quoted, and then looks for files of these names."""
    for artifact in (data.get("execution") or {}).get("artifacts") or ():
        path = unquote(artifact["uri"])
        if path != artifact["uri"] and Path(path).is_file():
            artifact["uri"] = path


def _copy_from(source: Path, target: Path, start: int) -> None:
    if source.exists():
        with open(source, "rb") as reader, open(target, "wb") as writer:
            reader.seek(start)
            shutil.copyfileobj(reader, writer)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
