"""Weights & Biases: one record, one row of the run's history (or its config, or an artifact)."""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from tracelet.backends.base import AdoptedArtifact, Backend, Batch, Probe, Status
from tracelet.backends.wandb.config import KEPT, WandbConfig
from tracelet.backends.wandb.connect import FLUSH_INTERVAL, Connection, exit_hooks_restorer
from tracelet.backends.wandb.durability import AlreadyWritten, Durability, Fingerprint, Pending
from tracelet.backends.wandb.errors import dead_service, end_service, imported, translated
from tracelet.backends.wandb.offline_files import Note, Recording, active_files
from tracelet.backends.wandb.offline_upload import HandOver
from tracelet.backends.wandb.places import PLACES
from tracelet.backends.wandb.probe import adopt, native_capture, probe
from tracelet.backends.wandb.row_buffer import ROW_SPAN, OpenRows
from tracelet.backends.wandb.run import OpenRun, is_up
from tracelet.backends.wandb.server import OFFLINE, secrets
from tracelet.backends.wandb.transaction_log import TransactionLog, row_count
from tracelet.backends.wandb.values import tag_word
from tracelet.errors import BackendUnavailable
from tracelet.records import Record, RunInfo, Scalar, Tags, shown_step
from tracelet.redaction import of_url

_logger = logging.getLogger("tracelet")

_FLUSH_DEADLINE = 3.0
_READ_INTERVAL = 1.0
_LAST_PROBE = 1.0


