"""What a record costs as runs grow: in records, tags, writers and backends.

`python -m benchmarks.scale KIND STORES COUNT RECORDS FOLDER` takes one point in one process and prints it as JSON.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import turns
from benchmarks.readback import points
from benchmarks.runs import BACKENDS, Way, begin, memory_mib, peak_mib, settle

NAME, REPEATS = "Scale", 1
LOOKS = 40
SPREAD_OVER, SHARED = 100_000, 20_000

Log = Callable[[float, int], Any]
Point = tuple[str, str, int, int]
"""What grows, the backends ("journal" for none; with "+" between several), how many of it, and how many records."""

COLUMNS = {
    "caller_us": "call us",
    "whole_us": "a record, to the end of stop, us",
    "start_mib": "MiB at first",
    "peak_mib": "MiB at most",
    "journal_bytes": "journal bytes a record",
    "submitted": "submitted",
    "read_back": "read back",
}
EXPLANATION = """\
Each point in a process of its own. *Records*, *tags* and *backends* by `experiment.log_metric`; *writers* by
`add_scalar` of that many SummaryWriters in turn, `events=False`. A call is the mean of the loop on the caller's thread,
which does nothing else; the backends work behind it and until the end of stop. The *MiB at first* are the process's
before tracelet was imported. *Read back*: what the journal and each backend's store hold."""


def points_to_take(*, long: bool) -> Iterator[Point]:
    most = 7 if long else 6
    for store in ("journal", "csv"):
        for power in range(3, most + 1):
            yield "records", store, 10**power, 10**power
    if long:
        for store in BACKENDS[1:]:
            for power in (3, 4, 5):
                yield "records", store, 10**power, 10**power
    for store in ("journal", "csv"):
        for tags in (1, 10, 100, 1_000, 10_000):
            yield "tags", store, tags, SPREAD_OVER
    for writers in (1, 2, 4, 8, 16, 32, 64):
        yield "writers", "journal", writers, SPREAD_OVER
    # The cheapest first, so that what the next one adds is seen.
    ordered = ("csv", "clearml", "aim", "mlflow", "wandb")
    for count in range(1, len(ordered) + 1):
        yield "backends", "+".join(ordered[:count]), count, SHARED


def take(repeats: int, *, long: bool) -> dict[str, Any]:
    limit = turns.LONG_LIMIT if long else turns.LIMIT
    rows = {f"{point[0]}, {point[1]}, {point[2]:,}": point for point in points_to_take(long=long)}
    found = turns.in_turns(rows, repeats, lambda row: turns.measure("benchmarks.scale", *rows[row], limit=limit))
    return {"rows": found, "points": rows}


def render(found: dict[str, Any]) -> list[str]:
    lines = EXPLANATION.splitlines()
    for kind in ("records", "tags", "writers", "backends"):
        named = {
            f"{store}, {count:,}": found["rows"][row]
            for row, (grows, store, count, _) in found["points"].items()
            if grows == kind
        }
        lines += ["", *turns.table(named, COLUMNS, kind)]
    return lines


def main(kind: str, stores: str, count: int, records: int, folder: Path) -> None:
    settle(folder)
    way = Way("" if stores == "journal" else stores)
    with_writers = kind == "writers"
    if with_writers:
        from torch.utils.tensorboard import SummaryWriter  # its import is no part of the run's memory
    before = memory_mib()
    began = time.perf_counter()
    experiment = begin(way, folder, events=not with_writers)
    started = time.perf_counter()
    if with_writers:
        log = _by_writers([SummaryWriter(folder / "events" / f"w{number}") for number in range(count)])
    elif kind == "tags":
        names = [f"loss/{number}" for number in range(count)]
        log = lambda value, step: experiment.log_metric(names[step % count], value, step // count)  # noqa: E731
    else:
        log = lambda value, step: experiment.log_metric("loss", value, step)  # noqa: E731
    seconds, memory = _loop(log, records)
    experiment.stop()
    ended = time.perf_counter()
    most = peak_mib()
    counts = {points(store, folder) for store in ("journal", *way.backends)}
    figures = {
        "caller_us": seconds / records * 1e6,
        "whole_us": (ended - started) / records * 1e6,
        "start_s": started - began,
        "start_mib": before,
        "peak_mib": most,
        "memory": memory if kind == "records" else [],
        "journal_bytes": (experiment.folder / "journal.db").stat().st_size / records,
        "submitted": records,
        "read_back": " / ".join(f"{held:,}" for held in sorted(counts)),
    }
    print(json.dumps(figures))


def _by_writers(writers: list[Any]) -> Log:
    count = len(writers)
    return lambda value, step: writers[step % count].add_scalar("loss", value, step // count)


def _loop(log: Log, records: int) -> tuple[float, list[tuple[int, float]]]:
    """Seconds of the whole loop without the looks at the memory, and what these saw after so many records."""
    clock, seconds, memory = time.perf_counter, 0.0, [(0, round(memory_mib(), 1))]
    edges = [records * look // LOOKS for look in range(LOOKS + 1)]
    for first, last in itertools.pairwise(edges):
        began = clock()
        for step in range(first, last):
            log(step * 0.1, step)
        seconds += clock() - began
        memory.append((last, round(memory_mib(), 1)))
    return seconds, memory


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
