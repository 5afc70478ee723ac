"""tracelet tag"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracelet.cli._completion import run_ids
from tracelet.cli._console import cell, console
from tracelet.cli._json import AsJson, emit
from tracelet.runs.reading import open_run


def tag(
    run: Annotated[
        str,
        typer.Argument(
            help="Run: an id, the start of an id, a name, project/id, a folder, or latest.", autocompletion=run_ids
        ),
    ],
    add: Annotated[list[str] | None, typer.Option(help="Tags to add, separated by commas.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Tags to remove, separated by commas.")] = None,
    name: Annotated[str | None, typer.Option(help="New name; an empty one restores that of the program.")] = None,
    notes: Annotated[str | None, typer.Option(help="New notes; empty ones restore those of the program.")] = None,
    as_json: AsJson = False,
    dir: Annotated[Path | None, typer.Option(help="Folder of the runs (default: the TRACELET_DIR setting).")] = None,
) -> None:
    """Edit the tags, the name and the notes of a run, and print them. Backends do not get the edits."""
    opened = open_run(run, dir=dir)
    if add or remove or name is not None or notes is not None:
        opened.edit(add_tags=_split(add), remove_tags=_split(remove), name=name, notes=notes)
    facts = {"run_id": opened.id, "name": opened.name, "tags": list(opened.tags), "notes": opened.notes}
    if as_json:
        emit(facts | {"folder": opened.folder})
        return
    out = console()
    out.print(cell(f"Run {opened.id}"))
    for label, text in (("name", opened.name), ("tags", ", ".join(opened.tags)), ("notes", opened.notes)):
        out.print(cell(f"  {label:<9}{text or '-'}"))


def _split(options: list[str] | None) -> list[str]:
    return [tag.strip() for option in options or () for tag in option.split(",") if tag.strip()]
