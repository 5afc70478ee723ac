"""Values as a person reads them in a terminal."""

from __future__ import annotations

import io
import os
import sys
import time

from rich.console import Console
from rich.text import Text

from tracelet.report import BackendState

_PIPED = 160
_COLOURS = {"running": "cyan", "finished": "green", "failed": "red", "killed": "yellow", "crashed": "red"}


def console() -> Console:
    """Standard output. Nothing printed through it is read as markup or emoji: names come from anywhere."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows "?" instead of a bar
    made = Console(markup=False, emoji=False, highlight=False, soft_wrap=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _PIPED
    return made


def clean(text: object) -> str:
    """Text that cannot steer the terminal: what is not printable is spelled out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text))


def cell(text: object, style: str = "") -> Text:
    return Text(clean(text), style=style, overflow="fold")


def status(word: str) -> Text:
    return Text(word, style=_COLOURS.get(word, ""))


def number(value: float) -> str:
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """1.2 s, 3 min 20 s, 5 h 7 min, 2 d 3 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {part}"
    raise AssertionError("unreachable: at least a minute")


def moment(seconds: float) -> str:
    """A time of day here."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def progress(state: BackendState) -> str:
    """How far a backend is, in words."""
    counts = (state.delivered, state.waiting, state.rejected, state.filtered)
    told = zip(counts, ("delivered", "waiting", "rejected", "filtered"), strict=True)
    words = ", ".join(f"{count} {word}" for count, word in told if count or word == "delivered")
    return words + (" (recorded offline, to be handed over)" if state.offline_store else "")
