"""`python -m benchmarks [--repeats N] [--save]`: every row in fresh processes, interleaved, as one table of medians."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks.rows import ROWS

RESULTS = Path(__file__).with_name("RESULTS.md")
EXPLANATION = """\
Medians of {repeats} processes a row, interleaved, with the smallest and largest in brackets. A workload is 20,000
`add_scalar`, 20 `add_histogram` of 100,000 float64, 20 `add_image` of 3x256x256, by torch's SummaryWriter. The first
half of the scalars is timed call by call (median, p99, longest stall), the second as one tight loop (mean, and its
ratio to TensorBoard alone in the same turn). *finish* runs to the end of `stop`. *read back* counts what the store
holds, by readers of their own."""
COLUMNS = {
    "median_us": "add_scalar median us",
    "p99_us": "p99 us",
    "stall_ms": "longest stall ms",
    "tight_us": "tight loop us",
    "ratio": "tight loop ratio",
    "histogram_ms": "add_histogram ms",
    "image_ms": "add_image ms",
    "startup_s": "start s",
    "finish_s": "finish s",
    "memory_mib": "peak MiB",
    "submitted": "submitted",
    "read_back": "read back",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="processes per row (default 5)")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS.values()}
    for turn in range(arguments.repeats):
        for name, row in ROWS.items():
            print(f"  {turn + 1}/{arguments.repeats} {name}", file=sys.stderr)
            found[row].append(run(row))
        # The ratio pairs runs of one turn: the machine's speed drifts between turns.
        for row in ROWS.values():
            found[row][turn]["ratio"] = found[row][turn]["tight_us"] / found["plain"][turn]["tight_us"]
    report = render(found, arguments.repeats)
    print(report)
    if arguments.save:
        RESULTS.write_text(report, encoding="utf-8")


def run(row: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.rows", row, folder],
            env={**os.environ, "PYTHONPATH": str(RESULTS.parent.parent)},
            capture_output=True,
            text=True,
            timeout=600,
        )
    if done.returncode:
        raise SystemExit(f"row {row!r} failed:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def render(found: dict[str, list[dict[str, float]]], repeats: int) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("tracelet", "torch", "tensorboard", "wandb"))
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    lines = [
        "# Benchmark results",
        "",
        f"{datetime.date.today()}, {machine}, {packages}",
        "",
        EXPLANATION.format(repeats=repeats),
        "",
        "| | " + " | ".join(COLUMNS.values()) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for name, row in ROWS.items():
        cells = [_cell([figures[column] for figures in found[row]], column) for column in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _cell(values: list[float], column: str) -> str:
    if column in ("submitted", "read_back"):
        return " / ".join(f"{value:,.0f}" for value in sorted(set(values)))
    digits = 0 if column == "memory_mib" else 2
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
