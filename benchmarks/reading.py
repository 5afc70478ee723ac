"""Reading back: one series of a long run, all of it as Parquet, and a list of a thousand runs.

`python -m benchmarks.reading ROW LONG FOLDER` measures one row in one process and prints it as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import turns
from benchmarks.runs import Way, begin, memory_mib, peak_mib, settle

NAME, REPEATS = "Reading back", 3
TAGS, RUNS, POINTS_OF_RUN = 100, 1_000, 1_000
POINTS, POINTS_LONG = 1_000_000, 10_000_000
WHERE, SORT = 'params.lr < 0.5 and status == "finished"', "-summary.accuracy"

COLUMNS = {
    "wall_s": "s",
    "cpu_s": "CPU s",
    "count": "points or runs",
    "start_mib": "MiB at first",
    "peak_mib": "MiB at most",
}


def _one_tag(folder: Path) -> int:
    import tracelet

    return len(tracelet.open_run("long", dir=folder).scalars("loss/42"))


def _summary(folder: Path) -> int:
    import tracelet

    return len(tracelet.open_run("long", dir=folder).summary)


def _parquet(folder: Path) -> int:
    from tracelet.runs.exporting import write
    from tracelet.runs.reading import open_run

    run = open_run("long", dir=folder)
    write([run], folder / "long.parquet")
    return run.records


def _list(folder: Path | str) -> int:
    import tracelet

    return len(tracelet.list_runs(WHERE, SORT, dir=folder))


AGAIN = "1,000 runs by a parameter, again"
ROWS: dict[str, Callable[[Path], int]] = {
    "one of 100 tags": _one_tag,
    "the last value of each tag, first time": _summary,
    "export to Parquet": _parquet,
    "1,000 runs by a parameter, first time": _list,
    AGAIN: _list,
}


def take(repeats: int, *, long: bool) -> dict[str, Any]:
    limit = turns.LONG_LIMIT if long else turns.LIMIT
    found = turns.in_turns(ROWS, repeats, lambda row: turns.measure("benchmarks.reading", row, int(long), limit=limit))
    return {"rows": found, "points": POINTS_LONG if long else POINTS}


def render(found: dict[str, Any]) -> list[str]:
    return [
        f"A run of {found['points']:,} scalars, and {RUNS:,} runs of {POINTS_OF_RUN:,}. From the import of tracelet",
        "on, in a process of its own, with the files in the system's cache.",
        "",
        *turns.table(found["rows"], COLUMNS),
    ]


def write_long(points: int, folder: str) -> None:
    settle(Path(folder))
    with begin(Way(), Path(folder), run_id="long", collect="none") as experiment:
        names = [f"loss/{number}" for number in range(TAGS)]
        for step in range(points // TAGS):
            for name in names:
                experiment.log_metric(name, step * 0.1, step)


def write_many(folder: str) -> None:
    """A thousand runs, by the journal alone: starting and ending each would take minutes."""
    from tracelet.journal.store import Journal
    from tracelet.records import Params, Record, RunInfo, Scalar, Summary

    for number in range(RUNS):
        run_id = f"20260131-{number:06}-abcdef"
        journal = Journal(Path(folder, "runs", "default", run_id))
        journal.put_info(RunInfo(run_id=run_id, project=None, name=None, folder="", created=1e9 + number))
        records: list[Record] = [Params({"lr": number / RUNS}, 1.0)]
        records += [Scalar("loss", 1 / (1 + step), step, 1.0) for step in range(POINTS_OF_RUN)]
        journal.append([*records, Summary({"accuracy": number / RUNS}, 1.0)])
        journal.annotate("status", "finished")
        journal.close()


def main(row: str, long: str, folder: Path) -> None:
    settle(folder)
    points = POINTS_LONG if int(long) else POINTS
    _elsewhere(f"write_many({str(folder)!r})" if "runs" in row else f"write_long({points}, {str(folder)!r})")
    if row == AGAIN:
        _elsewhere(f"_list({str(folder / 'runs')!r})")
    start, wall, cpu = memory_mib(), time.perf_counter(), time.process_time()
    count = ROWS[row](folder / "runs")
    figures = {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "count": count,
        "start_mib": start,
        "peak_mib": peak_mib(),
    }
    print(json.dumps(figures))


def _elsewhere(call: str) -> None:
    """Call a function of this module in a process of its own, which has its own memory."""
    name = call.partition("(")[0]
    program = f"from benchmarks.reading import {name}; {call}"
    subprocess.run([sys.executable, "-c", program], stdout=sys.stderr, check=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
