"""tracelet show"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from tracelet import settings
from tracelet.cli._completion import run_ids
from tracelet.cli._console import cell, console, duration, moment, number, print_paths, progress, size, status
from tracelet.runs import export as plain
from tracelet.runs import page
from tracelet.runs import plot as plot_module
from tracelet.runs import report as report_module
from tracelet.runs.charts import is_system_metric, of_run
from tracelet.runs.cleanup import disk_used
from tracelet.runs.folders import find_run
from tracelet.runs.format import command, commit, machine
from tracelet.runs.media import Gallery
from tracelet.runs.page.markup import web_address
from tracelet.runs.report import DownsampledSeries, RunReport, RunSummary

_ROOM_FOR_TABLE = 90
_LONGEST_VALUE = 300
_MOST_ALERTS = 10
_ALERTS = {"warning": "yellow", "error": "red"}


def show(
    run: Annotated[
        str, typer.Argument(help="A run's id, its beginning, project/id, or its folder.", autocompletion=run_ids)
    ],
    html: Annotated[Path | None, typer.Option(help="Write all that can be looked at into this one HTML file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the scalars into this PNG file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
    dir: Annotated[Path | None, typer.Option(help="Where run folders are (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Show one run: its facts, parameters, curves and artifacts, and what its backends have of it."""
    base = Path(settings.load({}).dir) if dir is None else dir
    gallery = Gallery()
    report = report_module.read(find_run(base, run), see=None if html is None else gallery.see)
    if html is not None:
        page.write_run(report, gallery, html)
    if plot is not None:
        info = report.summary.info
        plot_module.write_png(of_run(report.scalars), plot, info.name or info.run_id)
    if json:
        typer.echo(plain.text(plain.of_run(report)))
        return
    out = console()
    if html is not None or plot is not None:
        print_paths(out, html, plot)
        return
    _facts(out, report)
    _pairs(out, ("final figure", "value"), report.final)
    _pairs(out, ("parameter", "value"), report.params)
    for word, measured in (("scalar", False), ("of the machine", True)):
        _scalars(out, word, [one for tag, one in report.scalars.items() if is_system_metric(tag) is measured])
    _others(out, report.others)
    _artifacts(out, report)


def _facts(out: Console, report: RunReport) -> None:
    summary = report.summary
    info = summary.info
    out.print(cell(f"Run {info.run_id} "), status(summary.status), sep="")
    facts = {
        "name": info.name,
        "project": info.project,
        "group": info.group,
        "tags": ", ".join(report.tags),
        "notes": info.notes,
        "started": f"{moment(info.created)}, {duration(summary.duration)}",
        "command": command(report.environment),
        "commit": commit(report.git),
        "machine": machine(report.environment),
        "folder": summary.folder,
        "records": summary.records,
        "disk": size(disk_used(summary.folder)),
    }
    for name, value in facts.items():
        if value not in (None, ""):
            out.print(cell(f"  {name:<9}{value}"))
    for state in summary.backends:
        out.print(cell(f"  {state.name:<9}{progress(state)}"))
        if state.url:
            address = web_address(state.url)  # unbroken, to be opened
            out.print(cell(f"  {'':<9}{address or state.url}"), soft_wrap=address is not None)
    for backend, refusals in report.refusals.items():
        for one in refusals:
            out.print(cell(f"  {backend} refused {one.count}: {one.reason} (first: {one.example})", "yellow"))
    for alert in report.alerts[-_MOST_ALERTS:]:
        told = f": {alert.text}" if alert.text else ""
        out.print(cell(f"  {alert.level} {moment(alert.wall_time)} {alert.title}{told}", _ALERTS.get(alert.level, "")))
    for damage in report.damaged:
        out.print(cell(f"  {damage}", "red"))
    _advise(out, summary)


def _advise(out: Console, summary: RunSummary) -> None:
    """Why something waits, and the line that delivers it, unless a live process is about to."""
    lacking = [state for state in summary.backends if state.pending or state.pending_upload]
    for state in lacking:
        if state.trouble:
            out.print(cell(f"  {state.name} waits: {state.trouble.removeprefix(f'{state.name}: ')}", "yellow"))
        if state.pending_upload:
            out.print(cell(f"  {state.name} recorded it offline: {state.pending_upload}", "yellow"))
    if lacking and summary.status != "running":
        out.print(cell("  What waits is safe in the journal. Deliver it with:"))
        # One unbroken line, to be copied.
        out.print(cell(f"  tracelet sync {shlex.quote(str(summary.folder.absolute()))}"), soft_wrap=True)


def _pairs(out: Console, headings: tuple[str, str], told: Mapping[str, Any]) -> None:
    if told:
        out.print()
        table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False)
        for name, value in sorted(told.items()):
            text = str(value)
            table.add_row(cell(name), cell(text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."))
        out.print(table)


def _scalars(out: Console, word: str, scalars: Sequence[DownsampledSeries]) -> None:
    if not scalars:
        return
    out.print()
    if out.width < _ROOM_FOR_TABLE:
        for one in scalars:
            out.print(cell(one.tag, "bold"))
            out.print(cell(f"  {one.sparkline(max(4, out.width - 4))}"))
            told = zip(("points", "first", "last", "min", "max"), _numbers(one), strict=True)
            out.print(cell("  " + ", ".join(f"{word} {text}" for word, text in told)))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(word)
    for heading in ("points", "first", "last", "min", "max"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("curve", no_wrap=True)
    for one in scalars:
        table.add_row(cell(one.tag), *_numbers(one), one.sparkline(20))
    out.print(table)


def _numbers(one: DownsampledSeries) -> list[str]:
    points = f"{one.count} ({one.nans} NaN)" if one.nans else str(one.count)
    return [points, *(number(value) for value in (one.first, one.last, one.minimum, one.maximum))]


def _others(out: Console, others: Mapping[str, Mapping[str, int]]) -> None:
    if others:
        out.print()
        table = Table("other records", "names", "count", box=box.SIMPLE_HEAD, pad_edge=False)
        for kind, names in others.items():
            listed = ", ".join(list(names)[:6]) + (f", ... ({len(names)})" if len(names) > 6 else "")
            table.add_row(kind, cell(listed), str(sum(names.values())))
        out.print(table)


def _artifacts(out: Console, report: RunReport) -> None:
    if report.artifacts:
        out.print()
        table = Table("artifact", "files", "size", "versions", box=box.SIMPLE_HEAD, pad_edge=False)
        for one in report.artifacts.values():
            table.add_row(cell(one.name), str(one.files), size(one.size), str(one.versions))
        out.print(table)
