"""`tracelet.compat.ezpz`: the tracker, its csv files and custom backends."""

import csv
import inspect
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import tracelet
from tracelet.compat.ezpz import (
    CSVBackend,
    MLflowBackend,
    NullTracker,
    Tracker,
    TrackerBackend,
    WandbBackend,
    environment,
    register_backend,
    setup_tracker,
)
from tracelet.compat.ezpz import tracker as tracker_module


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    """Backends that a test registers are gone after it."""
    monkeypatch.setattr(tracker_module, "_registered", {})


class Recorder(TrackerBackend):
    """A custom backend that keeps its calls."""

    name = "recorder"

    def __init__(self):
        self.calls = []

    def log(self, metrics, step=None, commit=True):
        self.calls.append(("log", metrics, step, commit))

    def log_config(self, config):
        self.calls.append(("log_config", config))

    def log_image(self, key, image_path, caption=None):
        self.calls.append(("log_image", key, image_path, caption))

    def finish(self):
        self.calls.append(("finish",))


class Broken(Recorder):
    name = "broken"

    def log(self, metrics, step=None, commit=True):
        raise RuntimeError("boom")


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# Names and signatures.


def test_the_signatures_are_those_of_ezpz():
    def names(function):
        return [name for name in inspect.signature(function).parameters if not name.startswith("_")]

    assert ["project_name", "backends", "config", "outdir", "rank", "kwargs"] == names(setup_tracker)
    assert ["project_name", "config", "outdir", "rank", "kwargs"] == names(MLflowBackend)
    assert ["project_name", "config", "outdir", "rank", "kwargs"] == names(WandbBackend)
    assert ["outdir", "rank"] == names(CSVBackend)
    for cls in (Tracker, TrackerBackend, CSVBackend, NullTracker):
        assert ["self", "metrics", "step", "commit"] == names(cls.log)
        assert ["self", "key", "columns", "data"] == names(cls.log_table)
        assert ["self", "key", "image_path", "caption"] == names(cls.log_image)
    assert "base" == TrackerBackend.name
    assert {"log", "log_config", "finish"} == TrackerBackend.__abstractmethods__


def test_the_other_methods_of_a_backend_do_nothing():
    backend = Recorder()
    backend.log_table("t", ["a"], [[1]])
    backend.log_artifacts({"a": "b"})
    backend.watch(object(), log="all")
    assert [] == backend.calls


# The csv files.


def test_each_call_is_in_the_file_when_it_returns(tmp_path):
    """The header has the columns in first-seen order, and missing cells are empty."""
    backend = CSVBackend(str(tmp_path / "out"))
    backend.log({"loss": 0.5, "epoch": 1}, step=0)
    assert [{"loss": "0.5", "epoch": "1", "step": "0"}] == rows(tmp_path / "out" / "metrics.csv")
    backend.log({"loss": 0.25, "note": "late"}, step=1)
    assert (
        "loss,epoch,step,note\r\n0.5,1,0,\r\n0.25,,1,late\r\n"
        == (tmp_path / "out" / "metrics.csv").read_bytes().decode()
    )
    backend.finish()


def test_a_step_among_the_metrics_stays(tmp_path):
    backend = CSVBackend(tmp_path)
    backend.log({"loss": 0.5, "step": 7}, step=1)
    backend.log({"loss": 0.5})
    assert ["7", ""] == [row["step"] for row in rows(tmp_path / "metrics.csv")]


def test_without_commit_the_next_call_belongs_to_the_same_row(tmp_path):
    backend = CSVBackend(tmp_path)
    backend.log({"a": 1}, step=3, commit=False)
    assert not (tmp_path / "metrics.csv").exists()
    backend.log({"b": 2}, step=3)
    backend.log({"a": 5}, step=4, commit=False)
    backend.log({"a": 6}, step=5, commit=False)
    backend.finish()
    expected = [("1", "2", "3"), ("5", "", "4"), ("6", "", "5")]
    assert expected == [(row["a"], row["b"], row["step"]) for row in rows(tmp_path / "metrics.csv")]


def test_a_column_in_each_of_many_calls_loses_nothing(tmp_path):
    """The file is not rewritten for each of them, and all rows are in it at the end."""
    backend = CSVBackend(tmp_path)
    for step in range(400):
        backend.log({f"m{step}": step}, step=step)
    backend.finish()
    found = rows(tmp_path / "metrics.csv")
    assert [str(step) for step in range(400)] == [row[f"m{step}"] for step, row in enumerate(found)]


