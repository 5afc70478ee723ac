"""tracelet sync"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tracelet import settings
from tracelet import sync as sync_module
from tracelet.backends import backend_class
from tracelet.cli._delivering import configs, progress, report
from tracelet.cli._text import cell, console
from tracelet.errors import JournalError
from tracelet.identity import all_runs, find_run

_WATCH_EVERY = 5.0


def sync(
    run: Annotated[
        list[str] | None, typer.Argument(help="Runs: an id, its beginning, project/id, or a folder.")
    ] = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="Deliver to this backend, also one that the run has never met. Repeatable.")
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Every run, not only those in which something waits.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C, and deliver what comes.")] = False,
    config: Annotated[
        list[str] | None,
        typer.Option(help="A key of the backend's config: KEY=VALUE, or BACKEND.KEY=VALUE. Repeatable."),
    ] = None,
    dir: Annotated[Path | None, typer.Option(help="Where run folders are (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Deliver what waits: of runs whose backend could not be reached, whose process was killed, or that are to go to
    another backend as well. Repeating it changes nothing. Exit code 1: something still waits."""
    told = settings.load({})
    base = Path(told.dir) if dir is None else dir
    backends = [name.strip() for one in backend or [] for name in one.split(",") if name.strip()]
    own = configs(config or [], backends, told)
    for name in backends:
        backend_class(name)  # one that nobody knows is said before anything begins
    out = console()

    def look(quiet: bool = False) -> tuple[bool, bool]:
        found = [find_run(base, one) for one in run or []] or _chosen(base, backends, every=all)
        return bool(found), _sync(out, found, backends, own, quiet=quiet)

    if watch:
        with contextlib.suppress(KeyboardInterrupt):  # wherever it comes: what is delivered by then is noted
            while True:
                look(quiet=True)
                threading.Event().wait(_WATCH_EVERY)
        return
    any_found, complete = look()
    if not any_found:
        out.print(cell(f"Nothing waits under {base}."))
    if not complete:
        raise typer.Exit(1)


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


def _sync(
    out: Console, found: list[Path], backends: list[str], config: dict[str, dict[str, Any]], *, quiet: bool
) -> bool:
    """Whether nothing waits afterwards. `quiet`: a run that is left alone is not worth a line."""
    complete = True
    for folder in found:
        with progress(out, folder.name) as tell:
            synced = sync_module.deliver(folder, backends, config=config, tell=tell)
        if synced.skipped is not None and quiet:
            continue
        report(out, synced)
        complete &= synced.complete or synced.skipped is not None
    return complete
