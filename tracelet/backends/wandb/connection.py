"""Start a wandb run: online if the server answers in time, else in wandb's own offline mode."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tracelet import records as r
from tracelet.backends.ranks import own_run
from tracelet.backends.wandb.config import WandbConfig
from tracelet.backends.wandb.errors import dead_service, end_service, translated
from tracelet.backends.wandb.host import started
from tracelet.backends.wandb.offline import Note, Recording, Uploader
from tracelet.backends.wandb.server import OFFLINE_MODES, History, Server, server_of
from tracelet.backends.wandb.watermark import Mark
from tracelet.errors import BackendUnavailable

FLUSH_INTERVAL = 0.5
"""Seconds between two writes of wandb to the run's file. If the whole process group is killed, later data is lost."""
# `start_logging` waits ten seconds, and the offline run must exist by then.
_CONNECT_TIMEOUT = 6.0
_PROBE_TIMEOUT = 2.5
_MIN_INIT_TIMEOUT = 3.0
_EXTRA_UPLOAD_TIME = 1.5
_AGENTS = ("WANDB_SWEEP_ID", "WANDB_LAUNCH")
_UNRECORDED_MODES = ("disabled", "shared")


class Connection:
    """Start and resume the runs of one backend object, and note their recordings."""

    def __init__(self, wandb: Any, config: WandbConfig, note: Note, save: Callable[[], None]) -> None:
        self._wandb, self._config, self.note, self._save = wandb, config, note, save
        self.offline_reason: str | None = None
        """The outage because of which the run is offline, although it should be online."""
        self.uploader: Uploader | None = None
        self._rows: int | None = None
        self._server_mark: Mark | None = None
        self._program: str | None = None
        self._writer: dict[str, Any] = {}
        """The settings of this process: a rank that shares a run, or one that delivers a past run."""

    def start(self, run: r.RunInfo) -> Any:
        """Call `wandb.init` with the user's settings only.

        Ranks write to one run only if the user sets wandb's mode to `shared`. Its server may overwrite rows of one rank
        with those of another (wandb issue 12269).
        """
        config, note = self._config, self.note
        if run.label is not None and self._mode(config.mode) == "shared":
            self._writer = {"x_label": run.label, "x_primary": run.is_primary, "x_update_finish_state": run.is_primary}
        else:
            run = own_run(run)
        self._program = run.program
        if run.is_past:
            self._writer |= {"console": "off", "x_disable_stats": True}
        tags = config.tags if config.tags is not None else run.tags
        arguments = {
            "entity": note.entity or config.entity,
            "project": note.project or run.project,
            "name": config.name or run.name,
            "tags": list(dict.fromkeys([*tags, *note.tags])) if tags or note.tags else config.tags,
            "notes": config.notes if config.notes is not None else run.notes,
            "group": config.group or run.group,
            "job_type": config.job_type,
            "mode": config.mode,
            "save_code": config.save_code,
            "dir": config.dir,
            "id": note.id or run.run_id,
            # "auto" means the same as our own run id.
            "resume": "allow" if note.id or config.resume in (None, True, "auto") else config.resume,
        }
        agent = any(name in os.environ for name in _AGENTS)
        if not note.id and run.is_primary and (agent or "WANDB_RUN_ID" in os.environ):  # the environment's run
            arguments |= {"id": None, "resume": config.resume}
            # wandb would ignore a project of our own, with a warning.
            arguments |= {"project": None, "entity": None} if agent else {}
        if started:  # `wandb.init` would return the run of another tracker in this process
            arguments["reinit"] = "create_new"
        return self._init_or_offline(arguments)

    def resume(self, old: Any, finished: bool) -> Any:
        """Resume a run whose object is no longer usable. `finished`: by the program, or torn down."""
        settings = old.settings
        arguments = {"id": old.id, "project": old.project, "entity": old.entity, "name": settings.run_name}
        arguments |= {"dir": settings.root_dir, "mode": settings.mode, "group": settings.run_group}
        arguments |= {"job_type": settings.run_job_type, "tags": settings.run_tags, "resume": "allow"}
        if finished:  # for the program it stays finished: its next `wandb.init` must not return our run
            arguments["reinit"] = "create_new"
        run = self._init_or_offline({name: value or None for name, value in arguments.items()})
        if finished:
            self._wandb.setup().remove_active_run(run)
        return run

    def _init_or_offline(self, arguments: dict[str, Any]) -> Any:
        mode = self._mode(arguments["mode"])
        if mode in (*OFFLINE_MODES, *_UNRECORDED_MODES):
            if mode == "shared":
                server_of(self._wandb, self._config)  # otherwise wandb would prompt for the key
            return self._init(arguments)
        end, connected = time.monotonic() + _CONNECT_TIMEOUT, False
        try:
            self._connect(end, arguments)
            connected = True
            with translated():
                return self._init(arguments, max(_MIN_INIT_TIMEOUT, end - time.monotonic()))
        except BackendUnavailable as error:
            if not _is_outage(error):
                raise
            self.offline_reason = _first_line(error)
        if connected:
            # The service still retries the run id that it could not start.
            end_service(self._wandb)
            with contextlib.suppress(*dead_service()):
                self._wandb.teardown()
        return self._init({**arguments, "mode": "offline"})

    def _mode(self, configured: str | None) -> str:
        return configured or str(self._wandb.sdk.wandb_setup.singleton().settings.mode)

    def _connect(self, deadline: float, arguments: Mapping[str, Any]) -> None:
        """Check the server, and upload pending recordings; raise BackendUnavailable if either fails."""
        server = self.server()
        server.check(min(_PROBE_TIMEOUT, deadline - time.monotonic()))
        self.uploader = Uploader(self.note, server, self._save)
        if self.note.pending():
            self.uploader.run(deadline + _EXTRA_UPLOAD_TIME)
        timeout = max(1.0, deadline - time.monotonic())
        run_id = arguments["id"]
        place = arguments.get("project"), arguments.get("entity")
        history = server.history(*place, run_id, timeout) if run_id else History()
        self._rows, text = (None, None) if history is None else history
        # A killed process may have sent rows that wandb had not written to its file yet.
        self._server_mark = Mark.parse(text, self.note.journal) if text else None

    def mark(self) -> Mark | None:
        """Return what earlier recordings hold, or the server, if it has more; None if there are none."""
        recorded = self.note.recorded() if self.note.recordings else None
        found = [mark for mark in (recorded, self._server_mark) if mark is not None]
        return max(found, key=lambda mark: mark.seen, default=None)

    def server(self) -> Server:
        return server_of(self._wandb, self._config)

    def uploader_if_up(self, timeout: float) -> Uploader:
        """Return an uploader for the pending recordings; raise BackendUnavailable if the server does not answer."""
        server = self.server()
        server.check(timeout)
        self.uploader = Uploader(self.note, server, self._save)
        return self.uploader

    def confirm_upload(self, native: Any, recording: Recording, *, complete: bool) -> None:
        """Mark a finished online run as uploaded. `complete`: nothing that was sent is unconfirmed.

        Raises:
            BackendUnavailable: the server lacks records; `upload_offline` will send them.
        """
        advice = f". The recording is in {Path(recording.file).parent}; upload it with: tracelet sync"
        if getattr(native, "_finish_timed_out", False):
            raise BackendUnavailable(f"wandb: the upload took longer than finish_timeout{advice}")
        if not complete or (self.uploader is not None and not self.uploader.verify(recording)):
            raise BackendUnavailable(f"wandb: the server did not receive all of the run{advice}")
        recording.done = True

    def _init(self, arguments: Mapping[str, Any], timeout: float = _CONNECT_TIMEOUT) -> Any:
        defaults: dict[str, Any] = {"x_transaction_log_flush_interval": FLUSH_INTERVAL, "init_timeout": timeout}
        defaults |= {"finish_timeout": self._config.finish_timeout, **self._writer}
        if self._program not in (None, "", "-c") and _has_no_main_file():
            defaults |= {"program": self._program}
        known = self._wandb.Settings.model_fields  # releases before 0.31 lack one or two of these
        settings = {
            name: value
            for name, value in defaults.items()
            if name in known and f"WANDB_{name.upper()}" not in os.environ
        }
        settings |= {"sync_tensorboard": False}  # otherwise every scalar would arrive twice
        # Not `wandb.login`, because that writes the key to ~/.netrc.
        settings |= _without_none({"api_key": self._config.api_key, "base_url": self._config.backend_url})
        wandb_settings = _settings(self._wandb, settings | (self._config.settings or {}))
        try:
            return self._wandb.init(**_without_none(arguments), settings=wandb_settings)
        except dead_service():  # an earlier run left a dead service
            with contextlib.suppress(*dead_service()):
                self._wandb.teardown()
            return self._wandb.init(**_without_none(arguments), settings=wandb_settings)

    def record(self, native: Any, *, owned: bool) -> Recording | None:
        """Note the run's file; None if wandb writes none. `owned`: tracelet started the run."""
        note, settings = self.note, native.settings
        if native.disabled:
            return None
        note.id, note.project, note.entity = native.id, native.project, native.entity or None
        if settings.x_skip_transaction_log or settings.mode == "shared":
            self._save()
            return None
        rows = self._rows if owned else getattr(native, "starting_step", 0)
        start = None if native.offline else rows or 0
        file = os.path.abspath(settings.sync_file)
        recording = next((recording for recording in note.recordings if recording.file == file), None)
        if recording is None:
            recording = Recording(file=file, online=not native.offline, start=start)
            note.recordings.append(recording)
        self._save()
        return recording


def _has_no_main_file() -> bool:
    """Check if this process is a delivery process instead of the program. In a notebook, wandb's own name is better."""
    return not hasattr(sys.modules["__main__"], "__file__") and "IPython" not in sys.modules


def _is_outage(error: BackendUnavailable) -> bool:
    """Check if the server is unavailable. Any other error (an existing run, an invalid setting) must be raised."""
    import wandb

    cause = error.__cause__
    return not isinstance(cause, wandb.Error) or isinstance(
        cause, wandb.errors.CommError | wandb.errors.AuthenticationError
    )


def _first_line(error: BackendUnavailable) -> str:
    line = error.reason.partition("\n")[0].removeprefix("wandb: ")
    return line if "<no message>" not in line else "the server rejected the run"


def _settings(wandb: Any, values: dict[str, Any]) -> Any:
    try:
        return wandb.Settings(**values)
    except ValueError:
        names = ", ".join(sorted(values))
        # wandb's own message contains the values, for example an API key.
        raise BackendUnavailable(f"wandb: wandb.Settings rejected the value of one of: {names}") from None


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
