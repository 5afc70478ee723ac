"""Weights & Biases: each record becomes a row of the run's history, config, or an artifact."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from tracelet.backends.base import AdoptedArtifact, Backend, Batch, Probe, Status
from tracelet.backends.wandb.config import PERSISTENT_KEYS, WandbConfig
from tracelet.backends.wandb.connect import FLUSH_INTERVAL, Connection, active_run, exit_hooks_restorer
from tracelet.backends.wandb.durability import AlreadyWritten, Durability, Fingerprint, Pending
from tracelet.backends.wandb.errors import dead_service, end_service, import_wandb, is_torn_down, translated
from tracelet.backends.wandb.offline_files import NAME, Note, Recording, active_files
from tracelet.backends.wandb.probe import adopt, native_capture, probe, warn_of_native_capture
from tracelet.backends.wandb.row_buffer import ROW_SPAN, OpenRows
from tracelet.backends.wandb.run import SHOWN_AS, OpenRun, is_uploaded
from tracelet.backends.wandb.server import secrets, wants_offline
from tracelet.backends.wandb.transaction_log import row_count
from tracelet.backends.wandb.values import run_tag
from tracelet.errors import BackendUnavailable
from tracelet.guard import logger
from tracelet.records import Record, RunInfo, Scalar, Tags, shown_step
from tracelet.redaction import passwords_in_url

_FLUSH_TIMEOUT = 3.0
_READ_INTERVAL = 1.0
_LAST_PROBE_TIMEOUT = 1.0


class WandbBackend(Backend):
    """Write records to one Weights & Biases run."""

    name: ClassVar[str] = "wandb"
    Config = WandbConfig
    persistent_keys = PERSISTENT_KEYS
    note_files = (NAME,)
    shown_as = SHOWN_AS
    parent_env = ("WANDB_SERVICE",)
    telemetry_off_env: ClassVar[Mapping[str, str]] = {"WANDB_ERROR_REPORTING": "false"}

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._wandb: Any = None
        self._run: OpenRun | None = None
        self._owned = False
        self._undo = contextlib.ExitStack()
        self._folder = Path()
        self._connection: Connection | None = None
        self._recording: Recording | None = None
        self._recorded_seq: int | None = None
        self._final_seq: int | None = None
        self._durability = Durability()
        self._rows = OpenRows(self._durability.add, self._send_pending, self._send_row)
        self._renamed: dict[str, str] = {}
        self._last_read = 0.0
        self._warned = False

    def persistent_config(self) -> dict[str, Any]:
        """Make `dir` absolute, because a later process has another working directory."""
        config = super().persistent_config()
        return config | {"dir": os.path.abspath(config["dir"]) if config["dir"] else None}

    def open(self, run: RunInfo) -> None:
        """Use the program's own run if there is one; otherwise start or resume the run for `run.run_id`."""
        self._wandb = wandb = import_wandb()
        self._folder = Path(run.folder)
        note = Note.load(self._folder)
        note.wait_until_quiet()
        self._recorded_seq = note.recorded_seq() if note.recordings else None
        written = AlreadyWritten(note.unconfirmed_records())
        self._connection = connection = Connection(wandb, self.config, note, lambda: note.save(self._folder))
        with contextlib.ExitStack() as undo, translated():
            undo.callback(exit_hooks_restorer())
            self._register_exit(undo)
            active = active_run(wandb)
            native = active or connection.start(run)
            self._register_exit(undo)
            self._owned = active is None
            self._warned = self._warned or warn_of_native_capture(wandb)
            self._recording = connection.record(native, owned=self._owned)
            self._claim(undo)
            self._run = self._open_run(native, written, shared=True)
            self._undo = undo.pop_all()

    def _open_run(self, native: Any, written: AlreadyWritten, *, shared: bool) -> OpenRun:
        return OpenRun(self._wandb, native, self._renamed, written, self._check_server, shared=shared)

    def _claim(self, undo: contextlib.ExitStack) -> None:
        if self._recording is not None:
            active_files.add(self._recording.file)
            undo.callback(active_files.discard, self._recording.file)

    def _check_server(self) -> None:
        if self._owned and self._connection is not None:
            self._connection.server().check(_FLUSH_TIMEOUT)

    def _register_exit(self, undo: contextlib.ExitStack) -> None:
        """Register `_abandon` after wandb's own exit callback, so that it runs first. wandb's waits without a limit."""
        self._wandb.setup().ensure_service()
        atexit.unregister(self._abandon)
        atexit.register(self._abandon)
        undo.callback(atexit.unregister, self._abandon)

    def _abandon(self) -> None:
        """Stop uploads if the program exits while this backend is open. The run's file keeps the rest."""
        if self._connection is not None and self._connection.uploader is not None:
            self._connection.uploader.stop()
        if self._owned or self._run is None:
            end_service(self._wandb)

    def _reopen(self) -> None:
        """Resume the run if the program finished it or tore wandb down, or if wandb's service process died."""
        old, written = self._opened.native, self._opened.written
        finished = self._opened.finished or is_torn_down(self._wandb, old)
        assert self._connection is not None
        with translated():
            if finished:
                self._wait_for_end()
            self._read()
            self._durability.start_file()
            self._opened.close()
            if not finished:
                logger.warning("wandb: the service process died; resuming run %s in a new one", old.id)
                with contextlib.suppress(*dead_service()):
                    self._wandb.teardown()
            elif self._recording is not None and self._recording.online:
                with contextlib.suppress(BackendUnavailable):
                    self._confirm_upload(self._recording)
            run = self._connection.resume(old, finished=finished)
            self._register_exit(self._undo)  # wandb may have started another service
            self._recording = self._connection.record(run, owned=True)
            self._claim(self._undo)
            self._run, self._owned = self._open_run(run, written, shared=not finished), True
        for item in self._durability.unconfirmed():
            self._durability.send(item)

    @property
    def _opened(self) -> OpenRun:
        if self._run is None:
            raise BackendUnavailable("wandb: the run is not open")
        return self._run

    @property
    def offline_reason(self) -> str | None:
        """The outage because of which the run is in wandb's offline mode, although it should be online."""
        return self._connection.offline_reason if self._run is not None and self._connection is not None else None

    def write(self, batch: Batch) -> None:
        """Send records in order. Scalars of one writer and step are collected into one row first."""
        if self._opened.native.disabled:
            return
        with translated(written=0):
            self._rows.send_old()
        for index, record in enumerate(batch):
            with translated(written=index):
                if isinstance(record, Scalar):
                    self._add_to_row(record)
                else:
                    self._rows.send([getattr(record, "writer", "")])
                    self._send_pending(Pending(partial(self._send_record, record)))

    def _add_to_row(self, scalar: Scalar) -> None:
        key = self._opened.key(scalar.tag)
        step = shown_step(scalar.step)
        if self._opened.written.has_point(step, key, scalar.value, scalar.wall_time, within=ROW_SPAN):
            return
        self._rows.add(key, scalar)

    def on_written(self, batch: Batch) -> None:
        """Record which items contain the records up to `batch.last`."""
        self._durability.mark(batch.last)

    def resume_after(self) -> int | None:
        """Return the last sequence number in the run's files, even if the server lacks it."""
        return self._recorded_seq

    def durable_seq(self) -> int | None:
        """Return the last sequence number in the run's `.wandb` file; artifacts of an online run must be uploaded.

        If there is an `offline_reason`, or the upload is incomplete, only records at the server count.
        """
        if self._run is None:
            return self._final_seq
        with translated():
            self._rows.send_old()
        if time.monotonic() - self._last_read >= _READ_INTERVAL:
            self._read()
        self._update_recording()
        return self._delivered_seq() if self.offline_reason is not None else self._confirmed_seq()

    def _confirmed_seq(self) -> int | None:
        return self._recorded_seq if self._durability.confirmed is None else self._durability.confirmed

    def _delivered_seq(self) -> int:
        assert self._connection is not None
        return self._connection.note.delivered_seq()

    def _update_recording(self) -> None:
        """Note the last sequence number in the file, for a later process."""
        confirmed, recording = self._durability.confirmed, self._recording
        if recording is None or confirmed is None or confirmed == recording.held:
            return
        recording.held, recording.at = confirmed, self._durability.offset
        self._save()

    def _save(self) -> None:
        assert self._connection is not None
        with translated():
            self._connection.note.save(self._folder)

    def flush(self) -> None:
        """Send the open rows, and wait up to three seconds until they are in wandb's file."""
        if self._run is None:
            return
        with translated():
            self._rows.send_all()
        interval = getattr(self._opened.native.settings, "x_transaction_log_flush_interval", math.inf)
        self._wait_for(self._read, timeout=_FLUSH_TIMEOUT if interval <= _FLUSH_TIMEOUT else 0)

    def close(self, status: Status, exit_code: int) -> None:
        """Finish the run if tracelet started it. The program's own run stays open."""
        if self._run is None:
            return
        code = exit_code or {"finished": 0, "failed": 1, "killed": 255}[status]
        ended = False
        try:
            with self._undo, contextlib.ExitStack() as undo, translated():
                undo.callback(lambda: self._opened.close())
                self._rows.send_all()
                if self._owned or self._opened.finished:
                    self._finish(code)
                else:
                    self._opened.close()
                    self.flush()
                ended = True
                self._end_recording()
        finally:
            if ended:
                self._run = None

    def _end_recording(self) -> None:
        """Update the recording after the end of the run; raise BackendUnavailable if the server lacks records."""
        recording, native, connection = self._recording, self._opened.native, self._connection
        if recording is not None:
            active_files.discard(recording.file)
        if recording is None or connection is None:
            self._durability.confirm_sent()
            self._final_seq = self._durability.confirmed
            return
        self._update_recording()
        try:
            if not native.offline:
                if self._owned:
                    self._final_seq = self._delivered_seq()
                    self._confirm_upload(recording)
                recording.done = True
            self._durability.confirm_sent()
            self._update_recording()
            if native.offline and connection.note.recordings[:-1] and row_count(Path(recording.file)) == 0:
                recording.done = True  # it was opened only to check for written records
            if self.offline_reason is not None:
                self._final_seq = self._delivered_seq()
                uploader = connection.uploader_if_up(_LAST_PROBE_TIMEOUT)
                uploader.run(time.monotonic() + self.config.finish_timeout)
            self._final_seq = self._confirmed_seq()
        finally:
            self._save()

    def _confirm_upload(self, recording: Recording) -> None:
        assert self._connection is not None
        complete = not self._durability.unconfirmed()
        self._connection.confirm_upload(self._opened.native, recording, complete=complete)

    @classmethod
    def pending_upload(cls, folder: Path) -> str | None:
        """Return the folder of the oldest pending recording; None if the environment sets wandb offline."""
        return None if wants_offline() else cls.offline_recording(folder)

    @classmethod
    def offline_recording(cls, folder: Path) -> str | None:
        pending = Note.load(folder).pending()
        return os.path.dirname(pending[0].file) if pending else None

    @classmethod
    def offline_seq(cls, folder: Path) -> int:
        """Read the sequence number from the note in the run's folder."""
        return Note.load(folder).recorded_seq()

    def upload_offline(self, run: RunInfo, deadline: float) -> None:
        """Upload offline and incomplete recordings with `wandb sync`."""
        folder = Path(run.folder)
        note = Note.load(folder)
        if wants_offline() or not note.pending():
            return
        note.wait_until_quiet()
        connection = Connection(import_wandb(), self.config, note, lambda: note.save(folder))
        with translated():
            timeout = max(0.1, min(_FLUSH_TIMEOUT, deadline - time.monotonic()))
            connection.uploader_if_up(timeout).run(deadline)

    def secrets(self) -> Iterable[str]:
        """Return the API keys that this backend may use, and passwords in URLs."""
        values = {*secrets(self.config, dict(os.environ))}
        if self._wandb is not None:  # wandb has read its settings files
            values.update(passwords_in_url(str(self._wandb.sdk.wandb_setup.singleton().settings.base_url)))
        return values

    def _finish(self, code: int) -> None:
        try:
            self._opened.close()
            self._opened.native.finish(code)
        except dead_service():
            self._reopen()
            self._opened.close()
            self._opened.native.finish(code)
        self._wait_for_end()
        if not self._read(uploads=False):
            # The program called `finish` before our rows were in wandb's file.
            self._reopen()
            self._opened.close()
            self._opened.native.finish(code)
            self._wait_for_end()

    def _wait_for_end(self) -> None:
        """Wait for the last rows and the end record in the file: `finish` returns a moment before they are written."""

        def ended() -> bool:
            self._read(uploads=False)
            return self._opened.file is None or self._opened.file.ended

        self._wait_for(ended)

    def _wait_for(self, done: Callable[[], bool], *, timeout: float = _FLUSH_TIMEOUT) -> None:
        end = time.monotonic() + timeout
        while not done() and time.monotonic() < end:
            time.sleep(FLUSH_INTERVAL / 50)

    def _read(self, *, uploads: bool = True) -> bool:
        """Read the file and check uploads; return True if everything sent is durable."""
        self._last_read = time.monotonic()
        if self._opened.file is None:
            self._durability.confirm_sent()
        else:
            self._durability.read(self._opened.file)
            self._durability.check_uploads(is_uploaded)
        return not self._durability.unconfirmed(uploads=uploads)

    def _send_pending(self, item: Pending) -> None:
        """Send an item. If the run was lost, reopen it and retry once."""
        try:
            self._durability.send(item)
        except (*dead_service(), self._wandb.errors.UsageError) as error:
            if isinstance(error, self._wandb.errors.UsageError) and not self._opened.finished:
                raise
            self._reopen()
            self._durability.send(item)

    def _send_record(self, record: Record) -> Fingerprint:
        if isinstance(record, Tags) and self._connection is not None:
            note = self._connection.note
            note.tags = list(dict.fromkeys([*note.tags, *map(run_tag, record.tags)]))
            self._save()
        return self._opened.send(record)  # read `_opened` now: the run may have been reopened

    def _send_row(self, values: dict[str, float], step: int, wall_time: float) -> Fingerprint:
        return self._opened.send_row(values, step, wall_time)

    @property
    def native(self) -> Any:
        """The `wandb.Run`."""
        return None if self._run is None else self._run.native

    @property
    def url(self) -> str | None:
        """The run's page; None if the run is offline, because wandb would log a message at each access."""
        return None if self._run is None or self._run.native.offline else self._run.native.url or None

    @classmethod
    def probe(cls, config: Any = None) -> Probe:
        """Check if a run can be started now."""
        return probe(config or WandbConfig())

    @classmethod
    def native_capture(cls) -> str | None:
        """Return the value of `WANDB_SYNC_TENSORBOARD` if it is set."""
        return native_capture()

    @classmethod
    def adopt(cls, obj: Any) -> AdoptedArtifact | None:
        """Convert a `wandb.Artifact` and its local files. The metadata contains its references."""
        return adopt(obj)
