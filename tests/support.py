"""Define names that tests import. They cannot import a `conftest`: several folders have one."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

WRITER_MODULES = {"torch": "torch.utils.tensorboard.writer", "tensorboardX": "tensorboardX.writer"}

BUSY = 5.0
"""Seconds that a machine with more work than cores may add to a bound. A wait that the bound excludes is far longer."""


def our_threads() -> list[str]:
    """Return the names of tracelet's threads."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tracelet")]


def until(reached: Callable[[], object], seconds: float = 20) -> None:
    """Wait until `reached()` is true."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent
