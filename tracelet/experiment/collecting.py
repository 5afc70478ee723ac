"""Run the collectors on a thread: start them after `start_logging`, sample at intervals, and end with the run.

Only the end of the run waits for this thread, and only briefly.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracelet.capture import values as snapshot
from tracelet.capture.series import SeriesNames
from tracelet.collectors.base import Collected, TimeLeft
from tracelet.errors import JournalError
from tracelet.experiment.artifacts import to_record
from tracelet.guard import Guard
from tracelet.journal.spool import Spool
from tracelet.orchestrator import Orchestrator
from tracelet.records import RunInfo, Scalar
from tracelet.redaction import Secrets

if TYPE_CHECKING:
    from tracelet.collectors.console import Console
    from tracelet.collectors.system import System

_WRITER = "system"
"""The namespace of system metrics. Their step is the age of the run in whole seconds."""

# Seconds for all git commands: a large repository may be slow.
_GIT_TIMEOUT = 10.0
# Seconds until the first sample. A shorter run is sampled at its end.
_FIRST_SAMPLE = 1.0
# Seconds between two writes of the console log.
_CONSOLE_EVERY = 0.5
# Seconds between two checks for the first record of a resumed run.
_CHECK_EVERY = 0.25
# Seconds that the end of a run waits for running collectors, and then for them to cancel.
_STOP_TIMEOUT = 2.0
_CANCEL_TIMEOUT = 0.25


class CollectorThread:
    """Run one run's collectors, named in `sources`, from `start` to `stop`."""

    def __init__(
        self,
        sources: Collection[str],
        interval: float,
        info: RunInfo,
        *,
        orchestrator: Orchestrator,
        spool: Spool,
        series: SeriesNames,
        secrets: Secrets,
    ) -> None:
        self._sources, self._interval, self._info = frozenset(sources), interval, info
        self._orchestrator, self._spool, self._series, self._secrets = orchestrator, spool, series, secrets
        self._guard: Guard = orchestrator.guard
        self._closing = threading.Event()
        self._deadline = math.inf
        self._abandoned = False
        self._console: Console | None = None
        self._script, self._directory = _program_folders()
        self._thread = threading.Thread(target=self._main, name="tracelet-collect", daemon=True)

    def start(self) -> None:
        if not self._sources or self._closing.is_set():
            return
        if "console" in self._sources:
            self._guard.call(self._start_console)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Stop collecting. Wait at most two seconds for running collectors."""
        self._deadline = min(deadline, time.monotonic() + _STOP_TIMEOUT)
        self._closing.set()
        if self._console is not None:
            self._console.remove()
        if not self._thread.is_alive() or self._thread is threading.current_thread():
            return
        self._thread.join(max(0.0, self._deadline - time.monotonic()) + _CANCEL_TIMEOUT)
        if self._thread.is_alive():
            self._abandoned = True
            self._guard.log_once(
                "collecting",
                "tracelet: run %s ended before all collectors were done; their results are missing",
                self._info.run_id,
            )

    def _start_console(self) -> None:
        from tracelet.collectors.console import Console  # imported only by runs that use it

        self._console = Console(Path(self._info.folder) / "console.log", self._guard, self._secrets.hide)
        self._console.install()

    # The collector thread.

    def _main(self) -> None:
        self._guard.isolate(self._collect)

    def _collect(self) -> None:
        if not self._wait_for_records():
            return
        system = self._guard.call(self._system) if "system" in self._sources else None
        for read in self._readers():
            result = self._guard.call(read)
            if result is not None:
                self._guard.call(self._store, result)
        self._sample_until_end(system)

    def _wait_for_records(self) -> bool:
        """Wait for the first new record of a resumed run. Return False if the run ends without one."""
        while self._orchestrator.is_unchanged:
            if self._closing.wait(_CHECK_EVERY):
                return not self._orchestrator.is_unchanged
        return True

    def _readers(self) -> Iterator[Callable[[], Collected | None]]:
        if "environment" in self._sources:
            yield _environment
        if {"git", "git-diff"} & self._sources:
            end = time.monotonic() + _GIT_TIMEOUT
            yield partial(
                _git,
                self._script,
                self._directory,
                lambda: min(end, self._deadline) - time.monotonic(),
                facts="git" in self._sources,
                diff="git-diff" in self._sources,
            )

    def _store(self, result: Collected) -> None:
        self._secrets.add(result.secrets)
        for name, facts in result.facts.items():
            plain_facts = self._secrets.hide_in(snapshot.to_plain(facts))
            if not self._abandoned:
                self._orchestrator.annotate(name, plain_facts)
            self._store_file(f"{json.dumps(plain_facts, indent=2, ensure_ascii=False)}\n".encode(), f"{name}.json")
        for name, data in result.files.items():
            self._store_file(self._secrets.hide_in(data), name)

    def _store_file(self, file: bytes | Path, name: str) -> None:
        try:
            record, _ = to_record(file, name, self._spool)
        except JournalError as error:  # a full disk
            self._orchestrator.drop(f"an artifact, since {error}")
            return
        if not self._abandoned:
            self._orchestrator.submit(record)

    def _system(self) -> System:
        from tracelet.collectors.system import System

        return System(Path(self._info.folder))

    def _sample_until_end(self, system: System | None) -> None:
        """Sample system metrics and write console lines until the run ends."""
        next_sample = math.inf if system is None else time.monotonic() + min(_FIRST_SAMPLE, self._interval)
        pause = math.inf if self._console is None else _CONSOLE_EVERY
        sampled = False
        ended = system is None and self._console is None
        while not ended:
            ended = self._closing.wait(max(0.0, min(pause, next_sample - time.monotonic())))
            if self._console is not None:
                self._guard.call(self._console.write)
            if system is not None and (time.monotonic() >= next_sample or (ended and not sampled)):
                self._sample(system)
                sampled = True
                next_sample = max(next_sample + self._interval, time.monotonic())
        if system is not None:
            self._guard.call(system.close)
        if self._console is not None and self._guard.call(self._console.finish):
            self._guard.call(self._store_file, self._console.path, "console.log")

    def _sample(self, system: System) -> None:
        now = time.time()
        step = max(0, int(now - self._info.created))
        for read_metrics in system.measures:
            for name, value in (self._guard.call(read_metrics) or {}).items():
                if not self._abandoned:
                    tag = self._series.collected(f"{_WRITER}/{name}")
                    self._orchestrator.submit(Scalar(tag, value, step, now, _WRITER))


def _environment() -> Collected:
    from tracelet.collectors import environment  # imported and read on this thread

    return environment.read()


def _git(script: Path | None, directory: Path | None, left: TimeLeft, *, facts: bool, diff: bool) -> Collected | None:
    """Read the repository of the main script, or else of the working directory, as for `python -m pytest`."""
    from tracelet.collectors import git

    own = None if script is None or git.is_in_environment(script) else script
    found = (git.read(folder, left, facts=facts, diff=diff) for folder in (own, directory) if folder is not None)
    return next(filter(None, found), None)


def _program_folders() -> tuple[Path | None, Path | None]:
    """Return the folder of the main script, and the working directory. Each may be missing."""
    script: Any = getattr(sys.modules.get("__main__"), "__file__", None)
    directory = None
    with contextlib.suppress(FileNotFoundError):  # a working directory that was deleted
        directory = Path.cwd()
    if not isinstance(script, str) or (directory is None and not os.path.isabs(script)):
        return None, directory
    return Path(os.path.abspath(script)).parent, directory
