"""A tight loop of 20,000 `add_scalar` with a run attached, against TensorBoard alone just before and just after.

`python -m benchmarks.loops ROW FOLDER` measures one row in one process and prints the figures as JSON. The loop is
without mercy: it does nothing but log, so that whatever else wants the interpreter is the loop's loss.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import turns
from benchmarks.readback import points
from benchmarks.runs import BACKENDS, Way, begin, peak_mib, settle

NAME, REPEATS = "Tight loops", 3
SCALARS, WARM = 20_000, 2_000

ROWS = {
    "journal only": Way(),
    **{name: Way(name) for name in BACKENDS},
    **{f"{name}, process": Way(name, "process") for name in BACKENDS},
    **{f"{name}, no pauses": Way(name, paced=False) for name in BACKENDS},
}
COLUMNS = {
    "ratio": "ratio",
    "each_us": "call us",
    "plain_us": "TensorBoard alone us",
    "p99_us": "p99 us",
    "stall_ms": "longest stall ms",
    "plain_stall_ms": "TensorBoard's own ms",
    "start_s": "start s",
    "total_s": "to the end of stop s",
    "drift": "after / before",
    "peak_mib": "peak MiB",
    "submitted": "submitted",
    "read_back": "read back",
    "in_events": "event files",
}
EXPLANATION = """\
{:,} `add_scalar` by torch's SummaryWriter and nothing else, in a fresh process a row: by TensorBoard alone, with
the run attached, and by TensorBoard alone again. *Ratio* is the middle loop to the mean of the two around it; *after /
before* is how much these two differ (the machine's drift, and what a vendor leaves behind). The *longest stall* is the
longest single call of the loop. *Start* is `start_logging`, the import of the vendor's package included, and before the
loop; *to the end of stop* runs from the loop's first call. *Process*: `delivery="process"`. *No pauses*: the deliveries
do not leave the interpreter to the loop, which shows what their pauses are for. *Read back* counts what the store
holds, by readers of their own; *event files*, what TensorBoard's own hold. ClearML reads the Python files of the
program's repository, here all of tracelet's, on a thread of its own: that is most of its row without a process."""


def take(repeats: int, *, long: bool) -> dict[str, Any]:
    return {"rows": turns.in_turns(ROWS, repeats, lambda row: turns.measure("benchmarks.loops", row))}


def render(found: dict[str, Any]) -> list[str]:
    return [*EXPLANATION.format(SCALARS).splitlines(), "", *turns.table(found["rows"], COLUMNS)]


def main(row: str, folder: Path) -> None:
    settle(folder)
    from torch.utils.tensorboard import SummaryWriter

    way = ROWS[row]
    loop(SummaryWriter(folder / "warm"), WARM)
    before = loop(SummaryWriter(folder / "before"), SCALARS)
    began = time.perf_counter()
    experiment = begin(way, folder)
    started = time.perf_counter()
    attached = loop(SummaryWriter(folder / "events"), SCALARS)
    experiment.stop()
    ended = time.perf_counter()
    after = loop(SummaryWriter(folder / "after"), SCALARS)
    plain = (before[-1] + after[-1]) / 2
    stalls = sorted(attached[:-1])
    figures = {
        "ratio": attached[-1] / plain,
        "each_us": attached[-1] / SCALARS / 1e3,
        "plain_us": plain / SCALARS / 1e3,
        "p99_us": stalls[int(SCALARS * 0.99)] / 1e3,
        "stall_ms": stalls[-1] / 1e6,
        "plain_stall_ms": max(before[:-1]) / 1e6,
        "start_s": started - began,
        "total_s": ended - started,
        "drift": after[-1] / before[-1],
        "peak_mib": peak_mib(),
        "submitted": SCALARS,
        "read_back": points(way.store, folder),
        "in_events": points("events", folder),
    }
    print(json.dumps(figures))


def loop(writer: Any, count: int) -> list[int]:
    """Nanoseconds of each call, and last of the whole loop. A look at the clock is a five-hundredth of a call."""
    clock, ticks = time.perf_counter_ns, [0] * (count + 1)
    ticks[0] = clock()
    for step in range(count):
        writer.add_scalar("loss", step * 0.1, step)
        ticks[step + 1] = clock()
    writer.close()
    return [*(after - before for before, after in itertools.pairwise(ticks)), ticks[-1] - ticks[0]]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
