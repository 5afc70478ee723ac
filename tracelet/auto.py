"""Start a run at `import tracelet.auto` from `TRACELET_*` variables and `tracelet.toml`, if no run is active.

Do not start one in a process of multiprocessing, such as a DataLoader's worker, which imports the main module again.
"""

from __future__ import annotations

import sys

from tracelet.api import active_or_inherited, start_logging


def _is_worker() -> bool:
    if "__mp_main__" in sys.modules:  # the main module's name in a worker
        return True
    multiprocessing = sys.modules.get("multiprocessing.process")  # always imported in a process that it forked
    return multiprocessing is not None and multiprocessing.parent_process() is not None


if active_or_inherited() is None and not _is_worker():
    start_logging()
