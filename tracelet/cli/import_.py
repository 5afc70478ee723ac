"""tracelet import"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracelet import settings
from tracelet.backends import backend_class, check_installed
from tracelet.cli._completion import backend_names, store_names
from tracelet.cli._console import cell, console
from tracelet.cli._errors import print_error
from tracelet.cli._json import AsJson, emit, of_synced
from tracelet.cli._progress import bars
from tracelet.cli._sync_output import configs, names_of, progress_bars, report
from tracelet.errors import ConfigurationError, TraceletError
from tracelet.journal.store import FILE_NAME
from tracelet.sync import deliver

if TYPE_CHECKING:
    from tracelet.importer import Imported, Selection

_POLL_INTERVAL = 2.0
# A delivery opens and closes the vendor's run, so do not deliver at every poll.
_DELIVERY_INTERVAL = 15.0


def import_(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Folders with event files; with --from, stores.")
    ],
    store: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STORE",
            help="Import the runs of another tracker, given by the name of its backend, or of CSV files (csv).",
            autocompletion=store_names,
        ),
    ] = None,
    run: Annotated[
        list[str] | None, typer.Option("--run", help="With --from: only the run with this id or name. Repeatable.")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(help="With --from: only runs of this experiment or project.")
    ] = None,
    step_column: Annotated[str | None, typer.Option(help="With --from csv: the column of the steps.")] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Deliver the runs to this backend. Repeatable.", autocompletion=backend_names),
    ] = None,
    project: Annotated[
        str | None, typer.Option(help="Project of the runs (default: the TRACELET_PROJECT setting).")
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(help="Backend config: KEY=VALUE, or BACKEND.KEY=VALUE. Repeatable."),
    ] = None,
    as_one: Annotated[bool, typer.Option("--as-one", help="Import each LOGDIR as one run.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Import new events until Ctrl-C.")] = False,
    as_json: AsJson = False,
    dir: Annotated[Path | None, typer.Option(help="Folder of the runs (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Import TensorBoard event files, one run per experiment folder, or with --from the runs of another tracker.

    Importing again adds only new records.
    """
    loaded = settings.load({"project": project, "dir": dir})
    selection = _selection(store, run, experiment, step_column, only_events=as_one or watch)
    logdirs = [] if store else [Path(source) for source in sources]
    folders = [logdir for logdir in logdirs if not os.path.isfile(logdir)]
    for logdir in folders or logdirs:  # check all before importing any
        if not os.path.isdir(logdir):
            problem = "is not a folder" if logdir.exists() else "does not exist"
            raise ConfigurationError(f"{logdir} {problem}. Pass a folder with event files, or --from for other stores")
    names = names_of(backend)
    for name in names:
        backend_class(name)
        check_installed(name)
    own = configs(config or [], names, loaded)
    work = _Import(Path(loaded.dir), loaded.project, names, own, watch=watch, as_json=as_json)
    for logdir in logdirs:
        if logdir not in folders:  # the shell expands runs/* to files, too
            work.skip(logdir)
    pause = threading.Event()
    try:
        while True:
            for logdir in folders:
                work.poll(logdir, as_one)
            if store is not None:
                for source in sources:
                    work.import_store(store, source, selection)
            if not watch:
                break
            pause.wait(_POLL_INTERVAL)
    except KeyboardInterrupt:
        if not watch:
            raise
        work.deliver_rest()
    if as_json and not watch:
        emit({"runs": work.imported, "delivered": work.delivered, "errors": work.errors})
    if work.failed:
        raise typer.Exit(1)


def _selection(
    store: str | None, runs: list[str] | None, experiment: str | None, step_column: str | None, *, only_events: bool
) -> Selection:
    """Return the chosen runs of a store.

    Raises:
        ConfigurationError: the store is unknown, or an option is not for it.
        MissingDependency: the package to read the store is missing.
    """
    from tracelet.importer.stores import Selection, check_store

    if store is None:
        if runs or experiment or step_column:
            raise ConfigurationError("--run, --experiment and --step-column need --from")
    else:
        check_store(store)
        if only_events:
            raise ConfigurationError("--as-one and --watch are for event files, not with --from")
        if step_column and store != "csv":
            raise ConfigurationError("--step-column needs --from csv")
    return Selection(tuple(runs or ()), experiment, step_column)


