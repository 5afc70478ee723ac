"""Shell completion. It runs at each key press, so it reads names only."""

from __future__ import annotations

from pathlib import Path

import typer

from tracelet import settings
from tracelet.backends import known_backends
from tracelet.errors import TraceletError
from tracelet.runs.folders import all_runs


def run_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Return the run ids below `--dir`, newest first, without those that are on the command line already."""
    try:
        base = Path(context.params.get("dir") or settings.load({}).dir)
        names = [folder.name for folder in reversed(all_runs(base, removed=True))]
    except TraceletError:  # the command itself reports it
        return []
    present = context.params.get("run") or ()
    return [name for name in names if name.startswith(incomplete) and name not in present]


def backend_names(incomplete: str) -> list[str]:
    """Complete the last name of a comma-separated list."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in known_backends() if name.startswith(last)]


def store_names(incomplete: str) -> list[str]:
    """Return the stores that can be imported."""
    from tracelet.importer.stores import STORES  # here: no other completion needs it

    return [name for name in STORES if name.startswith(incomplete)]
