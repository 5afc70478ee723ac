"""Write each record to one Aim run: as a point of a sequence, a parameter, an artifact, a tag or a log message."""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import json
import os
import sys
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tracelet import records as r
from tracelet.backends.aim import process_hooks, remote
from tracelet.backends.aim.config import AimConfig, without_user
from tracelet.backends.aim.errors import translated
from tracelet.backends.aim.run import OpenRun
from tracelet.backends.base import Backend, Batch, Status, Written
from tracelet.backends.capabilities import (
    AdoptedArtifact,
    Adoption,
    NativeRun,
    Probe,
    Probing,
    ViewerCommand,
    Viewing,
)
from tracelet.backends.config import absolute
from tracelet.backends.notes import note_path, read_note, write_note
from tracelet.backends.patches import wrapped
from tracelet.backends.ranks import own_run
from tracelet.errors import BackendUnavailable, RecordRejected

_NOT_INSTALLED = 'not installed: pip install "tracelet[aim]"'
_CALL_TIMEOUT = 10.0
_STALL_TIMEOUT = 3.0
_CLOSE_TIMEOUT = 8.0

# `OpenRun.put` writes each kind.
_SHOWN_AS: dict[type[r.Record], str] = {
    r.Scalar: "a metric",
    r.Params: '`run["hparams"]`',
    r.Histogram: "a distribution",
    r.Image: "an image",
    r.Video: "an image if it is a GIF; else a text and its file",
    r.Audio: "an audio if it is wav, mp3 or flac; else a text and its file",
    r.Text: "a text",
    r.PRCurve: "an image, with the exact rows",
    r.Artifact: "an artifact",
    r.Summary: '`run["summary"]`',
    r.Tags: "tags of the run",
    r.Alert: "a message of the run's logs",
    **dict.fromkeys(
        (r.Table, r.Tensor, r.Mesh, r.Embedding, r.Graph, r.Layout, r.RawSummary), "a text with the paths of its files"
    ),
}


class _Note(msgspec.Struct):
    """`aim.json` in the run's folder: the id of the journal, and the hash of the Aim run in each repository."""

    journal: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex)
    runs: dict[str, str] = {}


