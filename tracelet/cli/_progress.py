"""Progress bars."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tracelet.cli._console import clean

AFTER = 1.0
"""Seconds until a bar appears."""

Move = Callable[[str, int, int], None]
"""Called with a label, the amount done, and the total."""


@contextlib.contextmanager
def bars(wanted: bool = True) -> Iterator[Move]:
    """Show one transient bar per label if standard error is a terminal; otherwise show nothing."""
    console = Console(stderr=True, markup=False, emoji=False, highlight=False, force_terminal=sys.stderr.isatty())
    if not wanted or not console.is_terminal or console.is_dumb_terminal:
        yield lambda label, done, total: None
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f} %")
    # Redirect stdout only if it is a terminal: a pipe must get the command's output itself.
    display = Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, redirect_stdout=sys.stdout.isatty()
    )
    started, tasks = time.monotonic(), dict[str, TaskID]()

    def move(label: str, done: int, total: int) -> None:
        if label not in tasks:
            tasks[label] = display.add_task(clean(label), total=total)
        display.update(tasks[label], completed=done, total=total)
        if not display.live.is_started and time.monotonic() - started >= AFTER:
            display.start()

    try:
        yield move
    finally:
        if display.live.is_started:
            display.stop()
