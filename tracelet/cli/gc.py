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
from tracelet.runs import cleanup as housekeeping
from tracelet.runs.folders import all_runs
from tracelet.runs.report import summarise


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    dir: Annotated[Path | None, typer.Option(help="Where run folders are (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Remove the journals of runs that every one of their backends has; never what one of them lacks.

    What a backend keeps in the run's own folder, as csv does, stays.
    """
    require_yes(as_json, yes or dry_run, "gc", "--yes or --dry-run")
    base = Path(settings.load({}).dir) if dir is None else dir
    kept, going = _sorted_out(base, quiet=as_json)
    if not as_json:
        _tell(base, kept, going)
    freed: dict[Path, int] = {}
    if going and not dry_run and (yes or typer.confirm(f"Remove the journals of {len(going)} runs?")):
        freed, late = _collect(going, quiet=as_json)
        kept |= late
        if not as_json:
            out = console()
            for folder, reason in late.items():
                out.print(cell(f"{folder.name}: {reason}"))
            out.print(cell(f"{size(sum(freed.values()))} freed."))
    if as_json:
        emit({"dry_run": dry_run, "freed": sum(freed.values()), "runs": _document(kept, going, freed)})


def _sorted_out(base: Path, *, quiet: bool) -> tuple[dict[Path, str], dict[Path, int]]:
    """The runs that stay, and why; those that can go, and their bytes."""
    kept: dict[Path, str] = {}
    going: dict[Path, int] = {}
    folders = all_runs(base)
    with bars(not quiet) as move:
        for at, folder in enumerate(folders):
            move("looking", at, len(folders))
            try:
                reason = housekeeping.blocking_reason(summarise(folder))
            except JournalError as error:
                reason = f"unreadable: {error}"
            if reason is None:
                going[folder] = housekeeping.disk_used(folder)
            else:
                kept[folder] = reason
    return kept, going


def _tell(base: Path, kept: dict[Path, str], going: dict[Path, int]) -> None:
    out = console()
    for folder, reason in kept.items():
        out.print(cell(f"{folder.name}: kept, since {reason}"))
    for folder, disk in going.items():
        out.print(cell(f"{folder.name}: {size(disk)}; every backend has all of it"))
    if not going:
        out.print(cell(f"Nothing to remove under {base}."))


def _collect(going: dict[Path, int], *, quiet: bool) -> tuple[dict[Path, int], dict[Path, str]]:
    """The bytes that each gave; and those that a process went on with meanwhile."""
    freed: dict[Path, int] = {}
    late: dict[Path, str] = {}
    with bars(not quiet) as move:
        for at, folder in enumerate(going):
            move("removing", at, len(going))
            try:
                freed[folder] = housekeeping.collect(folder)
            except (JournalError, RunInUse) as error:
                late[folder] = str(error)
    return freed, late


def _document(kept: dict[Path, str], going: dict[Path, int], freed: dict[Path, int]) -> list[dict[str, Any]]:
    return [
        {
            "run_id": folder.name,
            "folder": folder,
            "removable": folder in going,
            "removed": folder in freed,
            "freed": freed.get(folder, 0),
            "reason": kept.get(folder),
        }
        for folder in sorted({*kept, *going}, key=lambda one: one.name)
    ]
