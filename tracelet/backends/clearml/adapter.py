"""ClearML: scalars and media are events of one task, parameters and artifacts its own fields."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from tracelet.backends.base import Backend, Batch, Probe, Status
from tracelet.backends.clearml import connection, plots, program, values
from tracelet.backends.clearml.connection import Connection, Server
from tracelet.backends.clearml.session_file import Note, NoteFile, SessionFile
from tracelet.backends.clearml.task import OpenTask, abandon, mended
from tracelet.backends.presentation import content, entries, files
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.records import (
    Artifact,
    Audio,
    File,
    Histogram,
    Image,
    Params,
    Payload,
    PRCurve,
    Record,
    RunInfo,
    Scalar,
    Table,
    Text,
    Video,
    kind,
    shown_step,
)

_NOT_INSTALLED = 'not installed: pip install "tracelet[clearml]"'
_NOTE = "clearml.json"
_SHORTEST_NAME = 3
_IMAGE, _PLOT = "training_debug_image", "plot"


class ClearmlConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `Task.init` should be given beyond the run itself, and how the server is reached."""

    task_name: str | None = None
    project: str | None = None
    tags: list[str] | None = None
    task_type: str | None = None
    output_uri: str | bool | None = None
    continue_last_task: bool | str | int | None = None
    reuse_last_task_id: bool | str | None = None
    auto_connect_frameworks: bool | dict[str, Any] = False
    auto_connect_arg_parser: bool | dict[str, bool] = False
    auto_connect_streams: bool | dict[str, bool] = False
    auto_resource_monitoring: bool | dict[str, Any] = True
    mode: Literal["online", "offline"] | None = None
    backend_url: str | None = None
    web_url: str | None = None
    files_url: str | None = None
    api_key: str | None = None
    access_key: str | None = None
    secret_key: str | None = None

    def __post_init__(self) -> None:
        frameworks = self.auto_connect_frameworks
        if isinstance(frameworks, dict) and frameworks.get("tensorboard"):
            raise ValueError(
                "auto_connect_frameworks: 'tensorboard' stays off, since every record would arrive twice. "
                "tracelet carries what TensorBoard is told"
            )
        if self.api_key is not None and not all(self.api_key.partition(":")):
            raise ValueError("api_key: ClearML has two keys; give them as '<access key>:<secret key>'")

    def __repr__(self) -> str:
        secret = ("api_key", "access_key", "secret_key")
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if name not in secret}
        shown |= {name: "***" for name in secret if getattr(self, name) is not None}
        return f"ClearmlConfig({', '.join(f'{name}={value!r}' for name, value in shown.items() if value is not None)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("", repr(self))]

    @property
    def server(self) -> Server:
        access, _, secret = (self.api_key or "").partition(":")
        keys = self.access_key or access or None, self.secret_key or secret or None
        return Server(self.backend_url, self.web_url, self.files_url, *keys)


