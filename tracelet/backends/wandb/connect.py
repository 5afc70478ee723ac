"""Beginning a wandb run: online where the server answers in time, else in wandb's own offline mode."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from tracelet.backends.wandb.config import WandbConfig
from tracelet.backends.wandb.errors import dead_service, end_service, translated
from tracelet.backends.wandb.offline_files import Note, Recording
from tracelet.backends.wandb.offline_upload import HandOver
from tracelet.backends.wandb.server import OFFLINE, Server, the_server
from tracelet.errors import BackendUnavailable
from tracelet.records import RunInfo

FLUSH_INTERVAL = 0.5
"""Seconds between wandb's own writes to the run's file; what is younger dies with a kill of the whole process group."""
# `start_logging` waits ten seconds: the offline run must be there by then.
_CONNECT_TIMEOUT = 6.0
_PROBE_TIMEOUT = 2.5
_INIT_LEAST = 3.0
_HAND_OVER_MORE = 1.5
_AGENTS = ("WANDB_SWEEP_ID", "WANDB_LAUNCH")
_NO_RECORDING = ("disabled", "shared")


class Connection:
    """How runs of one backend object are begun, and where what they leave behind is noted."""

    def __init__(self, wandb: Any, config: WandbConfig, note: Note, save: Callable[[], None]) -> None:
        self._wandb, self._config, self.note, self._save = wandb, config, note, save
        self.offline_reason: str | None = None
        """Why the run is in wandb's offline mode though it was meant to be online."""
        self.handover: HandOver | None = None
        self._rows: int | None = None
        self._program: str | None = None

    def begin(self, run: RunInfo) -> Any:
        """`wandb.init` with what the user gave, and nothing else."""
        config, note = self._config, self.note
        self._program = run.program
        wanted = config.tags if config.tags is not None else run.tags
        given = {
            "entity": note.entity or config.entity,
            "project": note.project or run.project,
            "name": config.name or run.name,
            "tags": list(dict.fromkeys([*wanted, *note.tags])) if wanted or note.tags else config.tags,
            "notes": config.notes if config.notes is not None else run.notes,
            "group": config.group or run.group,
            "job_type": config.job_type,
            "mode": config.mode,
            "save_code": config.save_code,
            "dir": config.dir,
            "id": note.id or run.run_id,
            # "auto" is wandb's word for what our own run id does already.
            "resume": "allow" if note.id or config.resume in (None, True, "auto") else config.resume,
        }
        agent = any(name in os.environ for name in _AGENTS)
        if not note.id and (agent or "WANDB_RUN_ID" in os.environ):  # that run is ours
            given |= {"id": None, "resume": config.resume}
            # wandb would warn about a project of our own and ignore it.
            given |= {"project": None, "entity": None} if agent else {}
        return self._start(given)

    def again(self, old: Any, *, finished: bool) -> Any:
        """Go on with a run whose object is of no use any more."""
        settings = old.settings
        given = {"id": old.id, "project": old.project, "entity": old.entity, "name": settings.run_name}
        given |= {"dir": settings.root_dir, "mode": settings.mode, "group": settings.run_group}
        given |= {"job_type": settings.run_job_type, "tags": settings.run_tags, "resume": "allow"}
        if finished:  # it stays finished for the program, whose next `wandb.init` must not be given ours
            given["reinit"] = "create_new"
        run = self._start({name: value or None for name, value in given.items()})
        if finished:
            self._wandb.setup().remove_active_run(run)
        return run

    def _start(self, given: dict[str, Any]) -> Any:
        mode = given["mode"] or self._wandb.sdk.wandb_setup.singleton().settings.mode
        if mode in (*OFFLINE, *_NO_RECORDING):
            if mode == "shared":
                the_server(self._wandb, self._config)  # or wandb would ask for the key
            return self._init(given)
        end, tried = time.monotonic() + _CONNECT_TIMEOUT, False
        try:
            self.connect(end, given)
            tried = True
            with translated():
                return self._init(given, max(_INIT_LEAST, end - time.monotonic()))
        except BackendUnavailable as error:
            if not _is_outage(error):
                raise
            self.offline_reason = _sentence(error)
        if tried:
            # The service keeps the run id that it could not begin, and goes on trying.
            end_service(self._wandb)
            with contextlib.suppress(*dead_service()):
                self._wandb.teardown()
        return self._init({**given, "mode": "offline"})

    def connect(self, deadline: float, given: Mapping[str, Any]) -> None:
        """See that the server answers and has all that was recorded before; BackendUnavailable says why not."""
        server = self.server()
        server.check(min(_PROBE_TIMEOUT, deadline - time.monotonic()))
        self.handover = HandOver(self.note, server, self._save)
        if self.note.waiting():
            self.handover.run(deadline + _HAND_OVER_MORE)
        left = max(1.0, deadline - time.monotonic())
        self._rows = server.rows(given.get("project"), given.get("entity"), given["id"], left) if given["id"] else 0

    def server(self) -> Server:
        return the_server(self._wandb, self._config)

    def _init(self, given: Mapping[str, Any], timeout: float = _CONNECT_TIMEOUT) -> Any:
        ours: dict[str, Any] = {"x_transaction_log_flush_interval": FLUSH_INTERVAL, "init_timeout": timeout}
        ours |= {"finish_timeout": self._config.finish_timeout}
        if self._program not in (None, "", "-c") and _has_no_main_file():
            ours |= {"program": self._program}
        known = self._wandb.Settings.model_fields  # releases before 0.31 lack one or two of ours
        settings = {
            name: value for name, value in ours.items() if name in known and f"WANDB_{name.upper()}" not in os.environ
        }
        settings |= {"sync_tensorboard": False}  # or every scalar would arrive twice
        # Not `wandb.login`: that writes the key to ~/.netrc.
        settings |= _given({"api_key": self._config.api_key, "base_url": self._config.backend_url})
        wanted = _settings(self._wandb, settings | (self._config.settings or {}))
        try:
            return self._wandb.init(**_given(given), settings=wanted)
        except dead_service():  # a service that an earlier run left dead behind it
            with contextlib.suppress(*dead_service()):
                self._wandb.teardown()
            return self._wandb.init(**_given(given), settings=wanted)

    def record(self, native: Any, *, begun_here: bool) -> Recording | None:
        """Note where the run that was begun is recorded; None where wandb keeps no file."""
        note, settings = self.note, native.settings
        if native.disabled:
            return None
        note.id, note.project, note.entity = native.id, native.project, native.entity or None
        if settings.x_skip_transaction_log or settings.mode == "shared":
            self._save()
            return None
        before = self._rows if begun_here else getattr(native, "starting_step", 0)
        start = None if native.offline else before or 0
        file = os.path.abspath(settings.sync_file)
        recording = next((one for one in note.recordings if one.file == file), None)
        if recording is None:
            recording = Recording(file=file, online=not native.offline, start=start)
            note.recordings.append(recording)
        self._save()
        return recording