class AimBackend(Backend, NativeRun, Probing, Adoption, Viewing):
    """Write records to one run of an Aim repository, on this machine or on an `aim server`."""

    name: ClassVar[str] = "aim"
    Config = AimConfig
    accepts = _SHOWN_AS
    view_package = "aim"

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        # Resolved now: the program may change its working directory before `open`.
        self._folder = os.getcwd()
        self._repo = absolute(self.config.repo or self.config.repo_path or self.config.backend_url)
        self._uri = _absolute_uri(self.config.artifacts_uri)
        self._run: OpenRun | None = None
        self._client: remote.RemoteClient | None = None
        self._restored_streams: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
        self._is_uncertain = False

    def open(self, run: r.RunInfo) -> int:
        """Resume the Aim run noted in the run's folder, or the run `run_hash`; else create a run."""
        self._info = own_run(run)
        _import()
        with translated():
            self._connect()
        return self._open_run.done

    def _connect(self) -> None:
        from aim.sdk.utils import search_aim_repo

        self._address = self._repo or search_aim_repo(self._folder)[0] or self._folder
        if self._is_remote:
            remote.check_server(self._address)
        path, repo = note_path(Path(self._info.folder), self.name), without_user(self._address)
        note = read_note(path, _Note) or _Note()
        self._restored_streams = process_hooks.Streams().restored
        native = self._noted_run(note.runs.get(repo)) or self._call(self._create_run, self.config.run_hash)
        if note.runs.get(repo) != native.hash:
            note.runs[repo] = native.hash
            # json: unlike msgspec, it accepts a path that is not valid UTF-8.
            write_note(path, json.dumps(msgspec.structs.asdict(note)).encode())
        process_hooks.patch_fork(self)
        self._client = remote.RemoteClient(native) if self._is_remote else None
        self._run = OpenRun(native, note.journal, self._artifacts_uri(native), self._query)
        self._call(self._set_properties, native)
        self._is_uncertain = False

    @property
    def _is_remote(self) -> bool:
        return self._address.startswith(remote.SCHEME)

    def _noted_run(self, hash: str | None) -> Any | None:
        """Return the run of an earlier process; None if it, or the whole repository, was deleted."""
        from aim.sdk.errors import MissingRunError

        if hash is None:
            return None
        try:
            return self._call(self._create_run, hash)
        except MissingRunError:
            return None

    def _create_run(self, hash: str | None) -> Any:
        """Return the `aim.Run` with this hash; a new one if it is None."""
        from aim import Run
        from aim.sdk.repo import Repo

        config = self.config
        # A separate client, not the one that `aim.Run` shares within a process: it may have to be abandoned.
        repo = Repo(self._address) if self._is_remote else self._address
        if not self._info.is_past:
            return Run(
                hash,
                repo=repo,
                system_tracking_interval=config.system_tracking_interval,
                capture_terminal_logs=config.capture_terminal_logs,
                log_system_params=config.log_system_params,
            )
        # `Run` has no argument for its start.
        created = datetime.datetime.fromtimestamp(self._info.created, datetime.timezone.utc).replace(tzinfo=None)
        with wrapped(Repo, "request_props", lambda original, *place: original(*place, created_at=created)):
            return Run(hash, repo=repo, system_tracking_interval=None, capture_terminal_logs=False)

    def _set_properties(self, native: Any) -> None:
        config, run = self.config, self._info
        properties = {
            "experiment": config.experiment or run.project,
            "name": config.name or config.run_name or run.name,
            "description": config.description if config.description is not None else run.notes,
        }
        for name, value in properties.items():
            if value:
                setattr(native, name, value)
        wanted = config.tags if config.tags is not None else run.tags
        if wanted:
            current = set(native.tags)
            for tag in wanted:
                if tag not in current:
                    native.add_tag(tag)
        self._describe("running", None)

    def _describe(self, status: str, exit_code: int | None) -> None:
        run = self._info
        facts = {"run_id": run.run_id, "group": run.group, "status": status, "exit_code": exit_code}
        self._open_run.describe(facts)

    def _artifacts_uri(self, native: Any) -> str | None:
        if self._uri is not None or self._is_remote:
            return self._uri
        # Aim parses the URL without decoding escapes: it would cut the path at a "#" or "?".
        path = os.path.join(native.repo.path, "artifacts")
        return None if {"#", "?"} & set(path) else f"file://{path}"

    @property
    def _open_run(self) -> OpenRun:
        if self._run is None:
            raise BackendUnavailable("aim: the run is not open")
        return self._run

    def _call(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Run a call, with a deadline if the repository is remote."""
        if not self._is_remote:
            return call(*arguments)
        return remote.call_within(_CALL_TIMEOUT, call.__name__.strip("_"), lambda: call(*arguments))

    def _query(self, query: Callable[[], Any]) -> Any:
        """Run a query on the store. A server answers after it has stored all earlier writes."""
        if self._client is None:
            return query()
        self._client.drain(_STALL_TIMEOUT)
        return remote.call_within(_CALL_TIMEOUT, "read", query)

    def write(self, batch: Batch) -> Written | None:
        """Write the records. A server has acknowledged all of them when this returns."""
        self._reconnect()
        if batch.last <= self._open_run.done:
            return None
        count = 0
        try:
            with translated(record=True):
                self._open_run.begin(batch.last)
                for number, record in zip(batch.numbers, batch, strict=True):
                    self._open_run.put(record, number)
                    count += 1
                self._open_run.end(batch.last)
                if self._client is not None:
                    self._client.drain(_STALL_TIMEOUT)
        except BackendUnavailable as error:
            # Reconnect before the next record. It is unknown how many records of the batch a server has stored.
            self._is_uncertain = True
            self._open_run.mark_uncertain(batch.last)
            return Written(0 if self._client is not None else count, error)
        except RecordRejected as error:
            return Written(count, error)
        return None

    def _reconnect(self) -> None:
        """After an outage, use the old client if it recovers; else create a new one."""
        if self._run is not None and self._run.is_closed:  # by the program: Aim then drops its state of the run
            self._is_uncertain = True
        if self._run is not None and not self._is_uncertain:
            return
        if self._is_remote:
            remote.check_server(self._address)  # without a server, Aim's own client would wait
        if self._client is not None and not self._open_run.is_closed:
            with contextlib.suppress(BackendUnavailable):
                self._client.drain(_STALL_TIMEOUT)
                self._is_uncertain = False
                return
        with translated():
            self._discard_run()
            self._connect()

    def _discard_run(self) -> None:
        """Close or abandon a run whose store failed."""
        if self._run is None:
            return
        native, self._run = self._run.native, None
        with self._restored_streams():
            if self._client is None:
                self._end_local(native)
            else:
                self._abandon()

    def flush(self) -> None:
        """Do nothing: `write` returns after the store has the records."""

    def close(self, status: Status, exit_code: int) -> None:
        """End the run."""
        if self._run is None:
            return
        try:
            with translated():
                self._reconnect()
                self._describe(status, exit_code)
                self._end()
        finally:
            self._release()

    def _end(self) -> None:
        with self._restored_streams():
            if self._client is None:
                self._end_local(self._open_run.native)
            else:
                self._client.drain(_STALL_TIMEOUT)
                remote.call_within(_CLOSE_TIMEOUT, "close", self._client.end)
                self._client = None

    def _abandon(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            with contextlib.suppress(BackendUnavailable):
                remote.call_within(_CLOSE_TIMEOUT, "abandon", client.abandon)

    def _end_local(self, native: Any) -> None:
        """Close the run and its files: otherwise no other process could open it while the program has a reference."""
        repo, hash = native.repo, native.hash
        native.close()
        for container in list(repo.container_pool.values()):
            if container.path.name == hash and not container.read_only:
                container.close()

    def _release(self) -> None:
        process_hooks.unpatch_fork(self)
        self._run = None
        with self._restored_streams():
            self._abandon()  # if it could not be closed in time

    @property
    def native(self) -> Any:
        """The `aim.Run`. A different object after an outage of the server."""
        return None if self._run is None else self._run.native

    @property
    def url(self) -> str | None:
        """The address of the repository."""
        return None if self._run is None else without_user(self._address)

    @classmethod
    def view_config(cls, store: Path, run: r.RunInfo) -> dict[str, Any]:
        return {"repo": str(store)}

    @classmethod
    def view_command(cls, store: Path, host: str, port: int) -> ViewerCommand:
        program = "from aim.cli.cli import cli_entry_point; cli_entry_point()"
        options = ("--repo", str(store), "--yes", "--host", host, "--port", str(port), "--workers", "1")
        return ViewerCommand((sys.executable, "-c", program, "up", *options), without="(__)?AIM_")

    @classmethod
    def probe(cls, config: Any = None) -> Probe:
        """Return whether a run can be created in the configured repository, or in Aim's default repository."""
        if importlib.util.find_spec("aim") is None:
            return Probe(False, _NOT_INSTALLED)
        config = config or AimConfig()
        repo = absolute(config.repo or config.repo_path or config.backend_url)
        if repo is not None and repo.startswith(remote.SCHEME):
            return _probe_remote(repo)
        folder = Path.cwd() if repo is None else Path(repo)
        repo_folder = next((parent for parent in (folder, *folder.parents) if (parent / ".aim").is_dir()), folder)
        target = repo_folder / ".aim" if (repo_folder / ".aim").is_dir() else repo_folder
        existing = next(parent for parent in (target, *target.parents) if parent.exists())
        if not os.access(existing, os.W_OK):
            return Probe(False, f"{existing} is not writable")
        return Probe(True, f"repository {repo_folder}")

    @classmethod
    def adopt(cls, obj: Any) -> AdoptedArtifact | None:
        """Return the data of an `aim.sdk.objects.artifact.Artifact`."""
        module = sys.modules.get("aim.sdk.objects.artifact")
        if module is None or not isinstance(obj, module.Artifact):
            return None
        return AdoptedArtifact(name=obj.name, files={obj.name: obj.path}, type="file", metadata={"uri": obj.uri})


def _probe_remote(repo: str) -> Probe:
    try:
        remote.check_server(repo)
    except BackendUnavailable as error:
        return Probe(False, error.reason.removeprefix("aim: "), reachable=error.__cause__ is None)
    return Probe(True, f"server {without_user(repo)}", reachable=True)


def _import() -> None:
    try:
        import aim  # noqa: F401
    except ImportError as error:
        raise BackendUnavailable(f"aim: {_NOT_INSTALLED} ({error})") from error


def _absolute_uri(uri: str | None) -> str | None:
    return uri if uri is None or "://" in uri else f"file://{Path(uri).expanduser().absolute()}"
