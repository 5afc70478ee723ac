"""The terminal, and values formatted for it."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tracelet.runs.format import clean, duration, moment, number, progress, size

__all__ = ["cell", "clean", "console", "duration", "moment", "number", "print_paths", "progress", "size", "status"]

_PIPED_WIDTH = 160
_COLORS = {"running": "cyan", "finished": "green", "failed": "red", "killed": "yellow", "crashed": "red"}


def console() -> Console:
    """Return a console on standard output that interprets no markup or emoji, since names are untrusted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows "?"
    # Color only if it is a terminal, even if FORCE_COLOR is set. rich itself respects NO_COLOR.
    output = Console(markup=False, emoji=False, highlight=False, soft_wrap=False, force_terminal=sys.stdout.isatty())
    if not output.is_terminal and "COLUMNS" not in os.environ:
        output.width = _PIPED_WIDTH
    return output


def cell(text: object, style: str = "") -> Text:
    return Text(clean(text), style=style, overflow="fold")


def print_paths(out: Console, page: Path | None, plot: Path | None) -> None:
    """Print the paths of the written files."""
    for label, path in (("Page", page), ("Plot", plot)):
        if path is not None:
            out.print(cell(f"{label}: {path}"))


def status(name: str) -> Text:
    return Text(name, style=_COLORS.get(name, ""))
