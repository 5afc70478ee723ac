"""Weights & Biases: each record becomes a row of the run's history, config, or an artifact."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tracelet import records as r
from tracelet.backends.base import Backend, Batch, Status, Written
from tracelet.backends.capabilities import (
    AdoptedArtifact,
    Adoption,
    ChildProcesses,
    NativeRun,
    OfflineRecording,
    Probe,
    Probing,
)
from tracelet.backends.wandb import host, server
from tracelet.backends.wandb.config import WandbConfig
from tracelet.backends.wandb.connection import FLUSH_INTERVAL, Connection
from tracelet.backends.wandb.errors import dead_service, end_service, import_wandb, translated
from tracelet.backends.wandb.offline import Note, Recording, active_files
from tracelet.backends.wandb.run import SHOWN_AS, Names, OpenRun
from tracelet.backends.wandb.transaction_log import row_count
from tracelet.backends.wandb.values import run_tag
from tracelet.backends.wandb.watermark import Mark, OpenRows
from tracelet.errors import BackendError, BackendUnavailable, RecordRejected
from tracelet.redaction import passwords_in_url

_FLUSH_TIMEOUT = 3.0
_READ_INTERVAL = 1.0
_MARK_AGE = 0.5
_LAST_PROBE_TIMEOUT = 1.0


class WandbBackend(Backend, NativeRun, OfflineRecording, Probing, Adoption, ChildProcesses):
    """Write records to one Weights & Biases run."""

    name: ClassVar[str] = "wandb"
    Config = WandbConfig
    accepts = SHOWN_AS
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
        self._rows = OpenRows(lambda row: self._opened.send_scalars(row))
        self._names = Names()
        self._confirmed = 0
        self._delivered = 0
        self._last_read = 0.0
        self._warned = False

    def open(self, run: r.RunInfo) -> int | None:
        """Use the program's own run if there is one; otherwise start or resume the run for `run.run_id`."""
        self._wandb = wandb = import_wandb()
        self._folder = Path(run.folder)
        with translated():
            lost = self._leave()  # must not be resumed as the program's own run
            note = Note.load(self._folder)
            note.wait_until_quiet()
            is_new = not note.id
            self._connection = connection = Connection(wandb, self.config, note, lambda: note.save(self._folder))
            with contextlib.ExitStack() as undo:
                undo.callback(host.exit_hooks_restorer())
                self._register_exit(undo)
                active = None if lost is not None else host.active_run(wandb)
                native = connection.resume(*lost) if lost is not None else active or connection.start(run)
                self._register_exit(undo)
                self._owned = active is None
                if self._owned:
                    host.started.append(native)
                    undo.callback(host.started.remove, native)
                self._warned = self._warned or host.warn_of_native_capture(wandb)
                known = connection.mark()
                self._recording = connection.record(native, owned=self._owned)
                if self._recording is not None:
                    active_files.add(self._recording.file)
                    undo.callback(active_files.discard, self._recording.file)
                mark = (known or Mark(note.journal)).limited(self.last_known)
                self._run = OpenRun(wandb, native, mark, self._names, self._check_server)
                self._rows.clear()
                self._undo = undo.pop_all()
        self._delivered, self._confirmed = note.delivered().low, mark.low
        return mark.low if is_new or known is not None else None  # without a recording, it is unknown

    def _leave(self) -> tuple[Any, bool] | None:
        """Release a lost run. Return its object, and True if the program finished it; otherwise its service died."""
        if self._run is None:
            return None
        run, recording, connection = self._run, self._recording, self._connection
        assert connection is not None
        is_finished = run.finished
        if is_finished:
            self._wait_for_end(run)
        run.confirmed()
        if is_finished and recording is not None and recording.online:
            with contextlib.suppress(BackendUnavailable):
                connection.confirm_upload(run.native, recording, complete=run.has_all and not run.is_uploading)
        with self._undo:
            run.close()
        if not is_finished:
            with contextlib.suppress(*dead_service()):
                self._wandb.teardown()
        self._run = None
        return run.native, is_finished

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

    @property
    def _opened(self) -> OpenRun:
        if self._run is None:
            raise BackendUnavailable("wandb: the run is not open")
        return self._run

    @property
    def offline_reason(self) -> str | None:
        """The outage because of which the run is in wandb's offline mode, although it should be online."""
        return self._connection.offline_reason if self._run is not None and self._connection is not None else None

    def write(self, batch: Batch) -> Written | None:
        """Send records in order. Scalars of one writer and step are collected into one row first."""
        run = self._opened
        if run.native.disabled:
            run.sent.seen = batch.last
            return None
        with translated():
            self._check_run()
            self._rows.send_old()
        for index, record in enumerate(batch):
            number = batch.numbers[index]
            if number in run.held_at_open:
                continue
            run.sent.begin(number)
            try:
                with translated(record=True):
                    self._send(record, number)
            except BackendError as error:
                if isinstance(error, RecordRejected):
                    run.skip(number)
                return Written(index, error)
        return None

    def _check_run(self) -> None:
        if self._opened.finished:
            raise BackendUnavailable("wandb: the program finished the run; resuming it", reopen=True)

    def _send(self, record: r.Record, number: int) -> None:
        run = self._opened
        if isinstance(record, r.Scalar):
            self._rows.add(run.key(record.tag), record, number)
            return
        self._rows.send([getattr(record, "writer", "")])
        if isinstance(record, r.Tags) and self._connection is not None:
            note = self._connection.note
            note.tags = list(dict.fromkeys([*note.tags, *map(run_tag, record.tags)]))
            self._save()
        run.send(record, number)

    def durable(self) -> int:
        """Return the last sequence number in the run's `.wandb` file; artifacts of an online run must be uploaded.

        If there is an `offline_reason`, or the upload is incomplete, only records at the server count.
        """
        run = self._run
        if run is None:
            return self._confirmed
        with translated():
            self._rows.send_old()
            run.mark_uploads()
            run.send_mark(older_than=_MARK_AGE)
        if time.monotonic() - self._last_read >= _READ_INTERVAL:
            self._read()
        return self._delivered if self.offline_reason is not None else self._confirmed

    def _read(self) -> bool:
        """Read the run's file; return True if it has all that was sent."""
        self._last_read = time.monotonic()
        self._confirmed = self._opened.confirmed()
        if self._recording is not None and self._confirmed and not self._recording.held:
            self._recording.held = self._confirmed
            self._save()
        return self._opened.has_all

    def _save(self) -> None:
        assert self._connection is not None
        self._connection.note.save(self._folder)

    def flush(self) -> None:
        """Send the open rows, and wait up to three seconds until they are in wandb's file."""
        run = self._run
        if run is None:
            return
        with translated():
            if run.finished:
                self._wait_for_end(run)
                if not (run.has_all and self._rows.are_empty):
                    self._check_run()
                return
            self._rows.send_all()
            run.mark_uploads()
            run.send_mark()
            interval = getattr(run.native.settings, "x_transaction_log_flush_interval", math.inf)
            self._wait_for(self._read, timeout=_FLUSH_TIMEOUT if interval <= _FLUSH_TIMEOUT else 0)

    def close(self, status: Status, exit_code: int) -> None:
        """Finish the run if tracelet started it. The program's own run stays open."""
        run = self._run
        if run is None:
            return
        with translated():
            if not run.finished:
                self._rows.send_all()
            if self._owned or run.finished:
                self._finish(run, exit_code or {"finished": 0, "failed": 1, "killed": 255}[status])
            else:
                self.flush()
                run.close()
            with self._undo, contextlib.ExitStack() as undo:
                undo.callback(setattr, self, "_run", None)
                self._end_recording(run)

    def _finish(self, run: OpenRun, code: int) -> None:
        run.mark_uploads()
        run.close()
        run.native.finish(code)
        self._wait_for_end(run)
        if not (run.native.disabled or (run.has_all and self._rows.are_empty)):
            raise BackendUnavailable("wandb: the run ended before all rows were written; resuming it", reopen=True)

    def _wait_for_end(self, run: OpenRun) -> None:
        """Wait for the last rows and the end record in the file: `finish` returns a moment before they are written."""

        def has_ended() -> bool:
            self._read()
            return run.has_ended

        self._wait_for(has_ended)

    def _end_recording(self, run: OpenRun) -> None:
        """Update the recording after the end of the run; raise BackendUnavailable if the server lacks records."""
        recording, connection = self._recording, self._connection
        assert connection is not None
        run.mark_uploads()
        self._confirmed = run.sent.low  # all rows are in the file, or will be at the end of the program's own run
        if recording is None:
            return
        active_files.discard(recording.file)
        final = self._confirmed
        try:
            if not run.native.offline:
                if self._owned:
                    self._confirmed = connection.note.delivered().low
                    connection.confirm_upload(run.native, recording, complete=not run.is_uploading)
                recording.done = True
            elif connection.note.recordings[:-1] and row_count(Path(recording.file)) == 0:
                recording.done = True  # it was opened only to check for written records
            if connection.offline_reason is not None:
                self._confirmed = connection.note.delivered().low
                connection.uploader_if_up(_LAST_PROBE_TIMEOUT).run(time.monotonic() + self.config.finish_timeout)
            self._confirmed = final
        finally:
            recording.mark, recording.held = run.sent.text(), final
            self._save()

    @classmethod
    def pending_upload(cls, folder: Path) -> str | None:
        """Return the folder of the oldest pending recording; None if the environment sets wandb offline."""
        return None if server.wants_offline() else cls.offline_recording(folder)

    @classmethod
    def offline_recording(cls, folder: Path) -> str | None:
        pending = Note.load(folder).pending()
        return os.path.dirname(pending[0].file) if pending else None

    @classmethod
    def offline_seq(cls, folder: Path) -> int:
        """Read the sequence number from the recordings."""
        return Note.load(folder).recorded().low

    def upload_offline(self, run: r.RunInfo, deadline: float) -> None:
        """Upload offline and incomplete recordings with `wandb sync`."""
        folder = Path(run.folder)
        note = Note.load(folder)
        if server.wants_offline() or not note.pending():
            return
        note.wait_until_quiet()
        connection = Connection(import_wandb(), self.config, note, lambda: note.save(folder))
        with translated():
            timeout = max(0.1, min(_FLUSH_TIMEOUT, deadline - time.monotonic()))
            connection.uploader_if_up(timeout).run(deadline)

    def secrets(self) -> Iterable[str]:
        """Return the API keys that this backend may use, and passwords in URLs."""
        values = {*server.secrets(self.config, dict(os.environ))}
        if self._wandb is not None:  # wandb has read its settings files
            values.update(passwords_in_url(str(self._wandb.sdk.wandb_setup.singleton().settings.base_url)))
        return values

    def _wait_for(self, done: Callable[[], bool], *, timeout: float = _FLUSH_TIMEOUT) -> None:
        end = time.monotonic() + timeout
        while not done() and time.monotonic() < end:
            time.sleep(FLUSH_INTERVAL / 50)

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
        return server.probe(config or WandbConfig())

    @classmethod
    def native_capture(cls) -> str | None:
        """Return the value of `WANDB_SYNC_TENSORBOARD` if it is set."""
        return host.native_capture()

    @classmethod
    def adopt(cls, obj: Any) -> AdoptedArtifact | None:
        """Convert a `wandb.Artifact` and its local files. The metadata contains its references."""
        return host.adopt(obj)
