"""tracelet sync"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from tracelet import settings
from tracelet import sync as sync_module
from tracelet.backends import backend_class
from tracelet.cli._completion import backend_names, run_ids
from tracelet.cli._console import cell, console
from tracelet.cli._errors import tell_error
from tracelet.cli._json import AsJson, emit, of_synced
from tracelet.cli._sync_output import configs, names_of, progress_told, report
from tracelet.errors import JournalError, TraceletError
from tracelet.runs.folders import all_runs, find_run
from tracelet.sync import Synced

_WATCH_EVERY = 5.0


def sync(
    run: Annotated[
        list[str] | None,
        typer.Argument(help="Runs: an id, its beginning, project/id, or a folder.", autocompletion=run_ids),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="Deliver to this backend, also one that the run has never met. Repeatable.",
            autocompletion=backend_names,
        ),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Every run, not only those in which something waits.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C, and deliver what comes.")] = False,
    config: Annotated[
        list[str] | None,
        typer.Option(help="A key of the backend's config: KEY=VALUE, or BACKEND.KEY=VALUE. Repeatable."),
    ] = None,
    as_json: AsJson = False,
    dir: Annotated[Path | None, typer.Option(help="Where run folders are (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Deliver what waits: of runs whose backend could not be reached, whose process was killed, or that are to go to
    another backend as well. Repeating it changes nothing. Exit code 1: something still waits."""
    told = settings.load({})
    base = Path(told.dir) if dir is None else dir
    backends = names_of(backend)
    work = _Sync(backends, configs(config or [], backends, told), watch=watch, as_json=as_json)
    for name in backends:
        backend_class(name)  # one that nobody knows is said before anything begins

    def look() -> None:
        for folder in [find_run(base, one) for one in run or []] or _chosen(base, backends, every=all):
            work.deliver(folder)

    if watch:
        with contextlib.suppress(KeyboardInterrupt):  # wherever it comes: what is delivered by then is noted
            while True:
                look()
                threading.Event().wait(_WATCH_EVERY)
        return
    look()
    if as_json:
        emit({"runs": [of_synced(one) for one in work.done], "errors": work.errors})
    elif not work.done and not work.errors:
        console().print(cell(f"Nothing waits under {base}."))
    if work.errors or not all_complete(work.done):
        raise typer.Exit(1)


def all_complete(done: list[Synced]) -> bool:
    """Nothing waits, but in runs that were left alone."""
    return all(one.complete or one.skipped is not None for one in done)


class _Sync:
    """What one call of the command delivers, run for run."""

    def __init__(self, backends: list[str], config: dict[str, dict[str, Any]], *, watch: bool, as_json: bool) -> None:
        self.done: list[Synced] = []
        self.errors: list[str] = []
        self._backends, self._config = backends, config
        self._watch, self._as_json = watch, as_json
        self._said: set[str] = set()

    def deliver(self, folder: Path) -> None:
        """What is wrong with one run stops no other; it is said once, and not at every look."""
        try:
            self._deliver(folder)
        except TraceletError as error:
            if self._backends and not isinstance(error, JournalError):
                raise  # what was said on the line is wrong for every run
            if str(error) not in self._said:
                self._said.add(str(error))
                self.errors.append(tell_error(error))

    def _deliver(self, folder: Path) -> None:
        with progress_told(folder, as_json=self._as_json) as tell:
            synced = sync_module.deliver(folder, self._backends, config=self._config, tell=tell, stands_in=True)
        if not self._watch:
            self.done.append(synced)
        if self._watch and synced.skipped is not None:  # a run that is left alone is not worth a line each time
            return
        if not self._as_json:
            report(console(), synced)
        elif self._watch:
            emit(of_synced(synced), line=True)


def _chosen(base: Path, backends: list[str], *, every: bool) -> list[Path]:
    """Every run, or those that lack something in one of the backends that they were meant for."""
    runs = all_runs(base)
    return runs if every else [folder for folder in runs if _lacks(folder, backends)]


def _lacks(folder: Path, backends: list[str]) -> bool:
    try:
        lacking = sync_module.waiting(folder)
    except JournalError:  # told by `tracelet runs`; it must not keep the others from being delivered
        return False
    return any(name in lacking for name in backends) if backends else bool(lacking)
