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
from tracelet.cli._errors import print_error
from tracelet.cli._json import AsJson, emit, of_synced
from tracelet.cli._sync_output import configs, names_of, progress_bars, report
from tracelet.errors import JournalError, TraceletError
from tracelet.runs.folders import all_runs, find_run
from tracelet.sync import Synced

_WATCH_INTERVAL = 5.0


def sync(
    run: Annotated[
        list[str] | None,
        typer.Argument(help="Runs: ids, starts of ids, names, project/id, folders, or latest.", autocompletion=run_ids),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="Deliver to this backend, which may be new to the run. Repeatable.",
            autocompletion=backend_names,
        ),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Include runs without pending records.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Deliver new records until Ctrl-C.")] = False,
    config: Annotated[
        list[str] | None,
        typer.Option(help="Backend config: KEY=VALUE, or BACKEND.KEY=VALUE. Repeatable."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Send credentials also to servers that only a journal names.")
    ] = False,
    as_json: AsJson = False,
    dir: Annotated[Path | None, typer.Option(help="Folder of the runs (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Deliver pending records: of runs whose backend was unreachable or whose process was killed, or to a new backend.
    Repeating it changes nothing. Exit code 1: records are still pending."""
    loaded = settings.load({})
    base = Path(loaded.dir) if dir is None else dir
    backends = names_of(backend)
    work = _Sync(backends, configs(config or [], backends, loaded), watch=watch, as_json=as_json, trust=trust)
    for name in backends:
        backend_class(name)  # report an unknown name before the first delivery

    def deliver_once() -> None:
        for folder in [find_run(base, name) for name in run or []] or _chosen(base, backends, every=all):
            work.deliver(folder)

    if watch:
        with contextlib.suppress(KeyboardInterrupt):  # at any moment: the cursors are stored
            while True:
                deliver_once()
                threading.Event().wait(_WATCH_INTERVAL)
        return
    deliver_once()
    if as_json:
        emit({"runs": [of_synced(synced) for synced in work.done], "errors": work.errors})
    elif not work.done and not work.errors:
        console().print(cell(f"No pending records under {base}."))
    if work.errors or not all_complete(work.done):
        raise typer.Exit(1)


def all_complete(done: list[Synced]) -> bool:
    """Return True if no records are pending, skipped runs aside."""
    return all(synced.complete or synced.skipped is not None for synced in done)


class _Sync:
    """One call of the command: its options, results and errors."""

    def __init__(
        self, backends: list[str], config: dict[str, dict[str, Any]], *, watch: bool, as_json: bool, trust: bool
    ) -> None:
        self.done: list[Synced] = []
        self.errors: list[str] = []
        self._backends, self._config = backends, config
        self._watch, self._as_json, self._trust = watch, as_json, trust
        self._reported: set[str] = set()

    def deliver(self, folder: Path) -> None:
        """Deliver a run. Report an error once and continue, so that it does not stop the other runs."""
        try:
            self._deliver(folder)
        except TraceletError as error:
            if str(error) not in self._reported:
                self._reported.add(str(error))
                self.errors.append(print_error(error))

    def _deliver(self, folder: Path) -> None:
        with progress_bars(folder, as_json=self._as_json) as tell:
            synced = sync_module.deliver(
                folder,
                self._backends,
                config=self._config,
                tell=tell,
                stands_in=True,
                trust=self._trust,
                verify=not self._watch,
            )
        if not self._watch:
            self.done.append(synced)
        if self._watch and synced.skipped is not None:  # do not print a line at each poll
            return
        if not self._as_json:
            report(console(), synced)
        elif self._watch:
            emit(of_synced(synced), line=True)


def _chosen(base: Path, backends: list[str], *, every: bool) -> list[Path]:
    """Return every run, or those with pending records for one of their backends."""
    runs = all_runs(base)
    return runs if every else [folder for folder in runs if _is_incomplete(folder, backends)]


def _is_incomplete(folder: Path, backends: list[str]) -> bool:
    try:
        incomplete = sync_module.waiting(folder)
    except JournalError:  # `deliver` reports it
        return True
    return any(name in incomplete for name in backends) if backends else bool(incomplete)
