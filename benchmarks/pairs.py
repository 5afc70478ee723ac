"""What a call costs more with a run attached, journal only: short loops with and without one, in turns, in one process.

`python -m benchmarks.pairs FOLDER` prints the figures as JSON. Each pair is taken within a fraction of a second, since
the speed of a shared machine drifts.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tracelet
from benchmarks import turns
from benchmarks.readback import held

NAME, REPEATS = "Calls", 1
PAIRS, MEDIA_PAIRS = 25, 9
SCALARS, HISTOGRAMS, IMAGES = 4_000, 20, 6
VALUES, PICTURE = 100_000, (3, 256, 256)

Call = Callable[[Any, int], Any]


class Pairs(NamedTuple):
    """So many calls, in so many pairs, beside themselves under a run begun with `events`; `unit` parts of a second."""

    title: str
    kind: str
    calls: int
    pairs: int
    events: str | bool
    unit: float


ROWS = {
    "add_scalar": Pairs("`add_scalar`", "scalar", SCALARS, PAIRS, "sync", 1e6),
    "add_scalar, no events": Pairs("`add_scalar`, `events=False`", "scalar", SCALARS, PAIRS, False, 1e6),
    "add_histogram": Pairs("`add_histogram`", "histogram", HISTOGRAMS, MEDIA_PAIRS, "sync", 1e3),
    "add_histogram, async": Pairs(
        '`add_histogram`, `events="async"`', "histogram", HISTOGRAMS, MEDIA_PAIRS, "async", 1e3
    ),
    "add_image": Pairs("`add_image`", "image", IMAGES, MEDIA_PAIRS, "sync", 1e3),
    "add_image, async": Pairs('`add_image`, `events="async"`', "image", IMAGES, MEDIA_PAIRS, "async", 1e3),
}
UNITS = {1e6: "us", 1e3: "ms"}
HEADINGS = (
    "call",
    "TensorBoard alone",
    "with a run",
    "ratio",
    "whole, alone",
    "whole, with a run",
    "submitted",
    "journal",
    "event files",
)
EXPLANATION = """\
In pairs, {} of {:,} `add_scalar` and {} of {} `add_histogram` of {:,} float64 or {} `add_image` of {}, with a run
attached, journal only, and without, in turns in one process; median, and the quartiles in brackets. A call is the mean
of its loop. *Whole* adds what is left to do after the loop to it: the end of stop, and the writer's closing.
*Journal* and *event files*: what those of the runs hold."""
CALLER = """\
On the caller's thread alone, TensorBoard's own writing thread having nothing to do, the median `add_scalar` takes
{} us, and a run adds {} us."""


def take(repeats: int, *, long: bool) -> dict[str, Any]:
    found = turns.in_turns(["calls"], repeats, lambda row: turns.measure("benchmarks.pairs"))["calls"]
    if not found:
        return {}
    # Of several processes, the one in the middle: its pairs have a spread of their own.
    middle = sorted(found, key=lambda figures: figures["add_scalar"]["ratio"][1])[len(found) // 2]
    return {row: figures for row, figures in middle.items() if row != "turn"}


def render(found: dict[str, Any]) -> list[str]:
    told = EXPLANATION.format(PAIRS, SCALARS, MEDIA_PAIRS, HISTOGRAMS, VALUES, IMAGES, "x".join(map(str, PICTURE)))
    lines = [*told.splitlines(), "", "| " + " | ".join(HEADINGS) + " |", "|---" + "|---:" * (len(HEADINGS) - 1) + "|"]
    for row, pairs in ROWS.items():
        if row in found:
            figures, unit = found[row], UNITS[pairs.unit]
            cells = [f"{turns.within(figures[key])} {unit}" for key in ("plain", "attached")]
            cells += [turns.within(figures["ratio"])]
            cells += [f"{turns.within(figures[key])} {unit}" for key in ("plain_whole", "attached_whole")]
            cells += [f"{figures[key]:,}" for key in ("submitted", "read_back", "in_events")]
            lines.append(f"| {pairs.title} | " + " | ".join(cells) + " |")
    if "caller" in found:
        caller = found["caller"]
        plain, added = turns.within(caller["plain_us"]), turns.within(caller["added_us"])
        lines += ["", *CALLER.format(plain, added).splitlines()]
    return lines


def main(folder: Path) -> None:
    import numpy as np
    from torch.utils.tensorboard import SummaryWriter

    generator = np.random.default_rng(0)
    values, picture = generator.standard_normal(VALUES), generator.random(PICTURE)
    calls: dict[str, Call] = {
        "scalar": lambda writer, step: writer.add_scalar("loss", step * 0.1, step),
        "histogram": lambda writer, step: writer.add_histogram("weights", values, step),
        "image": lambda writer, step: writer.add_image("picture", picture, step),
    }
    found: dict[str, Any] = {"caller": _caller(SummaryWriter(folder / "caller"), folder / "caller-runs")}
    for row, pairs in ROWS.items():
        found[row] = _measure(pairs, calls[pairs.kind], SummaryWriter, folder / row)
    print(json.dumps(found))


def _measure(pairs: Pairs, call: Call, writer_class: Any, folder: Path) -> dict[str, Any]:
    """Spreads of seconds a call, in the unit of the row, and how much of it the stores hold."""
    _loop(call, writer_class(folder / "warm"), pairs.calls, _nothing)
    plain, attached = [], []
    for turn in range(pairs.pairs):
        plain.append(_loop(call, writer_class(folder / "plain" / str(turn)), pairs.calls, _nothing))
        experiment = tracelet.start_logging(dir=folder / "runs", events=pairs.events)  # type: ignore[arg-type]
        writer = writer_class(folder / "events" / str(turn))
        attached.append(_loop(call, writer, pairs.calls, experiment.stop))
    scale = pairs.unit / pairs.calls
    figures: dict[str, Any] = {}
    for name, several in (("plain", plain), ("attached", attached)):
        figures[name] = turns.quartiles([loop * scale for loop, _ in several])
        figures[f"{name}_whole"] = turns.quartiles([whole * scale for _, whole in several])
    figures["ratio"] = turns.quartiles([ours[0] / alone[0] for ours, alone in zip(attached, plain, strict=True)])
    return figures | {
        "submitted": pairs.calls * pairs.pairs,
        "read_back": held("journal", folder)[pairs.kind],
        "in_events": held("events", folder)[pairs.kind],
    }


def _loop(call: Call, writer: Any, count: int, stop: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the loop, and to the end of the run behind it."""
    began = time.perf_counter()
    for step in range(count):
        call(writer, step)
    looped = time.perf_counter()
    stop()
    writer.close()
    return looped - began, time.perf_counter() - began


def _nothing() -> None:
    pass


def _caller(writer: Any, runs: Path) -> dict[str, Any]:
    """Median microseconds of add_scalar on the caller's thread alone: TensorBoard's own writing thread gets nothing."""
    writer.file_writer.event_writer.add_event = lambda event: None
    plain, attached = [], []
    for _ in range(PAIRS):
        plain.append(_median_call(writer))
        with tracelet.start_logging(dir=runs):
            _median_call(writer)
            attached.append(_median_call(writer))
    added = [after - before for before, after in zip(plain, attached, strict=True)]
    return {"plain_us": turns.quartiles(plain), "added_us": turns.quartiles(added)}


def _median_call(writer: Any) -> float:
    clock, times = time.perf_counter_ns, []
    for step in range(SCALARS):
        before = clock()
        writer.add_scalar("loss", step * 0.1, step)
        times.append(clock() - before)
    return statistics.median(times) / 1e3


if __name__ == "__main__":
    main(Path(sys.argv[1]))
