"""What a fault of a backend costs the training loop: `python -m benchmarks.faults [WORD]...` (words of a place's name).

Each cell of the matrix of tests/test_faults.py, against the same run without a fault.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from backends.fault_places import ALL, PLACES, CsvFull, opened
from backends.fault_story import run

_WORK = 20_000
"""Loops of arithmetic at each step: about a millisecond of training."""
_FREE_RUNS = 3


def main(words: list[str]) -> None:
    logging.getLogger("tracelet").addHandler(logging.NullHandler())
    base = Path(tempfile.mkdtemp(prefix="tracelet-faults-"))
    os.environ |= {"TRACELET_DIR": str(base / "runs"), "HOME": str(base), "MLFLOW_DISABLE_TELEMETRY": "true"}
    os.environ |= {"CLEARML_CACHE_DIR": str(base / "clearml")}
    os.chdir(base)
    print("| | " + " | ".join(ALL) + " | longest call, ms |")
    print("|---" * (len(ALL) + 2) + "|")
    for kind in PLACES:
        if words and not any(word.lower() in kind.name.lower() for word in words):
            continue
        if kind is CsvFull and not CsvFull.can_mount():
            print(f"| {kind.name} | needs root for a disk of its own |")
            continue
        folder = base / kind.__name__
        folder.mkdir()
        with opened(kind, folder) as place:
            run(place, None, _WORK)
            free = sorted(run(place, None, _WORK).whole for _ in range(_FREE_RUNS))[_FREE_RUNS // 2]
            cells, longest = [], 0.0
            for cell in ALL:
                if cell in kind.void:
                    cells.append("-")
                    continue
                told = run(place, cell, _WORK)
                longest = max(longest, told.longest)
                cells.append(f"{told.whole / free:.3f}")
            print(f"| {kind.name} | " + " | ".join(cells) + f" | {longest * 1000:.1f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
