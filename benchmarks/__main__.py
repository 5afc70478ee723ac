"""The measured comparisons: `python -m benchmarks [--only REPORT]... [--repeats N] [--long] [--save [FOLDER]]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import loops, pairs, ranks, reading, run_start, scale, start, training, turns, vendors, wandb_calls

HERE = Path(__file__).parent
FIGURES = "figures.json"
"""Every figure of the two reports; `python -m benchmarks.plots` draws them."""
REPORTS: dict[str, Any] = {
    "calls": pairs,
    "wandb": wandb_calls,
    "loops": loops,
    "start": start,
    "run": run_start,
    "training": training,
    "ranks": ranks,
    "scale": scale,
    "reading": reading,
    "vendors": vendors,
}
FILES = {
    "RESULTS.md": (
        "Benchmark results",
        ("calls", "wandb", "loops", "start", "run", "training", "ranks", "scale", "reading"),
    ),
    "VENDORS.md": (vendors.NAME, ("vendors",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=REPORTS, help="this report alone; may be given often")
    parser.add_argument("--repeats", type=int, help="processes a row (default: as many as suits the report)")
    parser.add_argument("--long", action="store_true", help="ten million records, vendors' scale, longer trainings")
    saved = f"write {FIGURES} and {', '.join(FILES)}, here or into FOLDER"
    parser.add_argument("--save", nargs="?", type=Path, const=HERE, metavar="FOLDER", help=saved)
    arguments = parser.parse_args()
    figures = load(arguments.save or HERE)
    for name in arguments.only or REPORTS:
        report = REPORTS[name]
        repeats = arguments.repeats or report.REPEATS
        taken = {"machine": turns.machine(), "repeats": repeats, "found": report.take(repeats, long=arguments.long)}
        figures[name] = taken
        print("\n".join(section(name, taken)), flush=True)
        if arguments.save:  # after each, so that an interrupted command keeps what it has
            write(figures, arguments.save)
    if turns.failures:
        raise SystemExit("not measured: " + "; ".join(turns.failures))


def load(folder: Path) -> dict[str, Any]:
    """What was measured before, by report."""
    path = folder / FIGURES
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return figures


def write(figures: Mapping[str, Any], folder: Path) -> None:
    """The figures and both reports, of whatever was ever measured."""
    (folder / FIGURES).write_text(json.dumps(figures) + "\n", encoding="utf-8")
    for name, (title, reports) in FILES.items():
        there = [report for report in reports if report in figures]
        if there:
            lines = [f"# {title}", ""]
            for report in there:
                lines += [*section(report, figures[report], headed=len(reports) > 1), ""]
            (folder / name).write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def section(name: str, taken: Mapping[str, Any], *, headed: bool = True) -> list[str]:
    """One report, with where, with what and how often it was taken."""
    heading = [f"## {REPORTS[name].NAME}", ""] if headed else []
    times, spread = taken["repeats"], "in turns; medians, the smallest and largest in brackets"
    often = "once" if times == 1 else f"{times} times, {spread}"
    return [*heading, f"{taken['machine']}. Each row {often}.", "", *REPORTS[name].render(taken["found"])]


if __name__ == "__main__":
    main()
