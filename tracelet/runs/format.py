"""Format values for terminals and pages."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping
from typing import Any

from tracelet.journal.status import BackendStatus
from tracelet.records import is_system_metric

# A thousand years.
_MAX_SECONDS = 1000 * 365 * 86400


def clean(text: object) -> str:
    """Escape unprintable characters, so that the text cannot control the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text))


def number(value: float, tag: str = "") -> str:
    """Return a value with few digits. Bytes of a system metric have a unit."""
    if is_system_metric(tag) and tag.endswith("_bytes") and math.isfinite(value):
        return size(value)
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """Return 1.2 s, 3 min 20 s, 5 h 7 min, 2 d 3 h."""
    if not seconds < _MAX_SECONDS:  # an invalid time, or NaN
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {part}"
    raise AssertionError("unreachable: at least a minute")


def moment(seconds: float) -> str:
    """Return the local date and time. Foreign event files and damaged journals have impossible ones."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "invalid time"


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def commit(git: Mapping[str, Any]) -> str:
    """Return the commit, branch and remote of a program; empty if they are unknown."""
    if not git:
        return ""
    text = (git.get("commit") or "no commit yet")[:12]
    text += f" on {git['branch']}" if git.get("branch") else ""
    text += ", with uncommitted changes" if git.get("dirty") else ""
    return text + (f" ({git['remote']})" if git.get("remote") else "")


def machine(environment: Mapping[str, Any]) -> str:
    """Return the host, platform and processors of a program; empty if they are unknown."""
    if not environment:
        return ""
    cpus, gpus = environment.get("cpus"), environment.get("gpus", [])
    parts = [environment.get("hostname"), environment.get("platform"), f"{cpus} CPUs" if cpus else None]
    parts += [f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)]
    return ", ".join([*filter(None, parts), f"Python {environment.get('python', '')}"])


def command(environment: Mapping[str, Any]) -> str:
    """Return the command line of a program, quoted for a shell. Credentials in it are hidden."""
    return shlex.join(environment.get("argv", []))


def progress(status: BackendStatus) -> str:
    """Return the counts of a backend as text."""
    counts = (status.delivered, status.pending, status.rejected, status.filtered)
    named = zip(counts, ("delivered", "pending", "rejected", "filtered"), strict=True)
    text = ", ".join(f"{count} {name}" for count, name in named if count or name == "delivered")
    return text + (" (recorded offline, not uploaded yet)" if status.pending_upload else "")
