"""`import tracelet.auto` begins a run as `TRACELET_*` variables and `tracelet.toml` say, where none is active.

A process that multiprocessing started (a DataLoader's worker, which imports the main module again) begins none.
"""

from __future__ import annotations

import sys

from tracelet.api import get_active_experiment, start_logging


def _is_worker() -> bool:
    if "__mp_main__" in sys.modules:  # the main module's name where it is imported again
        return True
    multiprocessing = sys.modules.get("multiprocessing.process")  # imported long since in a process that it forked
    return multiprocessing is not None and multiprocessing.parent_process() is not None


if get_active_experiment() is None and not _is_worker():
    start_logging()
