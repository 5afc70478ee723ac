"""`start_logging(wait=False)`: nothing of a backend happens in the caller's thread, or before it has the run."""

import threading
import time

import pytest
from support import BUSY, our_threads

import tracelet
from tracelet.backends.base import Backend
from tracelet.backends.capabilities import NativeRun
from tracelet.errors import BackendUnavailable, MissingDependency
from tracelet.journal.store import JournalReader

DEADLINE = 30


class Gate(Backend, NativeRun):
    """Its opening waits until the test lets it."""

    name = "gate"

    def __init__(self):
        super().__init__()
        self.opening, self.may_open = threading.Event(), threading.Event()
        self.thread, self.attached, self.values = None, False, []

    def open(self, run):
        self.thread = threading.current_thread()
        self.opening.set()
        if not self.may_open.wait(DEADLINE):
            raise BackendUnavailable("the test forgot it")

    def attach(self):
        self.attached = True

    def write(self, batch):
        self.values += [record.value for record in batch]


def test_it_returns_while_the_backend_connects():
    backend = Gate()
    exp = tracelet.start_logging(backend=backend, wait=False)
    assert backend.opening.wait(DEADLINE)
    assert "connecting" == exp.stats().backends["gate"].state
    assert backend.thread is not threading.current_thread()
    exp.log_metric("loss", 1.0)
    backend.may_open.set()
    exp.stop()
    assert [1.0] == backend.values
    assert not backend.attached  # it was not open in the caller's thread


def test_waiting_is_the_default():
    backend = Gate()
    backend.may_open.set()
    exp = tracelet.start_logging(backend=backend)
    assert "connected" == exp.stats().backends["gate"].state
    assert backend.attached


def test_an_end_that_comes_before_the_backend_is_open():
    """Nothing is lost: what was said waits in the journal, and is delivered where the time suffices."""
    backend = Gate()
    exp = tracelet.start_logging(backend=backend, wait=False)
    exp.log_metric("loss", 1.0)
    assert backend.opening.wait(DEADLINE)
    threading.Timer(0.2, backend.may_open.set).start()
    exp.stop(timeout=DEADLINE)
    stats = exp.stats().backends["gate"]
    assert (1, 0) == (stats.delivered, stats.pending)
    with JournalReader(exp.folder) as reader:
        assert 1 == reader.cursors()["gate"].delivered


def test_an_end_that_waits_for_nothing():
    backend = Gate()
    exp = tracelet.start_logging(backend=backend, wait=False)
    exp.log_metric("loss", 1.0)
    began = time.monotonic()
    exp.stop(timeout=0)
    assert time.monotonic() - began < 5 + BUSY
    backend.may_open.set()
    deadline = time.monotonic() + DEADLINE
    while our_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert 1 == exp.stats().backends["gate"].pending


def test_errors_of_the_program_are_raised_all_the_same(monkeypatch):
    """A package that is not installed is the caller's error, on his line."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"tracelet\[wandb\]"):
        tracelet.start_logging(backend="wandb", wait=False)
    assert tracelet.get_active_experiment() is None
