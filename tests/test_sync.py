"""Past runs are finished by the deliveries of a live one; what a vendor recorded offline is handed over first."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest
from backends.faults import assert_balanced, values
from support import BUSY

import tracelet
from tracelet import sync
from tracelet.backends import _registered
from tracelet.backends.memory import MemoryBackend
from tracelet.errors import BackendUnavailable
from tracelet.journal.store import JournalReader
from tracelet.records import Scalar

SERVER: dict = {}
"""The vendor's server: `up`, and the values it has by run id."""


class Detouring(MemoryBackend):
    """A vendor with an offline recording of its own, a JSON file beside the journal, for while its server is away."""

    name = "detouring"

    def open(self, run):
        self._run, self._place = run.run_id, Path(run.folder) / "recording.json"
        self._offline = not SERVER["up"]
        self._last = None
        if not self._offline:
            self.upload_offline(run, time.monotonic() + 5)

    @property
    def offline_reason(self):
        return "its server is away" if self._offline else None

    def _recorded(self):
        return json.loads(self._place.read_text()) if self._place.exists() else {"values": [], "last": 0}

    def write(self, batch):
        found = [one.value for one in batch]
        if self._offline:
            told = self._recorded()
            self._place.write_text(json.dumps({"values": told["values"] + found, "last": batch.last}))
            return
        if not SERVER["up"]:
            raise BackendUnavailable("its server is away")
        SERVER.setdefault(self._run, []).extend(found)
        SERVER[f"{self._run} last"] = batch.last

    def durable_seq(self):
        return SERVER.get(f"{self._run} last", 0)

    def resume_after(self):
        return max(self.durable_seq(), self._recorded()["last"])

    @classmethod
    def pending_upload(cls, folder):
        place = folder / "recording.json"
        return str(place) if place.exists() else None

    def upload_offline(self, run, deadline):
        if not SERVER["up"]:
            raise BackendUnavailable("its server is still away")
        place = Path(run.folder) / "recording.json"
        if place.exists():
            told = json.loads(place.read_text())
            SERVER.setdefault(run.run_id, []).extend(told["values"])
            SERVER[f"{run.run_id} last"] = told["last"]
            place.unlink()


@pytest.fixture(autouse=True)
def vendor():
    """The vendor by its name, and its server, which is away."""
    before = dict(_registered)
    tracelet.register_backend("detouring", Detouring)
    SERVER.clear()
    SERVER["up"] = False
    yield
    _registered.clear()
    _registered.update(before)


def recorded(count, **arguments):
    with tracelet.start_logging(backend="detouring", run_id="one", **arguments) as experiment:
        for step in range(count):
            experiment.log_metric("loss", step, step)
    return experiment


def test_a_detour_is_pending_until_it_was_handed_over(caplog):
    """The run goes on, recorded by the vendor's own means; what that holds is not called delivered."""
    experiment = recorded(100)
    stats = experiment.stats()
    assert_balanced(stats)
    assert (100, 0) == (stats.backends["detouring"].pending, stats.backends["detouring"].delivered)
    assert "detouring is not connected: its server is away. Records are stored offline" in caplog.text
    assert f"tracelet sync {experiment.folder}" in caplog.text
    assert ["detouring"] == sync.waiting(experiment.folder)

    still = sync.deliver(experiment.folder)
    (outcome,) = still.outcomes
    assert (False, 100, "its server is still away") == (still.complete, outcome.waiting, outcome.reason)
    assert "one" not in SERVER

    SERVER["up"] = True
    done = sync.deliver(experiment.folder)
    (outcome,) = done.outcomes
    assert (True, 100, 100, 0) == (done.complete, outcome.delivered, outcome.new, outcome.waiting)
    assert [*range(100)] == SERVER["one"]
    assert () == sync.deliver(experiment.folder).outcomes
    assert [*range(100)] == SERVER["one"]


def test_what_is_all_recorded_is_not_recorded_again(monkeypatch):
    """While its server is away, a sync that could add nothing to the vendor's recording opens nothing for it."""
    experiment = recorded(100)
    monkeypatch.setattr(Detouring, "offline_seq", classmethod(lambda cls, folder: 100))
    opened = []
    monkeypatch.setattr(Detouring, "open", lambda self, run: opened.append(run))

    (outcome,) = sync.deliver(experiment.folder).outcomes

    assert ([], 100, "its server is still away") == (opened, outcome.waiting, outcome.reason)


