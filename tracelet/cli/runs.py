"""tracelet runs"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracelet import settings
from tracelet.cli._console import cell, console, duration, moment, progress, size, status
from tracelet.cli._json import AsJson, emit, of_run
from tracelet.runs.cleanup import disk_used
from tracelet.runs.report import RunSummary, Unreadable, summaries

_ROOM_FOR_TABLE = 120


def runs(
    as_json: AsJson = False,
    dir: Annotated[Path | None, typer.Option(help="Where run folders are (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """List the runs kept on this machine: how they ended, and what their backends have of them."""
    base = Path(settings.load({}).dir) if dir is None else dir
    out = console()
    found = list(summaries(base))
    if as_json:
        emit({"runs": [of_run(one) for one in found]})
    elif not found:
        out.print(cell(f"No runs under {base}."))
    elif out.width >= _ROOM_FOR_TABLE:
        out.print(_table(found))
    else:
        _blocks(out, found)


def _table(found: Sequence[RunSummary | Unreadable]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", no_wrap=True)
    for heading in ("project", "name", "status"):
        table.add_column(heading)
    table.add_column("started", no_wrap=True)
    for heading in ("duration", "records", "disk"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("backends")
    for one in found:
        match one:
            case RunSummary(info=info):
                table.add_row(
                    cell(info.run_id),
                    cell(info.project or ""),
                    cell(info.name or ""),
                    status(one.status),
                    moment(info.created),
                    duration(one.duration),
                    str(one.records),
                    size(disk_used(one.folder)),
                    _backends(one),
                )
            case Unreadable(folder=folder, reason=reason):
                table.add_row(
                    cell(folder.name), cell(folder.parent.name), "", "unreadable", "", "", "", "", cell(reason)
                )
    return table


def _blocks(out: Console, found: Sequence[RunSummary | Unreadable]) -> None:
    """The same for a narrow terminal: a few lines a run."""
    for one in found:
        match one:
            case RunSummary(info=info):
                out.print(cell(f"{info.run_id} "), status(one.status), sep="")
                words = [word for word in (info.project, info.name) if word]
                words += [
                    moment(info.created),
                    duration(one.duration),
                    f"{one.records} records",
                    size(disk_used(one.folder)),
                ]
                out.print(cell("  " + " | ".join(words)))
                for state in one.backends:
                    out.print(cell(f"  {state.name}: {progress(state)}"))
            case Unreadable(folder=folder, reason=reason):
                out.print(cell(f"{folder.name} unreadable: {reason}"))


def _backends(one: RunSummary) -> Text:
    return cell("; ".join(f"{state.name}: {progress(state)}" for state in one.backends))
