"""tracelet gc"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tracelet import settings
from tracelet.cli._console import cell, console, size
from tracelet.cli._json import AsJson, emit, require_yes
from tracelet.cli._progress import bars
from tracelet.errors import JournalError, RunInUse
from tracelet.runs import cleanup
from tracelet.runs.folders import all_runs
from tracelet.runs.report import summarise


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List removable journals without removing them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
    dir: Annotated[Path | None, typer.Option(help="Folder of the runs (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Remove the journals of runs that are delivered completely to each of their backends.

    Files of a backend in the run folder, such as those of csv, stay.
    """
    require_yes(as_json, yes or dry_run, "gc", "--yes or --dry-run")
    base = Path(settings.load({}).dir) if dir is None else dir
    blocked, removable = _classify(base, quiet=as_json)
    if not as_json:
        _print(base, blocked, removable)
    freed: dict[Path, int] = {}
    if removable and not dry_run and (yes or typer.confirm(f"Remove the journals of {len(removable)} runs?")):
        freed, failures = _remove(removable, quiet=as_json)
        blocked |= failures
        if not as_json:
            out = console()
            for folder, reason in failures.items():
                out.print(cell(f"{folder.name}: {reason}"))
            out.print(cell(f"{size(sum(freed.values()))} freed."))
    if as_json:
        emit({"dry_run": dry_run, "freed": sum(freed.values()), "runs": _document(blocked, removable, freed)})


def _classify(base: Path, *, quiet: bool) -> tuple[dict[Path, str], dict[Path, int]]:
    """Return the runs that stay with the reason, and the removable ones with their bytes."""
    blocked: dict[Path, str] = {}
    removable: dict[Path, int] = {}
    folders = all_runs(base)
    with bars(not quiet) as move:
        for index, folder in enumerate(folders):
            move("checking", index, len(folders))
            try:
                reason = cleanup.blocking_reason(summarise(folder))
            except JournalError as error:
                reason = f"unreadable: {error}"
            if reason is None:
                removable[folder] = cleanup.disk_used(folder)
            else:
                blocked[folder] = reason
    return blocked, removable


def _print(base: Path, blocked: dict[Path, str], removable: dict[Path, int]) -> None:
    out = console()
    for folder, reason in blocked.items():
        out.print(cell(f"{folder.name}: not removed: {reason}"))
    for folder, disk in removable.items():
        out.print(cell(f"{folder.name}: {size(disk)}; delivered to every backend"))
    if not removable:
        out.print(cell(f"Nothing to remove under {base}."))


def _remove(removable: dict[Path, int], *, quiet: bool) -> tuple[dict[Path, int], dict[Path, str]]:
    """Return the freed bytes of each run, and the errors, for example of a run that was resumed meanwhile."""
    freed: dict[Path, int] = {}
    failures: dict[Path, str] = {}
    with bars(not quiet) as move:
        for index, folder in enumerate(removable):
            move("removing", index, len(removable))
            try:
                freed[folder] = cleanup.remove_journal(folder)
            except (JournalError, RunInUse) as error:
                failures[folder] = str(error)
    return freed, failures


def _document(blocked: dict[Path, str], removable: dict[Path, int], freed: dict[Path, int]) -> list[dict[str, Any]]:
    return [
        {
            "run_id": folder.name,
            "folder": folder,
            "removable": folder in removable,
            "removed": folder in freed,
            "freed": freed.get(folder, 0),
            "reason": blocked.get(folder),
        }
        for folder in sorted({*blocked, *removable}, key=lambda path: path.name)
    ]
