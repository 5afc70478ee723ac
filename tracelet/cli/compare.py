"""tracelet compare"""

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
from tracelet.cli._completion import run_ids
from tracelet.cli._console import cell, console, duration, moment, number, print_paths, status
from tracelet.records import is_system_metric
from tracelet.runs import comparison as comparison_module
from tracelet.runs import export, page
from tracelet.runs import plot as plot_module
from tracelet.runs.comparison import MISSING, Comparison, Row
from tracelet.runs.folders import find_run
from tracelet.runs.report import DownsampledSeries

_NAMES_WIDTH, _RUN_WIDTH = 24, 26
_MAX_VALUE_LENGTH = 120


def compare(
    run: Annotated[
        list[str],
        typer.Argument(help="Runs: ids, starts of ids, names, project/id, folders, or latest.", autocompletion=run_ids),
    ],
    html: Annotated[Path | None, typer.Option(help="Write the comparison with curves to this HTML file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the common scalars to this PNG file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
    dir: Annotated[Path | None, typer.Option(help="Folder of the runs (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Compare runs: parameters that differ, metrics, and scalars in common."""
    base = Path(settings.load({}).dir) if dir is None else dir
    comparison = comparison_module.compare([find_run(base, name) for name in run])
    if html is not None:
        page.write_comparison(comparison, html)
    if plot is not None:
        plot_module.write_png(comparison.charts(), plot, " · ".join(comparison.labels))
    if json:
        typer.echo(export.text(export.of_comparison(comparison)))
        return
    out = console()
    if html is not None or plot is not None:
        print_paths(out, html, plot)
        return
    _facts(out, comparison)
    differing = comparison.differing
    _rows(out, "parameter", comparison, differing)
    if equal := len(comparison.params) - len(differing):
        out.print(cell(f"Equal in all runs: {equal} of {len(comparison.params)} parameters."))
    _rows(out, "metric", comparison, comparison.final)
    _scalars(out, comparison)


def _facts(out: Console, comparison: Comparison) -> None:
    for label, report in zip(comparison.labels, comparison.runs, strict=True):
        info, summary = report.summary.info, report.summary
        facts = f": {info.run_id}, {moment(info.created)}, {duration(summary.duration)}, {summary.records} records, "
        out.print(cell(label, "bold"), cell(facts), status(summary.status), sep="")


def _rows(out: Console, heading: str, comparison: Comparison, rows: Sequence[Row]) -> None:
    _side_by_side(out, heading, comparison, [(row.name, [_value(value) for value in row.shown]) for row in rows])


def _scalars(out: Console, comparison: Comparison) -> None:
    common = comparison.common
    for heading, is_system in (("scalar", False), ("system metrics", True)):
        tags = [tag for tag in common if is_system_metric(tag) is is_system]
        rows = [(tag, [_range(series) for series in common[tag]]) for tag in tags]
        _side_by_side(out, f"{heading}: last (min to max)", comparison, rows)
    unshared = len(comparison.series) - len(common)
    if unshared:
        out.print(cell(f"In one run only: {unshared} of {len(comparison.series)} scalars."))


def _side_by_side(
    out: Console, heading: str, comparison: Comparison, rows: Sequence[tuple[str, Sequence[Text]]]
) -> None:
    """Print one column per run, or one line per run if the terminal is narrow."""
    if not rows:
        return
    out.print()
    if out.width < _NAMES_WIDTH + _RUN_WIDTH * len(comparison.runs):
        out.print(cell(heading, "underline"))
        for name, values in rows:
            out.print(cell(name, "bold"))
            for label, value in zip(comparison.labels, values, strict=True):
                out.print(cell(f"  {label}: "), value, sep="")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in (heading, *comparison.labels):
        table.add_column(cell(column))
    for name, values in rows:
        table.add_row(cell(name), *values)
    out.print(table)


def _value(value: Any) -> Text:
    if value is MISSING:
        return Text("-", style="dim")
    text = str(value)
    return cell(text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}...")


def _range(series: DownsampledSeries | None) -> Text:
    if series is None:
        return Text("-", style="dim")
    last, low, high = (number(value, series.tag) for value in (series.last, series.minimum, series.maximum))
    return cell(f"{last} ({low} to {high})")
