"""tracelet rm"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracelet import housekeeping, settings
from tracelet.cli._text import cell, console, size
from tracelet.errors import JournalError
from tracelet.identity import find_run
from tracelet.report import summarise


def rm(
    run: Annotated[list[str], typer.Argument(help="Runs: an id, its beginning, project/id, or a folder.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dir: Annotated[Path | None, typer.Option(help="Where run folders are (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Remove runs from this machine, with everything in their folders. What their backends have stays there."""
    base = Path(settings.load({}).dir) if dir is None else dir
    out = console()
    for folder in dict.fromkeys(find_run(base, one) for one in run):
        out.print(cell(f"{folder}: {size(housekeeping.disk_used(folder))}; {_at_stake(folder)}"))
        if not yes and not typer.confirm("Remove it?"):
            continue
        housekeeping.remove(folder)
        out.print(cell(f"{folder.name}: removed"))


def _at_stake(folder: Path) -> str:
    """What would be lost."""
    try:
        reason = housekeeping.why_kept(summarise(folder))
    except JournalError as error:
        return f"its journal cannot be read: {error}"
    return "every backend has all of it" if reason is None else reason
