"""tracelet gc"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from tracelet import settings
from tracelet.cli._completion import run_ids
from tracelet.cli._console import cell, console, moment, size
from tracelet.cli._json import AsJson, emit, require_yes
from tracelet.cli._progress import bars
from tracelet.errors import ConfigurationError, JournalError, RunInUse
from tracelet.runs import cleanup
from tracelet.runs.folders import all_runs, find_run, rank_folders
from tracelet.runs.summary import RunSummary, summarise

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_CONSEQUENCE = (
    "Without their journals, tracelet runs still lists these runs, but show, compare and sync cannot read them. "
    "The backends keep their records."
)


def gc(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs: ids, starts of ids, names, project/id, folders, or latest (default: all).",
            autocompletion=run_ids,
        ),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Only runs that ended this long ago: a number and m, h, d or w, such as 30d.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List removable journals without removing them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
    dir: Annotated[Path | None, typer.Option(help="Folder of the runs (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Remove the journals of runs that are delivered completely to each of their backends.

    `tracelet runs` still lists these runs; `show`, `compare` and `sync` cannot read them any more. All other files in
    the run folder stay: those of csv, and your own.
    """
    require_yes(as_json, yes or dry_run, "gc", "--yes or --dry-run")
    base = Path(settings.load({}).dir) if dir is None else dir
    min_age = 0.0 if older_than is None else _seconds(older_than)
    runs = list(dict.fromkeys(find_run(base, name) for name in run)) if run else all_runs(base)
    folders = [part for folder in runs for part in (folder, *rank_folders(folder))]
    blocked, removable = _classify(folders, min_age, quiet=as_json)
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


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip())
    if match is None:
        raise ConfigurationError(f"--older-than must be a number and m, h, d or w, such as 30d, got {text!r}")
    return float(match[1]) * _UNITS[match[2]]


def _classify(folders: list[Path], min_age: float, *, quiet: bool) -> tuple[dict[Path, str], dict[Path, int]]:
    """Return the runs that stay with the reason, and the removable ones with their bytes."""
    blocked: dict[Path, str] = {}
    removable: dict[Path, int] = {}
    with bars(not quiet) as move:
        for index, folder in enumerate(folders):
            move("checking", index, len(folders))
            try:
                summary = summarise(folder)
            except JournalError as error:
                blocked[folder] = f"unreadable: {error}"
                continue
            reason = _blocking_reason(summary, min_age)
            if reason is None:
                removable[folder] = cleanup.removable_bytes(summary)
            else:
                blocked[folder] = reason
    return blocked, removable


def _blocking_reason(summary: RunSummary, min_age: float) -> str | None:
    if summary.journal_removed is not None:
        return "its journal is removed already"
    reason = cleanup.blocking_reason(summary) or cleanup.link_reason(summary.folder)
    if reason is None and min_age and not time.time() - summary.seen >= min_age:
        return f"it ended at {moment(summary.seen)}, later than --older-than allows"
    return reason


def _print(base: Path, blocked: dict[Path, str], removable: dict[Path, int]) -> None:
    out = console()
    for folder, reason in blocked.items():
        out.print(cell(f"{folder.name}: not removed: {reason}"))
    for folder, disk in removable.items():
        out.print(cell(f"{folder.name}: {size(disk)}; delivered to every backend"))
    if removable:
        out.print(cell(_CONSEQUENCE))
    else:
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