class _Import:
    """One call of the command: its options, results and errors."""

    def __init__(
        self,
        base: Path,
        project: str | None,
        backends: Sequence[str],
        config: Mapping[str, Mapping[str, Any]],
        *,
        watch: bool,
        as_json: bool,
    ) -> None:
        self.failed = False
        self.imported: list[dict[str, Any]] = []
        self.delivered: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._out = console()
        self._base, self._project, self._backends, self._config = base, project, backends, config
        self._watch, self._as_json = watch, as_json
        self._reported: set[str] = set()
        self._states: dict[Path, object] = {}
        self._undelivered: set[Path] = set()
        self._last: dict[Path, float] = {}

    def skip(self, path: Path) -> None:
        if not self._as_json:
            self._out.print(cell(f"skipped {path}: it is not a folder"))

    def poll(self, logdir: Path, as_one: bool) -> None:
        from tracelet.importer import experiments, state

        folders = experiments(logdir, as_one=as_one)
        if not folders and not self._watch:
            self._report(
                ConfigurationError(f"no event files under {logdir}: no file name there or below contains 'tfevents'")
            )
        for experiment in folders:
            current = state(experiment, folders)
            if self._states.get(experiment) == current and self._watch:
                continue
            name = logdir.resolve().name if experiment == logdir else experiment.relative_to(logdir).as_posix()
            if self._import(experiment, name, folders):
                self._states[experiment] = current
        for folder in sorted(self._undelivered):
            if time.monotonic() - self._last.get(folder, -_DELIVERY_INTERVAL) >= _DELIVERY_INTERVAL:
                self._deliver(folder)

    def import_store(self, store: str, source: str, selection: Selection) -> None:
        """Import and deliver the selected runs of a store. An error of one run does not stop the others."""
        from tracelet.importer import import_past_run, past_runs

        found = False
        try:
            for past in past_runs(store, source, selection):
                found = True
                try:
                    imported = import_past_run(past, base=self._base, project=self._project)
                except (TraceletError, OSError) as error:
                    self._report(
                        error if isinstance(error, TraceletError) else TraceletError(f"{past.source}: {error}")
                    )
                else:
                    self._add(imported, past.name or past.id)
            if not found:
                chosen = "that --run and --experiment select " if selection.runs or selection.experiment else ""
                self._report(ConfigurationError(f"{source} has no run {chosen}to import"))
        except TraceletError as error:
            self._report(error)
        self.deliver_rest()

    def deliver_rest(self) -> None:
        for folder in sorted(self._undelivered):
            self._deliver(folder)

    def _import(self, experiment: Path, name: str, folders: Sequence[Path]) -> bool:
        """Import an experiment. Return False after an error, which does not stop the others."""
        from tracelet.importer import import_run

        try:
            with bars(not self._as_json) as move:

                def progress(done: int, total: int) -> None:
                    move(name, done, total)

                imported = import_run(
                    experiment, base=self._base, project=self._project, name=name, apart=folders, progress=progress
                )
        except TraceletError as error:
            self._report(error)
            return False
        if imported is not None:
            self._add(imported, name)
        return True

    def _add(self, imported: Imported, name: str) -> None:
        """Report an import, and note its run for delivery."""
        if not imported.readable and not self._watch:
            self._report(TraceletError(f"nothing could be read in {name}: {imported.damage[0]}"))
        if self._backends and (imported.folder / FILE_NAME).exists():
            self._undelivered.add(imported.folder)  # before it is printed: Ctrl-C may interrupt the print
        if imported.readable or self._watch:
            self._print(imported, name)

    def _print(self, imported: Imported, name: str) -> None:
        if self._as_json:
            is_new = bool(imported.records or imported.damage)
            self._emit("run", _facts(imported, name), self.imported, is_new=is_new)
            return
        if imported.records:
            text = f"{imported.records} records of {imported.series} series from {name}"
        elif imported.damage or not self._watch:
            text = f"nothing new in {name}"
        else:
            return
        self._out.print(cell(f"{imported.folder.name}: {text}"))
        for damage in imported.damage:
            self._out.print(cell(f"  {damage}", "yellow"))

    def _deliver(self, folder: Path) -> None:
        self._last[folder] = time.monotonic()
        try:
            with progress_bars(folder, as_json=self._as_json) as tell:
                synced = deliver(folder, self._backends, config=self._config, tell=tell)
        except TraceletError as error:
            self._report(error)
            self._undelivered.discard(folder)  # a retry would fail again
            return
        if self._as_json:
            self._emit("delivered", of_synced(synced), self.delivered)
        else:
            report(self._out, synced)
        if synced.complete:
            self._undelivered.discard(folder)
        elif not self._watch:
            self.failed = True

    def _emit(self, key: str, facts: dict[str, Any], results: list[dict[str, Any]], *, is_new: bool = True) -> None:
        """Add a result to the final document. With `--watch`, print it as a line if it is new."""
        if not self._watch:
            results.append(facts)
        elif is_new:
            emit({key: facts}, line=True)

    def _report(self, error: TraceletError) -> None:
        """Print an error, once even if each poll raises it."""
        self.failed = True
        if str(error) not in self._reported:
            self._reported.add(str(error))
            self.errors.append(print_error(error))


def _facts(imported: Imported, name: str) -> dict[str, Any]:
    return {
        "run_id": imported.folder.name,
        "folder": imported.folder,
        "source": imported.source,
        "name": name,
        "records": imported.records,
        "series": imported.series,
        "damage": imported.damage,
    }
