"""Start a run at `import tracelet.auto` from `TRACELET_*` variables and `tracelet.toml`, if no run is active.

Do not start one in a process of multiprocessing, such as a DataLoader's worker, which imports the main module again.
"""

from __future__ import annotations

from tracelet.api import active_or_inherited, start_logging
from tracelet.distributed.children import is_worker

if active_or_inherited() is None and not is_worker():
    start_logging()
