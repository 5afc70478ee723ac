"""ClearML: write scalars and media as events of one task, and parameters and artifacts as fields of the task."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from tracelet import records as r
from tracelet.backends.base import Backend, Batch, Status, Written
from tracelet.backends.capabilities import ChildProcesses, NativeRun, OfflineRecording, Probe, Probing
from tracelet.backends.clearml import connection, host, run, values
from tracelet.backends.clearml.config import ClearmlConfig
from tracelet.backends.clearml.errors import translated
from tracelet.backends.clearml.offline import EVENTS, Note, SessionFile, save_description, truncate_partial_line, upload
from tracelet.backends.clearml.run import OpenTask
from tracelet.backends.clearml.values import Event
from tracelet.backends.patches import wrapped
from tracelet.backends.presentation import alert_page, files_of_run, read_payload, record_files
from tracelet.backends.ranks import own_run
from tracelet.errors import BackendError, BackendUnavailable, RecordRejected

_NOT_INSTALLED = 'not installed: pip install "tracelet[clearml]"'
_SHOWN_AS: dict[type[r.Record], str] = {
    r.Scalar: "a point of a scalar plot",
    r.Params: "hyper-parameters, section General",
    r.Histogram: "a plot of bars",
    **dict.fromkeys((r.Image, r.Video, r.Audio), "a debug sample"),
    **dict.fromkeys((r.Text, r.Alert), "a debug sample, a .md file"),
    r.Table: "a plot of a table",
    r.PRCurve: "a plot",
    r.Artifact: "an artifact",
    r.Summary: "single values of the plot Summary; all of them in the configuration object `tracelet_summary`",
    r.Tags: "tags of the task",
    **dict.fromkeys((r.Tensor, r.Mesh, r.Embedding, r.Graph, r.Layout, r.RawSummary), "debug samples: files and JSON"),
}


class ClearmlBackend(Backend, NativeRun, OfflineRecording, Probing, ChildProcesses):
    """Write records to one ClearML task, on a server or in an offline session."""

    name: ClassVar[str] = "clearml"
    Config = ClearmlConfig
    accepts = _SHOWN_AS
    parent_env = host.MASTER_NAMES

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._task: OpenTask | None = None
        self._session_file: SessionFile | None = None
        self._connection: connection.Connection | None = None
        self._undo, self._shared = contextlib.ExitStack(), contextlib.ExitStack()

    def open(self, run_info: r.RunInfo) -> int | None:
        """Use the program's own task if there is one; otherwise create or resume the task of this run.

        The number is that in an offline session's event file. A server has no place for it without one more request
        for each batch. It stores one point for each series and step, so a repeated batch changes nothing.
        """
        with contextlib.ExitStack() as undo:
            undo.enter_context(host.restored_process())
            with translated():
                note = Note.read(Path(run_info.folder))
                task = run.start(self.config, own_run(run_info), note, undo)
                self._connection = task.server
                position = self._position(task, run_info, note, undo)
            self._task, self._undo = task, undo.pop_all()
        return position

    def _position(self, task: OpenTask, info: r.RunInfo, note: Note | None, undo: contextlib.ExitStack) -> int | None:
        """Write the note, for a later process that delivers the rest. Return the last record that the task has."""
        session, run_id, self._session_file = task.session_folder, info.run_id, None
        if session is None:
            Note(id=task.id).write(Path(info.folder))
            if note is None or note.on_server != task.id:
                return 0
            return None if note.folder is None else note.last_record(run_id)  # of an uploaded session
        if note is None or note.folder != str(session):
            note = Note(id=task.id, folder=str(session))
        file = self._session_file = SessionFile(session, run_id)
        if task.owned:
            truncate_partial_line(session / EVENTS)
            save_description(session)
        position = note.last_record(run_id)
        if note.last:  # of an earlier release
            file.append([], position)
        Note(id=task.id, folder=note.folder, task=note.task, taken=note.taken, mark=note.mark).write(Path(info.folder))

        def write(original: Any, *args: Any, **options: Any) -> Any:
            with file.lock:
                return original(*args, **options)

        undo.enter_context(wrapped(task.native._reporter._metrics, "_do_write_events", write))
        return position

    def write(self, batch: Batch) -> Written | None:
        """Write files and fields of the task first, then all events in one request or one line of a session."""
        if self._task is None:
            raise BackendUnavailable("clearml: the task is not open")
        events: list[Event] = []
        for index, record in enumerate(batch):
            try:
                with translated(record=True):
                    events += _events(self._task, record)
            except BackendError as error:
                if index:
                    self._send(events, batch.numbers[index - 1])
                return Written(index, error)
        self._send(events, batch.last)
        return None

    def _send(self, events: list[Event], last: int) -> None:
        with translated():
            if self._session_file is not None:
                self._session_file.append(events, last)
            elif self._connection is not None:
                self._connection.send_events(events)

    @classmethod
    def pending_upload(cls, folder: Path) -> str | None:
        """Return the folder of an offline session that is not completely on a server."""
        note = Note.read(folder)
        return note.folder if note is not None and note.is_pending else None

    def upload_offline(self, run_info: r.RunInfo, deadline: float) -> None:
        """Make ClearML import the offline session to the server.

        After an interrupted import, everything is sent again. A server stores a point, a medium and an artifact once,
        but lines of the console twice.
        """
        folder = Path(run_info.folder)
        note = Note.read(folder)
        if note is not None and note.is_pending:
            with host.restored_process(), translated():
                upload(host.imported(), self.config, folder, note, deadline)

    def secrets(self) -> Iterable[str]:
        return () if self._connection is None else self._connection.secrets()

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
        self.detach()
        if self._task is not None:
            self._shared.enter_context(host.shared_task(host.imported(), self._task.native))

    def detach(self) -> None:
        self._shared.close()

    @property
    def native(self) -> Any:
        """The `clearml.Task`."""
        return None if self._task is None else self._task.native

    @property
    def url(self) -> str | None:
        """The task's page, or the folder of an offline session."""
        if self._task is None:
            return None
        return str(self._task.session_folder or self._task.native.get_output_log_web_page())

    @classmethod
    def probe(cls, config: Any = None) -> Probe:
        """Check whether a task can be created now."""
        if importlib.util.find_spec("clearml") is None:
            return Probe(False, _NOT_INSTALLED)
        config = config or ClearmlConfig()
        with host.restored_process():
            if host.wants_offline(host.imported(), config.mode):
                return Probe(True, "offline sessions: nothing is sent")
            with host.offline_mode(False):
                return connection.probe(config)


