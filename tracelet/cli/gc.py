"""tracelet gc"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracelet import housekeeping, settings
from tracelet.cli._text import cell, console, size
from tracelet.errors import JournalError, RunInUse
from tracelet.report import RunSummary, summaries


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dir: Annotated[Path | None, typer.Option(help="Where run folders are (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Remove the journals of runs that every one of their backends has; never what one of them lacks.

    What a backend keeps in the run's own folder, as csv does, stays.
    """
    base = Path(settings.load({}).dir) if dir is None else dir
    out = console()
    going = []
    for one in summaries(base):
        reason = housekeeping.why_kept(one) if isinstance(one, RunSummary) else f"unreadable: {one.reason}"
        if reason is None:
            going.append(one.folder)
        else:
            out.print(cell(f"{one.folder.name}: kept, since {reason}"))
    if not going:
        out.print(cell(f"Nothing to remove under {base}."))
        return
    for folder in going:
        out.print(cell(f"{folder.name}: {size(housekeeping.disk_used(folder))}; every backend has all of it"))
    if dry_run or not (yes or typer.confirm(f"Remove the journals of {len(going)} runs?")):
        return
    freed = 0
    for folder in going:
        try:
            freed += housekeeping.collect(folder)
        except (JournalError, RunInUse) as error:  # meanwhile a process went on with it
            out.print(cell(f"{folder.name}: {error}"))
    out.print(cell(f"{size(freed)} freed."))
