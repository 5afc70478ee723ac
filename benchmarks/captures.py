"""Each vendor's own way of listening to TensorBoard: begun by `CAPTURES[vendor](folder)`, which gives what ends it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Stop = Callable[[], Any]


def _wandb(folder: Path) -> Stop:
    import wandb

    return wandb.init(project="bench", dir=folder, sync_tensorboard=True).finish


def _mlflow(folder: Path) -> Stop:
    import mlflow
    import mlflow.pytorch

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.pytorch.autolog(log_every_n_step=1)
    mlflow.start_run()

    def stop() -> None:
        mlflow.flush_async_logging()
        mlflow.end_run()

    return stop


def _clearml(folder: Path) -> Stop:
    import clearml

    return clearml.Task.init("bench", "bench").close


def _aim(folder: Path) -> Stop:
    from tensorboard.compat import tensorflow_stub

    sys.modules.setdefault("tensorflow", tensorflow_stub)  # it needs TensorFlow for pictures alone
    from aim.ext.tensorboard_tracker import Run

    return Run(repo=str(folder), sync_tensorboard_log_dir=str(folder / "events")).close


def _swanlab(folder: Path) -> Stop:
    import swanlab

    swanlab.sync_tensorboard_torch()
    swanlab.init(project="bench", mode="offline", log_dir=str(folder))

    def stop() -> None:
        if swanlab.has_run():  # closing a writer ends it as well
            swanlab.finish()

    return stop


CAPTURES: dict[str, Callable[[Path], Stop]] = {
    "wandb": _wandb,
    "mlflow": _mlflow,
    "clearml": _clearml,
    "aim": _aim,
    "swanlab": _swanlab,
}
NAMES = {
    "wandb": "wandb `sync_tensorboard`",
    "mlflow": "`mlflow.pytorch.autolog(log_every_n_step=1)`",
    "clearml": "ClearML's automatic connection",
    "aim": "`aim.ext.tensorboard_tracker`",
    "swanlab": "`swanlab.sync_tensorboard_torch`",
}