def test_the_config_is_merged(tmp_path):
    backend = CSVBackend(tmp_path)
    backend.log_config({"lr": 0.1, "model": {"layers": 2}})
    backend.log_config({"lr": 0.2, "path": Path("x")})
    text = (tmp_path / "config.json").read_text()
    assert {"lr": 0.2, "model": {"layers": 2}, "path": "x"} == json.loads(text)
    assert text.startswith('{\n  "lr"')


def test_a_table_is_a_file(tmp_path):
    backend = CSVBackend(tmp_path)
    backend.log_table("confusion", ["cat", "dog"], [[5, 1], [0, 7]])
    backend.log_table("../outside", ["a"], [[1]])
    assert [{"cat": "5", "dog": "1"}, {"cat": "0", "dog": "7"}] == rows(tmp_path / "confusion.csv")
    assert not (tmp_path.parent / "outside.csv").exists()


def test_the_file_of_an_earlier_run_is_kept(tmp_path):
    for value in (1, 2, 3):
        backend = CSVBackend(tmp_path)
        backend.log({"a": value}, step=0)
        backend.finish()
    names = ("metrics.1.csv", "metrics.2.csv", "metrics.csv")
    assert ["1", "2", "3"] == [rows(tmp_path / name)[0]["a"] for name in names]


def test_two_trackers_of_one_folder_have_a_file_each(tracked, tmp_path):
    """Neither writes to the columns of the other."""
    first, second = (tracked("p", backends="csv", outdir=tmp_path) for _ in range(2))
    first.log({"x": 1}, step=0)
    second.log({"y": 2}, step=0)
    first.log({"x": 3}, step=1)
    assert [{"x": "1", "step": "0"}, {"x": "3", "step": "1"}] == rows(tmp_path / "metrics.1.csv")
    assert [{"y": "2", "step": "0"}] == rows(tmp_path / "metrics.csv")


def test_a_table_named_metrics_does_not_replace_the_metrics(tmp_path):
    backend = CSVBackend(tmp_path)
    backend.log({"x": 1}, step=0)
    backend.log_table("metrics", ["a"], [[1]])
    backend.log({"x": 2}, step=1)
    assert [{"x": "1", "step": "0"}, {"x": "2", "step": "1"}] == rows(tmp_path / "metrics.csv")
    assert [{"a": "1"}] == rows(tmp_path / "table-metrics.csv")


