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
from typing import Any

from benchmarks.pairs import CALLS, PAIRS
from benchmarks.rows import ROWS
from benchmarks.vendors import SCALARS, VENDORS

RESULTS = Path(__file__).with_name("RESULTS.md")
VENDOR_RESULTS = Path(__file__).with_name("VENDORS.md")
EXPLANATION = """\
Medians of {repeats} processes a row, interleaved, with the smallest and largest in brackets. A workload is 20,000
`add_scalar`, 20 `add_histogram` of 100,000 float64, 20 `add_image` of 3x256x256, by torch's SummaryWriter. The first
half of the scalars is timed call by call (median, p99, longest stall), the second as one tight loop (mean, and its
ratio to TensorBoard alone in the same turn). *finish* runs to the end of `stop`. *read back* counts what the store
holds, by readers of their own."""
_CAPTURES = {
    "wandb": "`sync_tensorboard`",
    "mlflow": "`mlflow.pytorch.autolog(log_every_n_step=1)`",
    "clearml": "its automatic connection",
    "aim": "`aim.ext.tensorboard_tracker`",
}
_WAYS = {"tracelet": {"": "tracelet"}, "hand": {"": "by hand"}, "capture": _CAPTURES}
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
    parser.add_argument("--only", choices=("calls", "vendors"), help="one of the two reports alone")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name} and {VENDOR_RESULTS.name}")
    arguments = parser.parse_args()
    if arguments.only != "vendors":
        publish(report_calls(arguments.repeats), RESULTS, save=arguments.save)
    if arguments.only != "calls":
        found = {vendor: carry(vendor, arguments.repeats) for vendor in VENDORS}
        publish(render_vendors(found, arguments.repeats), VENDOR_RESULTS, save=arguments.save)


def publish(report: str, path: Path, *, save: bool) -> None:
    print(report)
    if save:
        path.write_text(report, encoding="utf-8")


def report_calls(repeats: int) -> str:
    """What a call costs the program."""
    found: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS.values()}
    for turn in range(repeats):
        for name, row in ROWS.items():
            print(f"  {turn + 1}/{repeats} {name}", file=sys.stderr)
            found[row].append(run(row))
        # The ratio pairs runs of one turn: the machine's speed drifts between turns.
        for row in ROWS.values():
            found[row][turn]["ratio"] = found[row][turn]["tight_us"] / found["plain"][turn]["tight_us"]
    print("  pairs", file=sys.stderr)
    return render(found, repeats) + render_pairs(measure("benchmarks.pairs"))


def run(row: str) -> dict[str, float]:
    """The figures of one row."""
    return measure("benchmarks.rows", row)


def carry(vendor: str, repeats: int) -> dict[str, list[dict[str, float]]]:
    """The figures of one SDK by way; the vendor's own capture, which can take minutes, once."""
    found: dict[str, list[dict[str, float]]] = {"tracelet": [], "hand": [], "capture": []}
    for turn in range(repeats):
        print(f"  {turn + 1}/{repeats} {vendor}", file=sys.stderr)
        for way in ("tracelet", "hand"):
            found[way].append(measure("benchmarks.vendors", vendor, way))
        found["tracelet"][-1]["ratio"] = found["hand"][-1]["end_to_end_s"] / found["tracelet"][-1]["end_to_end_s"]
    if vendor in _CAPTURES:
        print(f"  1/1 {vendor}, its own capture", file=sys.stderr)
        found["capture"].append(measure("benchmarks.vendors", vendor, "capture"))
    return found


def measure(*module: str) -> Any:
    """What a benchmark module prints as JSON, from a process and a folder of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        done = subprocess.run(
            [sys.executable, "-m", *module, folder],
            env={**os.environ, "PYTHONPATH": str(RESULTS.parent.parent)},
            capture_output=True,
            text=True,
            timeout=600,
        )
    if done.returncode:
        raise SystemExit(f"{' '.join(module)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> str:
    """Where and with what the figures were taken."""
    names = ("tracelet", "torch", "tensorboard", "wandb", "mlflow", "clearml", "aim")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    cores = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"{datetime.date.today()}, {cores}, {packages}"


def render(found: dict[str, list[dict[str, float]]], repeats: int) -> str:
    lines = [
        "# Benchmark results",
        "",
        machine(),
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


def render_pairs(found: dict[str, dict[str, list[float]]]) -> str:
    caller = found["caller"]
    lines = [
        "",
        f"In pairs, {PAIRS} of {CALLS:,} calls, with a run attached and without, in turns in one process; median, and",
        "the quartiles in brackets. *Added* is the time of `add_scalar` on the caller's thread while TensorBoard's own",
        "writing thread has nothing to do.",
        "",
        "| figure | |",
        "|---|---:|",
        f"| `add_scalar`, TensorBoard alone | {_quartiles(caller['plain_us'])} us |",
        f"| added by a run, journal only | {_quartiles(caller['added_us'])} us |",
        f"| tight loop, journal only, to TensorBoard alone | {_quartiles(found['journal']['ratio'])} |",
        f"| tight loop, csv, to TensorBoard alone | {_quartiles(found['csv']['ratio'])} |",
    ]
    return "\n".join([*lines, ""])


def render_vendors(found: dict[str, dict[str, list[dict[str, float]]]], repeats: int) -> str:
    lines = [
        "# Carrying a run to each vendor",
        "",
        machine(),
        "",
        f"{SCALARS:,} `add_scalar` to each vendor, *end to end*: from the first call to the end of stop, in fresh",
        f"processes, medians of {repeats} in turns with the smallest and largest in brackets; by tracelet, by the best",
        "use of the SDK's own calls in the same loop, and by the vendor's own capture of TensorBoard (one process).",
        "The loop is the time that the program itself waits. *Speed* is hand-written to tracelet, turn by turn: above",
        "1, tracelet is faster. Ranked by what is read back from the store.",
        "",
        "| | start s | loop s | end to end s | speed | read back |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for vendor, ways in found.items():
        ranked = sorted((way for way in ways if ways[way]), key=lambda way: -min(one["read_back"] for one in ways[way]))
        for way in ranked:
            cells = [
                _cell([one[column] for one in ways[way]], column) for column in ("start_s", "loop_s", "end_to_end_s")
            ]
            speed = _cell([one["ratio"] for one in ways[way]], "ratio") if way == "tracelet" else ""
            held = _cell([one["read_back"] for one in ways[way]], "read_back")
            lines.append(
                f"| {vendor}, {_WAYS[way].get(vendor) or _WAYS[way]['']} | {' | '.join(cells)} | {speed} | {held} |"
            )
    return "\n".join([*lines, ""])


def _quartiles(values: list[float]) -> str:
    low, middle, high = values
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _cell(values: list[float], column: str) -> str:
    if column in ("submitted", "read_back"):
        return " / ".join(f"{value:,.0f}" for value in sorted(set(values)))
    digits = 0 if column == "memory_mib" else 2
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
