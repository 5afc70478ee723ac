"""What tests import by name; a `conftest` cannot be: there is one in more than one folder."""

import threading
from pathlib import Path

WRITER_MODULES = {"torch": "torch.utils.tensorboard.writer", "tensorboardX": "tensorboardX.writer"}


def our_threads():
    """Names of the threads that are tracelet's."""
    return [one.name for one in threading.enumerate() if one.name.startswith("tracelet")]


TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent
