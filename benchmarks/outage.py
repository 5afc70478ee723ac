"""`python -m benchmarks.outage [RECORDS]`: a run whose backend is down from its first record to its last.

Prints how much memory the run took, by the operating system's count and by Python's, and what the journal takes on the
disk; each count in a process of its own, since Python's slows the loop.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from tracelet.backends.base import Backend, Batch
from tracelet.errors import BackendUnavailable
from tracelet.records import RunInfo

WARM = 20_000
LOOK_EVERY = 5_000


class Down(Backend):
    """A backend that lets itself be opened, and takes nothing."""

    name = "down"

    def open(self, run: RunInfo) -> None:
        pass

    def write(self, batch: Batch) -> None:
        raise BackendUnavailable("down")


def main(records: int) -> None:
    for way in ("rss", "tracemalloc"):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.outage", way, str(records), folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600)
        found = json.loads(done.stdout)
        print(f"{way}: grown by {found['grown_mib']:.1f} MiB over {records:,} scalars in {found['seconds']:.0f} s")
        if way == "rss":
            print(f"journal: {found['bytes_a_record']:.1f} bytes a record; {found['pending']:,} records wait")


def measure(way: str, records: int, folder: Path) -> dict[str, float]:
    """One run; the memory is looked at all along, and the most of it counts."""
    import tracelet

    experiment = tracelet.start_logging(backend=Down(), dir=folder, flush_timeout=5)
    for step in range(WARM):
        experiment.log_metric("loss", step * 0.1, step)
    experiment.flush(1)
    if way == "tracemalloc":
        tracemalloc.start()
    began, before, most = time.monotonic(), _memory(way), 0
    for step in range(WARM, WARM + records):
        experiment.log_metric("loss", step * 0.1, step)
        if step % LOOK_EVERY == 0:
            most = max(most, _memory(way))
    seconds = time.monotonic() - began
    experiment.stop(timeout=5)
    size = (experiment.folder / "journal.db").stat().st_size
    stats = experiment.stats()
    assert WARM + records == stats.submitted == stats.backends["down"].pending, stats
    return {
        "grown_mib": (max(most, _memory(way)) - before) / 2**20,
        "seconds": seconds,
        "bytes_a_record": size / stats.submitted,
        "pending": stats.backends["down"].pending,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _memory(way: str) -> int:
    if way == "tracemalloc":
        return tracemalloc.get_traced_memory()[0]
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
