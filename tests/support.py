"""Define names that tests import. They cannot import a `conftest`: several folders have one."""

import threading
from pathlib import Path

WRITER_MODULES = {"torch": "torch.utils.tensorboard.writer", "tensorboardX": "tensorboardX.writer"}

BUSY = 5.0
"""Seconds that a machine with more work than cores may add to a bound. A wait that the bound excludes is far longer."""


def our_threads() -> list[str]:
    """Return the names of tracelet's threads."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tracelet")]


TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent
