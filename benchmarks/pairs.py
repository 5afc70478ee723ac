"""What a call costs more with a run attached: short loops with and without one, in turns, in one process.

`python -m benchmarks.pairs FOLDER` prints the figures as JSON. Each pair is taken within a fraction of a second, since
the speed of a shared machine drifts.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import tracelet

PAIRS = 25
CALLS = 4_000


def main(folder: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    figures: dict[str, dict[str, Any]] = {"caller": caller(SummaryWriter(folder / "caller"), folder)}
    for backend in (None, "csv"):
        figures[backend or "journal"] = tight(SummaryWriter(folder / f"tight-{backend}"), folder, backend)
    print(json.dumps(figures))


def caller(writer: Any, folder: Path) -> dict[str, Any]:
    """Median microseconds of add_scalar on the caller's thread alone: TensorBoard's own writing thread gets nothing."""
    writer.file_writer.event_writer.add_event = lambda event: None
    plain, attached = [], []
    for _ in range(PAIRS):
        plain.append(_median_call(writer))
        with tracelet.start_logging(dir=folder / "runs"):
            _median_call(writer)
            attached.append(_median_call(writer))
    added = [after - before for before, after in zip(plain, attached, strict=True)]
    return {"plain_us": _spread(plain), "attached_us": _spread(attached), "added_us": _spread(added)}


def tight(writer: Any, folder: Path, backend: str | None) -> dict[str, Any]:
    """Ratio of a tight loop with a run attached to the same loop without."""
    ratios = []
    for _ in range(PAIRS):
        plain = _loop(writer)
        with tracelet.start_logging(backend=backend, dir=folder / "runs"):
            ratios.append(_loop(writer) / plain)
    writer.close()
    return {"ratio": _spread(ratios)}


def _median_call(writer: Any) -> float:
    clock, times = time.perf_counter_ns, []
    for step in range(CALLS):
        before = clock()
        writer.add_scalar("loss", step * 0.1, step)
        times.append(clock() - before)
    return statistics.median(times) / 1e3


def _loop(writer: Any) -> float:
    began = time.perf_counter()
    for step in range(CALLS):
        writer.add_scalar("loss", step * 0.1, step)
    return time.perf_counter() - began


def _spread(values: list[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return [round(value, 3) for value in statistics.quantiles(values, n=4)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
