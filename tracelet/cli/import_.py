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
from tracelet.cli._completion import backend_names
from tracelet.cli._console import cell, console
from tracelet.cli._errors import tell_error
from tracelet.cli._json import AsJson, emit, of_synced
from tracelet.cli._progress import bars
from tracelet.cli._sync_output import configs, names_of, progress_told, report
from tracelet.errors import ConfigurationError, TraceletError
from tracelet.journal.store import FILE_NAME
from tracelet.sync import deliver

if TYPE_CHECKING:
    from tracelet.importer import Imported

_LOOK_EVERY = 2.0
# A delivery opens and closes the vendor's run: not with every line that a program adds.
_DELIVER_EVERY = 15.0


def import_(
    logdirs: Annotated[list[Path], typer.Argument(metavar="LOGDIR...", help="Folders with event files in them.")],
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Deliver the runs to this backend, too. Repeatable.", autocompletion=backend_names),
    ] = None,
    project: Annotated[
        str | None, typer.Option(help="The runs' project (default: the TRACELET_PROJECT setting).")
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(help="A key of the backend's config: KEY=VALUE, or BACKEND.KEY=VALUE. Repeatable."),
    ] = None,
    as_one: Annotated[bool, typer.Option("--as-one", help="Each LOGDIR is one run, whatever is in it.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on with what is still written, until Ctrl-C.")] = False,
    as_json: AsJson = False,
    dir: Annotated[Path | None, typer.Option(help="Where run folders are (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Make runs of TensorBoard's event files: one for each experiment folder. Importing again adds only what is new."""
    loaded = settings.load({"project": project, "dir": dir})
    for logdir in logdirs:  # before anything of another is imported
        if not os.path.isdir(logdir):
            raise ConfigurationError(f"{logdir} is not a folder; `tracelet import` takes folders with event files")
    names = names_of(backend)
    for name in names:
        backend_class(name)
        check_installed(name)
    own = configs(config or [], names, loaded)
    work = _Import(Path(loaded.dir), loaded.project, names, own, watch=watch, as_json=as_json)
    pause = threading.Event()
    try:
        while True:
            for logdir in logdirs:
                work.look(logdir, as_one)
            if not watch:
                break
            pause.wait(_LOOK_EVERY)
    except KeyboardInterrupt:
        if not watch:
            raise
        work.deliver_rest()
    if as_json and not watch:
        emit({"runs": work.imported, "delivered": work.delivered, "errors": work.errors})
    if work.failed:
        raise typer.Exit(1)


class _Import:
    """What one call of the command does, look for look."""

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
        self._said: set[str] = set()
        self._states: dict[Path, object] = {}
        self._behind: set[Path] = set()
        self._last: dict[Path, float] = {}

    def look(self, logdir: Path, as_one: bool) -> None:
        from tracelet.importer import experiments, state

        found = experiments(logdir, as_one=as_one)
        if not found and not self._watch:
            self._say(
                ConfigurationError(
                    f"no event files under {logdir}: no file there, or in a folder below it, has 'tfevents' in its name"
                )
            )
        for experiment in found:
            now = state(experiment)
            if self._states.get(experiment) == now and self._watch:
                continue
            name = logdir.resolve().name if experiment == logdir else experiment.relative_to(logdir).as_posix()
            if self._import(experiment, name):
                self._states[experiment] = now
        for folder in sorted(self._behind):
            if time.monotonic() - self._last.get(folder, -_DELIVER_EVERY) >= _DELIVER_EVERY:
                self._deliver(folder)

    def deliver_rest(self) -> None:
        for folder in sorted(self._behind):
            self._deliver(folder)

    def _import(self, experiment: Path, name: str) -> bool:
        """Whether it is done; what is wrong with one experiment stops no other."""
        from tracelet.importer import import_run

        try:
            with bars(not self._as_json) as move:

                def tell(done: int, total: int) -> None:
                    move(name, done, total)

                done = import_run(experiment, base=self._base, project=self._project, name=name, progress=tell)
        except TraceletError as error:
            self._say(error)
            return False
        if done is not None:
            if self._backends and (done.folder / FILE_NAME).exists():
                self._behind.add(done.folder)  # before it is told: Ctrl-C may be the answer
            self._tell(done, name)
        return True

    def _tell(self, done: Imported, name: str) -> None:
        if self._as_json:
            self._note("run", _facts(done, name), self.imported, worth=bool(done.records or done.damage))
            return
        if done.records:
            told = f"{done.records} records of {done.series} series from {name}"
        elif done.damage or not self._watch:
            told = f"nothing new in {name}"
        else:
            return
        self._out.print(cell(f"{done.folder.name}: {told}"))
        for damage in done.damage:
            self._out.print(cell(f"  {damage}", "yellow"))

    def _deliver(self, folder: Path) -> None:
        self._last[folder] = time.monotonic()
        try:
            with progress_told(folder, as_json=self._as_json) as tell:
                synced = deliver(folder, self._backends, config=self._config, tell=tell)
        except TraceletError as error:
            self._say(error)
            self._behind.discard(folder)  # what a person must put right does not change by itself
            return
        if self._as_json:
            self._note("delivered", of_synced(synced), self.delivered)
        else:
            report(self._out, synced)
        if synced.complete:
            self._behind.discard(folder)
        elif not self._watch:
            self.failed = True

    def _note(self, word: str, facts: dict[str, Any], noted: list[dict[str, Any]], *, worth: bool = True) -> None:
        """Into the document at the end; a watcher has no end, and prints a line where that is worth it."""
        if not self._watch:
            noted.append(facts)
        elif worth:
            emit({word: facts}, line=True)

    def _say(self, error: TraceletError) -> None:
        """Once, and not at every look."""
        self.failed = True
        if str(error) not in self._said:
            self._said.add(str(error))
            self.errors.append(tell_error(error))


def _facts(done: Imported, name: str) -> dict[str, Any]:
    return {
        "run_id": done.folder.name,
        "folder": done.folder,
        "source": done.source,
        "name": name,
        "records": done.records,
        "series": done.series,
        "damage": done.damage,
    }
