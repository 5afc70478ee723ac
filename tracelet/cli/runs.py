"""tracelet runs"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracelet import settings
from tracelet.cli._console import cell, console, duration, moment, number, progress, size, status
from tracelet.cli._json import AsJson, emit, of_run
from tracelet.runs import query
from tracelet.runs.cleanup import disk_used
from tracelet.runs.comparison import MISSING
from tracelet.runs.query import Column
from tracelet.runs.reading import Run, list_runs
from tracelet.runs.summary import RunSummary, Unreadable, summaries

_TABLE_WIDTH = 120

_MAX_NAME = 100


def runs(
    where: Annotated[
        str | None, typer.Option(help="A condition, such as 'params.lr < 1e-3 and status == \"finished\"'.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help="Fields to sort by, such as -summary.accuracy for the highest first.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Fields to list, such as 'name,params.lr,summary[\"val/loss\"]'.")
    ] = None,
    as_json: AsJson = False,
    dir: Annotated[Path | None, typer.Option(help="Folder of the runs (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """List the runs on this machine with their status and the progress of their backends, or other fields."""
    base = Path(settings.load({}).dir) if dir is None else dir
    out = console()
    fields = [] if columns is None else query.columns(columns)
    selected = None if where is None and sort is None and not fields else list_runs(where, sort, base)
    entries = list(summaries(base)) if selected is None else [run.state for run in selected]
    if as_json:
        values = [_values(run, fields) for run in selected or ()] if fields else [{}] * len(entries)
        emit({"runs": [of_run(entry) | more for entry, more in zip(entries, values, strict=True)]})
    elif not entries:
        out.print(cell(f"No runs under {base}." if where is None else f"No runs under {base} match."))
    elif fields:
        out.print(_columns(selected or (), fields))
    elif out.width >= _TABLE_WIDTH:
        out.print(_table(entries))
    else:
        _blocks(out, entries)


def _values(run: Run, fields: Sequence[Column]) -> dict[str, Any]:
    values = {field.text: field.value(run) for field in fields}
    return {"columns": {name: None if value is MISSING else value for name, value in values.items()}}


def _columns(found: Sequence[Run], fields: Sequence[Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", no_wrap=True)
    for field in fields:
        table.add_column(cell(field.text))
    for run in found:
        table.add_row(cell(run.id), *(cell(_shown(field, run)) for field in fields))
    return table


def _shown(field: Column, run: Run) -> str:
    match field.value(run):
        case float() as seconds if field.text == "created":
            return moment(seconds)
        case float() as seconds if field.text == "duration":
            return duration(seconds)
        case float() as value:
            return number(value)
        case None:
            return ""
        case tuple() | list() | dict() as values:
            return _short(", ".join(map(str, values)))
        case value:
            return _short(str(value))


def _table(entries: Sequence[RunSummary | Unreadable]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", no_wrap=True)
    for heading in ("project", "name", "status"):
        table.add_column(heading)
    table.add_column("started", no_wrap=True)
    for heading in ("duration", "records", "disk"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("backends")
    for entry in entries:
        match entry:
            case RunSummary(info=info):
                table.add_row(
                    cell(info.run_id),
                    cell(_short(info.project)),
                    cell(_short(info.name)),
                    status(entry.status),
                    moment(info.created),
                    duration(entry.duration),
                    str(entry.records),
                    size(disk_used(entry.folder)),
                    _backends(entry),
                )
            case Unreadable(folder=folder, reason=reason):
                table.add_row(
                    cell(folder.name), cell(folder.parent.name), "", "unreadable", "", "", "", "", cell(reason)
                )
    return table


def _blocks(out: Console, entries: Sequence[RunSummary | Unreadable]) -> None:
    """Print a few lines per run, for a narrow terminal."""
    for entry in entries:
        match entry:
            case RunSummary(info=info):
                out.print(cell(f"{info.run_id} "), status(entry.status), sep="")
                parts = [_short(part) for part in (info.project, info.name) if part]
                parts += [
                    moment(info.created),
                    duration(entry.duration),
                    f"{entry.records} records",
                    size(disk_used(entry.folder)),
                ]
                out.print(cell("  " + " | ".join(parts)))
                for state in entry.backends:
                    out.print(cell(f"  {state.name}: {progress(state)}"))
                for text in _removal(entry):
                    out.print(cell(f"  {text}"))
            case Unreadable(folder=folder, reason=reason):
                out.print(cell(f"{folder.name} unreadable: {reason}"))


def _short(name: str | None) -> str:
    """Return the start of a name: a long one would fill the terminal."""
    text = name or ""
    return text if len(text) <= _MAX_NAME else f"{text[:_MAX_NAME]}…"


def _backends(entry: RunSummary) -> Text:
    parts = [f"{state.name}: {progress(state)}" for state in entry.backends]
    return cell("; ".join([*parts, *_removal(entry)]))


def _removal(entry: RunSummary) -> list[str]:
    return [] if entry.journal_removed is None else [f"journal removed {moment(entry.journal_removed)}"]
