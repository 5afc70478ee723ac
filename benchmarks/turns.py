"""Measurements in processes of their own, turn by turn, and how their figures are told."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LIMIT, LONG_LIMIT = 600, 3600

Figures = dict[str, Any]
Found = dict[str, list[Figures]]
"""The figures of each row, one dictionary a turn."""

failures: list[str] = []
"""What could not be measured; the row goes without that turn, and the command ends with an error."""


def measure(*words: object, limit: int = LIMIT) -> Figures | None:
    """What a benchmark module prints as JSON, from a process and a folder of its own; None where it failed."""
    command = [sys.executable, "-m", *map(str, words)]
    print("  " + " ".join(command[2:]), file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="tracelet-bench-", ignore_cleanup_errors=True) as folder:
        try:
            done = subprocess.run(
                [*command, folder],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=limit,
            )
        except subprocess.TimeoutExpired:
            _failed(command, f"not done after {limit} s")
            return None
    if done.returncode:
        _failed(command, done.stderr)
        return None
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def _failed(command: Sequence[str], why: str) -> None:
    failures.append(" ".join(command[2:]))
    print(f"  failed: {failures[-1]}\n{why}", file=sys.stderr, flush=True)


def in_turns(rows: Iterable[str], repeats: int, one: Callable[[str], Figures | None]) -> Found:
    """Every row once, then every row again: the speed of a shared machine drifts."""
    found: Found = {row: [] for row in rows}
    for turn in range(repeats):
        for row, turns in found.items():
            print(f"{turn + 1}/{repeats} {row}", file=sys.stderr, flush=True)
            if (figures := one(row)) is not None:
                turns.append({"turn": turn, **figures})
    return found


def machine() -> str:
    """Where and with what the figures were taken."""
    names = ("tracelet", "torch", "tensorboard", "wandb", "mlflow", "clearml", "aim", "trackio", "swanlab")
    packages = ", ".join(f"{name} {release}" for name in names if (release := _release(name)))
    cores = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"{datetime.date.today()}, {cores}, {packages}"


def _release(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def table(found: Mapping[str, Sequence[Figures]], columns: Mapping[str, str], first: str = "") -> list[str]:
    """A Markdown table of medians, the smallest and the largest in brackets; `columns` by key, as headings."""
    lines = [f"| {first} | " + " | ".join(columns.values()) + " |", "|---|" + "---:|" * len(columns)]
    for row, turns in found.items():
        cells = [cell([one[key] for one in turns if key in one]) for key in columns] if turns else ["failed"]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return lines


def cell(values: Sequence[Any]) -> str:
    """Median and range of measured numbers; counts and words as they are, each different one once."""
    if not values:
        return ""
    if not isinstance(values[0], float):
        told = dict.fromkeys(f"{value:,}" if isinstance(value, int) else str(value) for value in values)
        return " / ".join(told)
    return within([min(values), statistics.median(values), max(values)])


def within(three: Sequence[float]) -> str:
    """A middle, and the two ends around it."""
    low, middle, high = map(_digits, three)
    return middle if low == high else f"{middle} ({low}-{high})"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return statistics.quantiles(values, n=4)