def test_a_program_that_never_finishes_has_all_rows(tmp_path):
    """Also those that wait for a rewrite, and for the end of their step."""
    code = """
from tracelet.compat.ezpz import CSVBackend

backend = CSVBackend(".")
for step in range(1500):
    backend.log({"x": step, f"column_{step // 50}": 1}, step=step)
backend.log({"last": 1}, step=1500, commit=False)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    written = rows(tmp_path / "metrics.csv")
    assert (1501, "1", "1") == (len(written), written[1499]["column_29"], written[1500]["last"])


def test_other_ranks_write_nothing(tmp_path):
    backend = CSVBackend(tmp_path / "out", rank=1)
    backend.log({"a": 1}, step=0)
    backend.log_config({"a": 1})
    backend.finish()
    assert not (tmp_path / "out").exists()


def test_a_failed_write_does_not_raise(tmp_path, caplog):
    backend = CSVBackend(tmp_path)
    (tmp_path / "metrics.csv").mkdir()
    (tmp_path / "metrics.csv" / "x").touch()
    (tmp_path / "config.json").mkdir()
    backend.log_config({"a": 1})
    assert "Tracker backend csv.log_config() failed" in caplog.text


# Selection of backends.


@pytest.mark.parametrize("backends", ["none", ["none"], "", [], "nosuch"])
def test_without_backends_there_is_a_null_tracker(backends, caplog):
    tracker = setup_tracker(backends=backends)
    assert isinstance(tracker, NullTracker)
    tracker.log({"a": 1}, step=0, commit=False)
    tracker.log_config({"a": 1})
    tracker.log_table("t", ["a"], [[1]])
    tracker.log_image("i", "missing.png", caption="c")
    tracker.log_artifacts({"a": "missing"})
    tracker.watch(object())
    tracker.finish()
    assert (None, None, None) == (tracker.get_backend("csv"), tracker.wandb_run, tracker.mlflow_run)
    assert (backends == "nosuch") == ("unknown tracker backend 'nosuch'" in caplog.text)


def test_the_environment_selects_backends(monkeypatch):
    assert ["wandb"] == environment.backend_names(None)
    monkeypatch.setenv("EZPZ_TRACKERS", "csv")
    assert ["csv"] == environment.backend_names(None)
    monkeypatch.setenv("EZPZ_TRACKER_BACKENDS", " CSV, mlflow,csv ")
    assert ["csv", "mlflow"] == environment.backend_names(None)
    assert ["wandb"] == environment.backend_names("wandb")


def test_the_environment_names_the_project(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/home/me/examples/train.py"])
    assert "examples.train" == environment.wandb_project(None)
    assert "examples-train" == environment.mlflow_experiment(None)
    for variable in ("WB_PROJECT_NAME", "WANDB_PROJECT", "WB_PROJECT"):
        monkeypatch.setenv(variable, f"of.{variable}")
        assert f"of.{variable}" == environment.wandb_project(None)
        assert f"of-{variable}" == environment.mlflow_experiment(None)
    assert ("given.p", "given-p") == (environment.wandb_project("given.p"), environment.mlflow_experiment("given.p"))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "first")
    assert "first" == environment.mlflow_experiment("given")


def test_the_mode_of_wandb(monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    assert None is environment.wandb_mode(None)
    assert "offline" == environment.wandb_mode("Offline")
    monkeypatch.setenv("WANDB_MODE", "SHARED")
    assert ("shared", "online") == (environment.wandb_mode(None), environment.wandb_mode("online"))
    with pytest.raises(ValueError, match="must be one of online, offline, disabled, shared"):
        environment.wandb_mode("of")
    monkeypatch.setenv("WANDB_DISABLED", "true")
    assert "disabled" == environment.wandb_mode("online")


def test_csv_in_a_tracker(tracked, tmp_path):
    """It also has the config. The run's journal is in the same folder."""
    tracker = tracked("p", backends="csv", config={"lr": 0.1}, outdir=tmp_path / "out")
    tracker.log({"loss": 0.5}, step=2)
    assert [{"loss": "0.5", "step": "2"}] == rows(tmp_path / "out" / "metrics.csv")
    assert {"lr": 0.1} == json.loads((tmp_path / "out" / "config.json").read_text())
    assert isinstance(tracker.get_backend("csv"), CSVBackend)


def test_csv_writes_to_the_working_directory_by_default(tracked, tmp_path):
    tracked(backends=["csv"]).log({"loss": 0.5}, step=2)
    assert (tmp_path / "metrics.csv").exists()


def test_the_rank_is_that_of_the_job(tracked, monkeypatch, tmp_path):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    tracker = tracked(backends="csv,wandb,mlflow", outdir=tmp_path / "out")
    tracker.log({"loss": 0.5}, step=2)
    assert not (tmp_path / "out").exists()
    assert (None, None) == (tracker.wandb_run, tracker.mlflow_run)


def test_a_missing_package_is_a_warning(tracked, monkeypatch, caplog, tmp_path):
    def missing(name):
        raise tracelet.MissingDependency(f"{name} is not installed")

    class NeedsMore(Recorder):
        def __init__(self):
            raise ImportError("no module named more")

    monkeypatch.setattr("tracelet.compat.ezpz.vendors.check_installed", missing)
    register_backend("more", NeedsMore)
    tracker = tracked(backends="mlflow,more,csv", outdir=tmp_path)
    assert ["csv"] == [backend.name for backend in tracker.backends]
    assert 2 == caplog.text.count("missing dependency")


def test_a_backend_whose_start_fails_is_a_warning(tracked, caplog, tmp_path):
    class Failing(Recorder):
        def __init__(self):
            raise RuntimeError("no server")

    register_backend("failing", Failing)
    tracker = tracked(backends="failing,csv,wandb", outdir=tmp_path, mode="of")
    assert ["csv"] == [backend.name for backend in tracker.backends]
    assert "failing is skipped, its start failed: RuntimeError: no server" in caplog.text
    assert "wandb is skipped" in caplog.text


# Custom backends.


