"""The thread that collects: it begins the collectors behind `start_logging`, samples on a clock, and ends with the run.

Nothing waits for it but the end of the run, and that not for long.
"""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracelet.capture import values as snapshot
from tracelet.capture.series import SeriesNames
from tracelet.collectors.base import Found, Left
from tracelet.errors import JournalError
from tracelet.experiment.artifacts import take as take_artifact
from tracelet.guard import Guard
from tracelet.journal.spool import Spool
from tracelet.orchestrator import Orchestrator
from tracelet.records import RunInfo, Scalar
from tracelet.redaction import Secrets

if TYPE_CHECKING:
    from tracelet.collectors.console import Console
    from tracelet.collectors.system import System

WRITER = "system"
"""The namespace of the system's figures; their step is the run's age in whole seconds."""

_GIT = 10.0
# A run that ends at once has one sample all the same, at its end.
_FIRST_SAMPLE = 1.0
_CONSOLE_EVERY = 0.5
_LOOK_EVERY = 0.25
# What the end of a run waits for what is being collected, and for its breaking off.
_GRACE = 2.0
_BREAKING_OFF = 0.25


class CollectorThread:
    """What one run collects besides, by the names in `wanted`, from `start` to `stop`."""

    def __init__(
        self,
        wanted: Collection[str],
        interval: float,
        info: RunInfo,
        *,
        orchestrator: Orchestrator,
        spool: Spool,
        series: SeriesNames,
        secrets: Secrets,
    ) -> None:
        self._wanted, self._interval, self._info = frozenset(wanted), interval, info
        self._orchestrator, self._spool, self._series, self._secrets = orchestrator, spool, series, secrets
        self._guard: Guard = orchestrator.guard
        self._closing = threading.Event()
        self._until = math.inf
        self._given_up = False
        self._console: Console | None = None
        self._directory = _program_folder()
        self._thread = threading.Thread(target=self._main, name="tracelet-collect", daemon=True)

    def start(self) -> None:
        if not self._wanted or self._closing.is_set():
            return
        if "console" in self._wanted:
            self._guard.call(self._listen)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Let what was begun come to its end, for two seconds at most, and nothing come after."""
        self._until = min(deadline, time.monotonic() + _GRACE)
        self._closing.set()
        if self._console is not None:
            self._console.remove()
        if not self._thread.is_alive() or self._thread is threading.current_thread():
            return
        self._thread.join(max(0.0, self._until - time.monotonic()) + _BREAKING_OFF)
        if self._thread.is_alive():
            self._given_up = True
            self._guard.say(
                "collecting",
                "tracelet: what was still being collected when run %s ended is left out",
                self._info.run_id,
            )

    def _listen(self) -> None:
        from tracelet.collectors.console import Console  # a run that does not want it does not pay for it

        self._console = Console(Path(self._info.folder) / "console.log", self._guard, self._secrets.hide)
        self._console.install()

    # The collecting thread.

    def _main(self) -> None:
        self._guard.call(self._collect)

    def _collect(self) -> None:
        if not self._is_wanted():
            return
        system = self._guard.call(self._system) if "system" in self._wanted else None
        for read in self._readers():
            found = self._guard.call(read)
            if found is not None:
                self._guard.call(self._keep, found)
        self._follow(system)

    def _is_wanted(self) -> bool:
        """A run that is gone on with is another one only once something new is said in it."""
        while self._orchestrator.is_untouched:
            if self._closing.wait(_LOOK_EVERY):
                return not self._orchestrator.is_untouched
        return True

    def _readers(self) -> Iterator[Callable[[], Found | None]]:
        if "environment" in self._wanted:
            yield _environment
        if {"git", "git-diff"} & self._wanted and self._directory is not None:
            end = time.monotonic() + _GIT
            yield partial(
                _git,
                self._directory,
                lambda: min(end, self._until) - time.monotonic(),
                facts="git" in self._wanted,
                diff="git-diff" in self._wanted,
            )

    def _keep(self, found: Found) -> None:
        self._secrets.learn(found.secrets)
        for name, facts in found.facts.items():
            told = self._secrets.hidden(snapshot.plain(facts))
            if not self._given_up:
                self._orchestrator.annotate(name, told)
            self._keep_file(f"{json.dumps(told, indent=2, ensure_ascii=False)}\n".encode(), f"{name}.json")
        for name, data in found.files.items():
            self._keep_file(self._secrets.hidden(data), name)

    def _keep_file(self, file: bytes | Path, name: str) -> None:
        try:
            record, _ = take_artifact(file, name, self._spool)
        except JournalError as error:  # a full disk
            self._orchestrator.drop(f"an artifact, since {error}")
            return
        if not self._given_up:
            self._orchestrator.submit(record)

    def _system(self) -> System:
        from tracelet.collectors.system import System

        return System(Path(self._info.folder))

    def _follow(self, system: System | None) -> None:
        """Until the end of the run: samples on the clock, and lines of the console as they come."""
        due = math.inf if system is None else time.monotonic() + min(_FIRST_SAMPLE, self._interval)
        pause = math.inf if self._console is None else _CONSOLE_EVERY
        sampled = False
        ended = system is None and self._console is None
        while not ended:
            ended = self._closing.wait(max(0.0, min(pause, due - time.monotonic())))
            if self._console is not None:
                self._guard.call(self._console.write)
            if system is not None and (time.monotonic() >= due or (ended and not sampled)):
                self._sample(system)
                sampled = True
                due = max(due + self._interval, time.monotonic())
        if system is not None:
            self._guard.call(system.close)
        if self._console is not None and self._guard.call(self._console.finish):
            self._guard.call(self._keep_file, self._console.path, "console.log")

    def _sample(self, system: System) -> None:
        now = time.time()
        step = max(0, int(now - self._info.created))
        for measure in system.measures:
            for name, value in (self._guard.call(measure) or {}).items():
                if not self._given_up:
                    tag = self._series.collected(f"{WRITER}/{name}")
                    self._orchestrator.submit(Scalar(tag, value, step, now, WRITER))


def _environment() -> Found:
    from tracelet.collectors import environment  # its imports, and what it reads, are this thread's

    return environment.read()


def _git(directory: Path, left: Left, *, facts: bool, diff: bool) -> Found | None:
    from tracelet.collectors import git

    return git.read(directory, left, facts=facts, diff=diff)


def _program_folder() -> Path | None:
    """Where the main script lies; the working directory where there is no script, as in a notebook."""
    script: Any = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        return Path(script).absolute().parent if isinstance(script, str) else Path.cwd()
    except FileNotFoundError:  # a working directory that was deleted
        return None
