"""The trackio backend: the contract, kills, and what Trackio itself reads back."""

import json
import math
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from urllib.parse import unquote

import msgspec
import pytest
from backends import trackio_store
from backends.faults import journalled
from hypothesis import example, given
from hypothesis import strategies as st
from support import REPOSITORY

import tracelet
from tracelet import records as r
from tracelet import sync
from tracelet.backends import configured
from tracelet.backends.base import Batch
from tracelet.backends.trackio import TrackioBackend, TrackioConfig, values
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.journal.spool import Spool
from tracelet.testing import BackendContract, deliver, run_info, sample_records
from tracelet.testing.samples import AWKWARD_TAGS, WALL_TIME, stored


class TestTrackio(BackendContract):
    knows_its_store = True

    def make_backend(self, tmp_path):
        return TrackioBackend(TrackioConfig(dir=str(tmp_path / "trackio")))

    def read_back(self, tmp_path):
        return trackio_store.stored(tmp_path / "trackio")


def opened(folder, run=None, **config):
    backend = TrackioBackend(TrackioConfig(**{"dir": str(folder / "trackio"), **config}))
    backend.position = backend.open(run or run_info(folder))
    return backend


def written(folder, records, **config):
    """Deliver the records to a new store, and return its content."""
    folder.mkdir(exist_ok=True)
    backend = opened(folder, **config)
    outcome = deliver(backend, records)
    assert [] == outcome.rejected
    backend.close("finished", 0)
    return trackio_store.stored(folder / "trackio")


def scalar(tag, value, step=1, second=0):
    return r.Scalar(tag, value, step, WALL_TIME + second)


def raw(folder, table="metrics"):
    """Return the values of all rows of a table, as Trackio stores them."""
    database = folder / "trackio" / "contract.db"
    return [json.loads(row["metrics"]) for row in trackio_store.of_run(database, table, None)]


def config_of(folder):
    (row,) = trackio_store.of_run(folder / "trackio" / "contract.db", "configs", None)
    return json.loads(row["config"])


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """Trackio's own storage class, for the folder of the test."""
    from trackio import sqlite_storage

    monkeypatch.setattr(sqlite_storage, "TRACKIO_DIR", tmp_path / "trackio")
    return sqlite_storage.SQLiteStorage


# Kills.

STORY = """
from tracelet import records as r
from tracelet.testing.samples import WALL_TIME, image, stored

def story(folder):
    found = []
    for i in range(8):
        found += [
            r.Scalar("loss", i / 3, i, WALL_TIME + i), r.Scalar("acc", i / 7, i, WALL_TIME + i),
            r.Scalar("system/cpu", i / 9, i, WALL_TIME + i), r.Text("note", f"text {i}", i, WALL_TIME),
            r.Params({"lr": i, f"p{i}": 1}, 0.0), image(folder, "digits", i, (i, 0, 0)),
            r.Alert(f"alert {i}", "", "info", WALL_TIME + i),
            r.Artifact("plots/a.bin", (stored(folder, b"v%d" % i, "a.bin"),), 0.0),
        ]
    return found
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from tracelet.backends.trackio import TrackioBackend, TrackioConfig, adapter, store
from tracelet.testing import deliver, run_info

folder, where, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

class Killed(store.Store):
    def write(self, rows, config, system=(), alerts=()):
        is_last = max(config["_tracelet"]["journals"].values()) > at
        if is_last and where == "before":
            die()
        if is_last and where == "inside":
            self._sql.bulk_log = die
        super().write(rows, config, system, alerts)
        if is_last:
            die()

adapter.Store = Killed
backend = TrackioBackend(TrackioConfig(dir=str(folder / "trackio")))
backend.open(run_info(folder))
deliver(backend, story(folder), size=6)
"""
ENDLESS = """
import sys
from pathlib import Path
from tracelet.backends.trackio import TrackioBackend, TrackioConfig
from tracelet.records import Scalar
from tracelet.testing import deliver, run_info

folder = Path(sys.argv[1])
backend = TrackioBackend(TrackioConfig(dir=str(folder / "trackio")))
backend.open(run_info(folder))
for batch in range(100000):
    deliver(backend, [Scalar("loss", i, i, float(i)) for i in range(batch * 50, batch * 50 + 50)], after=batch * 50)
    print(batch, flush=True)
"""


