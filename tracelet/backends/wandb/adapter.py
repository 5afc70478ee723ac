"""Weights & Biases: one record, one row of the run's history (or its config, or an artifact)."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import inspect
import json
import logging
import math
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from tracelet.backends.base import AdoptedArtifact, Backend, Batch, Probe, Status
from tracelet.backends.wandb.run import OpenRun, dead_service
from tracelet.backends.wandb.transaction_log import Ledger, Piece, Sign
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.records import Record, RunInfo, Scalar, shown_step

_logger = logging.getLogger("tracelet")

_NOT_INSTALLED = 'not installed: pip install "tracelet[wandb]"'
_INIT_TIMEOUT = 10.0
_FLUSH_INTERVAL = 0.5
"""Seconds between wandb's own writes to the run's file; what is younger dies with a kill of the whole process group."""
_FLUSH_DEADLINE = 3.0
_READ_INTERVAL = 1.0
_ROW_SPAN = 1.0
_ROW_AGE = 5.0
_OFFLINE = ("offline", "dryrun", "disabled")
_AGENTS = ("WANDB_SWEEP_ID", "WANDB_LAUNCH")
_NOTE = "wandb.json"


class WandbConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `wandb.init` should be given beyond the run itself; a key left out keeps wandb's own meaning (WANDB_...)."""

    entity: str | None = None
    name: str | None = None
    tags: list[str] | None = None
    notes: str | None = None
    group: str | None = None
    job_type: str | None = None
    mode: Literal["online", "offline", "disabled", "shared"] | None = None
    save_code: bool | None = None
    resume: bool | Literal["allow", "must", "never", "auto"] | None = None
    dir: str | None = None
    api_key: str | None = None
    backend_url: str | None = None
    finish_timeout: float = 30.0
    settings: dict[str, Any] | None = None

    def __repr__(self) -> str:
        secret = ("api_key", "settings")
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if name not in secret}
        shown |= {name: "***" for name in secret if getattr(self, name) is not None}
        return f"WandbConfig({', '.join(f'{name}={value!r}' for name, value in shown.items() if value is not None)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("", repr(self))]


@dataclass(eq=False)
class _Row:
    """Scalars of one writer and step that are not handed over yet."""

    step: int
    wall_time: float
    born: float
    values: dict[str, float] = field(default_factory=dict)
    piece: Piece = field(init=False)


