"""The terminal, and values as a person reads them there."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tracelet.runs.format import clean, duration, moment, number, progress, size

__all__ = ["cell", "clean", "console", "duration", "moment", "number", "print_paths", "progress", "size", "status"]

_PIPED = 160
_COLOURS = {"running": "cyan", "finished": "green", "failed": "red", "killed": "yellow", "crashed": "red"}


def console() -> Console:
    """Standard output. Nothing printed through it is read as markup or emoji: names come from anywhere."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows "?" instead of a bar
    # Coloured on a terminal alone, whatever FORCE_COLOR says; rich itself heeds NO_COLOR.
    made = Console(markup=False, emoji=False, highlight=False, soft_wrap=False, force_terminal=sys.stdout.isatty())
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _PIPED
    return made


def cell(text: object, style: str = "") -> Text:
    return Text(clean(text), style=style, overflow="fold")


def print_paths(out: Console, page: Path | None, plot: Path | None) -> None:
    """Where files were written: who asked for them wants nothing else."""
    for word, path in (("Page", page), ("Plot", plot)):
        if path is not None:
            out.print(cell(f"{word}: {path}"))


def status(word: str) -> Text:
    return Text(word, style=_COLOURS.get(word, ""))
