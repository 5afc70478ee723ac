"""Experiment: what the user holds. Owns what it opened and undoes it."""

from __future__ import annotations

import logging
import os
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from tracelet.backends import kept_config
from tracelet.backends.base import Backend, Status
from tracelet.capture import values as snapshot
from tracelet.capture.series import SeriesNames
from tracelet.capture.tensorboard.interceptor import SummaryWriterInterceptor
from tracelet.delivery.status import DeliveryStats
from tracelet.errors import JournalError, TraceletError, UnknownBackend
from tracelet.experiment.artifacts import take as take_artifact
from tracelet.experiment.collecting import CollectorThread
from tracelet.experiment.exit import KILLED_BY_INT, ExitHandler
from tracelet.experiment.log_methods import LogMethods
from tracelet.experiment.native import NativeRuns
from tracelet.guard import Guard
from tracelet.journal.spool import Spool
from tracelet.orchestrator import Orchestrator
from tracelet.records import Record, RunInfo
from tracelet.redaction import Secrets, of_url
from tracelet.settings import Settings, finite

logger = logging.getLogger("tracelet")


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the run's records.

    For each backend, submitted == delivered + pending + rejected + filtered + dropped.
    """

    submitted: int
    backends: dict[str, DeliveryStats]
    waited: int
    """Calls that had to wait for room in the queue to the journal."""
    causes: dict[str, int]
    """What was dropped or went wrong, by cause; empty in a healthy run."""


class Experiment(LogMethods, NativeRuns):
    """One run: made by `tracelet.start_logging`, also a context manager that stops it at the end of its block.

    What it takes of a program is in `LogMethods`, the vendors' own run objects are in `NativeRuns`.
    """

    def __init__(
        self,
        settings: Settings,
        info: RunInfo,
        backends: Sequence[Backend] = (),
        *,
        expected: Sequence[Backend] = (),
        on_stop: Callable[[Experiment], None] = lambda experiment: None,
    ) -> None:
        self._settings = settings
        secrets = secrets_in_use(settings, [*backends, *expected])
        self._info = info = secrets.clean_info(info)
        self._on_stop = on_stop
        self._guard = Guard(secrets.hide)
        super().__init__(self._guard)
        self._backends: dict[str, Backend] = {backend.name: backend for backend in backends}
        self._attached: list[Backend] = []
        self._stopping = threading.Lock()
        self._stopped = threading.Event()
        self._stopper: threading.Thread | None = None
        self._final: Stats | None = None
        self._told_of: str | None = None
        """The page that the first line on stderr told of."""
        self._orchestrator: Orchestrator | None = None
        if settings.mode == "disabled":
            self._stopping.acquire()
            self._stopped.set()
            self._final = Stats(submitted=0, backends={}, waited=0, causes={})
            return
        folder = Path(info.folder)
        self._orchestrator = orchestrator = Orchestrator(
            folder,
            info,
            guard=self._guard,
            queue_bytes=settings.queue_bytes,
            queue_timeout=settings.queue_timeout,
            secrets=secrets,
        )
        self._spool = Spool(folder / "files")
        self._series = SeriesNames(
            settings.root_logdir,
            lambda root: orchestrator.annotate("root", root),
            earlier=orchestrator.earlier_facts().get("root"),
        )
        self._interceptor = SummaryWriterInterceptor(
            orchestrator.submit, self._series, self._guard, events=settings.events, queue_bytes=settings.queue_bytes
        )
        self._collecting = CollectorThread(
            settings.collect,
            settings.system_interval,
            info,
            orchestrator=orchestrator,
            spool=self._spool,
            series=self._series,
            secrets=secrets,
        )
        self._program = ExitHandler(lambda status, code: self._end(status, code, settings.flush_timeout))
        self._expected = [one.name for one in expected]
        orchestrator.expect({one.name: kept_config(one, secrets) for one in (*backends, *expected)})
        orchestrator.start(backends, self._program.register_last, place=settings.delivery, at_once=settings.wait)
        self._backends |= orchestrator.elsewhere()
        self._program.watch()
        self._interceptor.install()
        if settings.wait:
            self._attach()
            self._program.register_last()  # a vendor that is still connecting has its exit hook already
        self._say_hello()
        if not settings.wait:
            orchestrator.begin()
        self._collecting.start()  # last, so that it takes no moment of the start

    # What it is.

    @property
    def run_id(self) -> str:
        """The run's id, and the name of its folder."""
        return self._info.run_id

    @property
    def name(self) -> str | None:
        """The run's name, where it was given one."""
        return self._info.name

    @property
    def project(self) -> str | None:
        """The run's project, where it was given one."""
        return self._info.project

    @property
    def folder(self) -> Path:
        """The folder that holds the run's journal and files."""
        return Path(self._info.folder)

    @property
    def url(self) -> str | None:
        """Where a person can look at the run, also after its end: the first backend's page that has one."""
        return next((url for url in self._urls().values() if url), None)

    def _urls(self) -> dict[str, str | None]:
        """Each backend's page, as it says now or said last: a vendor's run that has ended may know it no more."""
        said = self._orchestrator.urls if self._orchestrator is not None else {}
        return {
            name: self._guard.call(getattr, backend, "url") or said.get(name)
            for name, backend in self._backends.items()
        }

    def get_backend(self, name: str) -> Backend:
        """A backend of this run; `.native` is the vendor's own run object.

        Raises:
            UnknownBackend: the run has no backend of that name.
        """
        if name not in self._backends:
            raise UnknownBackend(f"this run has no backend {name!r}. It has: {', '.join(self._backends) or 'none'}")
        return self._backends[name]

    def _native(self, name: str) -> Any:
        backend = self._backends.get(name)
        return None if backend is None else backend.native

    def stats(self) -> Stats:
        """Where the records of this run are, now or when it was stopped."""
        if self._final is not None or self._orchestrator is None:
            return self._final or Stats(submitted=0, backends={}, waited=0, causes={})
        submitted, deliveries, causes, waited = self._orchestrator.stats()
        return Stats(submitted=submitted, backends=deliveries, waited=waited, causes=causes)

    def __repr__(self) -> str:
        state = "stopped" if self._stopped.is_set() else "running"
        return f"<tracelet run {self.run_id} ({state}), backends: {', '.join(self._backends) or 'journal only'}>"

    def _repr_html_(self) -> str | None:
        """What a notebook shows where this is a cell's last line."""
        return self._guard.call(self._told_as_html)

    def _told_as_html(self) -> str:
        from tracelet.experiment.notebook import run_html  # no start pays for it

        state = "stopped" if self._stopped.is_set() else "running"
        stats = self.stats()
        return run_html(self._info, state, self._urls(), stats.submitted, stats.backends)

    # What it takes, beside the calls of `LogMethods`.

    def log_artifact(self, artifact: Any, artifact_path: str | os.PathLike[str] | None = None) -> None:
        """Keep a file, a folder, bytes, a pandas DataFrame, a matplotlib figure or a vendor's artifact object.

        The bytes are copied before this returns. `artifact_path` ending in "/" (or without a suffix) is a folder,
        which keeps the file's own name; one with a suffix is the file's new name. DataFrames, figures and bytes need
        one with a suffix, which says the format.

        Raises:
            ArtifactError: the file is missing, the path leaves the artifact root, or the object is of no known kind.
        """
        if not self._running:
            return
        assert self._orchestrator is not None
        try:
            record, vendor = take_artifact(artifact, artifact_path, self._spool)
        except JournalError as error:  # a full disk is not the program's fault
            self._orchestrator.drop(f"an artifact, since {error}")
            return
        self._submit(record)
        if vendor in self._backends:
            # A vendor's own artifact is usually used by the program's next line.
            self._orchestrator.flush_one(vendor, time.monotonic() + self._settings.flush_timeout)

    # How it ends.

    def flush(self, timeout: float | None = None) -> bool:
        """True once every connected backend confirms all that was submitted before; False after `timeout` seconds."""
        if self._orchestrator is None or self._stopped.is_set():
            return True
        deadline = time.monotonic() + finite(self._settings.flush_timeout if timeout is None else timeout)
        return self._interceptor.drain(deadline) and self._orchestrator.flush(deadline)

    def stop(self, timeout: float | None = None, *, status: Status = "finished", exit_code: int = 0) -> None:
        """Deliver what waits, for at most `timeout` seconds (default: `flush_timeout`), and end the run.

        What could not be delivered stays in the journal. A second call waits for the first and does nothing more.
        """
        self._end(status, exit_code, finite(self._settings.flush_timeout if timeout is None else timeout))

    def __enter__(self) -> Experiment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        match error:
            case None:
                self.stop()
            case KeyboardInterrupt():
                self.stop(status="killed", exit_code=KILLED_BY_INT)
            case SystemExit(code=code):
                self.stop(status="failed" if code else "finished", exit_code=code if isinstance(code, int) else 1)
            case _:
                self.stop(status="failed", exit_code=1)

    @property
    def _running(self) -> bool:
        """Until the end begins: a thread that never pauses must not hold it."""
        if not self._stopping.locked():
            return True
        if self._orchestrator is not None and self._stopped.is_set():
            self._guard.say("ended", "tracelet: run %s has ended; what is logged to it now is not kept", self.run_id)
        return False

    def _submit(self, record: Record) -> None:
        orchestrator = self._orchestrator
        if orchestrator is not None and self._running:
            orchestrator.submit(record)

    def _name(self, tag: str) -> str:
        if not isinstance(tag, str):
            raise TraceletError(f"a name is a str, not {tag!r}")
        if not tag:
            raise TraceletError("a name is not empty")
        return self._series.explicit(tag if tag.isascii() else snapshot.plain(tag))

    def _attach(self) -> None:
        """Wait for the backends, then let the program's own vendor calls land in their runs, from this thread."""
        assert self._orchestrator is not None
        deadline = time.monotonic() + self._settings.connect_timeout
        for name, delivery in self._orchestrator.deliveries.items():
            if delivery.wait_opened(deadline):
                self._guard.call(self._backends[name].attach)
                self._attached.append(self._backends[name])
            elif delivery.state == "connecting":
                logger.warning(
                    "tracelet: %s has not answered for %g s. The run goes on; its records wait, and it is tried on",
                    name,
                    self._settings.connect_timeout,
                )

    def _end(self, status: Status, exit_code: int, timeout: float) -> None:
        orchestrator = self._orchestrator
        if orchestrator is None or orchestrator.is_foreign:
            return
        if any(one.is_current_thread for one in orchestrator.deliveries.values()):
            # A backend's callback asked for the end: its own thread cannot wait for itself.
            threading.Thread(target=self._end, args=(status, exit_code, timeout), daemon=True).start()
            return
        if not self._stopping.acquire(blocking=False):
            if self._stopper is not threading.current_thread():
                self._stopped.wait(timeout)
            return
        self._stopper = threading.current_thread()
        deadline = time.monotonic() + timeout
        try:
            self._guard.call(self.unwatch)
            self._interceptor.drain(deadline)
            self._interceptor.uninstall()
            self._collecting.stop(deadline)
            for backend in reversed(self._attached):
                self._guard.call(backend.detach)
            orchestrator.stop(status, exit_code, max(0.0, deadline - time.monotonic()))
        finally:  # also when Ctrl-C ends the wait
            self._program.unwatch()
            self._final = self._guard.call(self.stats) or Stats(submitted=0, backends={}, waited=0, causes={})
            self._stopped.set()
            self._stopper = None
            self._on_stop(self)
            self._say_goodbye(orchestrator.status or status)

    def _say_hello(self) -> None:
        self._told_of = self.url
        logger.info(
            "tracelet: %s run %s in %s%s",
            "going on with" if self._info.resumed else "new",
            self.run_id,
            self.folder,
            f" ({self._told_of})" if self._told_of else "",
        )

    def _say_goodbye(self, status: Status) -> None:
        assert self._final is not None
        parts, left, urls = [f"{self._final.submitted} records"], [], self._urls()
        for name, one in self._final.backends.items():
            told = [f"{one.delivered} delivered"]
            for key in ("pending", "rejected", "filtered", "dropped"):
                if count := getattr(one, key):
                    told.append(f"{count} {'waiting' if key == 'pending' else key}")
            url = urls.get(name)
            page = f" ({url})" if url and url != self._told_of else ""  # one that connected behind the start
            parts.append(f"{name}: {', '.join(told)}{page}")
            if one.pending or (one.state.startswith("waiting") and not one.dropped):
                left.append(name)
        if self._final.submitted:  # nothing of the offline mode is anywhere but in the journal
            parts += [f"{name}: {self._final.submitted} waiting" for name in self._expected]
            left += self._expected
        level = logging.WARNING if left or self._final.causes else logging.INFO
        logger.log(level, "tracelet: run %s %s; %s. Journal: %s", self.run_id, status, "; ".join(parts), self.folder)
        if left:
            logger.warning(
                "tracelet: what waits is safe in the journal. Deliver it by: tracelet sync %s",
                shlex.quote(str(self.folder)),
            )


def secrets_in_use(settings: Settings, backends: Sequence[Backend]) -> Secrets:
    """What a run must hide: the credentials of its settings, and those that its backends could use."""
    secrets = Secrets()
    secrets.learn([settings.api_key, *of_url(settings.backend_url)])
    for backend in backends:
        secrets.learn(backend.secrets())
    return secrets
