"""Bars for what takes long."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tracelet.cli._console import clean

AFTER = 1.0
"""Seconds that something may take without a bar."""

Move = Callable[[str, int, int], None]
"""Told of a label, how much of it is done, and how much there is."""


@contextlib.contextmanager
def bars(wanted: bool = True) -> Iterator[Move]:
    """A bar for each label, on a standard error that is a terminal, and gone afterwards. Elsewhere there is none."""
    console = Console(stderr=True, markup=False, emoji=False, highlight=False, force_terminal=sys.stderr.isatty())
    if not wanted or not console.is_terminal or console.is_dumb_terminal:
        yield lambda label, done, total: None
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f} %")
    # A standard output that is no terminal gets what was printed, and not the terminal.
    shown = Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, redirect_stdout=sys.stdout.isatty()
    )
    began, tasks = time.monotonic(), dict[str, TaskID]()

    def move(label: str, done: int, total: int) -> None:
        if label not in tasks:
            tasks[label] = shown.add_task(clean(label), total=total)
        shown.update(tasks[label], completed=done, total=total)
        if not shown.live.is_started and time.monotonic() - began >= AFTER:
            shown.start()

    try:
        yield move
    finally:
        if shown.live.is_started:
            shown.stop()
