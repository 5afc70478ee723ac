"""20,000 scalars carried to each vendor, end to end: by tracelet, by hand, and by the vendor's own capture.

`python -m benchmarks.vendors VENDOR WAY SCALARS FOLDER` does one in one process and prints the figures as JSON. The
ways: `tracelet`; `hand`, the best that can be written with the SDK's documented calls in the same loop; `capture`, the
vendor's own way of listening to TensorBoard.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import turns
from benchmarks.captures import CAPTURES, NAMES
from benchmarks.readback import points
from benchmarks.runs import Way, begin, settle

NAME, REPEATS = "Carrying a run to each vendor", 2
SCALARS = 20_000
# Captures that take minutes for all of them, and more than their share of it the more there are.
FEWER = {"mlflow": 2_000, "clearml": 2_000}
VENDORS = ("csv", "wandb", "mlflow", "clearml", "aim", "swanlab")
COLUMNS = {
    "start_s": "start s",
    "loop_s": "loop s",
    "end_to_end_s": "end to end s",
    "speed": "speed",
    "submitted": "submitted",
    "read_back": "read back",
}
EXPLANATION = """\
{:,} `add_scalar` to each vendor, *end to end*: from the first call to the end of stop, in fresh processes; by tracelet,
by the best use of the SDK's own calls in the same loop, and by the vendor's own capture of TensorBoard (one process,
with fewer records where all of them take minutes). The loop is the time that the program itself waits. *Speed* is
hand-written to tracelet, turn by turn: above 1, tracelet is faster."""

Log = Callable[[float, int], Any]
Stop = Callable[[], Any]


def take(repeats: int, *, long: bool) -> dict[str, Any]:
    found: turns.Found = {}
    for vendor in VENDORS:
        if vendor in _HAND:
            rows = {"tracelet": f"{vendor}, tracelet", "hand": f"{vendor}, by hand"}
            both = turns.in_turns(rows, repeats, functools.partial(_measure_one, vendor, scalars=SCALARS))
            _compare(both["tracelet"], both["hand"])
            found |= {title: both[way] for way, title in rows.items()}
        if vendor in CAPTURES and importlib.util.find_spec(vendor):
            count = SCALARS if long else FEWER.get(vendor, SCALARS)
            figures = _measure_one(vendor, "capture", count)
            found[NAMES[vendor]] = [figures] if figures else []
    return {"rows": found}


def _measure_one(vendor: str, way: str, scalars: int) -> turns.Figures | None:
    return turns.measure("benchmarks.vendors", vendor, way, scalars)


def _compare(ours: list[turns.Figures], theirs: list[turns.Figures]) -> None:
    by_hand = {figures["turn"]: figures["end_to_end_s"] for figures in theirs}
    for figures in ours:
        if figures["turn"] in by_hand:
            figures["speed"] = by_hand[figures["turn"]] / figures["end_to_end_s"]


def render(found: dict[str, Any]) -> list[str]:
    return [*EXPLANATION.format(SCALARS).splitlines(), "", *turns.table(found["rows"], COLUMNS)]


def main(vendor: str, way: str, scalars: int, folder: Path) -> None:
    settle(folder)
    from torch.utils.tensorboard import SummaryWriter

    with contextlib.redirect_stdout(sys.stderr):  # what the SDKs print is not the figures
        figures = _measure(vendor, way, scalars, folder, SummaryWriter)
    print(json.dumps(figures))


def _measure(vendor: str, way: str, scalars: int, folder: Path, writer_class: Any) -> dict[str, float]:
    began = time.perf_counter()
    log, stop = _start(vendor, way, folder)
    started = time.perf_counter()
    writer = writer_class(folder / "events")
    for step in range(scalars):
        value = step * 0.1
        writer.add_scalar("loss", value, step)
        log(value, step)
    looped = time.perf_counter()
    writer.close()
    stop()
    ended = time.perf_counter()
    return {
        "start_s": started - began,
        "loop_s": looped - started,
        "end_to_end_s": ended - started,
        "submitted": scalars,
        "read_back": points(vendor, folder),
    }


def _start(vendor: str, way: str, folder: Path) -> tuple[Log, Stop]:
    match way:
        case "tracelet":
            return _nothing, begin(Way(vendor), folder).stop
        case "hand":
            return _HAND[vendor](folder)
        case _:
            return _nothing, CAPTURES[vendor](folder)


def _nothing(value: float, step: int) -> None:
    """What the program says to TensorBoard is all it says."""


# The best use of each SDK by hand.


def _csv_by_hand(folder: Path) -> tuple[Log, Stop]:
    import csv

    file = open(folder / "scalars.csv", "w", newline="", encoding="utf-8")  # noqa: SIM115
    write = csv.writer(file).writerow
    write(("tag", "step", "wall_time", "value"))
    return lambda value, step: write(("loss", step, time.time(), value)), file.close


def _wandb_by_hand(folder: Path) -> tuple[Log, Stop]:
    import wandb

    run = wandb.init(project="bench", dir=folder)
    run.define_metric("*", step_metric="global_step")
    return lambda value, step: run.log({"loss": value, "global_step": step}), run.finish


def _mlflow_by_hand(folder: Path) -> tuple[Log, Stop]:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    run_id = client.create_run(client.create_experiment("bench", str(folder / "artifacts"))).info.run_id
    waiting: list[Any] = []

    def send() -> None:
        client.log_batch(run_id, metrics=waiting)
        waiting.clear()

    def log(value: float, step: int) -> None:
        waiting.append(Metric("loss", value, int(time.time() * 1000), step))
        if len(waiting) == 1000:  # what a server takes at once
            send()

    def stop() -> None:
        send()
        client.set_terminated(run_id)

    return log, stop


def _clearml_by_hand(folder: Path) -> tuple[Log, Stop]:
    import clearml

    clearml.Task._report_subprocess_enabled = False  # thirty times as fast, and no documented way says so
    task = clearml.Task.init("bench", "bench", auto_connect_frameworks=False, auto_resource_monitoring=False)
    report = task.get_logger().report_scalar
    return lambda value, step: report("loss", "loss", value, step), task.close


def _aim_by_hand(folder: Path) -> tuple[Log, Stop]:
    import aim

    run = aim.Run(repo=str(folder), system_tracking_interval=None, log_system_params=False)
    return lambda value, step: run.track(value, name="loss", step=step), run.close


_HAND = {
    "csv": _csv_by_hand,
    "wandb": _wandb_by_hand,
    "mlflow": _mlflow_by_hand,
    "clearml": _clearml_by_hand,
    "aim": _aim_by_hand,
}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
