"""How long `start_logging(wait=False)` keeps a program that has just imported tracelet.

`python -m benchmarks.start ROW FOLDER` measures one row in one process and prints the figures as JSON.
"""

from __future__ import annotations

import compileall
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import turns
from benchmarks.readback import points
from benchmarks.runs import BACKENDS, Way, begin, settle

NAME, REPEATS = "The start of a run", 2
LONGEST_OPENING = 120.0

ROWS = {
    "journal only": Way(),
    **{name: Way(name) for name in BACKENDS},
    **{f"{name}, process": Way(name, "process") for name in BACKENDS},
}
COLUMNS = {
    "start_ms": "start_logging ms",
    "open_s": "until the backend is open s",
    "stall_ms": "longest stall until then ms",
    "submitted": "submitted",
    "read_back": "read back",
}


def take(repeats: int, *, long: bool) -> dict[str, Any]:
    compileall.compile_dir(turns.ROOT / "tracelet", quiet=1)  # as pip leaves it
    return {"rows": turns.in_turns(ROWS, repeats, lambda row: turns.measure("benchmarks.start", row))}


def render(found: dict[str, Any]) -> list[str]:
    return [
        "`start_logging(wait=False)` after `import tracelet`, in a fresh process each, compiled as pip leaves it.",
        "Behind the call the vendor's package is imported and its run is begun; until that is done the program works",
        "and logs a point about every millisecond. *Longest stall* is the longest that one such turn of work and",
        "`log_metric` took.",
        "",
        *turns.table(found["rows"], COLUMNS),
    ]


def main(row: str, folder: Path) -> None:
    settle(folder)
    from tracelet import start_logging  # noqa: F401  (the import is not measured; a name asked for is what makes it)

    way = ROWS[row]
    began = time.perf_counter()
    experiment = begin(way, folder, wait=False)
    started = time.perf_counter()
    gaps = _work_until_open(experiment, way, started + LONGEST_OPENING)
    opened = time.perf_counter()
    experiment.stop()
    figures = {"start_ms": (started - began) * 1e3}
    if way.backend:
        figures |= {"open_s": opened - began, "stall_ms": max(gaps) * 1e3}
    print(json.dumps(figures | {"submitted": len(gaps), "read_back": points(way.store, folder)}))


def _work_until_open(experiment: Any, way: Way, deadline: float) -> list[float]:
    """Seconds of each turn of a millisecond's arithmetic and one point."""
    gaps: list[float] = []
    before = time.perf_counter()
    while before < deadline:
        sum(range(40_000))
        experiment.log_metric("loss", len(gaps) * 0.1, len(gaps))
        now = time.perf_counter()
        gaps.append(now - before)
        if not way.backend or experiment.stats().backends[way.backend].state != "connecting":
            break
        before = time.perf_counter()
    return gaps


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
