"""Past runs are finished by the deliveries of a live one; what a vendor recorded offline is handed over first."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from backends.faults import Faulty, Gate, assert_balanced, values
from support import BUSY

import tracelet
from tracelet import sync
from tracelet.backends import _registered
from tracelet.backends.base import BackendConfig
from tracelet.backends.capabilities import OfflineRecording
from tracelet.backends.memory import MemoryBackend
from tracelet.errors import BackendUnavailable, ConfigurationError, UntrustedServer
from tracelet.journal.store import Journal, JournalReader
from tracelet.journal.tables import Cursor
from tracelet.records import Artifact, File, Image, Mesh, RunInfo, Scalar
from tracelet.runs.cleanup import blocking_reason
from tracelet.runs.summary import summarise

SERVER: dict = {}
"""The vendor's server: `up`, and the values it has by run id."""


class Detouring(MemoryBackend, OfflineRecording):
    """A vendor with an offline recording of its own, a JSON file beside the journal, for while its server is away."""

    name = "detouring"

    def open(self, run):
        self._run, self._place = run.run_id, Path(run.folder) / "recording.json"
        self._offline = not SERVER["up"]
        if not self._offline:
            self.upload_offline(run, time.monotonic() + 5)
        return max(self.durable(), self._recorded()["last"])

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

    def durable(self):
        return SERVER.get(f"{self._run} last", 0)

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

    still = sync.deliver(str(experiment.folder))
    (backend,) = still.backends
    assert (False, 100, "its server is still away") == (still.complete, backend.pending, backend.reason)
    assert "one" not in SERVER

    SERVER["up"] = True
    done = sync.deliver(experiment.folder)
    (backend,) = done.backends
    assert (True, 100, 100, 0) == (done.complete, backend.delivered, done.new["detouring"], backend.pending)
    assert [*range(100)] == SERVER["one"]
    assert () == sync.deliver(experiment.folder).backends
    assert [*range(100)] == SERVER["one"]


def test_what_is_all_recorded_is_not_recorded_again(monkeypatch):
    """While its server is away, a sync that could add nothing to the vendor's recording opens nothing for it."""
    experiment = recorded(100)
    monkeypatch.setattr(Detouring, "offline_seq", classmethod(lambda cls, folder: 100))
    opened = []
    monkeypatch.setattr(Detouring, "open", lambda self, run: opened.append(run))

    (backend,) = sync.deliver(experiment.folder).backends

    assert ([], 100, "its server is still away") == (opened, backend.pending, backend.reason)


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
        return len(self.store)

    def write(self, batch):
        self.store.extend(batch)

    def durable(self):
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
    assert sync.deliver(experiment.folder, ["forgetful"], verify=True).complete is True
    assert [*range(100)] == values(Forgetful.store)
    del Forgetful.store[kept:]

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
    confirmed = None

    def durable(self):
        return self.confirmed

    def close(self, status, exit_code):
        self.confirmed = self.on_server
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
    assert (30, 70, "the upload did not end in time") == (one.delivered, one.pending, one.reason)
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


