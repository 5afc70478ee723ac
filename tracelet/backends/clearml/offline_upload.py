"""An offline session to a server, by ClearML's own import: into one task, and each part of it once."""

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
from tracelet.backends.clearml.connection import Connection, gone
from tracelet.backends.clearml.environment import Server
from tracelet.backends.clearml.offline_session import DESCRIPTION, EVENTS, LINES, Note, NoteFile, look, mend
from tracelet.backends.clearml.start import sign_in
from tracelet.backends.clearml.task import mended
from tracelet.backends.clearml.uploads import Uploads
from tracelet.errors import BackendUnavailable


class HandOver:
    """One session, of a process that has ended. Its files are left as they are."""

    def __init__(self, clearml: Any, server: Server, run: Path, notes: NoteFile, note: Note, deadline: float) -> None:
        self._clearml, self._server, self._run, self._deadline = clearml, server, run, deadline
        self._notes, self._note = notes, note
        self._session = Path(str(note.folder))
        self._uploads = Uploads()

    def run(self) -> None:
        """
        Raises:
            BackendUnavailable: the server is not there, or did not take everything before the deadline.
        """
        mended(self._session, self._run)
        for name in (EVENTS, LINES):
            mend(self._session / name)
        seen = look(self._session)
        taken = {name: _size(self._session / name) for name in (EVENTS, LINES)}
        with contextlib.ExitStack() as undo:
            undo.enter_context(environment.offline_mode(False))
            undo.enter_context(_api_version(self._clearml))
            for settled in (process_hooks.quiet(self._clearml), process_hooks.logs_on_stderr()):
                undo.enter_context(settled)
            undo.callback(self._uploads.close)
            connection = sign_in(self._server, undo)
            if self._note.task is not None and not connection.has_task(self._note.task):  # deleted: from the start
                self._note = msgspec.structs.replace(self._note, task=None, taken={})
            self._import(connection, undo.enter_context(self._rest()))
        self._write(taken=taken, mark=seen)

    def _import(self, connection: Connection, folder: Path) -> None:
        files = str(self._clearml.backend_api.Session.get_files_server_host())
        with _watched(connection, self._is_over), connection.all_or_error(), self._uploads.hurried(files):
            try:
                self._importer().import_offline_session(str(folder))
            finally:  # of what ClearML raises, this is the reason
                connection.check()
                if time.monotonic() > self._deadline:
                    raise BackendUnavailable("clearml: the offline session was not imported in time")

    def _is_over(self) -> bool:
        """Asked before every request: ClearML itself goes on after a file that did not get there."""
        return self._uploads.failed or time.monotonic() > self._deadline

    def _importer(self) -> Any:
        """`Task`, but for the task that it imports into: noted before anything is sent to it, it is the same one when
        an import that broke off, or a session that went on, is imported again."""
        task_class, upload_offline = self._clearml.Task, self

        class Importer(task_class):  # type: ignore[misc, valid-type]
            @classmethod
            def import_task(cls, task_data: dict[str, Any], target_task: Any = None, update: bool = False) -> Any:
                _unquote_artifacts(task_data)
                task = upload_offline._task(task_data)
                return task_class.import_task(task_data, target_task=task, update=update)

        return Importer

    def _task(self, data: dict[str, Any]) -> Any:
        if self._note.task is not None:
            known = self._clearml.Task.get_task(task_id=self._note.task)
            known.mark_started(force=True)  # one that has ended takes nothing
            return known
        name, project = data.get("name"), data.get("project_name")
        task = self._clearml.Task.create(project_name=project, task_name=name)
        self._write(task=str(task.id))
        return task

    @contextlib.contextmanager
    def _rest(self) -> Iterator[Path]:
        """A session folder with what the server lacks."""
        with tempfile.TemporaryDirectory(prefix="clearml-import-", dir=self._run) as made:
            folder = Path(made)
            shutil.copyfile(self._session / DESCRIPTION, folder / DESCRIPTION)
            for name in (EVENTS, LINES):
                _copy_from(self._session / name, folder / name, self._note.taken.get(name, 0))
            (folder / "data").symlink_to(self._session / "data", target_is_directory=True)
            yield folder

    def _write(self, **changes: Any) -> None:
        self._note = msgspec.structs.replace(self._note, **changes)
        self._notes.write(self._note)


@contextlib.contextmanager
def _watched(connection: Connection, is_over: Callable[[], bool]) -> Iterator[None]:
    """After the first request that fails, and once `is_over()`, none goes out any more, and each is told so. (An
    exception, ClearML would take for a moment's trouble, and ask again without a pause.)"""
    original = connection.send

    def send(*args: Any, **options: Any) -> Any:
        return gone() if connection.has_failed or is_over() else original(*args, **options)

    connection.send = send  # type: ignore[method-assign]
    try:
        yield
    finally:
        del connection.send


@contextlib.contextmanager
def _api_version(clearml: Any) -> Iterator[None]:
    """ClearML's import speaks the session's version of the protocol, and an error leaves it at that."""
    session = clearml.backend_api.Session
    before = session.api_version, session.force_max_api_version
    try:
        yield
    finally:
        session.api_version, session.force_max_api_version = before


def _unquote_artifacts(data: dict[str, Any]) -> None:
    """ClearML writes an artifact's address quoted, and looks for the file by it."""
    for one in (data.get("execution") or {}).get("artifacts") or ():
        plain = unquote(one["uri"])
        if plain != one["uri"] and Path(plain).is_file():
            one["uri"] = plain


def _copy_from(source: Path, target: Path, start: int) -> None:
    if source.exists():
        with open(source, "rb") as old, open(target, "wb") as new:
            old.seek(start)
            shutil.copyfileobj(old, new)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