class WandbBackend(Backend):
    """Write records to one Weights & Biases run."""

    name: ClassVar[str] = "wandb"
    Config = WandbConfig
    persistent_keys = KEPT
    shown_as = PLACES
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
        self._known: int | None = None
        self._after: int | None = None
        self._ledger = Durability()
        self._rows = OpenRows(self._ledger.add, self._hand_over, self._send_row)
        self._renamed: dict[str, str] = {}
        self._read_at = 0.0
        self._warned = False

    def persistent_config(self) -> dict[str, Any]:
        """With the folder's own path, whatever the working directory is by then."""
        told = super().persistent_config()
        return told | {"dir": os.path.abspath(told["dir"]) if told["dir"] else None}

    def open(self, run: RunInfo) -> None:
        """Use the program's own run if there is one; otherwise begin, or go on with, the run of `run.run_id`."""
        self._wandb = wandb = imported()
        self._folder = Path(run.folder)
        note = Note.load(self._folder)
        note.wait_until_quiet()
        self._known = note.held() if note.recordings else None
        known = AlreadyWritten(_beyond(note))
        self._connection = connection = Connection(wandb, self.config, note, lambda: note.save(self._folder))
        with contextlib.ExitStack() as undo, translated():
            undo.callback(exit_hooks_restorer())
            self._watch_exit(undo)
            active = wandb.run or wandb.sdk.wandb_setup.singleton().most_recent_active_run
            native = active or connection.begin(run)
            self._watch_exit(undo)
            self._owned = active is None
            self._warn_of_own_capture()
            self._recording = connection.record(native, begun_here=self._owned)
            self._claim(undo)
            self._run = self._opened(native, known, shared=True)
            self._undo = undo.pop_all()

    def _warn_of_own_capture(self) -> None:
        """What wandb itself reads of TensorBoard lands in whatever run there is: only the program can leave it out."""
        if getattr(self._wandb, "patched", {}).get("tensorboard") and not self._warned:
            self._warned = True
            _logger.warning(
                "tracelet: wandb's own capture of TensorBoard is on: each point arrives twice in this run. "
                "Leave sync_tensorboard=True and wandb.tensorboard.patch() out"
            )

    def _opened(self, native: Any, known: AlreadyWritten, *, shared: bool) -> OpenRun:
        return OpenRun(self._wandb, native, self._renamed, known, self._check, shared=shared)

    def _claim(self, undo: contextlib.ExitStack) -> None:
        if self._recording is not None:
            active_files.add(self._recording.file)
            undo.callback(active_files.discard, self._recording.file)

    def _check(self) -> None:
        if self._owned and self._connection is not None:
            self._connection.server().check(_FLUSH_DEADLINE)

    def _watch_exit(self, undo: contextlib.ExitStack) -> None:
        """Exit callbacks run last in, first out: ours goes before that of wandb's service, which waits without end."""
        self._wandb.setup().ensure_service()
        atexit.unregister(self._abandon)
        atexit.register(self._abandon)
        undo.callback(atexit.unregister, self._abandon)

    def _abandon(self) -> None:
        """The program is over and this backend still at work: what is not uploaded stays in the run's file."""
        if self._connection is not None and self._connection.handover is not None:
            self._connection.handover.stop()
        if self._owned or self._run is None:
            end_service(self._wandb)

    def _reopen(self) -> None:
        """Go on with the same run id: the program finished the run, or wandb's service process died."""
        old, finished, known = self._to.native, self._to.finished, self._to.known
        assert self._connection is not None
        with translated():
            if finished:
                self._wait_for_end()
            self._read()
            self._ledger.begin_file()
            self._to.close()
            if not finished:
                _logger.warning("wandb: its service process ended; run %s goes on in a new one", old.id)
                with contextlib.suppress(*dead_service()):
                    self._wandb.teardown()
            elif self._recording is not None and self._recording.online:
                with contextlib.suppress(BackendUnavailable):
                    self._uploaded(self._recording)
            run = self._connection.again(old, finished=finished)
            self._recording = self._connection.record(run, begun_here=True)
            self._claim(self._undo)
            self._run, self._owned = self._opened(run, known, shared=not finished), True
        for piece in self._ledger.unsettled():
            self._ledger.send(piece)

    @property
    def _to(self) -> OpenRun:
        """Where records go."""
        if self._run is None:
            raise BackendUnavailable("wandb: the run is not open")
        return self._run

    @property
    def offline_reason(self) -> str | None:
        """Why the run is in wandb's own offline mode though it was meant to be online."""
        return self._connection.offline_reason if self._run is not None and self._connection is not None else None

    def write(self, batch: Batch) -> None:
        """Hand records over in order; scalars of one writer and step wait for each other."""
        if self._to.native.disabled:
            return
        with translated(written=0):
            self._rows.send_old()
        for at, record in enumerate(batch):
            with translated(written=at):
                if isinstance(record, Scalar):
                    self._join(record)
                else:
                    self._rows.send([getattr(record, "writer", "")])
                    self._hand_over(Pending(partial(self._send, record)))

    def _join(self, scalar: Scalar) -> None:
        key = self._to.key(scalar.tag)
        step = shown_step(scalar.step)
        if self._to.known.has_point(step, key, scalar.value, scalar.wall_time, within=ROW_SPAN):
            return
        self._rows.join(key, scalar)

    def on_written(self, batch: Batch) -> None:
        """Remember which pieces hold the records up to `batch.last`."""
        self._ledger.mark(batch.last)

    def resume_after(self) -> int | None:
        """What earlier processes left in the run's files, also where the server lacks it."""
        return self._known

    def durable_seq(self) -> int | None:
        """What stands in the run's `.wandb` file, and for online artifacts: what the server has.

        On a detour, and where the upload did not end: what the server has.
        """
        if self._run is None:
            return self._after
        with translated():
            self._rows.send_old()
        if time.monotonic() - self._read_at >= _READ_INTERVAL:
            self._read()
        self._mark()
        if self.offline_reason is not None:
            return self._delivered()
        return self._known if self._ledger.confirmed is None else self._ledger.confirmed

    def _delivered(self) -> int:
        assert self._connection is not None
        return self._connection.note.delivered()

    def _mark(self) -> None:
        """Note how far the file is known to hold the journal, for a process that comes after this one."""
        held, recording = self._ledger.confirmed, self._recording
        if recording is None or held is None or held == recording.held:
            return
        recording.held, recording.at = held, self._ledger.at
        self._save()

    def _save(self) -> None:
        assert self._connection is not None
        with translated():
            self._connection.note.save(self._folder)

    def flush(self) -> None:
        """Send the open rows, and wait a few seconds until wandb wrote them to its file."""
        if self._run is None:
            return
        with translated():
            self._rows.send_all()
        interval = getattr(self._to.native.settings, "x_transaction_log_flush_interval", math.inf)
        self._wait_for(self._read, deadline=_FLUSH_DEADLINE if interval <= _FLUSH_DEADLINE else 0)

    def close(self, status: Status, exit_code: int) -> None:
        """Finish the run if it was begun here; the program's own run goes on."""
        if self._run is None:
            return
        code = exit_code or {"finished": 0, "failed": 1, "killed": 255}[status]
        ended = False
        try:
            with self._undo, contextlib.ExitStack() as undo, translated():
                undo.callback(lambda: self._to.close())
                self._rows.send_all()
                if self._owned or self._to.finished:
                    self._finish(code)
                else:
                    self._to.close()
                    self.flush()
                ended = True
                self._end()
        finally:
            if ended:
                self._run = None

    def _end(self) -> None:
        """Settle what the end of the run means for what it holds; BackendUnavailable where the server lacks some."""
        recording, native, connection = self._recording, self._to.native, self._connection
        if recording is not None:
            active_files.discard(recording.file)
        if recording is None or connection is None:
            self._ledger.settle()
            self._after = self._ledger.confirmed
            return
        self._mark()
        try:
            if not native.offline:
                if self._owned:
                    self._after = self._delivered()
                    self._uploaded(recording)
                recording.done = True
            self._ledger.settle()
            self._mark()
            if native.offline and connection.note.recordings[:-1] and row_count(Path(recording.file)) == 0:
                recording.done = True  # opened to see what is held, and nothing more
            if self.offline_reason is not None:
                self._after = self._delivered()
                self._go_back()
            self._after = self._known if self._ledger.confirmed is None else self._ledger.confirmed
        finally:
            self._save()

    def _uploaded(self, recording: Recording) -> None:
        """See that the server has a finished online run; what it lacks waits for `upload_offline`."""
        assert self._connection is not None
        where = f"; what is missing there waits in {Path(recording.file).parent}"
        if getattr(self._to.native, "_finish_timed_out", False):
            raise BackendUnavailable(f"wandb: the upload took longer than finish_timeout{where}")
        handover = self._connection.handover
        if self._ledger.unsettled() or (handover is not None and not handover.verify(recording)):
            raise BackendUnavailable(f"wandb: the server did not take all of the run{where}")
        recording.done = True

    def _go_back(self) -> None:
        """The run was to be online: deliver what it recorded, if the server answers by now."""
        assert self._connection is not None
        server = self._connection.server()
        server.check(_LAST_PROBE)
        self._connection.handover = handover = HandOver(self._connection.note, server, self._save)
        handover.run(time.monotonic() + self.config.finish_timeout)

    @classmethod
    def pending_upload(cls, folder: Path) -> str | None:
        """The folder of the oldest recording that waits; none does where the environment wants wandb offline."""
        waiting = [] if _wants_offline() else Note.load(folder).waiting()
        return os.path.dirname(waiting[0].file) if waiting else None

    @classmethod
    def offline_seq(cls, folder: Path) -> int:
        """By the note in the run's folder."""
        return Note.load(folder).held()

    def upload_offline(self, run: RunInfo, deadline: float) -> None:
        """Deliver by `wandb sync` what wandb recorded offline, or could not upload."""
        folder = Path(run.folder)
        note = Note.load(folder)
        if _wants_offline() or not note.waiting():
            return
        note.wait_until_quiet()
        connection = Connection(imported(), self.config, note, lambda: note.save(folder))
        with translated():
            server = connection.server()
            server.check(max(0.1, min(_FLUSH_DEADLINE, deadline - time.monotonic())))
            HandOver(note, server, lambda: note.save(folder)).run(deadline)

    def secrets(self) -> Iterable[str]:
        """The API keys that this backend could use, and the passwords in addresses."""
        known = {*secrets(self.config, dict(os.environ))}
        if self._wandb is not None:  # by now it has read its settings files
            known.update(of_url(str(self._wandb.sdk.wandb_setup.singleton().settings.base_url)))
        return known

    def _finish(self, code: int) -> None:
        try:
            self._to.close()
            self._to.native.finish(code)
        except dead_service():
            self._reopen()
            self._to.close()
            self._to.native.finish(code)
        self._wait_for_end()
        if not self._read(uploads=False):
            # The program's own `finish` came between our rows and wandb's file.
            self._reopen()
            self._to.close()
            self._to.native.finish(code)
            self._wait_for_end()

    def _wait_for_end(self) -> None:
        """wandb's `finish` returns a moment before the last rows and the end stand in the file."""

        def ended() -> bool:
            self._read(uploads=False)
            return self._to.file is None or self._to.file.ended

        self._wait_for(ended)

    def _wait_for(self, done: Callable[[], bool], *, deadline: float = _FLUSH_DEADLINE) -> None:
        end = time.monotonic() + deadline
        while not done() and time.monotonic() < end:
            time.sleep(FLUSH_INTERVAL / 50)

    def _read(self, *, uploads: bool = True) -> bool:
        """Look at the file, and ask after uploads; whether everything handed over is held."""
        self._read_at = time.monotonic()
        if self._to.file is None:
            self._ledger.settle()
        else:
            self._ledger.absorb(self._to.file)
            self._ledger.uploaded(is_up)
        return not self._ledger.unsettled(uploads=uploads)

    def _hand_over(self, piece: Pending) -> None:
        """Send; if the run was lost meanwhile, reopen it and send once more."""
        try:
            self._ledger.send(piece)
        except (*dead_service(), self._wandb.errors.UsageError) as error:
            if isinstance(error, self._wandb.errors.UsageError) and not self._to.finished:
                raise
            self._reopen()
            self._ledger.send(piece)

    def _send(self, record: Record) -> Fingerprint:
        if isinstance(record, Tags) and self._connection is not None:
            note = self._connection.note
            note.tags = list(dict.fromkeys([*note.tags, *map(tag_word, record.tags)]))
            self._save()
        return self._to.send(record)  # where records go by then: the run may have been reopened

    def _send_row(self, values: dict[str, float], step: int, wall_time: float) -> Fingerprint:
        return self._to.send_row(values, step, wall_time)

    @property
    def native(self) -> Any:
        """The `wandb.Run`."""
        return None if self._run is None else self._run.native

    @property
    def url(self) -> str | None:
        """The run's page; an offline run has none, and wandb says so each time that it is asked."""
        return None if self._run is None or self._run.native.offline else self._run.native.url or None

    @classmethod
    def probe(cls, config: Any = None) -> Probe:
        """Whether a run could be begun here and now."""
        return probe(config or WandbConfig())

    @classmethod
    def native_capture(cls) -> str | None:
        """`WANDB_SYNC_TENSORBOARD`."""
        return native_capture()

    @classmethod
    def adopt(cls, obj: Any) -> AdoptedArtifact | None:
        """A `wandb.Artifact` with its local files; references stay in the metadata."""
        return adopt(obj)


def _wants_offline() -> bool:
    return os.environ.get("WANDB_MODE") in OFFLINE


def _beyond(note: Note) -> Iterable[Any]:
    """What the run's files hold beyond the last known mark: read back, and not sent again."""
    held = note.held()
    for recording in note.recordings:
        if recording.held >= held and os.path.exists(recording.file):
            yield from TransactionLog(Path(recording.file), recording.at).records()