def test_what_came_after_the_recording_follows_it(monkeypatch):
    """Cut off in a detour: first what the vendor recorded, then the rest of the journal; all of it once."""
    original = Detouring.write
    monkeypatch.setattr(Detouring, "write", lambda self, batch: original(self, batch) if batch.last <= 64 else gone())

    def gone():
        raise BackendUnavailable("the disk of the recording is full")

    experiment = tracelet.start_logging(backend="detouring", run_id="one")
    for step in range(300):
        experiment.log_metric("loss", step, step)
    experiment.stop(timeout=1)
    recording = json.loads((experiment.folder / "recording.json").read_text())
    assert 0 < recording["last"] <= 64

    monkeypatch.setattr(Detouring, "write", original)
    SERVER["up"] = True
    assert sync.deliver(experiment.folder).complete
    assert [*range(300)] == SERVER["one"]


def test_a_run_that_is_opened_again_hands_over_first():
    """The next process of the run finds the server back: its own records come after the recorded ones."""
    recorded(50)
    SERVER["up"] = True
    with tracelet.start_logging(backend="detouring", run_id="one", resume=True) as experiment:
        experiment.log_metric("loss", 50, 50)
    assert [*range(51)] == SERVER["one"]
    assert 51 == experiment.stats().backends["detouring"].delivered


class Forgetful(MemoryBackend):
    """Its store can be asked, and may have lost something since."""

    name = "forgetful"
    store: ClassVar[list] = []

    def open(self, run):
        self._opened = True

    def write(self, batch):
        self.store.extend(batch)
        self._written = batch.last

    def durable_seq(self):
        return len(self.store)


@pytest.mark.parametrize("kept", [0, 1, 40])
def test_what_the_store_lost_is_delivered_again(kept, caplog):
    """A folder that was deleted, or the last seconds before a power cut: the cursor goes back to what is there."""
    tracelet.register_backend("forgetful", Forgetful)
    Forgetful.store = []
    with tracelet.start_logging(backend="forgetful", run_id="one") as experiment:
        for step in range(100):
            experiment.log_metric("loss", step, step)
    del Forgetful.store[kept:]

    assert sync.deliver(experiment.folder, ["forgetful"]).complete is True
    assert [*range(kept)] == values(Forgetful.store)  # nothing waits by the journal, so the store is not asked

    with tracelet.start_logging(backend="forgetful", run_id="one", resume=True) as again:
        again.log_metric("loss", 100, 100)
    assert [*range(101)] == values(Forgetful.store)
    assert_balanced(again.stats())
    assert 101 == again.stats().backends["forgetful"].delivered
    assert f"has {kept} of 100 records that it had confirmed" in caplog.text


class Unfinished(MemoryBackend):
    """An upload whose end does not come: at `close` less is on the server than was believed."""

    name = "unfinished"
    on_server = 0

    def close(self, status, exit_code):
        self._written = self.on_server
        raise BackendUnavailable("the upload did not end in time")


def test_an_upload_that_did_not_end_is_pending_again():
    """The last word at the end of the run is what the server has."""
    backend = Unfinished()
    backend.on_server = 30
    with tracelet.start_logging(backend=backend) as experiment:
        for step in range(100):
            experiment.log_metric("loss", step, step)
        assert experiment.flush(20)
        assert 100 == experiment.stats().backends["unfinished"].delivered
    one = experiment.stats().backends["unfinished"]
    assert_balanced(experiment.stats())
    assert (30, 70, "waiting: the upload did not end in time") == (one.delivered, one.pending, one.state)
    with JournalReader(experiment.folder) as reader:
        assert 30 == reader.cursors()["unfinished"].position
        assert "the upload did not end in time" == reader.facts()["trouble unfinished"]


def test_a_server_that_names_a_time_is_not_asked_before():
    """429 with Retry-After: the next attempt is that much later."""
    calls = []

    class Busy(MemoryBackend):
        name = "busy"

        def write(self, batch):
            calls.append(time.monotonic())
            if len(calls) == 1:
                raise BackendUnavailable("too many requests", retry_after=1.5)
            super().write(batch)

    busy = Busy()
    with tracelet.start_logging(backend=busy) as experiment:
        experiment.log_metric("loss", 1, 1)
        deadline = time.monotonic() + 30
        while not busy.records:  # the end of the run would not wait for it
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert calls[1] - calls[0] >= 1.5
    assert [1.0] == values(busy.of(Scalar))


def test_a_backend_that_never_answers_does_not_hold_the_start(caplog):
    """`start_logging` returns after `connect_timeout`, and says that it is tried on; what comes later gets it all."""
    ready = threading.Event()

    class Silent(MemoryBackend):
        name = "silent"

        def open(self, run):
            assert ready.wait(60)

    silent = Silent()
    began = time.monotonic()
    experiment = tracelet.start_logging(backend=silent, connect_timeout=0.5)
    assert 0.5 <= time.monotonic() - began < 5 + BUSY
    assert "silent did not connect within 0.5 s. Logging continues" in caplog.text
    experiment.log_metric("loss", 1, 1)
    ready.set()
    experiment.stop()
    assert [1.0] == values(silent.of(Scalar))
