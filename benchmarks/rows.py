"""One row of the comparison in one process: run the loops, end the run, print the figures as JSON.

Called by `benchmarks/__main__.py` as `python -m benchmarks.rows ROW FOLDER`, in a fresh process each time.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.readback import READERS

SCALARS = 20_000
HISTOGRAMS = 20
IMAGES = 20

ROWS = {
    "TensorBoard alone": "plain",
    "tracelet, journal only": "journal",
    "tracelet, csv": "csv",
    "tracelet, wandb offline": "wandb",
    "wandb sync_tensorboard, offline": "sync",
}


def main(row: str, folder: Path) -> None:
    os.chdir(folder)
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(folder)}
    os.environ |= {"WANDB_CACHE_DIR": str(folder / "cache"), "WANDB_DATA_DIR": str(folder / "data")}
    import numpy as np
    from torch.utils.tensorboard import SummaryWriter

    began = time.perf_counter()
    stop = start(row, folder)
    startup = time.perf_counter() - began

    generator = np.random.default_rng(0)
    values, picture = generator.standard_normal(100_000), generator.random((3, 256, 256))
    writer = SummaryWriter(folder / "events")
    writer.add_scalar("warm", 0.0, 0)
    scalars, tight = _timed(lambda step: writer.add_scalar("loss", step * 0.1, step), SCALARS)
    histograms, _ = _timed(lambda step: writer.add_histogram("weights", values, step), HISTOGRAMS)
    images, _ = _timed(lambda step: writer.add_image("picture", picture, step), IMAGES)
    writer.close()

    began = time.perf_counter()
    stop()
    finish = time.perf_counter() - began
    figures = {
        "median_us": statistics.median(scalars) / 1e3,
        "p99_us": sorted(scalars)[int(len(scalars) * 0.99)] / 1e3,
        "stall_ms": max(scalars) / 1e6,
        "tight_us": tight / 1e3,
        "histogram_ms": statistics.median(histograms) / 1e6,
        "image_ms": statistics.median(images) / 1e6,
        "startup_s": startup,
        "finish_s": finish,
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "submitted": 1 + SCALARS + HISTOGRAMS + IMAGES,
        "read_back": READERS[row](folder),
    }
    print(json.dumps(figures))


def start(row: str, folder: Path) -> Callable[[], Any]:
    """Begin what the row measures; gives what ends it."""
    match row:
        case "plain":
            return lambda: None
        case "journal" | "csv" | "wandb":
            import tracelet

            backend = None if row == "journal" else row
            return tracelet.start_logging(backend=backend, dir=folder / "runs", flush_timeout=120).stop
        case "sync":
            import wandb

            return wandb.init(project="bench", dir=folder, sync_tensorboard=True).finish
    raise SystemExit(f"unknown row {row!r}; rows: {', '.join(ROWS.values())}")


def _timed(call: Callable[[int], Any], count: int) -> tuple[list[int], float]:
    """Nanoseconds of each call, and the mean of the whole loop with nothing else in it."""
    each: list[int] = []
    clock = time.perf_counter_ns
    half = count // 2
    for step in range(half):
        before = clock()
        call(step)
        each.append(clock() - before)
    before = clock()
    for step in range(half, count):
        call(step)
    return each, (clock() - before) / (count - half)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
