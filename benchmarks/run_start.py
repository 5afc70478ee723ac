"""What `tracelet run` adds before a program's first line, in pairs with `python train.py`.

`python -m benchmarks.run_start ROW FOLDER` measures one row and prints the figures as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import turns

NAME, REPEATS = "A start without a changed line", 2
PAIRS = 15

SCRIPT = "import time; print(time.time_ns())"
CONSOLE = "import sys; from tracelet.__main__ import main; sys.exit(main())"
"""What pip writes into the console script."""
IN_THE_PROGRAM = f"import tracelet; tracelet.start_logging(); {SCRIPT}"

ROWS: dict[str, Sequence[str]] = {
    "tracelet run": ("-c", CONSOLE, "run"),
    "python -m tracelet run": ("-m", "tracelet", "run"),
    "tracelet run --backend csv": ("-c", CONSOLE, "run", "--backend", "csv"),
    "tracelet run -m": ("-c", CONSOLE, "run"),
    "start_logging in its first line": (),
}
COLUMNS = {"plain_ms": "python train.py ms", "ours_ms": "with a run ms", "added_ms": "added ms"}


def take(repeats: int, *, long: bool) -> dict[str, Any]:
    found = turns.in_turns(ROWS, repeats, lambda row: turns.measure("benchmarks.run_start", row))
    return {"rows": found}


def render(found: dict[str, Any]) -> list[str]:
    return [
        f"From before the interpreter to the first line of a script, in {PAIRS} pairs a row, in turns: alone, and with",
        "a run that has begun by then. *Added* is the difference of a pair. Quartiles in brackets.",
        "",
        "|  | " + " | ".join(COLUMNS.values()) + " |",
        "|---" + "|---:" * len(COLUMNS) + "|",
        *(
            f"| `{row}` | " + " | ".join(turns.within(_middle(several)[key]) for key in COLUMNS) + " |"
            for row, several in found["rows"].items()
            if several
        ),
    ]


def _middle(several: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of several turns, the one in the middle: its pairs have a spread of their own."""
    return sorted(several, key=lambda figures: figures["added_ms"][1])[len(several) // 2]


def main(row: str, folder: Path) -> None:
    os.chdir(folder)
    (folder / "train.py").write_text(SCRIPT + "\n", encoding="utf-8")
    (folder / "own.py").write_text(IN_THE_PROGRAM + "\n", encoding="utf-8")
    program = ["-m", "train"] if row.endswith("-m") else ["train.py"]
    ours = [*ROWS[row], *program] if ROWS[row] else ["own.py"]
    _milliseconds(program), _milliseconds(ours)  # what is compiled and read for the first time is nobody's start
    plain, with_run = [], []
    for _ in range(PAIRS):
        plain.append(_milliseconds(program))
        with_run.append(_milliseconds(ours))
    figures = {"plain_ms": plain, "ours_ms": with_run}
    figures["added_ms"] = [after - before for before, after in zip(plain, with_run, strict=True)]
    print(json.dumps({name: turns.quartiles(values) for name, values in figures.items()}))


def _milliseconds(words: Sequence[str]) -> float:
    """From before the process is made to the program's first line."""
    began = time.time_ns()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True, timeout=60)
    return (int(done.stdout) - began) / 1e6


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