@pytest.fixture
def imports(monkeypatch):
    """Let a program import tracelet."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))


def story(folder):
    namespace = {}
    exec(STORY, namespace)
    return namespace["story"](folder)


@pytest.mark.parametrize(("where", "at"), [("before", 20), ("inside", 20), ("inside", 0), ("after", 20)])
def test_a_kill_loses_nothing_and_doubles_nothing(tmp_path, imports, where, at):
    """Killed before a batch, between its two transactions, or after it. Batches of another size are sent then."""
    killed = tmp_path / "killed"
    killed.mkdir()
    program = [sys.executable, "-c", STORY + KILLED, str(killed), where, str(at)]
    assert -signal.SIGKILL == subprocess.run(program, timeout=60).returncode

    backend = opened(killed)
    durable = backend.position
    assert at // 6 * 6 + 6 * (where == "after") == durable
    deliver(backend, story(killed)[durable:], after=durable, size=7)
    backend.close("finished", 0)

    whole = written(tmp_path / "whole", story(tmp_path))
    assert whole == trackio_store.stored(killed / "trackio")


def test_a_kill_at_any_moment(tmp_path, imports):
    """Every batch whose `write` returned is in the store, and no point is there twice."""
    with subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE) as program:
        lines = [program.stdout.readline() for _ in range(12)]
        program.kill()
    backend = opened(tmp_path)
    durable = backend.position
    backend.close("killed", 137)
    assert 50 * len(lines) <= durable
    assert [*range(durable)] == [value for _, _, value, _ in trackio_store.stored(tmp_path / "trackio").scalars]


# Exactly once.


def test_a_batch_that_is_written_twice_is_there_once(tmp_path):
    """Also if another process writes it again."""
    records = [*sample_records(tmp_path), *story(tmp_path)]
    once = written(tmp_path / "once", records)
    batch = Batch.up_to(records, len(records))
    for _ in range(2):
        backend = opened(tmp_path)
        backend.write(batch)
        backend.write(batch)
        backend.close("finished", 0)
    twice = trackio_store.stored(tmp_path / "trackio")
    assert repr(once) == repr(twice)


def test_numbers_that_are_used_again(tmp_path):
    """After a full disk, the journal may give numbers of lost records to new records. Both are in the store."""
    backend = opened(tmp_path)
    deliver(backend, [scalar("loss", i, i, i) for i in range(10)])
    backend = opened(tmp_path)
    deliver(backend, [scalar("loss", i, i, 100 + i) for i in range(5, 8)], after=5)
    assert backend.durable() in (8, None)
    backend.close("finished", 0)
    backend = opened(tmp_path)
    assert 8 == backend.position
    assert 13 == len(trackio_store.stored(tmp_path / "trackio").scalars)


def test_two_journals_of_one_run(tmp_path):
    """Two processes with the same run id: each has its own numbers, and both add parameters and tags."""
    first, second = (
        opened(tmp_path, msgspec.structs.replace(run_info(tmp_path), created=WALL_TIME + rank)) for rank in range(2)
    )
    for rank, backend in enumerate((first, second)):
        deliver(backend, [scalar(f"loss{rank}", 1), r.Params({f"p{rank}": rank}, 0.0), r.Tags((f"t{rank}",), 0.0)])
    deliver(first, [scalar("loss0", 2)], after=3)
    content = trackio_store.stored(tmp_path / "trackio")
    assert ["loss0", "loss1", "loss0"] == [tag for tag, *_ in content.scalars]
    assert ({"p0": 0, "p1": 1}, ["contract", "t0", "t1"]) == (content.params, content.tags)
    assert [4, 3] == [*config_of(tmp_path)["_tracelet"]["journals"].values()]


def test_a_deleted_store_is_written_again(tmp_path):
    """Also while the run is active: delivery opens the backend again, and its position is 0."""
    records = [scalar("loss", i, i, i) for i in range(5)]
    backend = opened(tmp_path)
    deliver(backend, records)
    shutil.rmtree(tmp_path / "trackio")
    assert 0 == backend.durable()
    with pytest.raises(BackendUnavailable) as error:
        backend.write(Batch.up_to([scalar("loss", 5, 5, 5)], 6))
    assert error.value.reopen
    assert 0 == backend.open(run_info(tmp_path))
    deliver(backend, records)
    backend.close("finished", 0)
    assert 5 == len(trackio_store.stored(tmp_path / "trackio").scalars)


def test_a_run_that_was_deleted_in_trackio(tmp_path, storage):
    backend = opened(tmp_path)
    deliver(backend, [scalar("loss", 1)])
    assert storage.delete_run("contract", "a run", "contract-run")
    with pytest.raises(BackendUnavailable) as error:
        backend.write(Batch.up_to([scalar("loss", 2)], 2))
    assert error.value.reopen
    assert 0 == opened(tmp_path).position


def test_a_run_that_was_renamed_in_trackio(tmp_path, storage):
    """Trackio drops the ids of its rows then. The run resumes under its new name, with its images."""
    records = sample_records(tmp_path)
    whole = written(tmp_path, records)
    storage.rename_run("contract", "a run", "renamed", "contract-run")
    backend = opened(tmp_path)
    assert len(records) == backend.position
    deliver(backend, [scalar("loss", 2)], after=len(records))
    backend.close("finished", 0)
    resumed = trackio_store.stored(tmp_path / "trackio")
    assert [*whole.scalars, ("loss", 1, 2.0, WALL_TIME)] == resumed.scalars
    assert whole.images == resumed.images
    assert ["renamed"] == [record["name"] for record in storage.get_run_records("contract")]


def test_a_run_that_is_delivered_later_has_the_same_content(tmp_path):
    """By `tracelet sync`, with the folder that the journal stores."""
    with tracelet.start_logging("run", dir=tmp_path, backend="trackio", config={"dir": "live"}) as experiment:
        for step in range(100):
            experiment.log_metrics({"train/loss": 1 / (step + 1), "val/loss": step}, step)
        experiment.log_params({"lr": 0.1, "layers": [1, 2], "name": None})
        experiment.log_table("table", [[1, "a"]], columns=["number", "text"])
        experiment.log_histogram("weights", [0.0, 0.5, 1.0], 4, bins=2)
        experiment.log_text("note", "text", 1)
    live = trackio_store.stored(tmp_path / "live")
    assert 200 == len(live.scalars)
    # In one batch: the scalars of a step are in two rows if a batch ends between them, as one may in the live run.
    spool = Spool(experiment.folder / "files")
    written(tmp_path / "whole", [spool.resolve(record) for record in journalled(experiment.folder)])
    assert 101 == len(raw(tmp_path / "whole")) - 3
    (tmp_path / "live").rename(tmp_path / "kept")
    assert sync.deliver(experiment.folder, ["trackio"], verify=True).complete
    assert live == trackio_store.stored(tmp_path / "live")


# Names and values.


@given(st.text(st.characters()))
@example("~a")
@example("_a")
@example("__step")
@example("\ud800")
def test_names_are_reversible(text):
    """A tag and a parameter of any text have a name that Trackio accepts, and that no other text has."""
    for name in (values.metric_name(text), values.param_name(text)):
        name.encode()
        assert text == (unquote(name[1:], errors="surrogatepass") if name.startswith("~") else name)
        assert not name.startswith("__")


def test_reserved_names_stay_distinct(tmp_path, storage):
    """Trackio reads each tag back under a name of its own, and the step of each point."""
    tags = [*AWKWARD_TAGS, "timestamp", "~step", "__step", "~", "run_id", "\ud800", "\\ud800"]
    content = written(tmp_path, [scalar(tag, i) for i, tag in enumerate(tags)])
    assert tags == [tag for tag, *_ in content.scalars]
    logs = storage.get_logs("contract", run_id="contract-run")
    assert len(tags) == len({name for log in logs for name in log} - {"step", "timestamp"})
    assert {1} == {log["step"] for log in logs if len(log) > 2}


def test_reserved_params_stay_distinct(tmp_path):
    params = {"summary": 1, "_summary": 2, "~summary": 3, "tags": 4, "_tracelet": 5, "notes": 6, "step": 7, "": 8}
    content = written(tmp_path, [r.Params(params, 0.0), r.Summary({"best": 1}, 0.0)])
    assert (params, {"best": 1}, ["contract"]) == (content.params, content.summary, content.tags)


def test_non_finite_values_as_trackio_stores_them(tmp_path, storage):
    """Three texts, which Trackio itself reads as the three numbers."""
    written(tmp_path, [scalar("x", value, i) for i, value in enumerate((math.nan, math.inf, -math.inf, -0.0))])
    assert ["NaN", "Infinity", "-Infinity", -0.0] == [row["x"] for row in raw(tmp_path) if row]
    logs = storage.get_logs("contract", run_id="contract-run")
    assert ["nan", "inf", "-inf", "-0.0"] == [repr(log["x"]) for log in logs if "x" in log]


def test_values_that_json_cannot_hold(tmp_path):
    """An integer beyond 64 bits and a lone surrogate are text; a step beyond 64 bits rejects its record alone."""
    params = {"big": 10**30, "text": "\ud800", "deep": [{"a": (1, None)}]}
    backend = opened(tmp_path)
    outcome = deliver(backend, [scalar("a", 1, 2**63 - 1), scalar("b", 1, 2**63), r.Params(params, 0.0)])
    backend.close("finished", 0)
    assert ["b"] == [record.tag for record, _ in outcome.rejected]
    content = trackio_store.stored(tmp_path / "trackio")
    assert [("a", 2**63 - 1)] == [(tag, step) for tag, step, *_ in content.scalars]
    assert {"big": str(10**30), "text": "\\ud800", "deep": [{"a": [1, None]}]} == content.params


def test_wall_times_outside_the_calendar(tmp_path):
    content = written(tmp_path, [r.Scalar("x", i, i, time) for i, time in enumerate((-1e30, -1.5, 0.0, 1e30))])
    assert [-62135596800.0, -1.5, 0.0, 253402300799.0] == [time for *_, time in content.scalars]


# Kinds.


def test_trackio_reads_each_kind(tmp_path, storage):
    """By the types that its dashboard shows."""
    written(tmp_path, sample_records(tmp_path))
    logs = storage.get_logs("contract", run_id="contract-run")
    shown = {name: value for log in logs for name, value in log.items() if name.startswith("sample/")}
    forms = {name: value["_type"].removeprefix("trackio.") for name, value in shown.items() if name != "sample/scalar"}
    expected = {f"sample/{kind}": kind for kind in ("histogram", "image", "video", "audio", "table")}
    expected |= dict.fromkeys(("sample/tensor", "sample/embedding", "sample/graph", "sample/layout"), "markdown")
    expected |= {"sample/raw": "markdown", "sample/text": "markdown", "sample/pr_curve": "image"}
    assert expected | {"sample/mesh": "object3d"} == forms
    assert [{"name": "a", "score": 0.1}, {"name": "b", "score": "NaN"}] == shown["sample/table"]["_value"]
    (alert,) = storage.get_alerts("contract")
    assert ("sample alert", "warn") == (alert["title"], alert["level"])
    assert {"status": "finished", "exit_code": 0}.items() <= config_of(tmp_path)["_tracelet"].items()


def test_metrics_of_one_call_are_one_row(tmp_path):
    """As after `trackio.log`. A repeated tag begins a row."""
    written(tmp_path, [scalar("a", 1), scalar("b", 2), scalar("a", 3), scalar("b", 4, 2), scalar("b", 5, 2, 1)])
    assert [{}, {"a": 1.0, "b": 2.0}, {"a": 3.0}, {"b": 4.0}, {"b": 5.0}] == raw(tmp_path)


def test_collected_metrics_are_system_metrics(tmp_path):
    """Trackio stores no step of them: a metric whose step does not follow from its time stays with the others."""
    records = [scalar("system/cpu", 0.5, 7, 7.5), scalar("system/cpu", 0.25, 100, 8), scalar("system/x", 1, None)]
    content = written(tmp_path, records)
    assert [{"system/cpu": 0.5}] == raw(tmp_path, "system_metrics")
    assert {7: 0.5, 100: 0.25, 0: 1.0} == {step: value for _, step, value, _ in content.scalars}


def test_artifacts_of_one_name(tmp_path, storage):
    """Trackio has one type for each name: an artifact of another type gets another name, and every version stays."""
    files = [(stored(tmp_path, text.encode(), "w.bin"),) for text in ("one", "two", "three")]
    records = [
        r.Artifact("net", files[0], 0.0, "model", {"loss": math.nan}),
        r.Artifact("net", files[1], 0.0, "model"),
        r.Artifact("net", files[2], 0.0, "dataset"),
        r.Artifact("plots/net", files[2], 0.0),
    ]
    written(tmp_path, records)
    found = storage.list_artifacts("contract")
    versions = {(entry["type"], len(entry["versions"])) for entry in found}
    assert {("model", 2), ("dataset", 1), ("file", 1)} == versions
    assert 3 == len({entry["name"] for entry in found})
    assert {"loss": "NaN"} == storage.get_artifact_manifest("contract", "net", "v0")["metadata"]


def test_a_table_with_repeated_columns(tmp_path):
    """Each column is shown; the file has the table unchanged."""
    table = {"columns": ["a", "a", "b"], "rows": [[1, 2, 3]] * 1500}
    written(tmp_path, [r.Table("t", stored(tmp_path, json.dumps(table).encode(), "t.json"), 1, WALL_TIME)])
    value = raw(tmp_path)[-1]["t"]
    assert [{"a": 1, "a~1": 2, "b": 3}] * 1000 == value["_value"]
    (path,) = value["tracelet"]["files"].values()
    assert table == json.loads((tmp_path / "trackio" / "media" / path).read_bytes())


# The store.


def test_the_programs_own_trackio_is_unchanged(tmp_path):
    """A folder in `config` is not that of the program's own runs; and nothing is written to theirs."""
    from trackio import sqlite_storage, utils

    before = utils.TRACKIO_DIR, sqlite_storage.TRACKIO_DIR, sqlite_storage.SQLiteStorage._dataset_import_attempted
    written(tmp_path, [scalar("loss", 1)])
    after = utils.TRACKIO_DIR, sqlite_storage.TRACKIO_DIR, sqlite_storage.SQLiteStorage._dataset_import_attempted
    assert before == after


