"""Backends that misbehave on purpose, and what to ask of a run afterwards."""

import threading
from collections import Counter

import tracelet
from tracelet.backends.memory import MemoryBackend
from tracelet.journal.store import JournalReader


class Faulty(MemoryBackend):
    """A backend in memory that meets `faults[hook](number of the call)` before each hook."""

    name = "faulty"

    def __init__(self, **faults):
        super().__init__()
        self.faults = faults
        self.calls = Counter()

    def _meet(self, hook):
        self.calls[hook] += 1
        if hook in self.faults:
            self.faults[hook](self.calls[hook])

    def open(self, run):
        self._meet("open")
        super().open(run)

    def write(self, batch):
        self._meet("write")
        super().write(batch)

    def durable_seq(self):
        self._meet("durable_seq")
        return super().durable_seq()

    def flush(self):
        self._meet("flush")

    def close(self, status, exit_code):
        self._meet("close")
        super().close(status, exit_code)

    def attach(self):
        self._meet("attach")

    def detach(self):
        self._meet("detach")


def raises(error, calls=10**9):
    """A fault that raises `error` in the first `calls` calls."""

    def fault(number):
        if number <= calls:
            raise error

    return fault


class Gate:
    """A fault that hangs until it is opened."""

    def __init__(self):
        self.reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, number):
        self.reached.set()
        assert self._opened.wait(120), "nobody opened the gate"

    def open(self):
        """Let the threads go on, and see tracelet's end."""
        self._opened.set()
        tracelet.stop_logging(timeout=5)
        for thread in threading.enumerate():
            if thread.name.startswith("tracelet-"):
                thread.join(20)


def assert_balanced(stats):
    """submitted == delivered + pending + rejected + dropped + filtered, for every backend."""
    for name, one in stats.backends.items():
        parts = (one.delivered, one.pending, one.rejected, one.dropped, one.filtered)
        assert min(parts) >= 0, (name, one)
        assert stats.submitted == sum(parts), (name, one)


def journalled(folder):
    """The records in a run's journal."""
    with JournalReader(folder) as reader:
        return list(reader.records())


def values(records):
    return [record.value for record in records]
