"""Define backends that misbehave on purpose, and checks of a run afterwards."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias, cast

import tracelet
from tracelet.backends.base import Batch, Status
from tracelet.backends.memory import MemoryBackend
from tracelet.experiment.stats import Stats
from tracelet.journal.store import JournalReader
from tracelet.records import Record, RunInfo, Scalar

Fault: TypeAlias = Callable[[int], object]


class Faulty(MemoryBackend):
    """A backend in memory that calls `faults[hook](number of the call)` before each hook."""

    name = "faulty"

    def __init__(self, **faults: Fault) -> None:
        super().__init__()
        self.faults = faults
        self.calls: Counter[str] = Counter()

    def _meet(self, hook: str) -> None:
        self.calls[hook] += 1
        if hook in self.faults:
            self.faults[hook](self.calls[hook])

    def open(self, run: RunInfo) -> None:
        self._meet("open")
        super().open(run)

    def write(self, batch: Batch) -> None:
        self._meet("write")
        super().write(batch)

    def durable(self) -> int | None:
        self._meet("durable")
        return super().durable()

    def flush(self) -> None:
        self._meet("flush")

    def close(self, status: Status, exit_code: int) -> None:
        self._meet("close")
        super().close(status, exit_code)

    def attach(self) -> None:
        self._meet("attach")

    def detach(self) -> None:
        self._meet("detach")


def raises(error: BaseException, calls: int = 10**9) -> Fault:
    """Return a fault that raises `error` in the first `calls` calls."""

    def fault(number: int) -> None:
        if number <= calls:
            raise error

    return fault


class Gate:
    """A fault that hangs until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, number: int) -> None:
        self.reached.set()
        assert self._opened.wait(120), "nobody opened the gate"

    def open(self) -> None:
        """Release the blocked threads, and wait until tracelet has ended."""
        self._opened.set()
        tracelet.stop_logging(timeout=5)
        for thread in threading.enumerate():
            if thread.name.startswith("tracelet-"):
                thread.join(20)


def assert_balanced(stats: Stats) -> None:
    """Check that submitted == delivered + pending + rejected + dropped + filtered for every backend."""
    for name, counts in stats.backends.items():
        parts = (counts.delivered, counts.pending, counts.rejected, counts.dropped, counts.filtered)
        assert min(parts) >= 0, (name, counts)
        assert stats.submitted == sum(parts), (name, counts)


def journalled(folder: Path) -> list[Record]:
    """Return the records in a run's journal."""
    with JournalReader(folder) as reader:
        return list(reader.records())


def values(records: Iterable[Record]) -> list[float]:
    """Return the values of records, all of which are scalars."""
    return [scalar.value for scalar in cast("Iterable[Scalar]", records)]
