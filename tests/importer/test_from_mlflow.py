"""Runs of MLflow: what its own client returns is what an import has, and its store stays as it is."""

import json
import math
import shutil
import sqlite3
from pathlib import Path

import mlflow
import numpy as np
import pytest
from backends import mlflow_store
from backends.mlflow_server import free_port, running
from mlflow import MlflowClient
from mlflow.entities import Metric
from past_stores import imports, only, tree

import tracelet
from tracelet.errors import BackendUnavailable, ConfigurationError
from tracelet.records import Image, Params, Table

LARGEST = 1.7976931348623157e308
VALUES = [0.1, 1e-320, math.nan, 0.5, 0.25, -2.0]
STEPS = [5, 3, 3, 3, 0, 2**63 - 1]
TIMES = [1_700_000_000_000, 1_700_000_000_001, 1_700_000_000_001, 1_700_000_000_250, 1_700_000_000_251, 0]
PIXELS = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)


def log(client: MlflowClient, artifacts: Path | None) -> str:
    """Log one run of each kind of data to the experiment `digits`, and return its id."""
    location = None if artifacts is None else artifacts.as_uri()
    experiment = client.create_experiment("digits", location)
    tags = {"team": "vision", "keep": "true", "mlflow.note.content": "note"}
    run = client.create_run(experiment, start_time=1_700_000_000_500, tags=tags, run_name="first").info.run_id
    points = zip(VALUES, TIMES, STEPS, strict=True)
    client.log_batch(run, metrics=[Metric("loss", value, time, step) for value, time, step in points])
    client.log_batch(run, metrics=[Metric("large", math.inf, 7, 1), Metric("large", -math.inf, 8, 2)])
    for name, value in {"lr": 0.1, "net.layers": 2}.items():
        client.log_param(run, name, value)
    client.log_image(run, PIXELS, key="val/sample", step=4, timestamp=1_700_000_001_250)
    client.log_table(run, {"a": ["x"], "b": [1.5]}, "tables/scores.json")
    client.log_text(run, "notes", "notes/read me.md")
    client.log_dict(run, {"a": 1}, "config.json")
    client.set_terminated(run, "FAILED", 1_700_000_060_000)
    return run


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A SQLite store with one run, in a folder of its own."""
    folder = tmp_path_factory.mktemp("sqlite")
    log(MlflowClient(f"sqlite:///{folder / 'mlflow.db'}"), folder / "artifacts")
    return folder / "mlflow.db"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file store with one run. A program may use it only if it asks MLflow for that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        folder = tmp_path_factory.mktemp("files") / "mlruns"
        log(MlflowClient(folder.as_uri()), None)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a tracking server with one run, whose files are at the server."""
    with running(tmp_path_factory.mktemp("server")) as server:
        log(MlflowClient(server.url), None)
        yield server.url


@pytest.fixture(params=["database", "folder", "server"])
def store(request):
    """The source of an import: each of the three kinds of store."""
    place = request.getfixturevalue(request.param)
    return f"sqlite:///{place}" if request.param == "database" else str(place)


def test_a_run_is_what_mlflow_has(store, tmp_path, monkeypatch):
    """Values, steps and times; MLflow's databases keep an infinity as the largest float."""
    journal = only(imports("mlflow", store, tmp_path))
    points = {(step, repr(value), time / 1000) for value, step, time in zip(VALUES, STEPS, TIMES, strict=True)}
    assert points == {point[1:] for point in journal.points() if point[0] == "loss"}
    infinities = [math.inf, -math.inf] if store.endswith("mlruns") else [LARGEST, -LARGEST]
    assert infinities == [float(point[2]) for point in journal.points() if point[0] == "large"]
    if store.startswith("file") or store.endswith("mlruns"):
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    native = [
        (one.step, repr(one.value), one.timestamp / 1000) for one in client.get_metric_history(run.info.run_id, "loss")
    ]
    assert native == [point[1:] for point in journal.points() if point[0] == "loss"]


def test_the_rest_of_a_run(store, tmp_path):
    """Parameters are the texts that MLflow has; images and tables of its views are records, other files artifacts."""
    journal = only(imports("mlflow", store, tmp_path))
    info = journal.info
    assert ("digits", "first", "note", 1_700_000_000.5) == (info.project, info.name, info.notes, info.created)
    assert {"team=vision", "keep"} == set(info.tags)
    assert ("failed", 1, 1_700_000_060.0) == tuple(journal.facts[name] for name in ("status", "exit_code", "ended"))
    assert [{"lr": "0.1", "net.layers": "2"}] == [record.values for record in journal.of(Params)]
    (image,) = journal.of(Image)
    assert ("val/sample", 4, 1_700_000_001.25, "png", 5, 4) == (
        *(image.tag, image.step, image.wall_time, image.format, image.width, image.height),
    )
    (table,) = journal.of(Table)
    assert ("tables/scores", None) == (table.tag, table.step)
    assert {"columns": ["a", "b"], "rows": [["x", 1.5]]} == json.loads(Path(table.data.path).read_bytes())
    files = journal.files()
    assert ["config.json: config.json", "notes/read me.md: read me.md"] == sorted(files)
    assert b"notes" == files["notes/read me.md: read me.md"]
    assert () == journal.damage