def _events(task: OpenTask, record: r.Record) -> list[Event]:
    """Store the files and fields of a record now, and return its events."""
    if isinstance(record, r.Scalar):
        return [values.scalar_event(task.id, record)]
    step = r.shown_step(getattr(record, "step", 0))
    if not values.is_valid_step(step):
        raise RecordRejected(f"clearml: step {step} does not fit 64 bits, which a server requires")
    match record:
        case r.Params():
            task.merge(values.EXACT_PARAMS, record.values, values.parameters(record.values))
        case r.Summary():
            task.merge(values.EXACT_SUMMARY, record.values)
            return values.summary_events(task.id, record)
        case r.Tags():
            task.add_tags(record.tags)
        case r.Alert():
            # Not a line of the console: a batch that is sent again would duplicate it.
            return _events(task, r.Text(f"alerts/{record.title}", alert_page(record), None, record.wall_time))
        case r.Artifact():
            metadata = dict(record.metadata) | ({} if record.type == "file" else {"type": record.type})
            for path, data in files_of_run(record).items():
                task.upload_artifact(path, data, metadata)
        case r.Image() | r.Audio() | r.Video():
            return [_medium(task, record, record.data, values.suffix(record.format))]
        case r.Text():
            return [_medium(task, record, record.text.encode("utf-8", "backslashreplace"), ".md")]
        case r.Histogram():
            return [values.series_event(task.id, "plot", record, plot_str=values.histogram_plot(record))]
        case r.PRCurve():
            return [values.series_event(task.id, "plot", record, plot_str=values.curve_plot(record))]
        case r.Table():
            text = read_payload(record.data).decode()
            events = [values.series_event(task.id, "plot", record, plot_str=values.table_plot(record, text))]
            is_long = len(text) > values.MAX_EXACT
            return [*events, _medium(task, record, record.data, ".json", " [table]")] if is_long else events
        case _:
            return _as_files(task, record)
    return []


def _medium(task: OpenTask, record: Any, data: r.Payload, suffix: str, label: str = "") -> Event:
    digest = data.digest if isinstance(data, r.File) else hashlib.sha256(data).hexdigest()
    fields = task.upload_medium(data, values.file_name(record.tag, r.shown_step(record.step), digest, suffix))
    return values.series_event(task.id, "training_debug_image", record, label, **fields)


def _as_files(task: OpenTask, record: Any) -> list[Event]:
    """Write a record that ClearML cannot draw: its files as media, and its other fields as a JSON file."""
    payloads, facts = record_files(record)
    label = f" [{r.kind(record)}]"
    media = {
        name: _medium(task, record, data, Path(name).suffix or ".bin", f"{label} {values.escape(name)}")
        for name, data in payloads.items()
    }
    fields = {"kind": r.kind(record), **facts, "files": {name: event["key"] for name, event in media.items()}}
    page = json.dumps(fields, default=str).encode()
    return [*media.values(), _medium(task, record, page, ".json", label)]
