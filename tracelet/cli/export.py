"""tracelet export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracelet.cli._completion import run_ids
from tracelet.cli._console import cell, console
from tracelet.cli._json import AsJson, emit
from tracelet.runs import exporting
from tracelet.runs.reading import open_run


def export(
    run: Annotated[
        list[str],
        typer.Argument(help="Runs: ids, starts of ids, names, project/id, folders, or latest.", autocompletion=run_ids),
    ],
    to: Annotated[Path, typer.Option(help="A .parquet, .csv or .json file for the scalars, or a folder for all data.")],
    as_json: AsJson = False,
    dir: Annotated[Path | None, typer.Option(help="Folder of the runs (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Write the scalars of runs as one table, or whole runs to a folder."""
    runs = {opened.folder: opened for opened in (open_run(name, dir=dir) for name in run)}
    exporting.write(list(runs.values()), to)
    if as_json:
        emit({"target": to, "runs": [{"run_id": opened.id, "folder": opened.folder} for opened in runs.values()]})
    else:
        console().print(cell(f"Export: {to}"))
