"""Values as a person reads them, in a terminal and on a page."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from typing import Any

from tracelet.runs.report import BackendState


def clean(text: object) -> str:
    """Text that cannot steer the terminal: what is not printable is spelled out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text))


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


def commit(git: Mapping[str, Any]) -> str:
    """Where in its history a program was; empty where that is not known."""
    if not git:
        return ""
    told = (git.get("commit") or "no commit yet")[:12]
    told += f" on {git['branch']}" if git.get("branch") else ""
    told += ", with changes that are not committed" if git.get("dirty") else ""
    return told + (f" ({git['remote']})" if git.get("remote") else "")


def machine(environment: Mapping[str, Any]) -> str:
    """What a program ran on; empty where that is not known."""
    if not environment:
        return ""
    cpus, gpus = environment.get("cpus"), environment.get("gpus", [])
    parts = [environment.get("hostname"), environment.get("platform"), f"{cpus} CPUs" if cpus else None]
    parts += [f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)]
    return ", ".join([*filter(None, parts), f"Python {environment.get('python', '')}"])


def command(environment: Mapping[str, Any]) -> str:
    """What a program was called with, as one would type it; credentials are hidden in it."""
    return shlex.join(environment.get("argv", []))


def progress(state: BackendState) -> str:
    """How far a backend is, in words."""
    counts = (state.delivered, state.pending, state.rejected, state.filtered)
    told = zip(counts, ("delivered", "waiting", "rejected", "filtered"), strict=True)
    words = ", ".join(f"{count} {word}" for count, word in told if count or word == "delivered")
    return words + (" (recorded offline, to be handed over)" if state.pending_upload else "")