def test_nothing_is_downloaded_started_or_printed(tmp_path, monkeypatch, capfd):
    """TRACKIO_BUCKET_ID makes Trackio itself download a bucket at the first access."""
    from trackio import bucket_storage, fragments

    downloads, connections, threads = [], [], threading.active_count()
    monkeypatch.setenv("TRACKIO_BUCKET_ID", "user/bucket")
    monkeypatch.setattr(bucket_storage, "download_bucket_to_trackio_dir", downloads.append)
    monkeypatch.setattr(fragments, "import_inbox_from_bucket", downloads.append)
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: connections.append(address))
    backend = opened(tmp_path)
    deliver(backend, sample_records(tmp_path))
    assert threads == threading.active_count()
    backend.close("finished", 0)
    assert ([], [], ("", "")) == (downloads, connections, tuple(capfd.readouterr()))


def test_the_default_folder_is_that_of_trackio(tmp_path, monkeypatch):
    """TRACKIO_DIR; else the one that Trackio found when it was imported."""
    from trackio import utils

    assert {"dir": str(tmp_path / "trackio"), "project": "p", "name": None} == configured(
        TrackioBackend, {"project": "p"}
    ).config.persistent()
    monkeypatch.delenv("TRACKIO_DIR")
    monkeypatch.setattr(utils, "TRACKIO_DIR", tmp_path / "default")
    backend = TrackioBackend()
    backend.open(run_info(tmp_path))
    assert str(tmp_path / "default") == backend.url
    assert {"dir": None, "project": None, "name": None} == backend.config.persistent()


def test_a_locked_database_is_unavailable(tmp_path, monkeypatch):
    backend = opened(tmp_path)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, **{**more, "timeout": 0.1}))
    with sqlite3.connect(tmp_path / "trackio" / "contract.db") as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendUnavailable, match="locked"):
            backend.write(Batch.up_to([scalar("loss", 1)], 1))
    other.close()
    deliver(backend, [scalar("loss", 1)])
    backend.close("finished", 0)
    assert 1 == len(trackio_store.stored(tmp_path / "trackio").scalars)


def test_a_name_that_trackio_reserves(tmp_path):
    with pytest.raises(BackendUnavailable, match="registries"):
        opened(tmp_path, project="registry-models")


def test_a_bad_value_rejects_its_record(tmp_path):
    backend = opened(tmp_path)
    with pytest.raises(RecordRejected):
        backend.write(Batch.up_to([scalar("loss", "no number")], 1))


def test_the_probe_names_the_command(monkeypatch):
    assert TrackioBackend.probe().ok
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert 'not installed: pip install "tracelet[trackio]"' == TrackioBackend.probe().detail
