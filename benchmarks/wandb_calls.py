"""What a `wandb.log` costs more under capture, and with the facade in wandb's place, journal only.

`python -m benchmarks.wandb_calls FOLDER` prints the figures as JSON. wandb writes one offline run, whose service takes
a core and makes calls wait: loops with and without capture differ by more than capture costs. So the same call is also
measured from within, around wandb's own part of it.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tracelet
from benchmarks import turns
from benchmarks.readback import held
from tracelet.compat import wandb as facade

NAME, REPEATS = "wandb calls under capture, and of the facade", 1
PAIRS, ROWS = 25, 1_000
HEADINGS = (
    "call",
    "wandb alone",
    "under capture",
    "ratio",
    "our part",
    "call to call without it",
    "facade, mean",
    "submitted",
    "journal",
)
EXPLANATION = """\
{} pairs of {:,} `wandb.log` of three floats in one offline run, alone and with `capture=["wandb"]`, journal only, in
turns in one process: the median call of each loop; of these the median, and the quartiles in brackets. wandb's service
makes calls wait, more or less. *Our part*: of the captured calls, the time outside of wandb's own code; and the ratio
of the same calls with and without this time. *Facade*: `tracelet.compat.wandb`, the mean of all calls of a loop."""


def take(repeats: int, *, long: bool) -> dict[str, Any]:
    found = turns.in_turns(["wandb"], repeats, lambda row: turns.measure("benchmarks.wandb_calls"))["wandb"]
    # Of several processes, the one in the middle: its pairs have a spread of their own.
    return sorted(found, key=lambda figures: figures["own_ratio"][1])[len(found) // 2] if found else {}


def render(found: dict[str, Any]) -> list[str]:
    lines = [*EXPLANATION.format(PAIRS, ROWS).splitlines(), ""]
    lines += ["| " + " | ".join(HEADINGS) + " |", "|---" + "|---:" * (len(HEADINGS) - 1) + "|"]
    if found:
        cells = [f"{turns.within(found[key])} us" for key in ("plain", "captured")]
        cells += [turns.within(found["ratio"]), f"{turns.within(found['own'])} us"]
        cells += [" to ".join(f"{ratio:.3f}" for ratio in (found["own_ratio"][0], found["own_ratio"][2]))]
        cells.append(f"{turns.within(found['facade'])} us")
        cells += [f"{found[key]:,}" for key in ("submitted", "read_back")]
        lines.append("| `wandb.log` | " + " | ".join(cells) + " |")
    return lines


def main(folder: Path) -> None:
    os.environ |= {"WANDB_DIR": str(folder), "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    os.environ |= {"TRACELET_DIR": str(folder / "runs"), "TRACELET_COLLECT": "none"}
    logging.getLogger("tracelet").setLevel(logging.WARNING)
    import wandb

    run = wandb.init(project="bench")
    inner, outer = Timed(), Timed()
    original = wandb.Run._log
    wandb.Run._log = inner.around(original)
    _loop(wandb.log)
    plain, captured, own, own_ratio, of_facade = [], [], [], [], []
    for _ in range(PAIRS):
        plain.append(statistics.median(_loop(wandb.log)))
        with tracelet.start_logging(capture=["wandb"]):
            ours = wandb.Run._log
            wandb.Run._log = outer.around(ours)
            inner.seconds.clear()
            outer.seconds.clear()
            calls = _loop(wandb.log)
            wandb.Run._log = ours
        added = [whole - part for whole, part in zip(outer.seconds, inner.seconds, strict=True)]
        captured.append(statistics.median(calls))
        own.append(statistics.median(added))
        with facade.init(project="bench") as own_run:
            of_facade.append(statistics.mean(_loop(own_run.log)))
        own_ratio.append(statistics.median(call / (call - part) for call, part in zip(calls, added, strict=True)))
    wandb.Run._log = original
    run.finish()
    figures = {
        "plain": turns.quartiles([seconds * 1e6 for seconds in plain]),
        "captured": turns.quartiles([seconds * 1e6 for seconds in captured]),
        "ratio": turns.quartiles([ours / alone for ours, alone in zip(captured, plain, strict=True)]),
        "own": turns.quartiles([seconds * 1e6 for seconds in own]),
        "own_ratio": turns.quartiles(own_ratio),
        "facade": turns.quartiles([seconds * 1e6 for seconds in of_facade]),
        "submitted": 2 * 3 * ROWS * PAIRS,
        "read_back": held("journal", folder)["scalar"],
    }
    print(json.dumps(figures))


class Timed:
    """The seconds of each call of a method."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(run: Any, data: Any, step: Any = None, commit: Any = None) -> Any:
            began = time.perf_counter()
            result = method(run, data, step, commit)
            self.seconds.append(time.perf_counter() - began)
            return result

        return timed


def _loop(log: Callable[[dict[str, float]], Any]) -> list[float]:
    """Seconds of each call."""
    calls = []
    for step in range(ROWS):
        row = {"loss": step * 0.1, "accuracy": step * 0.2, "rate": 0.1}
        began = time.perf_counter()
        log(row)
        calls.append(time.perf_counter() - began)
    return calls


if __name__ == "__main__":
    main(Path(sys.argv[1]))
