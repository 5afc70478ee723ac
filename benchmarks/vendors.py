"""One SDK, used one way, in one process: 20,000 scalars from the first call to the end of stop, as JSON.

`python -m benchmarks.vendors VENDOR WAY FOLDER`. The ways: `tracelet`; `hand`, the best that can be written with the
SDK's documented calls in the same loop; `capture`, the vendor's own way of listening to TensorBoard.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.readback import points

SCALARS = 20_000
VENDORS = ("csv", "wandb", "mlflow", "clearml", "aim")
WAYS = ("tracelet", "hand", "capture")

Log = Callable[[float, int], Any]
Stop = Callable[[], Any]


def main(vendor: str, way: str, folder: Path) -> None:
    os.chdir(folder)
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(folder), "HOME": str(folder)}
    os.environ |= {"CLEARML_OFFLINE_MODE": "1", "CLEARML_CACHE_DIR": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true"}
    from torch.utils.tensorboard import SummaryWriter

    with contextlib.redirect_stdout(sys.stderr):  # what the SDKs print is not the figures
        figures = _measure(vendor, way, folder, SummaryWriter)
    print(json.dumps(figures))


def _measure(vendor: str, way: str, folder: Path, writer_class: Any) -> dict[str, float]:
    began = time.perf_counter()
    log, stop = _start(vendor, way, folder)
    started = time.perf_counter()
    writer = writer_class(folder / "events")
    for step in range(SCALARS):
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
        "read_back": points(vendor, folder),
    }


def _start(vendor: str, way: str, folder: Path) -> tuple[Log, Stop]:
    if way == "tracelet":
        import tracelet

        experiment = tracelet.start_logging(backend=vendor, dir=folder / "runs", flush_timeout=300, connect_timeout=60)
        return _nothing, experiment.stop
    return (_HAND if way == "hand" else _CAPTURE)[vendor](folder)


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


# Each vendor's own way of listening.


def _wandb_capture(folder: Path) -> tuple[Log, Stop]:
    import wandb

    return _nothing, wandb.init(project="bench", dir=folder, sync_tensorboard=True).finish


def _mlflow_capture(folder: Path) -> tuple[Log, Stop]:
    import mlflow
    import mlflow.pytorch

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.pytorch.autolog(log_every_n_step=1)
    mlflow.start_run()

    def stop() -> None:
        mlflow.flush_async_logging()
        mlflow.end_run()

    return _nothing, stop


def _clearml_capture(folder: Path) -> tuple[Log, Stop]:
    import clearml

    return _nothing, clearml.Task.init("bench", "bench").close


def _aim_capture(folder: Path) -> tuple[Log, Stop]:
    from tensorboard.compat import tensorflow_stub

    sys.modules.setdefault("tensorflow", tensorflow_stub)  # it needs TensorFlow for pictures alone
    from aim.ext.tensorboard_tracker import Run

    run = Run(repo=str(folder), sync_tensorboard_log_dir=str(folder / "events"))
    return _nothing, run.close


_HAND = {
    "csv": _csv_by_hand,
    "wandb": _wandb_by_hand,
    "mlflow": _mlflow_by_hand,
    "clearml": _clearml_by_hand,
    "aim": _aim_by_hand,
}
_CAPTURE = {"wandb": _wandb_capture, "mlflow": _mlflow_capture, "clearml": _clearml_capture, "aim": _aim_capture}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
