"""ClearML: scalars and media are events of one task, parameters and artifacts its own fields."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from tracelet.backends.base import Backend, Batch, Probe, Status
from tracelet.backends.clearml import config as told
from tracelet.backends.clearml import connection, environment, process_hooks, values
from tracelet.backends.clearml.config import ClearmlConfig
from tracelet.backends.clearml.connection import Connection
from tracelet.backends.clearml.errors import translated
from tracelet.backends.clearml.events import Events
from tracelet.backends.clearml.offline_session import NOTE, Note, NoteFile, SessionFile
from tracelet.backends.clearml.offline_upload import HandOver
from tracelet.backends.clearml.places import PLACES
from tracelet.backends.clearml.start import TaskStart
from tracelet.backends.clearml.task import OpenTask
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.records import RunInfo, Scalar

_NOT_INSTALLED = 'not installed: pip install "tracelet[clearml]"'


class ClearmlBackend(Backend):
    """Write records to one ClearML task, on a server or in an offline session."""

    name: ClassVar[str] = "clearml"
    Config = ClearmlConfig
    persistent_keys = told.KEPT
    shown_as = PLACES
    parent_env = ("CLEARML_PROC_MASTER_ID", "TRAINS_PROC_MASTER_ID")

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._task: OpenTask | None = None
        self._events: Events | None = None
        self._connection: Connection | None = None
        self._store: SessionFile | None = None
        self._program: process_hooks.ProgramTask | None = None
        self._undo = contextlib.ExitStack()

    # Opening.

    def open(self, run: RunInfo) -> None:
        """Use the program's own task if there is one; otherwise begin, or go on with, the task of this run."""
        with contextlib.ExitStack() as undo:
            undo.enter_context(process_hooks.as_before())
            clearml = _import()
            with translated():
                self._open(clearml, run, undo)
            self._undo = undo.pop_all()

    def _open(self, clearml: Any, run: RunInfo, undo: contextlib.ExitStack) -> None:
        folder = Path(run.folder)
        notes = NoteFile(folder / NOTE)
        note = notes.read()
        begun = TaskStart(clearml, self.config, run, note, undo)
        self._connection = begun.connection
        task = OpenTask(clearml, begun.native, folder, self._connection, owned=begun.owned)
        undo.callback(task.uploads.close)
        self._store, self._written = self._opened_store(task, note, notes, undo)
        self._program = process_hooks.ProgramTask(clearml, begun.native)
        self._task, self._events = task, Events(task)

    def _opened_store(
        self, task: OpenTask, note: Note | None, notes: NoteFile, undo: contextlib.ExitStack
    ) -> tuple[SessionFile | None, int | None]:
        """Note which task this is, for whoever delivers the rest of the journal; the file of an offline session, and
        what the task holds, as far as that is known."""
        folder = task.session_folder
        if folder is None:
            notes.write(Note(id=task.id))
            if note is None or note.on_server != task.id:
                return None, 0
            return None, note.last if note.id != task.id else None  # what an imported session held
        known = note if note is not None and note.folder == str(folder) and note.is_there else Note(id=task.id)
        store = SessionFile(folder, known, notes, id=task.id)
        if task.owned:
            store.mend()
        task.keep_description()
        self._lock = threading.Lock()
        undo.enter_context(_locked(task.native, self._lock))
        return store, None

    # Records.

    @property
    def _to(self) -> OpenTask:
        if self._task is None:
            raise BackendUnavailable("clearml: the task is not open")
        return self._task

    def write(self, batch: Batch) -> None:
        """Files and fields of the task first; then all events, in one piece."""
        task, of = self._to.id, self._events
        assert of is not None
        events: list[values.Event] = []
        names: dict[str, tuple[str, str]] = {}
        for at, record in enumerate(batch):
            try:
                with translated(record=True):
                    if isinstance(record, Scalar):
                        name = names.get(record.tag) or names.setdefault(record.tag, values.title_series(record.tag))
                        events.append(values.scalar_event(task, record, name))
                    else:
                        events += of.record(record)
            except (BackendUnavailable, RecordRejected) as error:
                self._send(events, batch.last - len(batch) + at)
                error.written = at
                raise
        self._send(events, batch.last)

    def _send(self, events: list[values.Event], last: int) -> None:
        with translated():
            if self._store is None:
                assert self._connection is not None
                self._connection.send_events(events)
            elif events:
                with self._lock:
                    self._store.append(events, last)
            elif last > self._store.last:
                self._store.advance(last)

    # What is held, and the end.

    def durable_seq(self) -> int | None:
        """What stands in the session's file, or what the server has acknowledged."""
        if self._written is None and self._store is not None:
            return self._store.last
        return self._written

    @classmethod
    def pending_upload(cls, folder: Path) -> str | None:
        """An offline session that no server has got yet, or not all of it."""
        note = NoteFile(folder / NOTE).read()
        return note.folder if note is not None and note.waits else None

    def upload_offline(self, run: RunInfo, deadline: float) -> None:
        """Have ClearML import the offline session to the server. What a first attempt sent before it broke off is sent
        again: a server keeps a point, a medium and an artifact once, but not the lines of the console."""
        notes = NoteFile(Path(run.folder) / NOTE)
        note = notes.read()
        if note is None or not note.waits:
            return
        with process_hooks.as_before():
            clearml = _import()
            with translated():
                HandOver(clearml, self.config.server, Path(run.folder), notes, note, deadline).run()

    def secrets(self) -> Iterable[str]:
        yield from told.secrets(self.config)
        if self._connection is not None:
            yield from self._connection.secrets()

    def close(self, status: Status, exit_code: int) -> None:
        """End the task if it was begun here; the program's own goes on."""
        if self._task is None:
            return
        task, self._task = self._task, None
        self.detach()
        with self._undo, translated():
            if task.owned:
                task.close(status, exit_code)

    def attach(self) -> None:
        """From now on the program's `Task.init` gives this task, and its TensorBoard capture is ours alone."""
        if self._program is not None:
            self._program.attach()

    def detach(self) -> None:
        if self._program is not None:
            self._program.detach()

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
        """Whether a task could be begun here and now."""
        if importlib.util.find_spec("clearml") is None:
            return Probe(False, _NOT_INSTALLED)
        config = config or ClearmlConfig()
        with process_hooks.as_before():
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
    """The task's own writer of events to a session's file waits while we write, and we for it."""
    manager = native._reporter._metrics
    original, pid = manager._do_write_events, os.getpid()

    def write(*args: Any, **options: Any) -> Any:
        if os.getpid() != pid:  # a forked child has a copy of the lock, which may be held for ever
            return original(*args, **options)
        with lock:
            return original(*args, **options)

    manager._do_write_events = write
    try:
        yield
    finally:
        if vars(manager).get("_do_write_events") is write:
            del manager._do_write_events