class Signed(MemoryBackend):
    """A vendor whose servers and headers are in its config; the journal stores the servers only."""

    name = "signed"
    opened: ClassVar[list] = []

    class Config(BackendConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
        secret_keys = ("headers",)

        server: str | None = None
        mirrors: dict[str, str] = msgspec.field(default_factory=dict)
        headers: dict[str, str] = msgspec.field(default_factory=dict)

    def open(self, run):
        self.opened.append(self.config)


@pytest.fixture
def foreign():
    """`foreign(**config)`: the folder of a run that this user did not make, whose journal has this config."""
    tracelet.register_backend("signed", Signed)
    Signed.opened.clear()
    with tracelet.start_logging() as experiment:
        experiment.log_metric("loss", 1.0, 1)

    def configured(**config):
        with contextlib.closing(Journal(experiment.folder)) as journal:
            journal.annotate("config signed", config)
            journal.put_cursor("signed", Cursor())
        return experiment.folder

    return configured


@pytest.mark.parametrize(
    "config",
    [
        {"server": "http://evil.example:81/path"},
        {"server": "//evil.example:81"},
        {"server": "HTTPS://user:word@Evil.example:81"},
        {"mirrors": {"eu": "grpc://evil.example:81"}},
        {"server": "postgresql:///runs?host=evil.example:81"},
    ],
)
def test_a_server_that_only_the_journal_names_needs_trust(config, foreign):
    """A run folder from somebody else must not choose where this user's credentials go."""
    folder = foreign(**config)

    with pytest.raises(UntrustedServer, match=r"evil\.example:81, a server that you have not .*--trust"):
        sync.deliver(folder)
    assert [] == Signed.opened

    assert sync.deliver(folder, trust=True).complete
    assert list(config.values()) == [getattr(Signed.opened[0], key) for key in config]


@pytest.mark.parametrize("config", [{"server": "/data/store"}, {"server": "sqlite:////data/store.db"}, {}])
def test_a_store_without_a_server_needs_no_trust(config, foreign):
    assert sync.deliver(foreign(**config)).complete


@pytest.mark.parametrize("address", ["postgresql://me:password@db.example/mlflow", "http://db.example?token=password"])
def test_an_address_with_credentials_has_to_be_given_again(address, tmp_path):
    """The journal does not store it, and no other store takes its place."""
    tracelet.start_logging(backend="mlflow", mode="offline", config={"backend_url": address}).log_metric("loss", 1.0, 1)
    folder = tracelet.get_active_experiment().folder
    tracelet.stop_logging()
    with pytest.raises(ConfigurationError, match=r"--config mlflow.backend_url=\.\.\.") as caught:
        sync.deliver(folder)
    assert "password" not in str(caught.value)
    config = {"mlflow": {"backend_url": f"sqlite:///{tmp_path}/ml.db"}}
    assert sync.deliver(folder, config=config).complete


def test_servers_that_the_user_configured_need_no_trust(foreign, monkeypatch):
    """By the command line, by a variable of the vendor, or by an earlier run of theirs."""
    folder = foreign(server="http://lab.example:5000")
    assert sync.deliver(folder, ["signed"], config={"signed": {"server": "http://own.example"}}).complete

    foreign(server="http://own.example/other")
    assert sync.deliver(folder, ["signed"]).complete

    foreign(server="http://lab.example:5000")
    monkeypatch.setenv("SIGNED_URL", "http://me:word@lab.example:5000/")
    assert sync.deliver(folder, ["signed"]).complete
    monkeypatch.delenv("SIGNED_URL")
    with pytest.raises(UntrustedServer):
        sync.deliver(folder, ["signed"])

    config = {"server": "http://lab.example:5000"}
    tracelet.start_logging(backend="signed", mode="offline", config=config).stop()
    assert sync.deliver(folder, ["signed"]).complete


def test_a_journal_cannot_set_what_it_would_not_store(foreign):
    """Keys that hold credentials, or that redirect them, are read from the user's config only."""
    folder = foreign(headers={"proxy": "evil.example"}, server="here")

    assert sync.deliver(folder).complete
    assert [({}, "here")] == [(config.headers, config.server) for config in Signed.opened]


@pytest.mark.parametrize("name", ["../../../../secret", "{secret}", "a" * 64 + "/../../../../secret", "link"])
def test_a_journal_names_no_file_of_this_machine(name, tmp_path):
    """An artifact, an image, and a mesh of such a journal are rejected with a reason; the rest is delivered."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"private key")
    with tracelet.start_logging() as experiment:
        experiment.log_metric("loss", 1.0, 1)
    if name == "link":
        name = "b" * 64
        (experiment.folder / "files" / "bb").mkdir(parents=True)
        (experiment.folder / "files" / "bb" / name).symlink_to(secret)
    name = name.format(secret=secret)
    file = File(name=name, digest=name, size=11, path=str(secret))
    records = [
        Artifact("a.txt", (file,), 1.0),
        Image("i", file, "png", 1, 1, 1, 1.0),
        Mesh("m", (file,), "{}", 1, 1.0),
        Scalar("later", 2.0, 1, 1.0),
    ]
    with contextlib.closing(Journal(experiment.folder)) as journal:
        journal.append(records)

    (backend,) = sync.deliver(experiment.folder, ["csv"]).backends

    assert (2, 3, 0) == (backend.delivered, backend.rejected, backend.pending)
    with JournalReader(experiment.folder) as reader:
        assert {f"the journal names a file outside of its run: {name!r}"} == {
            rejection.reason for rejection in reader.rejections("csv")
        }
    found = [path for path in (experiment.folder / "csv").rglob("*") if path.is_file()]
    assert not [path for path in found if b"private key" in path.read_bytes()]


@pytest.fixture
def killed_run(tmp_path):
    """A run of 3.5 s, long ago, without an end: its last heartbeat, half a second before its last record."""

    def make(**facts):
        folder = tmp_path / "runs" / "p" / "one"
        with contextlib.closing(Journal(folder)) as journal:
            journal.put_info(RunInfo(run_id="one", project="p", name=None, folder=str(folder), created=1000.0))
            journal.append([Scalar("loss", 1.0, 1, 1003.5), Scalar("loss", 2.0, 2, 9e9)])
            for key, value in {"status": "running", **facts}.items():
                journal.annotate(key, value)
            journal.annotate("owner", {"host": os.uname().nodename, "pid": 1, "beat": 1003.0, "alive": 1003.0})
        return folder

    return make


class Recorder(MemoryBackend):
    """Its server is given the status of the run, and its end."""

    name = "recorder"

    def close(self, status, exit_code):
        SERVER["end"] = status, exit_code, self.run_ended


@pytest.mark.parametrize(
    ("facts", "end"),
    [
        ({}, ("killed", 1, 1003.5)),
        ({"ended": 1001.0, "exit_code": 0}, ("killed", 1, 1003.5)),  # killed after it was resumed
        ({"status": "killed", "ended": 1002.0, "exit_code": 143}, ("killed", 143, 1002.0)),
        ({"status": "finished", "ended": 1002.0, "exit_code": 0}, ("finished", 0, 1002.0)),
    ],
)
def test_a_run_that_is_delivered_later_ended_when_it_ended(killed_run, facts, end):
    """A killed run with its last sign of life: also if an earlier sync was killed."""
    folder = killed_run(**facts)
    tracelet.register_backend("recorder", Recorder)
    assert end[2] - 1000.0 == summarise(folder).duration
    Journal(folder).beat()  # a sync that is killed now

    assert sync.deliver(folder, ["recorder"]).complete

    with JournalReader(folder) as reader:
        found = reader.facts()
    assert end == SERVER["end"] == (found["status"], found["exit_code"], found["ended"])


def test_mlflow_has_the_end_of_a_killed_run(killed_run, tmp_path):
    from mlflow import MlflowClient

    store = f"sqlite:///{tmp_path}/ml.db"
    assert sync.deliver(killed_run(), ["mlflow"], config={"mlflow": {"tracking_uri": store}}).complete
    client = MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("p").experiment_id])
    assert ("KILLED", 1_000_000, 1_003_500) == (run.info.status, run.info.start_time, run.info.end_time)


def test_new_records_are_a_sign_of_life(killed_run):
    """A resumed run lives again: its end is no longer that of the killed process."""
    folder = killed_run()
    began = time.time()
    with contextlib.closing(Journal(folder)) as journal:
        journal.append([Scalar("loss", 3.0, 3, 1.0)])
        journal.beat()
    with JournalReader(folder) as reader:
        assert reader.ended() >= began


# The end of a run.


@pytest.mark.parametrize("delivery", ["thread", "process"])
def test_an_end_that_failed_is_made_up_for(delivery, caplog):
    """csv writes a file when it is closed. If that fails, the run is not complete, and a sync writes the file."""
    experiment = tracelet.start_logging(backend="csv", delivery=delivery)
    experiment.log_metric("loss", 1.0, 1)
    assert experiment.flush(30)
    table = experiment.folder / "csv" / "metrics.csv"
    table.unlink(missing_ok=True)  # it may have the points so far
    table.mkdir()
    experiment.stop(timeout=5)
    assert "csv did not confirm the end of the run. Run: tracelet sync" in caplog.text
    assert (1, 0) == (experiment.stats().backends["csv"].delivered, experiment.stats().backends["csv"].pending)
    assert ["csv"] == sync.waiting(experiment.folder)
    assert "csv lacks the end of the run" in str(blocking_reason(summarise(experiment.folder)))

    failed = sync.deliver(experiment.folder)
    assert not failed.complete
    table.rmdir()
    assert sync.deliver(experiment.folder).complete
    assert "step,loss\n1,1.0\n" == table.read_text()
    assert [] == sync.waiting(experiment.folder)


def test_an_end_that_took_too_long_is_made_up_for(monkeypatch):
    """The same for a backend that is still closing when the time is over."""

    class Mended(MemoryBackend):
        name = "faulty"

    gate = Gate()
    monkeypatch.setitem(_registered, "faulty", Mended)
    experiment = tracelet.start_logging(backend=Faulty(close=gate))
    experiment.log_metric("loss", 1.0, 1)
    experiment.stop(timeout=0.5)
    gate.open()
    assert ["faulty"] == sync.waiting(experiment.folder)
    assert sync.deliver(experiment.folder).complete
    assert [] == sync.waiting(experiment.folder)
