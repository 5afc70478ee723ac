"""ClearML: write scalars and media as events of one task, and parameters and artifacts as fields of the task."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from tracelet.backends.base import Backend, Batch, Status, Written
from tracelet.backends.capabilities import ChildProcesses, NativeRun, OfflineRecording, Probe, Probing
from tracelet.backends.clearml import connection, environment, process_hooks, values
from tracelet.backends.clearml.config import ClearmlConfig
from tracelet.backends.clearml.connection import Connection
from tracelet.backends.clearml.errors import translated
from tracelet.backends.clearml.events import Events
from tracelet.backends.clearml.offline_session import Note, NoteFile, SessionFile
from tracelet.backends.clearml.offline_upload import OfflineUpload
from tracelet.backends.clearml.start import TaskStart
from tracelet.backends.clearml.task import OpenTask
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.records import (
    Alert,
    Artifact,
    Audio,
    Embedding,
    Graph,
    Histogram,
    Image,
    Layout,
    Mesh,
    Params,
    PRCurve,
    RawSummary,
    Record,
    RunInfo,
    Scalar,
    Summary,
    Table,
    Tags,
    Tensor,
    Text,
    Video,
)

_NOT_INSTALLED = 'not installed: pip install "tracelet[clearml]"'

# `Events.write` writes each kind.
_SHOWN_AS: dict[type[Record], str] = {
    Scalar: "a point of a scalar plot",
    Params: "hyper-parameters, section General",
    Histogram: "a plot of bars",
    Image: "a debug sample",
    Video: "a debug sample",
    Audio: "a debug sample",
    Text: "a debug sample, a .md file",
    Table: "a plot of a table",
    PRCurve: "a plot",
    Artifact: "an artifact",
    Summary: "single values of the plot Summary; all of them in the configuration object `tracelet_summary`",
    Tags: "tags of the task",
    Alert: "a debug sample, a .md file",
    **dict.fromkeys((Tensor, Mesh, Embedding, Graph, Layout, RawSummary), "debug samples: its files, and a JSON file"),
}


class ClearmlBackend(Backend, NativeRun, OfflineRecording, Probing, ChildProcesses):
    """Write records to one ClearML task, on a server or in an offline session."""

    name: ClassVar[str] = "clearml"
    Config = ClearmlConfig
    accepts = _SHOWN_AS
    parent_env = ("CLEARML_PROC_MASTER_ID", "TRAINS_PROC_MASTER_ID")

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._task: OpenTask | None = None
        self._events: Events | None = None
        self._connection: Connection | None = None
        self._session_file: SessionFile | None = None
        self._shared_task: process_hooks.SharedTask | None = None
        self._undo = contextlib.ExitStack()

    def open(self, run: RunInfo) -> int | None:
        """Use the program's own task if there is one; otherwise create or resume the task of this run."""
        with contextlib.ExitStack() as undo:
            undo.enter_context(process_hooks.restored_process())
            clearml = _import()
            with translated():
                position = self._open(clearml, run, undo)
            self._undo = undo.pop_all()
        return position

    def _open(self, clearml: Any, run: RunInfo, undo: contextlib.ExitStack) -> int | None:
        folder = Path(run.folder)
        notes = NoteFile(folder)
        note = notes.read()
        start = TaskStart(clearml, self.config, run, note, undo)
        self._connection = start.connection
        task = OpenTask(clearml, start.native, folder, self._connection, owned=start.owned)
        undo.callback(task.uploads.close)
        self._session_file, position = self._open_session(task, note, notes, undo)
        self._shared_task = process_hooks.SharedTask(clearml, start.native)
        self._task, self._events = task, Events(task)
        return position

    def _open_session(
        self, task: OpenTask, note: Note | None, notes: NoteFile, undo: contextlib.ExitStack
    ) -> tuple[SessionFile | None, int | None]:
        """Write the task's id to the note, for a later process that delivers the rest of the journal.

        Returns:
            The file of an offline session, or None; and the last record that the task has, or None if unknown.
        """
        folder = task.session_folder
        if folder is None:
            notes.write(Note(id=task.id))
            if note is None or note.on_server != task.id:
                return None, 0
            return None, note.last if note.id != task.id else None  # `last` counts the records of an imported session
        known = note if note is not None and note.folder == str(folder) and note.exists else Note(id=task.id)
        session_file = SessionFile(folder, known, notes, id=task.id)
        if task.owned:
            session_file.repair()
        task.save_description()
        self._lock = threading.Lock()
        undo.enter_context(_locked(task.native, self._lock))
        return session_file, session_file.last

    @property
    def _open_task(self) -> OpenTask:
        if self._task is None:
            raise BackendUnavailable("clearml: the task is not open")
        return self._task

    def write(self, batch: Batch) -> Written | None:
        """Write files and fields of the task first, then all events in one request."""
        task, writer = self._open_task.id, self._events
        assert writer is not None
        events: list[values.Event] = []
        names: dict[str, tuple[str, str]] = {}
        for index, record in enumerate(batch):
            try:
                with translated(record=True):
                    if isinstance(record, Scalar):
                        name = names.get(record.tag) or names.setdefault(record.tag, values.title_series(record.tag))
                        events.append(values.scalar_event(task, record, name))
                    else:
                        events += writer.write(record)
            except (BackendUnavailable, RecordRejected) as error:
                if index:
                    self._send(events, batch.numbers[index - 1])
                return Written(index, error)
        self._send(events, batch.last)
        return None

    def _send(self, events: list[values.Event], last: int) -> None:
        with translated():
            if self._session_file is None:
                assert self._connection is not None
                self._connection.send_events(events)
            elif events:
                with self._lock:
                    self._session_file.append(events, last)
            elif last > self._session_file.last:
                self._session_file.advance(last)

    @classmethod
    def pending_upload(cls, folder: Path) -> str | None:
        """Return the folder of an offline session that is not completely on a server."""
        note = NoteFile(folder).read()
        return note.folder if note is not None and note.is_pending else None

    def upload_offline(self, run: RunInfo, deadline: float) -> None:
        """Make ClearML import the offline session to the server.

        After an interrupted import, everything is sent again. A server stores a point, a medium and an artifact once,
        but lines of the console twice.
        """
        notes = NoteFile(Path(run.folder))
        note = notes.read()
        if note is None or not note.is_pending:
            return
        with process_hooks.restored_process():
            clearml = _import()
            with translated():
                OfflineUpload(clearml, self.config.server, Path(run.folder), notes, note, deadline).run()

    def secrets(self) -> Iterable[str]:
        if self._connection is not None:
            yield from self._connection.secrets()

    def close(self, status: Status, exit_code: int) -> None:
        """End the task if tracelet created it; the program's own task stays open."""
        if self._task is None:
            return
        task, self._task = self._task, None
        self.detach()
        with self._undo, translated():
            if task.owned:
                task.close(status, exit_code)

    def attach(self) -> None:
        """Make the program's `Task.init` return this task, and switch off its TensorBoard capture."""
        if self._shared_task is not None:
            self._shared_task.attach()

    def detach(self) -> None:
        if self._shared_task is not None:
            self._shared_task.detach()

    @property
    def native(self) -> Any:
        """The `clearml.Task`."""
        return None if self._task is None else self._task.native

    @property
    def url(self) -> str | None:
        """The task's page, or the folder of an offline session."""
        if self._task is None:
            return None
        folder = self._task.session_folder
        return str(folder) if folder is not None else str(self._task.native.get_output_log_web_page())

    @classmethod
    def probe(cls, config: Any = None) -> Probe:
        """Check whether a task can be created now."""
        if importlib.util.find_spec("clearml") is None:
            return Probe(False, _NOT_INSTALLED)
        config = config or ClearmlConfig()
        with process_hooks.restored_process():
            clearml = _import()
            if environment.wants_offline(clearml, config.mode):
                return Probe(True, "offline sessions: nothing is sent")
            with environment.offline_mode(False):
                return connection.probe(config.server)


def _import() -> Any:
    try:
        import clearml
    except ImportError as error:
        raise BackendUnavailable(f"clearml: {_NOT_INSTALLED}") from error
    return clearml


@contextlib.contextmanager
def _locked(native: Any, lock: threading.Lock) -> Iterator[None]:
    """Make the task's own writer of a session's event file hold `lock`, as tracelet's writer does."""
    manager = native._reporter._metrics
    original, pid = manager._do_write_events, os.getpid()

    def write(*args: Any, **options: Any) -> Any:
        if os.getpid() != pid:  # a forked child has a copy of the lock, possibly held for ever
            return original(*args, **options)
        with lock:
            return original(*args, **options)

    manager._do_write_events = write
    try:
        yield
    finally:
        if vars(manager).get("_do_write_events") is write:
            del manager._do_write_events