class WandbBackend(Backend):
    """Write records to one Weights & Biases run."""

    name: ClassVar[str] = "wandb"
    Config = WandbConfig

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._wandb: Any = None
        self._run: OpenRun | None = None
        self._owned = False
        self._undo = contextlib.ExitStack()
        self._ledger = Ledger()
        self._rows: dict[str, _Row] = {}
        self._renamed: dict[str, str] = {}
        self._read_at = 0.0

    def open(self, run: RunInfo) -> None:
        """Use the program's own run if there is one; otherwise begin, or go on with, the run of `run.run_id`."""
        self._wandb = wandb = _import()
        with contextlib.ExitStack() as undo, _translated():
            undo.callback(_exit_hooks_restorer())
            active = wandb.run or wandb.sdk.wandb_setup.singleton().most_recent_active_run
            native = active or self._begin(run)
            self._run, self._owned = OpenRun(wandb, native, self._renamed, shared=True), active is None
            _remember(Path(run.folder), run.run_id, native)
            self._undo = undo.pop_all()

    def _begin(self, run: RunInfo) -> Any:
        """`wandb.init` with what the user gave, and nothing else."""
        config, told = self.config, _recall(Path(run.folder))
        given = {
            "entity": told.get("entity") or config.entity,
            "project": told.get("project") or run.project,
            "name": config.name or run.name,
            "tags": config.tags if config.tags is not None else run.tags or None,
            "notes": config.notes if config.notes is not None else run.notes,
            "group": config.group or run.group,
            "job_type": config.job_type,
            "mode": config.mode,
            "save_code": config.save_code,
            "dir": config.dir,
            "id": told.get("id") or run.run_id,
            # "auto" is wandb's word for what our own run id does already.
            "resume": "allow" if told or config.resume in (None, True, "auto") else config.resume,
        }
        agent = any(name in os.environ for name in _AGENTS)
        if not told and (agent or "WANDB_RUN_ID" in os.environ):  # that run is ours
            given |= {"id": None, "resume": config.resume}
            # wandb would warn about a project of our own and ignore it.
            given |= {"project": None, "entity": None} if agent else {}
        self._need_key()
        return self._init(given)

    def _init(self, given: dict[str, Any]) -> Any:
        ours = {"x_transaction_log_flush_interval": _FLUSH_INTERVAL, "init_timeout": _INIT_TIMEOUT}
        ours |= {"finish_timeout": self.config.finish_timeout}
        known = self._wandb.Settings.model_fields  # releases before 0.31 lack one or two of ours
        settings = {
            name: value for name, value in ours.items() if name in known and f"WANDB_{name.upper()}" not in os.environ
        }
        settings |= {"sync_tensorboard": False}  # or every scalar would arrive twice
        # Not `wandb.login`: that writes the key to ~/.netrc.
        settings |= _given({"api_key": self.config.api_key, "base_url": self.config.backend_url})
        wanted = _settings(self._wandb, settings | (self.config.settings or {}))
        try:
            return self._wandb.init(**_given(given), settings=wanted)
        except dead_service():  # a service that an earlier run left dead behind it
            with contextlib.suppress(*dead_service()):
                self._wandb.teardown()
            return self._wandb.init(**_given(given), settings=wanted)

    def _need_key(self) -> None:
        """Say that there is no API key, before `wandb.init` asks for one on the terminal."""
        from wandb.sdk.lib import wbauth

        settings = self._wandb.sdk.wandb_setup.singleton().settings
        if (self.config.mode or settings.mode) in _OFFLINE or self.config.api_key:
            return
        host = self.config.backend_url or settings.base_url
        keep = {"update_session": False}
        if "update_session" not in inspect.signature(wbauth.authenticate_session).parameters:
            keep = {}  # wandb 0.30
        if wbauth.authenticate_session(host=host, source="tracelet", prompt=False, **keep) is None:
            raise BackendUnavailable(f"wandb: {_no_key(host)}")

    def _reopen(self, cause: BaseException) -> None:
        """Go on with the same run id: the program finished the run, or wandb's service process died."""
        old, finished = self._to.native, self._to.finished
        with _translated():
            if finished:
                self._wait_for_end()
            self._read()
            self._ledger.forget_signs()
            self._to.close()
            if not finished:
                _logger.warning("wandb: its service process ended; run %s goes on in a new one", old.id)
                with contextlib.suppress(*dead_service()):
                    self._wandb.teardown()
            settings = old.settings
            given = {"id": old.id, "project": old.project, "entity": old.entity, "name": settings.run_name}
            given |= {"dir": settings.root_dir, "mode": settings.mode, "group": settings.run_group}
            given |= {"job_type": settings.run_job_type, "tags": settings.run_tags, "resume": "allow"}
            if finished:  # it stays finished for the program, whose next `wandb.init` must not be given ours
                given["reinit"] = "create_new"
            run = self._init({name: value or None for name, value in given.items()})
            if finished:
                self._wandb.setup().remove_active_run(run)
            self._run, self._owned = OpenRun(self._wandb, run, self._renamed, shared=not finished), True
        for piece in self._ledger.unsettled():
            self._ledger.send(piece)

    @property
    def _to(self) -> OpenRun:
        """Where records go."""
        if self._run is None:
            raise BackendUnavailable("wandb: the run is not open")
        return self._run

    def write(self, batch: Batch) -> None:
        """Hand records over in order; scalars of one writer and step wait for each other."""
        if self._to.native.disabled:
            return
        with _translated(written=0):
            self._send_rows(self._rows_older_than(_ROW_AGE))
        for at, record in enumerate(batch):
            with _translated(written=at):
                if isinstance(record, Scalar):
                    self._join(record)
                else:
                    self._send_rows([getattr(record, "writer", "")])
                    self._hand_over(Piece(partial(self._send, record)))

    def handed(self, batch: Batch) -> None:
        """Remember which pieces hold the records up to `batch.last`."""
        self._ledger.mark(batch.last)

    def confirm(self) -> int | None:
        """What stands in the run's `.wandb` file, and for online artifacts: what the server has."""
        if self._run is None:
            return self._ledger.confirmed
        with _translated():
            self._send_rows(self._rows_older_than(_ROW_AGE))
        if time.monotonic() - self._read_at >= _READ_INTERVAL:
            self._read()
        return self._ledger.confirmed

    def flush(self) -> None:
        """Send the open rows, and wait a few seconds until wandb wrote them to its file."""
        if self._run is None:
            return
        with _translated():
            self._send_rows(list(self._rows))
        interval = getattr(self._to.native.settings, "x_transaction_log_flush_interval", math.inf)
        self._wait_for(self._read, deadline=_FLUSH_DEADLINE if interval <= _FLUSH_DEADLINE else 0)

    def close(self, status: Status, exit_code: int) -> None:
        """Finish the run if it was begun here; the program's own run goes on."""
        if self._run is None:
            return
        code = exit_code or {"finished": 0, "failed": 1, "killed": 255}[status]
        with self._undo, contextlib.ExitStack() as undo, _translated():
            undo.callback(lambda: self._to.close())
            self._send_rows(list(self._rows))
            if self._owned or self._to.finished:
                self._finish(code)
            else:
                self._to.close()
                self.flush()
            self._ledger.settle()
        self._run = None

    def _finish(self, code: int) -> None:
        try:
            self._to.close()
            self._to.native.finish(code)
        except dead_service() as error:
            self._reopen(error)
            self._to.close()
            self._to.native.finish(code)
        self._wait_for_end()
        if not self._read(uploads=False):
            # The program's own `finish` came between our rows and wandb's file.
            self._reopen(BackendUnavailable("rows were handed over after the end of the run"))
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
            time.sleep(_FLUSH_INTERVAL / 50)

    def _read(self, *, uploads: bool = True) -> bool:
        """Look at the file; whether everything handed over is in it."""
        self._read_at = time.monotonic()
        if self._to.file is None:
            self._ledger.settle()
        else:
            self._ledger.absorb(self._to.file)
            self._ledger.uploaded(self._is_up if uploads else bool)  # a finished run has uploaded all it could
        return not self._ledger.unsettled()

    def _is_up(self, artifact: Any) -> bool:
        from wandb.sdk.artifacts.exceptions import WaitTimeoutError

        try:
            artifact.wait(timeout=0)
        except WaitTimeoutError:
            return False
        except ValueError as error:  # the server's last word
            _logger.warning("wandb: artifact %s was refused: %s", artifact.name, error)
        return True

    def _rows_older_than(self, age: float) -> list[str]:
        now = time.monotonic()
        return [writer for writer, row in self._rows.items() if now - row.born >= age]

    def _join(self, scalar: Scalar) -> None:
        """Put a scalar into its writer's open row, or send that and begin another."""
        key, step = self._to.key(scalar.tag), shown_step(scalar.step)
        row = self._rows.get(scalar.writer)
        fits = row is not None and row.step == step and abs(row.wall_time - scalar.wall_time) <= _ROW_SPAN
        ended = [writer for writer, other in self._rows.items() if key in other.values]
        if not fits and scalar.writer not in ended:
            ended.append(scalar.writer)
        self._send_rows(ended)
        if scalar.writer not in self._rows:
            row = self._rows[scalar.writer] = _Row(step, scalar.wall_time, time.monotonic())
            row.piece = self._ledger.add(Piece(partial(self._send_row, row)))
        self._rows[scalar.writer].values[key] = scalar.value

    def _send_rows(self, writers: Iterable[str]) -> None:
        for writer in writers:
            if writer in self._rows:
                self._hand_over(self._rows[writer].piece)
                del self._rows[writer]

    def _hand_over(self, piece: Piece) -> None:
        """Send; if the run was lost meanwhile, reopen it and send once more."""
        try:
            self._ledger.send(piece)
        except (*dead_service(), self._wandb.errors.UsageError) as error:
            if isinstance(error, self._wandb.errors.UsageError) and not self._to.finished:
                raise
            self._reopen(error)
            self._ledger.send(piece)

    def _send(self, record: Record) -> Sign:
        return self._to.send(record)  # where records go by then: the run may have been reopened

    def _send_row(self, row: _Row) -> Sign:
        return self._to.send_row(row.values, row.step, row.wall_time)

    @property
    def native(self) -> Any:
        """The `wandb.Run`."""
        return None if self._run is None else self._run.native

    @property
    def url(self) -> str | None:
        """The run's page; an offline run has none."""
        return None if self._run is None else self._run.native.url or None

    @classmethod
    def probe(cls) -> Probe:
        """Whether a run could be begun here and now, with what the environment says."""
        if importlib.util.find_spec("wandb") is None:
            return Probe(False, _NOT_INSTALLED)
        wandb = _import()
        from wandb.sdk.lib import wbauth

        settings = wandb.Settings()
        settings.update_from_env_vars(dict(os.environ))
        if settings.mode in _OFFLINE:
            return Probe(True, f"mode {settings.mode}: nothing is sent")
        host = str(settings.base_url)
        try:
            auth = wbauth.authenticate_session(host=host, source="tracelet", prompt=False, update_session=False)
            with urllib.request.urlopen(f"{host}/healthz", timeout=3):
                pass
        except urllib.error.HTTPError:
            pass  # it answers
        except (OSError, wandb.Error) as error:
            return Probe(False, f"{host}: {error}")
        return Probe(True, f"signed in to {host}") if auth else Probe(False, _no_key(host))

    @classmethod
    def adopt(cls, obj: Any) -> AdoptedArtifact | None:
        """A `wandb.Artifact` with its local files; references stay in the metadata."""
        wandb = sys.modules.get("wandb")
        if wandb is None or not isinstance(obj, wandb.Artifact):
            return None
        manifest = obj.manifest.entries
        metadata = dict(obj.metadata)
        if obj.description:
            metadata["description"] = obj.description
        references = {path: str(entry.ref) for path, entry in manifest.items() if entry.ref and not entry.local_path}
        if references:
            metadata["references"] = references
        return AdoptedArtifact(
            name=obj.name.partition(":")[0],
            files={str(path): str(entry.local_path) for path, entry in manifest.items() if entry.local_path},
            type=obj.type,
            metadata=metadata,
        )


