"""Aim: one record, one point of one of the run's sequences (or its parameters, or its artifacts)."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

from tracelet.backends.aim import process_hooks, remote
from tracelet.backends.aim.config import KEPT, AimConfig, redacted, secrets
from tracelet.backends.aim.errors import Translated
from tracelet.backends.aim.note import Note
from tracelet.backends.aim.places import PLACES
from tracelet.backends.aim.run import OpenRun
from tracelet.backends.base import AdoptedArtifact, Backend, Batch, Probe, Status
from tracelet.errors import BackendUnavailable
from tracelet.records import RunInfo

_logger = logging.getLogger("tracelet")

_NOT_INSTALLED = 'not installed: pip install "tracelet[aim]"'
_ANSWER = 10.0
_PATIENCE = 3.0
_CLOSE = 8.0


class AimBackend(Backend):
    """Write records to one run of an Aim repository, on this machine or behind an `aim server`."""

    name: ClassVar[str] = "aim"
    Config = AimConfig
    persistent_keys = KEPT
    shown_as = PLACES

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        # Taken now: the program may change its working directory before the run is opened.
        self._folder = os.getcwd()
        self._repo = _absolute(self.config.repo or self.config.repo_path or self.config.backend_url)
        self._uri = _absolute_uri(self.config.artifacts_uri)
        self._run: OpenRun | None = None
        self._connection: remote.Connection | None = None
        self._restored: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
        self._doubtful = False

    def persistent_config(self) -> dict[str, Any]:
        """With the repository's own path, whatever the working directory is by then."""
        told = super().persistent_config()
        return told | {key: _absolute(told[key]) for key in ("repo", "repo_path")}

    def open(self, run: RunInfo) -> None:
        """Go on with the run that this run's folder tells of, or with `run_hash`, or begin one."""
        self._info = run
        _import()
        with Translated():
            self._begin()
        self._written = self._to.done

    def _begin(self) -> None:
        from aim.sdk.utils import search_aim_repo

        self._address = self._repo or search_aim_repo(self._folder)[0] or self._folder
        if self._is_remote:
            remote.find(self._address)
        note = Note(Path(self._info.folder), redacted(self._address))
        self._restored = process_hooks.Streams().restored
        native = self._noted_run(note.hash) or self._within(self._vendors_run, self.config.run_hash)
        note.write(native.hash)
        process_hooks.patch_fork(self)
        self._connection = remote.Connection(native) if self._is_remote else None
        self._run = OpenRun(native, note.journal, self._artifacts_uri(native), self._ask)
        self._within(self._name, native)
        self._doubtful = False

    @property
    def _is_remote(self) -> bool:
        return self._address.startswith(remote.SCHEME)

    def _noted_run(self, hash: str | None) -> Any | None:
        """The run of an earlier time; None where it, or the whole repository, was deleted since."""
        from aim.sdk.errors import MissingRunError

        if hash is None:
            return None
        try:
            return self._within(self._vendors_run, hash)
        except MissingRunError:
            return None

    def _vendors_run(self, hash: str | None) -> Any:
        from aim import Run
        from aim.sdk.repo import Repo

        config = self.config
        # A client of our own, not the one that `aim.Run` shares within a process: it may have to be given up.
        repo = Repo(self._address) if self._is_remote else self._address
        return Run(
            hash,
            repo=repo,
            system_tracking_interval=config.system_tracking_interval,
            capture_terminal_logs=config.capture_terminal_logs,
            log_system_params=config.log_system_params,
        )

    def _name(self, native: Any) -> None:
        config, run = self.config, self._info
        told = {
            "experiment": config.experiment or run.project,
            "name": config.name or config.run_name or run.name,
            "description": config.description if config.description is not None else run.notes,
        }
        for name, value in told.items():
            if value:
                setattr(native, name, value)
        wanted = config.tags if config.tags is not None else run.tags
        if wanted:
            held = set(native.tags)
            for tag in wanted:
                if tag not in held:
                    native.add_tag(tag)
        self._describe("running", None)

    def _describe(self, status: str, exit_code: int | None) -> None:
        run = self._info
        facts = {"run_id": run.run_id, "group": run.group, "status": status, "exit_code": exit_code}
        self._to.describe(facts)

    def _artifacts_uri(self, native: Any) -> str | None:
        if self._uri is not None or self._is_remote:
            return self._uri
        # Aim reads the path out of a URL without undoing escapes: beyond a "#" or "?" it would lose it.
        path = os.path.join(native.repo.path, "artifacts")
        return None if {"#", "?"} & set(path) else f"file://{path}"

    @property
    def _to(self) -> OpenRun:
        """Where records go."""
        if self._run is None:
            raise BackendUnavailable("aim: the run is not open")
        return self._run

    def _within(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """A call that asks the server, under a deadline."""
        if not self._is_remote:
            return call(*arguments)
        return remote.within(_ANSWER, call.__name__.strip("_"), lambda: call(*arguments))

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Ask the store something; a server answers after all that was sent before."""
        if self._connection is None:
            return question()
        self._connection.settle(_PATIENCE)
        return remote.within(_ANSWER, "read", question)

    def write(self, batch: Batch) -> None:
        """Hand the records over; a server has acknowledged them all when this returns."""
        self._resume()
        if batch.last <= self._to.done:
            return
        number = batch.last - len(batch)
        told = Translated(in_batch=True)
        try:
            with told:
                self._to.begin(batch.last)
                for record in batch:
                    number += 1
                    self._to.put(record, number)
                    told.written += 1
                self._to.end(batch.last)
                if self._connection is not None:
                    self._connection.settle(_PATIENCE)
        except BackendUnavailable as error:
            self._doubt(batch, error)
            raise

    def _doubt(self, batch: Batch, error: BackendUnavailable) -> None:
        """The store failed: it is opened again before the next record. How much a server has got is not known."""
        self._doubtful = True
        self._to.doubt(batch.last)
        if self._connection is not None:
            error.written = 0

    def _resume(self) -> None:
        """After an outage, go on with the client if it recovers by itself, and with a new one if it does not."""
        if self._run is not None and self._run.is_closed:  # by the program: Aim forgets what the run holds
            self._doubtful = True
        if self._run is not None and not self._doubtful:
            return
        if self._is_remote:
            remote.find(self._address)  # as long as the server is gone, Aim's own client waits for it
        if self._connection is not None and not self._to.is_closed:
            with contextlib.suppress(BackendUnavailable):
                self._connection.settle(_PATIENCE)
                self._doubtful = False
                return
        with Translated():
            self._give_up()
            self._begin()

    def _give_up(self) -> None:
        """Let go of a run whose store failed."""
        if self._run is None:
            return
        native, self._run = self._run.native, None
        with self._restored():
            if self._connection is None:
                self._end_local(native)
            else:
                self._abandon()

    def flush(self) -> None:
        """Nothing waits: a write returns when the store has it."""

    def close(self, status: Status, exit_code: int) -> None:
        """End the run."""
        if self._run is None:
            return
        try:
            with Translated():
                self._resume()
                self._describe(status, exit_code)
                self._end()
        finally:
            self._let_go()

    def _end(self) -> None:
        with self._restored():
            if self._connection is None:
                self._end_local(self._to.native)
            else:
                self._connection.settle(_PATIENCE)
                remote.within(_CLOSE, "close", self._connection.end)
                self._connection = None

    def _abandon(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(BackendUnavailable):
                remote.within(_CLOSE, "abandon", connection.abandon)

    def _end_local(self, native: Any) -> None:
        """Close the run, and its files too: else another process could not open it while the program keeps it."""
        repo, hash = native.repo, native.hash
        native.close()
        for container in list(repo.container_pool.values()):
            if container.path.name == hash and not container.read_only:
                container.close()

    def _let_go(self) -> None:
        process_hooks.unpatch_fork(self)
        self._run = None
        with self._restored():
            self._abandon()  # what could not be closed in time

    def secrets(self) -> Iterable[str]:
        return secrets(self.config)

    @property
    def native(self) -> Any:
        """The `aim.Run`; another one after a server was away."""
        return None if self._run is None else self._run.native

    @property
    def url(self) -> str | None:
        """The repository."""
        return None if self._run is None else redacted(self._address)

    @classmethod
    def probe(cls, config: Any = None) -> Probe:
        """Whether a run could be begun in the repository that is named, or that Aim would choose here."""
        if importlib.util.find_spec("aim") is None:
            return Probe(False, _NOT_INSTALLED)
        config = config or AimConfig()
        repo = _absolute(config.repo or config.repo_path or config.backend_url)
        if repo is not None and repo.startswith(remote.SCHEME):
            return _probe_remote(repo)
        folder = Path.cwd() if repo is None else Path(repo)
        found = next((one for one in (folder, *folder.parents) if (one / ".aim").is_dir()), folder)
        place = found / ".aim" if (found / ".aim").is_dir() else found
        there = next(one for one in (place, *place.parents) if one.exists())
        if not os.access(there, os.W_OK):
            return Probe(False, f"{there} cannot be written")
        return Probe(True, f"repository {found}")

    @classmethod
    def adopt(cls, obj: Any) -> AdoptedArtifact | None:
        """An `aim.sdk.objects.artifact.Artifact` whose file is still there."""
        module = sys.modules.get("aim.sdk.objects.artifact")
        if module is None or not isinstance(obj, module.Artifact):
            return None
        return AdoptedArtifact(name=obj.name, files={obj.name: obj.path}, type="file", metadata={"uri": obj.uri})


def _probe_remote(repo: str) -> Probe:
    try:
        remote.find(repo)
    except BackendUnavailable as error:
        return Probe(False, error.reason.removeprefix("aim: "), reachable=error.__cause__ is None)
    return Probe(True, f"server {redacted(repo)}", reachable=True)


def _import() -> None:
    try:
        import aim  # noqa: F401
    except ImportError as error:
        raise BackendUnavailable(f"aim: {_NOT_INSTALLED} ({error})") from error


def _absolute(repo: str | None) -> str | None:
    return repo if repo is None or "://" in repo else str(Path(repo).expanduser().absolute())


def _absolute_uri(uri: str | None) -> str | None:
    return uri if uri is None or "://" in uri else f"file://{Path(uri).expanduser().absolute()}"
