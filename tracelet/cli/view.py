"""tracelet view"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracelet import settings
from tracelet.backends import VIEWERS, disable_telemetry
from tracelet.backends.viewers import installed_viewer
from tracelet.cli._completion import run_ids
from tracelet.cli._console import cell, console
from tracelet.cli._errors import print_error
from tracelet.cli._progress import bars
from tracelet.errors import ConfigurationError, RunInUse, RunNotFound, TraceletError
from tracelet.runs.folders import all_runs, find_run

if TYPE_CHECKING:
    from tracelet.view import ViewerStore

# Seconds between two looks at the runs: a viewer that polls each second shows a new point within three.
_POLL_EVERY = 1.0


def view(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs: ids, starts of ids, names, project/id, folders, or latest; or folders of event files. "
            "Default: all runs.",
            autocompletion=run_ids,
        ),
    ] = None,
    viewer: Annotated[
        str | None,
        typer.Option(
            "--in",
            help=f"The viewer: {', '.join(VIEWERS)} (default: the first that is installed).",
            autocompletion=lambda incomplete: [name for name in VIEWERS if name.startswith(incomplete)],
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow active and new runs.")] = False,
    port: Annotated[int | None, typer.Option(help="Port of the viewer (default: a free one).")] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    dir: Annotated[Path | None, typer.Option(help="Folder of the runs (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Show runs in the web page of TensorBoard, Trackio, Aim or MLflow on this machine, until Ctrl-C. The viewer also
    lists the runs that it showed before."""
    from tracelet.view import ViewerServer, ViewerStore

    loaded = settings.load({"dir": dir})
    chosen = _Chosen(run or [], Path(loaded.dir), loaded.project, watch=watch)
    out, pause = console(), threading.Event()
    with _ended_by_signals(), ViewerStore(Path(loaded.dir), viewer or installed_viewer()) as store:
        disable_telemetry(store.viewer)
        work = _View(store)
        runs = chosen.runs()
        if not runs and not watch:
            raise RunNotFound(
                f"no runs under {loaded.dir}. To view event files, pass their folder, as in: tracelet view runs"
            )
        if not runs:
            out.print(cell(f"Waiting for a run under {loaded.dir}"))
        while not work.deliver(runs[:1]):  # only the newest, so that its curves appear at once
            runs = runs[1:]
            if not runs and not watch:
                raise typer.Exit(1)
            if not runs:
                pause.wait(_POLL_EVERY)
                runs = chosen.runs()
        with ViewerServer(store.viewer, store.folder, store.store, port) as server:
            server.wait()
            out.print(cell(f"Viewer: {server.url} ({store.viewer}; Ctrl-C ends it)"))
            if not no_open and _has_browser():
                import webbrowser

                webbrowser.open(server.url)
            work.deliver(runs[1:])
            out.print(cell(f"Runs: {len(runs)} ({work.new} new records)"))
            while True:
                pause.wait(_POLL_EVERY)
                server.check()
                if watch:
                    work.deliver(chosen.runs())


class _Chosen:
    """The runs of the command line: run folders, resolved once, and those of event files, which may grow."""

    def __init__(self, names: list[str], base: Path, project: str | None, *, watch: bool) -> None:
        self._base, self._project, self._has_names, self._watch = base, project, bool(names), watch
        self._folders: list[Path] = []
        self._logdirs: dict[Path, tuple[object, list[Path]]] = {}
        for name in names:
            try:
                self._folders.append(find_run(base, name))
            except RunNotFound:
                if not os.path.isdir(name):
                    raise
                self._logdirs[Path(name)] = (None, [])

    def runs(self) -> list[Path]:
        """Return the run folders, the newest first. Import new events before."""
        if not self._has_names:
            return all_runs(self._base)[::-1]
        return [*self._folders, *(folder for logdir in self._logdirs for folder in self._imported(logdir))]

    def _imported(self, logdir: Path) -> list[Path]:
        from tracelet.importer import experiments, state
        from tracelet.view import import_events

        seen, folders = self._logdirs[logdir]
        current = state(logdir)
        if current != seen:
            with contextlib.suppress(RunInUse):  # the view in another viewer imports it at this moment
                folders = import_events(logdir, self._base, self._project)[::-1]
                self._logdirs[logdir] = (current, folders)
        if not folders and not self._watch:
            if experiments(logdir):
                raise TraceletError(f"no record can be read in the event files of {logdir}")
            raise ConfigurationError(f"{logdir} is no run, and has no event files: no file name contains 'tfevents'")
        return folders


class _View:
    """The deliveries of one call of the command."""

    def __init__(self, store: ViewerStore) -> None:
        self.new = 0
        self._store = store
        self._reported: set[str] = set()

    def deliver(self, runs: list[Path]) -> bool:
        """Deliver runs. Return True if one succeeded. Report each error once, and continue with the other runs."""
        delivered = False
        with bars() as move:
            for run in runs:
                try:
                    self.new += self._store.deliver(run, move)
                    delivered = True
                except TraceletError as error:
                    if str(error) not in self._reported:
                        self._reported.add(str(error))
                        print_error(error)
        return delivered


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End the block at the first Ctrl-C, SIGTERM or closing of the terminal. Later ones must not stop the clean-up."""

    def interrupt(number: int, frame: object) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            for number in before:
                signal.signal(number, interrupt)
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _has_browser() -> bool:
    """Return True if a person sees the output. A browser inside the terminal would cover it."""
    has_display = sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
    return sys.stdout.isatty() and has_display