def test_an_import_changes_nothing_and_adds_nothing_twice(database, folder, tmp_path, monkeypatch):
    """Neither in the store nor in the working directory, where MLflow would create one."""
    for name in ("work", "store"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    copy = shutil.copy(database, tmp_path / "store")  # MLflow has not opened it yet
    for source in (str(copy), str(folder)):
        before = tree(Path(source).parent)
        first, again = (imports("mlflow", source, tmp_path / "runs")[0] for _ in range(2))
        assert (True, 0, before) == (first.records > 0, again.records, tree(Path(source).parent))
    assert [] == list(Path.cwd().iterdir())
    assert mlflow.active_run() is None


def test_points_logged_later_are_added(database, tmp_path):
    copy = shutil.copyfile(database, tmp_path / "copy.db")
    before = imports("mlflow", copy, tmp_path / "runs")
    client = MlflowClient(f"sqlite:///{copy}")
    (run,) = mlflow_store.runs(copy)
    client.log_batch(run.id, metrics=[Metric("loss", 9.0, 1_700_000_000_001, 4)])
    client.set_tag(run.id, "late", "true")
    done = imports("mlflow", copy, tmp_path / "runs")
    assert (2, before[0].folder) == (done[0].records, done[0].folder)
    assert ("loss", 4, "9.0", 1_700_000_000.001) in only(done).points()


def test_runs_and_experiments_are_chosen(database, tmp_path):
    copy = shutil.copyfile(database, tmp_path / "copy.db")
    client = MlflowClient(f"sqlite:///{copy}")
    other = client.create_experiment("other")
    ids = [client.create_run(other, run_name=name).info.run_id for name in ("one", "two")]
    for id in ids:
        client.log_metric(id, "loss", 0.5)

    def names(**selection):
        return sorted(only([done]).info.name for done in imports("mlflow", copy, tmp_path / "runs", **selection))

    assert ["first", "one", "two"] == names()
    assert ["one", "two"] == names(experiment="other")
    assert ["two"] == names(runs=(ids[1],))
    assert ["first", "one"] == names(runs=("one", "first"))


def test_a_run_of_tracelet_has_its_names_and_types(tmp_path):
    """In MLflow they are other keys, and texts."""
    uri = f"sqlite:///{tmp_path / 'own.db'}"
    with tracelet.start_logging("own", "p", "mlflow", dir=tmp_path / "own", config={"tracking_uri": uri}) as experiment:
        experiment.log_params({"lr": 0.1, "a@b": [1, None]})
        experiment.log_metric("acc@5", 0.5, 3)
    journal = only(imports("mlflow", uri, tmp_path / "runs"))
    assert [("acc@5", 3, "0.5")] == [point[:3] for point in journal.points()]
    assert [{"lr": 0.1, "a@b": [1, None]}] == [record.values for record in journal.of(Params)]


def test_a_store_that_cannot_be_read_is_an_error(database, tmp_path):
    """Missing, of an older version, or down; nothing is created or upgraded."""
    old = shutil.copyfile(database, tmp_path / "old.db")
    with sqlite3.connect(old) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '97727af70f4d'")
    connection.close()
    before = old.read_bytes()
    with pytest.raises(BackendUnavailable, match=r"out-of-date database schema.*mlflow db upgrade"):
        imports("mlflow", old, tmp_path)
    assert before == old.read_bytes()
    for source in ("sqlite:///missing.db", tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigurationError, match="store"):
            imports("mlflow", source, tmp_path)
    with pytest.raises(BackendUnavailable, match="does not answer"):
        imports("mlflow", f"http://127.0.0.1:{free_port()}", tmp_path)
    (tmp_path / "no.db").write_bytes(b"no database" * 100)
    with pytest.raises(BackendUnavailable):
        imports("mlflow", tmp_path / "no.db", tmp_path)


def test_files_of_other_folders_are_not_read(database, tmp_path):
    """A store may name any folder of this machine; and a link in the right one may lead to any file."""
    copy = shutil.copyfile(database, tmp_path / "copy.db")
    secret = tmp_path / "secrets" / "key"
    secret.parent.mkdir()
    secret.write_bytes(b"secret")
    with sqlite3.connect(copy) as connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", [str(secret.parent)])
    connection.close()
    journal = only(imports("mlflow", copy, tmp_path / "runs"))
    assert ({}, 1) == (journal.files(), sum("not one of this run" in text for text in journal.damage))
    (run,) = mlflow_store.runs(copy)
    folder = tmp_path / run.id / "artifacts"
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(secret)
    with sqlite3.connect(copy) as connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", [str(folder)])
    connection.close()
    journal = only(imports("mlflow", copy, tmp_path / "more"))
    assert ({}, ("link: skipped, because it is a link",)) == (journal.files(), journal.damage)