class ClearmlBackend(Backend):
    """Write records to one ClearML task, on a server or in an offline session."""

    name: ClassVar[str] = "clearml"
    Config = ClearmlConfig

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._task: OpenTask | None = None
        self._connection: Connection | None = None
        self._store: SessionFile | None = None
        self._program: program.ProgramTask | None = None
        self._undo = contextlib.ExitStack()

    # Opening.

    def open(self, run: RunInfo) -> None:
        """Use the program's own task if there is one; otherwise begin, or go on with, the task of this run."""
        with contextlib.ExitStack() as undo:
            undo.enter_context(program.as_before())
            clearml = _import()
            with _translated():
                self._open(clearml, run, undo)
            self._undo = undo.pop_all()

    def _open(self, clearml: Any, run: RunInfo, undo: contextlib.ExitStack) -> None:
        folder = Path(run.folder)
        notes = NoteFile(folder / _NOTE)
        note = notes.read()
        native = clearml.Task.current_task()
        owned = native is None
        if owned:
            native = self._begin(clearml, run, note, undo)
        else:
            self._join(clearml, native, undo)
        task = OpenTask(clearml, native, folder, self._connection, owned=owned)
        self._store = self._opened_store(task, note, notes, undo)
        self._program = program.ProgramTask(clearml, native)
        self._written = None
        self._task = task

    def _begin(self, clearml: Any, run: RunInfo, note: Note | None, undo: contextlib.ExitStack) -> Any:
        """`Task.init` with what the user gave, and without what it does to the program."""
        offline = connection.wants_offline(clearml, self.config.mode)
        undo.enter_context(connection.offline_mode(offline))
        if offline:
            undo.enter_context(program.no_update_check())
            self._find_session(run, note, undo)
        else:
            self._sign_in(undo)
        if self.config.auto_connect_arg_parser:
            program.catch_arguments()
        for settled in (program.quiet(clearml), program.logs_on_stderr(), program.in_this_process(clearml)):
            undo.enter_context(settled)
        begun: list[Any] = []
        undo.callback(_let_go, clearml, begun)
        with program.unseeded(clearml):
            native = program.called_by_the_program(clearml.Task.init)(**self._wanted(run, note))
        if not isinstance(native, clearml.Task):  # ClearML's stand-in where it is told to do without a server
            raise BackendUnavailable(f"clearml: {connection.not_configured()}")
        begun.append(native)
        native.set_initial_iteration(0)  # a continued task would move every step
        _forget_handlers(clearml)
        program.keep_out_of_children(native)
        undo.callback(program.forget_children, native)
        self._guard_exit(clearml, native, undo)
        return native

    def _find_session(self, run: RunInfo, note: Note | None, undo: contextlib.ExitStack) -> None:
        """Where an earlier process's session lies, whatever the cache folder is by now."""
        if note is not None and note.folder is not None and Path(note.folder).is_dir():
            place = Path(note.folder)
            mended(place, Path(run.folder))
            undo.enter_context(connection.environment({"CLEARML_CACHE_DIR": str(place.parent.parent)}))

    def _sign_in(self, undo: contextlib.ExitStack) -> None:
        server = self.config.server
        undo.enter_context(connection.environment(server.hosts()))
        self._connection = connection.connect(server)
        session, made = connection.default_session(server)
        undo.enter_context(connection.default(session))
        undo.enter_context(self._connection.stand_in(session, ends=made))

    def _join(self, clearml: Any, native: Any, undo: contextlib.ExitStack) -> None:
        """Write to the program's own task, with the session that it has signed in with."""
        if clearml.Task.is_offline():
            return
        session = native.session
        self._connection = connection.connect(Server(session.host, None, None, session.access_key, session.secret_key))
        undo.enter_context(self._connection.stand_in(session, ends=False))

    def _wanted(self, run: RunInfo, note: Note | None) -> dict[str, Any]:
        """The arguments of `Task.init`; what nobody gave keeps ClearML's own meaning."""
        config = self.config
        frameworks = config.auto_connect_frameworks
        if frameworks:
            frameworks = {**(frameworks if isinstance(frameworks, dict) else {}), "tensorboard": False}
        given = {
            "project_name": _long_enough(config.project or run.project, run.run_id),
            "task_name": _long_enough(config.task_name or run.name, run.run_id),
            "task_type": config.task_type,
            "tags": config.tags if config.tags is not None else list(run.tags) or None,
            "output_uri": config.output_uri,
            "continue_last_task": note.id if note is not None and self._is_there(note) else config.continue_last_task,
        }
        return {name: value for name, value in given.items() if value is not None} | {
            "reuse_last_task_id": config.reuse_last_task_id or False,
            "auto_connect_frameworks": frameworks,
            "auto_connect_arg_parser": config.auto_connect_arg_parser,
            "auto_connect_streams": config.auto_connect_streams,
            "auto_resource_monitoring": config.auto_resource_monitoring,
        }

    def _is_there(self, note: Note) -> bool:
        """Whether the task of an earlier process can be gone on with: of the same kind, and not deleted."""
        if self._connection is not None:
            return not note.id.startswith("offline-")
        return note.folder is not None and Path(note.folder).is_dir()

    def _opened_store(
        self, task: OpenTask, note: Note | None, notes: NoteFile, undo: contextlib.ExitStack
    ) -> SessionFile | None:
        """Note which task this is, for whoever delivers the rest of the journal; the file of an offline session."""
        folder = task.session_folder
        if folder is None:
            notes.write(Note(id=task.id))
            return None
        store = SessionFile(folder, note or Note(id=task.id), notes, id=task.id)
        if task.owned:
            store.mend()
        task.keep_description()
        self._lock = threading.Lock()
        undo.enter_context(_locked(task.native, self._lock))
        return store

    def _guard_exit(self, clearml: Any, native: Any, undo: contextlib.ExitStack) -> None:
        """Should the end of the run not reach `close` in time, ClearML's exit hooks must not wait for a dead server."""
        if self._connection is not None:
            last_resort = functools.partial(abandon, clearml, native)
            atexit.register(last_resort)
            undo.callback(atexit.unregister, last_resort)

    # Records.

    @property
    def _to(self) -> OpenTask:
        if self._task is None:
            raise BackendUnavailable("clearml: the task is not open")
        return self._task

    def write(self, batch: Batch) -> None:
        """Files and fields of the task first; then all events, in one piece."""
        events: list[values.Event] = []
        names: dict[str, tuple[str, str]] = {}
        for at, record in enumerate(batch):
            try:
                with _translated(record=True):
                    if isinstance(record, Scalar):
                        name = names.get(record.tag) or names.setdefault(record.tag, values.title_series(record.tag))
                        events.append(values.scalar_event(self._to.id, record, name))
                    else:
                        events += self._events(record)
            except (BackendUnavailable, RecordRejected) as error:
                self._send(events, batch.last - len(batch) + at)
                error.written = at
                raise
        self._send(events, batch.last)

    def _send(self, events: list[values.Event], last: int) -> None:
        with _translated():
            if self._store is None:
                assert self._connection is not None
                self._connection.send_events(events)
            elif events:
                with self._lock:
                    self._store.append(events, last)
            elif last > self._store.last:
                self._store.advance(last)

    def _events(self, record: Record) -> list[values.Event]:
        """What a record besides a scalar is to ClearML; its files, and what is a field of the task, are stored now."""
        step = shown_step(getattr(record, "step", 0))
        if not values.fits(step):
            raise RecordRejected(f"clearml: step {step} is beyond 64 bits, which no server takes")
        match record:
            case Params(params):
                self._to.set_params(params)
                return []
            case Artifact():
                for path, data in entries(record).items():
                    self._to.upload_artifact(path, data, _facts(record))
                return []
            case Image(data=data, format=form) | Audio(data=data, format=form) | Video(data=data, format=form):
                return [self._medium(record, data, values.suffix(form))]
            case Text(text=text):
                return [self._medium(record, text.encode("utf-8", "backslashreplace"), ".md")]
            case Histogram():
                return [self._plot(record, plots.histogram_plot(record))]
            case PRCurve():
                return [self._plot(record, plots.curve_plot(record))]
            case Table(data=data):
                return self._table(record, data)
            case _:
                return self._as_files(record)

    def _plot(self, record: Any, plot: str) -> values.Event:
        return values.event(self._to.id, _PLOT, record, values.title_series(record.tag), plot_str=plot)

    def _medium(self, record: Any, data: Payload, suffix: str, label: str = "") -> values.Event:
        title, series = values.title_series(record.tag)
        path = values.file_name(record.tag, shown_step(record.step), _digest(data), suffix)
        fields = self._to.upload_medium(data, path)
        return values.event(self._to.id, _IMAGE, record, (title, series + label), **fields)

    def _table(self, record: Table, data: Payload) -> list[values.Event]:
        text = content(data).decode()
        events = [self._plot(record, plots.table_plot(record, text))]
        if len(text) > plots.MOST_EXACT:
            events.append(self._medium(record, data, ".json", " [table]"))
        return events

    def _as_files(self, record: Any) -> list[values.Event]:
        """A record that ClearML draws nothing of: its files as media, and what else it says as JSON beside them."""
        payloads, facts = files(record)
        label = f" [{kind(record)}]"
        media = {
            name: self._medium(record, data, Path(name).suffix or ".bin", f"{label} {values.visible(name)}")
            for name, data in payloads.items()
        }
        told = {"kind": kind(record), **facts, "files": {name: event["key"] for name, event in media.items()}}
        page = json.dumps(told, default=str).encode()
        return [*media.values(), self._medium(record, page, ".json", label)]

    # What is held, and the end.

    def confirm(self) -> int | None:
        """What stands in the session's file, or what the server has acknowledged."""
        if self._written is None and self._store is not None:
            return self._store.last or None
        return self._written

    def close(self, status: Status, exit_code: int) -> None:
        """End the task if it was begun here; the program's own goes on."""
        if self._task is None:
            return
        task, self._task = self._task, None
        self.detach()
        with self._undo, _translated():
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
    def probe(cls) -> Probe:
        """Whether a task could be begun here and now, with what the environment and clearml.conf say."""
        if importlib.util.find_spec("clearml") is None:
            return Probe(False, _NOT_INSTALLED)
        with program.as_before():
            clearml = _import()
            if connection.wants_offline(clearml, None):
                return Probe(True, "offline sessions: nothing is sent")
            try:
                with connection.offline_mode(False):
                    connection.connect(Server())
                    return Probe(True, f"signed in to {_api_host()}")
            except BackendUnavailable as error:
                return Probe(False, error.reason.removeprefix("clearml: "))


