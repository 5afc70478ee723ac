"""What the shell may complete: asked for at each press of a key, so that nothing but names is looked at."""

from __future__ import annotations

from pathlib import Path

import typer

from tracelet import settings
from tracelet.backends import known_backends
from tracelet.errors import TraceletError
from tracelet.runs.folders import all_runs


def run_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Ids below `--dir`, newest first; where one stands on the line already, it is left out."""
    try:
        base = Path(context.params.get("dir") or settings.load({}).dir)
        found = [folder.name for folder in reversed(all_runs(base))]
    except TraceletError:  # said by the command itself
        return []
    said = context.params.get("run") or ()
    return [name for name in found if name.startswith(incomplete) and name not in said]


def backend_names(incomplete: str) -> list[str]:
    """Names, also the last one of a comma list."""
    said, comma, last = incomplete.rpartition(",")
    return [f"{said}{comma}{name}" for name in known_backends() if name.startswith(last)]