def _has_no_main_file() -> bool:
    """Whether this process is not the program itself, but delivers for it; in a notebook wandb knows better."""
    return not hasattr(sys.modules["__main__"], "__file__") and "IPython" not in sys.modules


def _is_outage(error: BackendUnavailable) -> bool:
    """Whether the server was not to be had; anything else (a run that must not exist, a bad setting) stays an error."""
    import wandb

    cause = error.__cause__
    return not isinstance(cause, wandb.Error) or isinstance(
        cause, wandb.errors.CommError | wandb.errors.AuthenticationError
    )


def _sentence(error: BackendUnavailable) -> str:
    first = error.reason.partition("\n")[0].removeprefix("wandb: ")
    return first if "<no message>" not in first else "the server refuses the run"


def _settings(wandb: Any, values: dict[str, Any]) -> Any:
    try:
        return wandb.Settings(**values)
    except ValueError:
        names = ", ".join(sorted(values))
        # Its text holds the values, an API key among them.
        raise BackendUnavailable(f"wandb: wandb.Settings does not take one of: {names}") from None


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def exit_hooks_restorer() -> Callable[[], None]:
    """Undo what wandb's service does to `sys`, where nobody else came after it."""
    exit_before, hook_before = sys.exit, sys.excepthook

    def restore() -> None:
        from wandb.sdk.lib.exit_hooks import ExitHooks

        if isinstance(getattr(sys.exit, "__self__", None), ExitHooks):
            sys.exit = exit_before
        if isinstance(getattr(sys.excepthook, "__self__", None), ExitHooks):
            sys.excepthook = hook_before

    return restore