def _import() -> Any:
    try:
        import clearml
    except ImportError as error:
        raise BackendUnavailable(f"clearml: {_NOT_INSTALLED}") from error
    return clearml


def _api_host() -> str:
    from clearml.backend_api import Session

    return str(Session.get_api_server_host())


def _let_go(clearml: Any, begun: list[Any]) -> None:
    """A task that was begun, or half begun, and not ended properly is no longer the process's task."""
    native = begun[0] if begun else clearml.Task._Task__main_task
    if native is not None:
        abandon(clearml, native)


def _forget_handlers(clearml: Any) -> None:
    """On another thread ClearML can set no signal handlers, and at its end would still put back what it found."""
    hook = clearml.Task._Task__exit_hook
    if hook is not None and threading.current_thread() is not threading.main_thread():
        hook._org_handlers = {}


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


@contextlib.contextmanager
def _translated(*, record: bool = False) -> Iterator[None]:
    """The two errors of a backend. `record`: one record can be at fault."""
    from clearml.backend_interface.session import SendError
    from clearml.errors import UsageError
    from requests import RequestException

    try:
        yield
    except SendError as error:
        code = error.result.meta.result_code
        if record and code in (400, 413, 422):
            raise RecordRejected(f"clearml: the server refuses it: {error.result.meta.result_msg}") from error
        raise BackendUnavailable(f"clearml: {error.result.meta.result_msg}") from error
    except (RequestException, UsageError, connection.login_error()) as error:
        raise BackendUnavailable(f"clearml: {error}") from error
    except FileNotFoundError as error:
        raise (RecordRejected if record else BackendUnavailable)(f"clearml: {error}") from error
    except OSError as error:
        raise BackendUnavailable(f"clearml: {os.strerror(error.errno) if error.errno else error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise (RecordRejected if record else BackendUnavailable)(f"clearml: {error}") from error


def _long_enough(name: str | None, run_id: str) -> str | None:
    """A server refuses names of less than three letters."""
    return name if not name or len(name.strip()) >= _SHORTEST_NAME else f"{name} ({run_id})"


def _digest(data: Payload) -> str:
    return data.digest if isinstance(data, File) else hashlib.sha256(data).hexdigest()


def _facts(record: Artifact) -> Mapping[str, Any]:
    return dict(record.metadata) | ({} if record.type == "file" else {"type": record.type})
