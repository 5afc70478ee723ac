"""tracelet rm"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tracelet import settings
from tracelet.cli._completion import run_ids
from tracelet.cli._console import cell, console, size
from tracelet.cli._errors import print_error
from tracelet.cli._json import AsJson, emit, require_yes
from tracelet.errors import JournalError, RunInUse
from tracelet.runs import cleanup
from tracelet.runs.folders import find_run
from tracelet.runs.summary import summarise

_DELIVERED = "delivered to every backend"


def rm(
    run: Annotated[
        list[str],
        typer.Argument(help="Runs: ids, starts of ids, names, project/id, folders, or latest.", autocompletion=run_ids),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
    dir: Annotated[Path | None, typer.Option(help="Folder of the runs (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Remove runs and their folders from this machine. Data in their backends stays."""
    require_yes(as_json, yes, "rm", "--yes")
    base = Path(settings.load({}).dir) if dir is None else dir
    folders = list(dict.fromkeys(find_run(base, name) for name in run))
    if as_json:
        removed = [_remove(folder, base) for folder in folders]
        emit({"runs": removed})
        if not all(result["removed"] for result in removed):
            raise typer.Exit(1)
        return
    out = console()
    failed = False
    for folder in folders:
        out.print(cell(f"{folder}: {size(cleanup.disk_used(folder))}; {_undelivered(folder) or _DELIVERED}"))
        if not yes and not typer.confirm("Remove it?"):
            continue
        try:
            cleanup.remove(folder, base)
        except (JournalError, RunInUse) as error:  # continue with the other runs
            print_error(error)
            failed = True
        else:
            out.print(cell(f"{folder.name}: removed"))
    if failed:
        raise typer.Exit(1)


def _undelivered(folder: Path) -> str | None:
    """Describe the data that would be lost. None if there is none."""
    try:
        return cleanup.blocking_reason(summarise(folder))
    except JournalError as error:
        return f"its journal cannot be read: {error}"


def _remove(folder: Path, base: Path) -> dict[str, Any]:
    """Remove a run and return the result. If it fails, `reason` has the error."""
    facts = {"run_id": folder.name, "folder": folder, "disk": cleanup.disk_used(folder), "lost": _undelivered(folder)}
    try:
        cleanup.remove(folder, base)
    except (JournalError, RunInUse) as error:
        return facts | {"removed": False, "reason": str(error)}
    return facts | {"removed": True, "reason": None}
