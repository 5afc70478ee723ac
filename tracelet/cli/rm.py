"""tracelet rm"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tracelet import settings
from tracelet.cli._completion import run_ids
from tracelet.cli._console import cell, console, size
from tracelet.cli._errors import tell_error
from tracelet.cli._json import AsJson, emit, require_yes
from tracelet.errors import JournalError, RunInUse
from tracelet.runs import cleanup as housekeeping
from tracelet.runs.folders import find_run
from tracelet.runs.report import summarise

_NOTHING = "every backend has all of it"


def rm(
    run: Annotated[
        list[str], typer.Argument(help="Runs: an id, its beginning, project/id, or a folder.", autocompletion=run_ids)
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    dir: Annotated[Path | None, typer.Option(help="Where run folders are (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Remove runs from this machine, with everything in their folders. What their backends have stays there."""
    require_yes(as_json, yes, "rm", "--yes")
    base = Path(settings.load({}).dir) if dir is None else dir
    folders = list(dict.fromkeys(find_run(base, one) for one in run))
    if as_json:
        removed = [_remove(folder, base) for folder in folders]
        emit({"runs": removed})
        if not all(one["removed"] for one in removed):
            raise typer.Exit(1)
        return
    out = console()
    failed = False
    for folder in folders:
        out.print(cell(f"{folder}: {size(housekeeping.disk_used(folder))}; {_lacked(folder) or _NOTHING}"))
        if not yes and not typer.confirm("Remove it?"):
            continue
        try:
            housekeeping.remove(folder, base)
        except (JournalError, RunInUse) as error:  # which must not keep the others
            tell_error(error)
            failed = True
        else:
            out.print(cell(f"{folder.name}: removed"))
    if failed:
        raise typer.Exit(1)


def _lacked(folder: Path) -> str | None:
    """What would be lost."""
    try:
        return housekeeping.blocking_reason(summarise(folder))
    except JournalError as error:
        return f"its journal cannot be read: {error}"


def _remove(folder: Path, base: Path) -> dict[str, Any]:
    """Whether it went; `reason` says why not, and must not keep the others."""
    facts = {"run_id": folder.name, "folder": folder, "disk": housekeeping.disk_used(folder), "lost": _lacked(folder)}
    try:
        housekeeping.remove(folder, base)
    except (JournalError, RunInUse) as error:
        return facts | {"removed": False, "reason": str(error)}
    return facts | {"removed": True, "reason": None}