def _import() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise BackendUnavailable(f"wandb: {_NOT_INSTALLED}") from error
    return wandb


@contextlib.contextmanager
def _translated(*, written: int | None = None) -> Iterator[None]:
    """The two errors of a backend. `written`: in the middle of a batch, where one record can be at fault."""
    import wandb

    try:
        yield
    except (BackendUnavailable, RecordRejected) as error:
        error.written = written or 0
        raise
    except (*dead_service(), wandb.errors.CommError, TimeoutError) as error:
        raise BackendUnavailable(f"wandb: {error or type(error).__name__}", written=written or 0) from error
    except (wandb.Error, TypeError, ValueError, OSError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if written is None or full:
            raise BackendUnavailable(f"wandb: {error}", written=written or 0) from error
        raise RecordRejected(f"wandb: {error}", written=written) from error


def _settings(wandb: Any, values: dict[str, Any]) -> Any:
    try:
        return wandb.Settings(**values)
    except ValueError:
        names = ", ".join(sorted(values))
        # Its text holds the values, an API key among them.
        raise BackendUnavailable(f"wandb: wandb.Settings does not take one of: {names}") from None


def _exit_hooks_restorer() -> Callable[[], None]:
    """Undo what wandb's service does to `sys`, where nobody else came after it."""
    exit_before, hook_before = sys.exit, sys.excepthook

    def restore() -> None:
        from wandb.sdk.lib.exit_hooks import ExitHooks

        if isinstance(getattr(sys.exit, "__self__", None), ExitHooks):
            sys.exit = exit_before
        if isinstance(getattr(sys.excepthook, "__self__", None), ExitHooks):
            sys.excepthook = hook_before

    return restore


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _no_key(host: str) -> str:
    return f"no API key for {host}: run `wandb login`, set WANDB_API_KEY, or use the mode 'offline'"


def _remember(folder: Path, run_id: str, native: Any) -> None:
    """Note which wandb run this is where its id is not ours, for whoever delivers the rest of the journal."""
    if native.id != run_id and not native.disabled and folder.is_dir():
        told = {"id": native.id, "project": native.project, "entity": native.entity}
        (folder / _NOTE).write_text(json.dumps(told), encoding="utf-8")


def _recall(folder: Path) -> dict[str, Any]:
    note = folder / _NOTE
    return dict(json.loads(note.read_text(encoding="utf-8"))) if note.exists() else {}