def test_a_custom_backend_gets_every_call(tracked):
    register_backend("Recorder", Recorder)
    tracker = tracked(backends="recorder", config={"lr": 0.1})
    tracker.log({"a": 1}, step=2, commit=False)
    tracker.log_image("i", "x.png", "caption")
    backend = tracker.get_backend("recorder")
    tracker.finish()
    expected = [("log_config", {"lr": 0.1}), ("log", {"a": 1}, 2, False), ("log_image", "i", "x.png", "caption")]
    assert [*expected, ("finish",)] == backend.calls


def test_a_custom_backend_gets_the_arguments_that_it_takes(tracked):
    class Choosy(Recorder):
        def __init__(self, project_name, rank, token=None):
            super().__init__()
            self.given = project_name, rank, token

    class Greedy(Recorder):
        name = "greedy"

        def __init__(self, **kwargs):
            super().__init__()
            self.given = kwargs

    register_backend("choosy", Choosy)
    register_backend("greedy", Greedy)
    tracker = tracked("p", "choosy,greedy", {"lr": 1}, rank=0, token="t", mode="offline")
    assert ("p", 0, "t") == tracker.backends[0].given
    assert {"project_name", "config", "outdir", "rank", "token", "mode"} == set(tracker.backends[1].given)
    assert [("log_config", {"lr": 1})] == tracker.backends[0].calls


def test_a_failing_backend_does_not_affect_the_others(caplog):
    """It is called again, and logged once."""
    good, broken = Recorder(), Broken()
    tracker = Tracker([broken, good])
    for step in range(3):
        tracker.log({"a": 1}, step=step)
    tracker.finish()
    assert [0, 1, 2] == [call[2] for call in good.calls[:3]]
    assert 1 == caplog.text.count("Tracker backend broken.log() failed")


def test_a_slow_backend_does_not_stop_the_others(tmp_path):
    """Its calls are made in order once it goes on, with the values of each call."""
    go_on = threading.Event()

    class Slow(Recorder):
        name = "slow"

        def log(self, metrics, step=None, commit=True):
            assert go_on.wait(30)
            super().log(metrics, step, commit)

    slow, good = Slow(), Recorder()
    tracker = Tracker([slow, good, CSVBackend(tmp_path)])
    metrics = {"a": 0}
    for step in range(3):
        metrics["a"] = step
        tracker.log(metrics, step=step)
    assert [0, 1, 2] == [call[1]["a"] for call in good.calls]
    assert 3 == len(rows(tmp_path / "metrics.csv"))
    assert [] == slow.calls
    go_on.set()
    tracker.finish()
    assert [0, 1, 2] == [call[1]["a"] for call in slow.calls[:3]]
    assert ("finish",) == slow.calls[-1]


def test_a_backend_may_log_to_its_own_tracker():
    class Echo(Recorder):
        def log(self, metrics, step=None, commit=True):
            super().log(metrics, step, commit)
            if "echo" not in metrics:
                tracker.log({"echo": 1}, step=step)

    backend = Echo()
    tracker = Tracker([backend])
    tracker.log({"a": 1}, step=0)
    tracker.finish()
    assert [{"a": 1}, {"echo": 1}] == [call[1] for call in backend.calls[:2]]


# Beside other runs.


def test_the_active_run_stays(tracked, memory, tmp_path):
    """A tracker neither stops it nor logs to it, and captures no SummaryWriter."""
    experiment = tracelet.start_logging(backend=memory)
    tracker = tracked(backends="csv", outdir=tmp_path / "out")
    tracker.log({"a": 1.0}, step=0)
    assert experiment is tracelet.get_active_experiment()
    experiment.log({"b": 1.0})
    tracker.finish()
    assert experiment.flush(30)
    assert ["b"] == [record.tag for record in memory.records]


def test_two_trackers_have_two_runs(tracked, tmp_path):
    first = tracked(backends="csv", outdir=tmp_path / "a")
    second = tracked(backends="csv", outdir=tmp_path / "b")
    first.log({"a": 1}, step=0)
    second.log({"b": 1}, step=0)
    first.log({"a": 2}, step=1)
    assert ["1", "2"] == [row["a"] for row in rows(tmp_path / "a" / "metrics.csv")]
    assert ["1"] == [row["b"] for row in rows(tmp_path / "b" / "metrics.csv")]


def test_the_journal_is_beside_the_files(tracked, monkeypatch, tmp_path):
    monkeypatch.delenv("TRACELET_DIR")
    tracked("p", backends="csv", outdir=tmp_path / "out")
    assert ["p"] == os.listdir(tmp_path / "out" / "tracelet_runs")
