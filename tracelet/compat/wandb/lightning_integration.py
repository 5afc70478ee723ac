"""`wandb.integration.lightning`. The logger is Lightning's own; import it after `install`, or use `--replace wandb`."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "WandbLogger":
        raise AttributeError(name)
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger
