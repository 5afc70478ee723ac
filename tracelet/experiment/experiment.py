"""Define Experiment, the user's handle of a run. It undoes all that it opened."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tracelet import forks
from tracelet.backends import addresses, journal_config, secrets_in_use
from tracelet.backends.base import Backend, Status
from tracelet.backends.capabilities import NativeRun
from tracelet.capture import values as snapshot
from tracelet.capture.series import SeriesNames
from tracelet.capture.trials import Trials
from tracelet.errors import ArtifactError, JournalError, TraceletError, UnknownBackend
from tracelet.experiment.artifacts import to_record
from tracelet.experiment.capturing import interceptors
from tracelet.experiment.collecting import CollectorThread
from tracelet.experiment.exit import KILLED_BY_INT, ExitHandler
from tracelet.experiment.log_methods import LogMethods
from tracelet.experiment.native import NativeRuns
from tracelet.experiment.notebook_view import NotebookView
from tracelet.experiment.stats import Stats, log_end
from tracelet.guard import Guard, described, logger, shown, translated
from tracelet.journal.spool import Spool
from tracelet.orchestrator import Orchestrator
from tracelet.records import File, Record, RunInfo
from tracelet.settings import Settings, finite

_joining = forks.new_lock()


class Experiment(LogMethods, NativeRuns, NotebookView):
    """Log one run. Created by `tracelet.start_logging`; as a context manager, it stops the run when the block ends.

    `LogMethods` holds the logging methods, `NativeRuns` the vendors' run objects, `NotebookView` the display.
    """

    def __init__(
        self,
        settings: Settings,
        info: RunInfo,
        backends: Sequence[Backend] = (),
        *,
        expected: Sequence[Backend] = (),
        on_stop: Callable[[Experiment], None] = lambda experiment: None,
        rejoin: Callable[[Experiment], None] | None = None,
    ) -> None:
        """`rejoin` restarts it in a forked child, if children join the run."""
        self._settings, self._rejoin = settings, rejoin
        secrets = secrets_in_use(settings, [*backends, *expected])
        self._info = info = secrets.clean_run_info(info)
        self._on_stop = on_stop
        self._guard = Guard(secrets.hide)
        super().__init__(self._guard)
        self._backends: dict[str, Backend] = {backend.name: backend for backend in backends}
        self._attached: list[NativeRun] = []
        self._live = None  # in a forked child that joins, its thread is the parent's
        self._given: Mapping[str, Any] = {}
        """The arguments of the `start_logging` that started it."""
        self._before_end: list[Callable[[], None]] = []
        """Called once when the run ends, to log what is left."""
        self._keeps_end = True
        """False: a resumed run gets a new status also without new records."""
        self._stopping = threading.Lock()
        self._stopped = threading.Event()
        self._stopper: threading.Thread | None = None
        self._final: Stats | None = None
        self._logged_url: str | None = None
        """The web page in the first log line."""
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
            on_forked_submit=self._submit_after_joining if rejoin is not None else None,
        )
        self._spool = Spool(folder / "files")
        earlier = orchestrator.previous_facts()
        self._series = SeriesNames(settings.root_logdir, orchestrator.annotate, earlier=earlier.get("root"))
        trials = Trials.resumed(earlier, orchestrator.annotate)
        self._interceptor = interceptors(
            settings, orchestrator.submit, self._snapshot, self._series, self._guard, trials
        )
        of_each_rank = {"system"}  # the program and its environment are the same in all
        self._collector = CollectorThread(
            settings.collect if info.is_primary else of_each_rank.intersection(settings.collect),
            settings.system_interval,
            info,
            orchestrator=orchestrator,
            spool=self._spool,
            series=self._series,
            secrets=secrets,
        )
        self._exit_handler = ExitHandler(self._end, self.flush, settings.flush_timeout)
        self._expected = [backend.name for backend in expected]
        configs = {backend.name: journal_config(backend, secrets) for backend in (*backends, *expected)}
        self._guard.call(addresses.remember, addresses.addresses_in(configs))
        orchestrator.register(configs)
        with contextlib.ExitStack() as undo:  # Ctrl-C while a backend connects: nobody could stop this run
            undo.callback(self._end, "failed", 1, 0.0)
            self._start(backends)
            undo.pop_all()

    def _start(self, backends: Sequence[Backend]) -> None:
        assert self._orchestrator is not None
        settings, orchestrator = self._settings, self._orchestrator
        orchestrator.start(
            backends, self._exit_handler.register_last, delivery_mode=settings.delivery, connect_now=settings.wait
        )
        self._backends |= orchestrator.remote_backends()
        self._exit_handler.watch()
        self._interceptor.install()
        if settings.wait:
            self._attach()
            self._exit_handler.register_last()  # a vendor that is still connecting may have registered its exit hook
        self._log_start()
        if not settings.wait:
            orchestrator.connect()
        self._collector.start()  # last, so that it does not delay the start

    # Properties.

    @property
    def run_id(self) -> str:
        """The run's id, and the name of its folder."""
        return self._info.run_id

    @property
    def name(self) -> str | None:
        """The run's name, or None."""
        return self._info.name

    @property
    def project(self) -> str | None:
        """The run's project, or None."""
        return self._info.project

    @property
    def folder(self) -> Path:
        """The folder that holds the run's journal and files."""
        return Path(self._info.folder)

    @property
    def _root_logdir(self) -> str | None:
        """The log directory whose tags have no prefix; None before the first writer sets it."""
        return self._series.root

    @property
    def url(self) -> str | None:
        """The web page of the run, also after its end: that of the first backend with one."""
        return next((url for url in self._urls().values() if url), None)

    def _urls(self) -> dict[str, str | None]:
        """Return each backend's current web page, or the last known one: an ended vendor run may not have it."""
        last_urls = self._orchestrator.urls if self._orchestrator is not None else {}
        return {
            name: self._guard.call(getattr, backend, "url") or last_urls.get(name)
            for name, backend in self._backends.items()
        }

    def get_backend(self, name: str) -> Any:
        """Return a `Backend` of this run. `.native` of a vendor's backend is the vendor's run object.

        Raises:
            UnknownBackend: the run has no backend of that name.
        """
        if name not in self._backends:
            raise UnknownBackend(f"this run has no backend {name!r}. Backends: {', '.join(self._backends) or 'none'}")
        return self._backends[name]

    def _native(self, name: str) -> Any:
        backend = self._backends.get(name)
        return backend.native if isinstance(backend, NativeRun) else None

    def stats(self) -> Stats:
        """Return the counts of this run's records, now or when the run was stopped."""
        if self._final is not None or self._orchestrator is None:
            return self._final or Stats(submitted=0, backends={}, waited=0, causes={})
        submitted, backends, causes, waited = self._orchestrator.stats()
        return Stats(submitted=submitted, backends=backends, waited=waited, causes=causes)

    @property
    def _state(self) -> str:
        if self._stopped.is_set():
            return "stopped"
        return "running" if self._orchestrator is None or not self._orchestrator.is_forked else "of the parent process"

    def __repr__(self) -> str:
        return f"<tracelet run {self.run_id} ({self._state}), backends: {', '.join(self._backends) or 'journal only'}>"

    # Artifacts.

    def log_artifact(self, artifact: Any, artifact_path: str | os.PathLike[str] | None = None) -> None:
        """Log a file, a folder, bytes, a pandas DataFrame, a matplotlib figure or a vendor's artifact object.

        The bytes are copied before this returns. If `artifact_path` ends in "/" or has no suffix, it is a folder, and
        the file name stays the same. If it has a suffix, it is the new file name. DataFrames, figures and bytes need
        a suffix, which sets the format.

        Raises:
            ArtifactError: the file is missing, the path leaves the artifact root, or the object's type is unknown.
        """
        if not self._running:
            return
        assert self._orchestrator is not None
        if self._orchestrator.is_forked:
            self._orchestrator.log_forked()
            return
        try:
            record, vendor = translated(
                lambda: to_record(artifact, artifact_path, self._spool),
                lambda error: ArtifactError(f"log_artifact cannot read its argument: {described(error)}"),
                keep=(TraceletError, OSError),
            )
        except JournalError as error:  # a full disk must not raise in the program
            self._orchestrator.drop(f"an artifact, since {error}")
            return
        self._submit(record)
        if vendor in self._backends:
            # The program usually uses a vendor's artifact in its next line.
            self._orchestrator.flush_one(vendor, time.monotonic() + self._settings.flush_timeout)

    def _snapshot(self, path: Path, name: str) -> File | None:
        """Store a file that a captured call logs; None if the run cannot store it."""
        if self._rejoin is not None and self._is_outside:
            self._join()
        if self._orchestrator is None or self._orchestrator.is_forked:
            return None
        try:
            return self._spool.snapshot(path, name)
        except JournalError as error:  # a full disk must not raise in the program
            self._orchestrator.drop(f"an artifact, since {error}")
            return None

    # The end.

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every connected backend confirms all earlier records. Return False after `timeout` seconds."""
        if self._orchestrator is None or self._stopped.is_set():
            return True
        deadline = time.monotonic() + finite(self._settings.flush_timeout if timeout is None else timeout)
        return self._interceptor.drain(deadline) and self._orchestrator.flush(deadline)

    def stop(self, timeout: float | None = None, *, status: Status = "finished", exit_code: int = 0) -> None:
        """Deliver pending records within `timeout` seconds (default: `flush_timeout`), and end the run.

        Undelivered records stay in the journal. A second call only waits for the first.
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
        """True until `stop` begins: a thread that never pauses must not delay it."""
        if self._rejoin is not None and self._is_outside:
            self._join()
        if not self._stopping.locked():
            return True
        if self._orchestrator is not None and self._stopped.is_set():
            self._guard.log_once("ended", "tracelet: run %s has ended; later records are ignored", self.run_id)
        return False

    @property
    def _is_outside(self) -> bool:
        """True in a child process that has not joined the run."""
        return self._orchestrator is not None and self._orchestrator.is_forked

    def _join(self) -> None:
        """Go on as an experiment of this process, with a journal of its own in the run's folder."""
        rejoin = self._rejoin
        with _joining:
            if rejoin is not None and self._rejoin is rejoin:  # no other thread was faster
                self._rejoin = None
                self._interceptor.uninstall()
                self._guard.call(rejoin, self)

    def _submit_after_joining(self, record: Record) -> None:
        if self._running and not self._is_outside:
            self._submit(record)

    def _submit(self, record: Record) -> None:
        orchestrator = self._orchestrator
        if orchestrator is not None and self._running:
            orchestrator.submit(record)

    def _name(self, tag: str) -> str:
        if not isinstance(tag, str):
            raise TraceletError(f"a name must be a str, got {shown(tag)}")
        if not tag:
            raise TraceletError("a name must not be empty")
        return self._series.explicit(tag if type(tag) is str and tag.isascii() else snapshot.to_plain(tag))

    def _attach(self) -> None:
        """Wait for the backends, then attach them, so that the program's own vendor calls use their runs."""
        assert self._orchestrator is not None
        deadline = time.monotonic() + self._settings.connect_timeout
        for name, delivery in self._orchestrator.deliveries.items():
            if delivery.wait_opened(deadline):
                backend = self._backends[name]
                if isinstance(backend, NativeRun):
                    self._guard.call(backend.attach)
                    self._attached.append(backend)
            elif delivery.state == "connecting":
                logger.warning(
                    "tracelet: %s did not connect within %g s. Logging continues; records are stored, "
                    "and delivery is retried",
                    name,
                    self._settings.connect_timeout,
                )

    def _end(self, status: Status, exit_code: int, timeout: float) -> None:
        orchestrator = self._orchestrator
        if orchestrator is None:
            return
        if orchestrator.is_forked:  # this process leaves the run, which is its parent's
            self._interceptor.uninstall()
            return
        if any(delivery.is_current_thread for delivery in orchestrator.deliveries.values()):
            # A backend's callback called `stop`: its thread cannot wait for itself.
            threading.Thread(target=self._end, args=(status, exit_code, timeout), daemon=True).start()
            return
        while self._before_end:
            self._guard.call(self._before_end.pop())
        if not self._stopping.acquire(blocking=False):
            if self._stopper is not threading.current_thread():
                self._stopped.wait(timeout)
            return
        self._stopper = threading.current_thread()
        deadline = time.monotonic() + timeout
        is_prepared = False
        try:
            self._guard.call(self.unwatch)
            self._interceptor.drain(deadline)
            self._interceptor.uninstall()
            self._collector.stop(deadline)
            for backend in reversed(self._attached):
                self._guard.call(backend.detach)
            is_prepared = True
            remaining = max(0.0, deadline - time.monotonic())
            orchestrator.stop(status, exit_code, remaining, keeps_end=self._keeps_end)
        finally:  # also when Ctrl-C ends the wait
            if not is_prepared:
                self._interceptor.uninstall()
                orchestrator.stop(status, exit_code, 0.0)
            self._exit_handler.unwatch()
            self._final = self._guard.call(self.stats) or Stats(submitted=0, backends={}, waited=0, causes={})
            self._stopped.set()
            self._stopper = None
            self._guard.call(self._end_view)
            self._on_stop(self)
            status, urls = orchestrator.status or status, self._urls()
            log_end(self._info, status, self._final, urls, self._logged_url, self._expected)

    def _log_start(self) -> None:
        self._logged_url = self.url
        logger.info(
            "tracelet: %s run %s in %s%s",
            "resuming" if self._info.resumed else "new",
            self.run_id,
            self.folder,
            f" ({self._logged_url})" if self._logged_url else "",
        )
