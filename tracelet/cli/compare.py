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
from tracelet.runs import comparison as comparison_module
from tracelet.runs import export as plain
from tracelet.runs import page
from tracelet.runs import plot as plot_module
from tracelet.runs.charts import is_system_metric
from tracelet.runs.comparison import MISSING, Comparison, Row
from tracelet.runs.folders import find_run
from tracelet.runs.report import DownsampledSeries

_ROOM_FOR_NAMES, _ROOM_FOR_RUN = 24, 26
_LONGEST_VALUE = 120


def compare(
    run: Annotated[
        list[str], typer.Argument(help="Runs: an id, its beginning, project/id, or a folder.", autocompletion=run_ids)
    ],
    html: Annotated[
        Path | None, typer.Option(help="Write the comparison into this HTML file, with the curves.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the common scalars into this PNG file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
    dir: Annotated[Path | None, typer.Option(help="Where run folders are (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Show runs side by side: the parameters that differ, and the figures of the curves that they share."""
    base = Path(settings.load({}).dir) if dir is None else dir
    comparison = comparison_module.compare([find_run(base, one) for one in run])
    if html is not None:
        page.write_comparison(comparison, html)
    if plot is not None:
        plot_module.write_png(comparison.charts(), plot, " · ".join(comparison.labels))
    if json:
        typer.echo(plain.text(plain.of_comparison(comparison)))
        return
    out = console()
    if html is not None or plot is not None:
        print_paths(out, html, plot)
        return
    _facts(out, comparison)
    differing = comparison.differing
    _lines(out, "parameter", comparison, differing)
    if alike := len(comparison.params) - len(differing):
        out.print(cell(f"The same in all of them: {alike} of {len(comparison.params)} parameters."))
    _lines(out, "final figure", comparison, comparison.final)
    _scalars(out, comparison)


def _facts(out: Console, comparison: Comparison) -> None:
    for label, one in zip(comparison.labels, comparison.runs, strict=True):
        info, summary = one.summary.info, one.summary
        told = f": {info.run_id}, {moment(info.created)}, {duration(summary.duration)}, {summary.records} records, "
        out.print(cell(label, "bold"), cell(told), status(summary.status), sep="")


def _lines(out: Console, word: str, comparison: Comparison, lines: Sequence[Row]) -> None:
    _side_by_side(out, word, comparison, [(line.name, [_value(value) for value in line.shown]) for line in lines])


def _scalars(out: Console, comparison: Comparison) -> None:
    common = comparison.common
    for word, measured in (("scalar", False), ("of the machine", True)):
        rows = [(tag, [_figures(one) for one in common[tag]]) for tag in common if is_system_metric(tag) is measured]
        _side_by_side(out, f"{word}: last (min to max)", comparison, rows)
    alone = len(comparison.series) - len(common)
    if alone:
        out.print(cell(f"In one of the runs alone: {alone} of {len(comparison.series)} scalars."))


def _side_by_side(out: Console, word: str, comparison: Comparison, rows: Sequence[tuple[str, Sequence[Text]]]) -> None:
    """A column for each run; on a narrow terminal a line."""
    if not rows:
        return
    out.print()
    if out.width < _ROOM_FOR_NAMES + _ROOM_FOR_RUN * len(comparison.runs):
        out.print(cell(word, "underline"))
        for name, values in rows:
            out.print(cell(name, "bold"))
            for label, value in zip(comparison.labels, values, strict=True):
                out.print(cell(f"  {label}: "), value, sep="")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in (word, *comparison.labels):
        table.add_column(cell(heading))
    for name, values in rows:
        table.add_row(cell(name), *values)
    out.print(table)


def _value(value: Any) -> Text:
    if value is MISSING:
        return Text("-", style="dim")
    text = str(value)
    return cell(text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}...")


def _figures(one: DownsampledSeries | None) -> Text:
    if one is None:
        return Text("-", style="dim")
    return cell(f"{number(one.last)} ({number(one.minimum)} to {number(one.maximum)})")
