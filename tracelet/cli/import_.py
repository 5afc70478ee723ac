"""tracelet import"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from tracelet import settings
from tracelet.backends import backend_class, check_installed
from tracelet.cli._delivering import configs, progress, report
from tracelet.cli._text import cell, clean, console
from tracelet.errors import TraceletError
from tracelet.journal import FILE_NAME
from tracelet.sync import deliver

if TYPE_CHECKING:
    from tracelet.importer import Imported

_LOOK_EVERY = 2.0
# A delivery opens and closes the vendor's run: not with every line that a program adds.
_DELIVER_EVERY = 15.0


def import_(
    logdirs: Annotated[list[Path], typer.Argument(metavar="LOGDIR...", help="Folders with event files in them.")],
    backend: Annotated[
        list[str] | None, typer.Option(help="Deliver the runs to this backend, too. Repeatable.")
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
    dir: Annotated[Path | None, typer.Option(help="Where run folders are (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Make runs of TensorBoard's event files: one for each experiment folder. Importing again adds only what is new."""
    loaded = settings.load({"project": project, "dir": dir})
    names = [name.strip() for one in backend or () for name in one.split(",") if name.strip()]
    for name in names:
        backend_class(name)
        check_installed(name)
    own = configs(config or [], names, loaded)
    work = _Import(console(), Path(loaded.dir), loaded.project, names, own, quiet=watch)
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
    if work.failed:
        raise typer.Exit(1)


class _Import:
    """What one call of the command does, look for look."""

    def __init__(
        self,
        out: Console,
        base: Path,
        project: str | None,
        backends: Sequence[str],
        config: Mapping[str, Mapping[str, Any]],
        *,
        quiet: bool,
    ) -> None:
        self.failed = False
        self._out = out
        self._base, self._project, self._backends, self._config = base, project, backends, config
        self._quiet = quiet
        self._said: set[str] = set()
        self._states: dict[Path, object] = {}
        self._behind: set[Path] = set()
        self._delivered: dict[Path, float] = {}

    def look(self, logdir: Path, as_one: bool) -> None:
        from tracelet.importer import experiments, state

        found = experiments(logdir, as_one=as_one)
        if not found and not self._quiet:
            self._out.print(cell(f"No event files under {logdir}."))
        for experiment in found:
            now = state(experiment)
            if self._states.get(experiment) == now and self._quiet:
                continue
            name = logdir.resolve().name if experiment == logdir else experiment.relative_to(logdir).as_posix()
            if self._import(experiment, name):
                self._states[experiment] = now
        for folder in sorted(self._behind):
            if time.monotonic() - self._delivered.get(folder, -_DELIVER_EVERY) >= _DELIVER_EVERY:
                self._deliver(folder)

    def deliver_rest(self) -> None:
        for folder in sorted(self._behind):
            self._deliver(folder)

    def _import(self, experiment: Path, name: str) -> bool:
        """Whether it is done; what is wrong with one experiment stops no other."""
        from tracelet.importer import import_run

        try:
            with _bar(self._out, name) as move:
                done = import_run(experiment, base=self._base, project=self._project, name=name, progress=move)
        except TraceletError as error:
            self._say(error)
            return False
        if done is not None:
            if self._backends and (done.folder / FILE_NAME).exists():
                self._behind.add(done.folder)  # before it is told: Ctrl-C may be the answer
            self._tell(done, name)
        return True

    def _tell(self, done: Imported, name: str) -> None:
        if done.records:
            told = f"{done.records} records of {done.series} series from {name}"
        elif done.damage or not self._quiet:
            told = f"nothing new in {name}"
        else:
            return
        self._out.print(cell(f"{done.folder.name}: {told}"))
        for damage in done.damage:
            self._out.print(cell(f"  {damage}", "yellow"))

    def _deliver(self, folder: Path) -> None:
        self._delivered[folder] = time.monotonic()
        try:
            with progress(self._out, folder.name) as tell:
                synced = deliver(folder, self._backends, config=self._config, tell=tell)
        except TraceletError as error:
            self._say(error)
            self._behind.discard(folder)  # what a person must put right does not change by itself
            return
        report(self._out, synced)
        if synced.complete:
            self._behind.discard(folder)
        elif not self._quiet:
            self.failed = True

    def _say(self, error: TraceletError) -> None:
        """Once, and not at every look."""
        self.failed = True
        text = clean(" ".join(str(error).split()))
        if text not in self._said:
            self._said.add(text)
            typer.echo(f"tracelet: {text}", err=True)


@contextlib.contextmanager
def _bar(out: Console, name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that `(done, of)` moves; on a terminal alone."""
    words, share = TextColumn("{task.description}", markup=False), TextColumn("{task.percentage:>3.0f} %")
    with Progress(words, BarColumn(), share, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(clean(name), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
