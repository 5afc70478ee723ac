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
from tracelet.records import is_system_metric
from tracelet.runs import export, page
from tracelet.runs import plot as plot_module
from tracelet.runs import report as report_module
from tracelet.runs.charts import of_run
from tracelet.runs.cleanup import disk_used
from tracelet.runs.folders import find_run, rank_folders
from tracelet.runs.format import command, commit, machine
from tracelet.runs.media import Gallery
from tracelet.runs.page.markup import web_address
from tracelet.runs.report import DownsampledSeries, RunReport
from tracelet.runs.summary import RunSummary

_TABLE_WIDTH = 90
_MAX_VALUE_LENGTH = 300
_MAX_ALERTS = 10
_STATISTICS = ("points", "first", "last", "min", "max")
_ALERT_COLORS = {"warning": "yellow", "error": "red"}


def show(
    run: Annotated[
        str,
        typer.Argument(
            help="Run: an id, the start of an id, a name, project/id, a folder, or latest.", autocompletion=run_ids
        ),
    ],
    html: Annotated[Path | None, typer.Option(help="Write the run with its media to this HTML file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the scalars to this PNG file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
    dir: Annotated[Path | None, typer.Option(help="Folder of the runs (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Show a run: status, parameters, scalars, artifacts, and the progress of its backends."""
    base = Path(settings.load({}).dir) if dir is None else dir
    gallery = Gallery()
    report = report_module.read(find_run(base, run), see=None if html is None else gallery.add)
    if html is not None:
        page.write_run(report, gallery, html)
    if plot is not None:
        info = report.summary.info
        plot_module.write_png(of_run(report.scalars), plot, info.name or info.run_id)
    if json:
        typer.echo(export.text(export.of_run(report)))
        return
    out = console()
    if html is not None or plot is not None:
        print_paths(out, html, plot)
        return
    _facts(out, report)
    _pairs(out, ("metric", "value"), report.final)
    _pairs(out, ("parameter", "value"), report.params)
    for heading, is_system in (("scalar", False), ("system metrics", True)):
        _scalars(out, heading, [series for tag, series in report.scalars.items() if is_system_metric(tag) is is_system])
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
        "ranks": ", ".join(path.name for path in rank_folders(summary.folder)),
        "records": summary.records,
        "disk": size(disk_used(summary.folder)),
    }
    for name, value in facts.items():
        if value not in (None, ""):
            out.print(cell(f"  {name:<9}{value}"))
    for backend in summary.backends:
        out.print(cell(f"  {backend.name:<9}{progress(backend)}"))
        if backend.url:
            address = web_address(backend.url)  # on one line, so that terminals can open it
            out.print(cell(f"  {'':<9}{address or backend.url}"), soft_wrap=address is not None)
    for name, rejections in report.refusals.items():
        for rejection in rejections:
            text = f"  {name} rejected {rejection.count}: {rejection.reason} (first: {rejection.example})"
            out.print(cell(text, "yellow"))
    for alert in report.alerts[-_MAX_ALERTS:]:
        text = f": {alert.text}" if alert.text else ""
        out.print(
            cell(f"  {alert.level} {moment(alert.wall_time)} {alert.title}{text}", _ALERT_COLORS.get(alert.level, ""))
        )
    for damage in report.damaged:
        out.print(cell(f"  {damage}", "red"))
    _advise(out, summary)


def _advise(out: Console, summary: RunSummary) -> None:
    """Print why records are pending, and the command that delivers them unless the run is active."""
    has_ended = summary.status != "running"
    incomplete = [one for one in summary.backends if one.pending or one.pending_upload or (one.reason and has_ended)]
    for backend in incomplete:
        if backend.reason:
            lacking = "has pending records" if backend.pending or backend.pending_upload else "lacks the end of the run"
            out.print(cell(f"  {backend.name} {lacking}: {backend.short_reason}", "yellow"))
        if backend.pending_upload:
            out.print(cell(f"  {backend.name} has an offline recording to upload: {backend.pending_upload}", "yellow"))
    if incomplete and has_ended:
        out.print(cell("  Pending records are stored in the journal. Run:"))
        # On one line, so that it can be copied.
        out.print(cell(f"  tracelet sync {shlex.quote(str(summary.folder.absolute()))}"), soft_wrap=True)


def _pairs(out: Console, headings: tuple[str, str], values: Mapping[str, Any]) -> None:
    if values:
        out.print()
        table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False)
        for name, value in sorted(values.items()):
            text = str(value)
            table.add_row(
                cell(name), cell(text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}...")
            )
        out.print(table)


def _scalars(out: Console, heading: str, scalars: Sequence[DownsampledSeries]) -> None:
    if not scalars:
        return
    out.print()
    if out.width < _TABLE_WIDTH:
        for series in scalars:
            out.print(cell(series.tag, "bold"))
            out.print(cell(f"  {series.sparkline(max(4, out.width - 4))}"))
            statistics = zip(_STATISTICS, _numbers(series), strict=True)
            out.print(cell("  " + ", ".join(f"{name} {text}" for name, text in statistics)))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(heading)
    for name in _STATISTICS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("curve", no_wrap=True)
    for series in scalars:
        table.add_row(cell(series.tag), *_numbers(series), series.sparkline(20))
    out.print(table)


def _numbers(series: DownsampledSeries) -> list[str]:
    points = f"{series.count} ({series.nans} NaN)" if series.nans else str(series.count)
    values = (series.first, series.last, series.minimum, series.maximum)
    return [points, *(number(value, series.tag) for value in values)]


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
        for artifact in report.artifacts.values():
            table.add_row(cell(artifact.name), str(artifact.files), size(artifact.size), str(artifact.versions))
        out.print(table)
