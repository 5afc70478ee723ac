"""What the measured processes share: their surroundings, a run begun in one of several ways, and their memory."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any, Literal, NamedTuple

BACKENDS = ("csv", "tensorboard", "wandb", "mlflow", "clearml", "aim", "trackio")


class Way(NamedTuple):
    """How a run of tracelet is begun; no backend is the journal alone, and several have "+" between them."""

    backend: str = ""
    delivery: Literal["thread", "process"] = "thread"
    paced: bool = True

    @property
    def backends(self) -> list[str]:
        return self.backend.split("+") if self.backend else []

    @property
    def store(self) -> str:
        return self.backend or "journal"


def settle(folder: Path) -> None:
    """Make `folder` the whole world of this process's vendors, none of which may look for a server."""
    os.chdir(folder)
    os.environ |= {"HOME": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true"}
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(folder)}
    os.environ |= {"WANDB_CACHE_DIR": str(folder / "cache"), "WANDB_DATA_DIR": str(folder / "data")}
    os.environ |= {"TRACKIO_DIR": str(folder / "trackio")}
    os.environ |= {"CLEARML_OFFLINE_MODE": "1", "CLEARML_CACHE_DIR": str(folder)}


def begin(way: Way, folder: Path, **more: Any) -> Any:
    """Start the run; gives the experiment."""
    import tracelet

    if not way.paced:
        _drop_pauses()
    deadlines = {"flush_timeout": 3000, "connect_timeout": 60}
    return tracelet.start_logging(
        backend=way.backends or None, dir=folder / "runs", delivery=way.delivery, **(deadlines | more)
    )


def _drop_pauses() -> None:
    """Let deliveries on threads work on without leaving the interpreter to the training."""
    from tracelet.delivery import throttle as pace

    assert isinstance(pace._MAX_PAUSE, float)
    pace._MAX_PAUSE = 0.0


def memory_mib() -> float:
    """What this process occupies now."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize() / 2**20


def peak_mib() -> float:
    """The most that this process has occupied."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
