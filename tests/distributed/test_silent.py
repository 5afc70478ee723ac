"""A rank that does not log: its program runs as if tracelet were not there."""

import gc
import logging
import tracemalloc
from collections import Counter

import pytest
import torch
from programs import run_program
from support import our_threads
from torch.utils.tensorboard import SummaryWriter

import tracelet
from tracelet import Experiment


@pytest.fixture
def second_of_two(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def silent(second_of_two):
    experiment = tracelet.start_logging("a run", "a project", backend="memory")
    yield experiment
    tracelet.stop_logging()


def test_it_is_falsy_and_an_experiment(silent):
    assert not silent
    assert isinstance(silent, Experiment)
    assert ("", "a run", "a project", None) == (silent.run_id, silent.name, silent.project, silent.url)
    assert silent is tracelet.get_active_experiment()
    assert "silent" in repr(silent)


def test_every_method_works_and_does_nothing(silent, tmp_path):
    model = torch.nn.Linear(2, 1)
    silent.log_metric("loss", 0.5, 1)
    silent.log_metrics({"loss": 0.5}, 1)
    silent.log_params({"lr": 0.1})
    silent.log_image("image", torch.zeros(3, 4, 4))
    silent.log_figure("figure", torch.zeros(3, 4, 4))
    silent.log_video("video", torch.zeros(2, 3, 4, 4))
    silent.log_audio("audio", torch.zeros(8))
    silent.log_text("text", "words")
    silent.log_table("table", [[1]], columns=["a"])
    silent.log_histogram("histogram", torch.zeros(8))
    silent.log_artifact(tmp_path / "missing")
    silent.watch(model)
    model(torch.ones(1, 2)).backward()
    silent.unwatch()
    silent.add_tags("tag")
    silent.alert("title", "text")
    silent.summary["best"] = 0.5
    assert None is silent.get_backend("memory")
    assert [None] * 4 == [silent.wandb_run, silent.mlflow_run, silent.clearml_task, silent.aim_run]
    assert 0 == silent.stats().submitted
    assert silent.flush()
    with silent as same:
        assert same is silent
    silent.stop()
    silent.log_metric("loss", 0.5, 1)
    assert None is tracelet.get_active_experiment()
    assert not (tmp_path / "runs").exists()


def test_event_files_are_written_as_without_tracelet(silent, tmp_path):
    with SummaryWriter(str(tmp_path / "events")) as writer:
        writer.add_scalar("loss", 0.5, 3)
    (file,) = (tmp_path / "events").iterdir()
    with open(file, "rb") as stream:
        assert b"loss" in stream.read()
    assert "tracelet" not in SummaryWriter.add_scalar.__module__


def test_one_line_says_so(second_of_two, caplog):
    caplog.set_level(logging.INFO, "tracelet")
    tracelet.start_logging()
    assert ["tracelet: rank 1 of 2 does not log; another rank does"] == caplog.messages


def test_no_thread_and_no_vendor(tmp_path):
    """Nor torch: a program without it stays without it."""
    program = run_program(
        """
        import sys, threading
        import tracelet
        experiment = tracelet.start_logging(backend="wandb,mlflow")
        experiment.log_metric("loss", 0.5, 0)
        print(threading.active_count(), [name for name in ("torch", "wandb", "mlflow") if name in sys.modules])
        """,
        fresh=True,
        RANK="3",
        WORLD_SIZE="4",
    )
    assert (0, "1 []\n") == (program.returncode, program.out), program.err


def test_many_calls_do_not_grow(silent):
    def calls():
        for step in range(10**5):
            silent.log_metric("loss", 0.5, step)

    calls()
    gc.collect()
    tracemalloc.start()
    calls()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 10_000
    assert [] == our_threads()


def test_rank_0_has_the_run(monkeypatch, memory):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with tracelet.start_logging(backend=memory) as experiment:
        assert experiment
        experiment.log_metric("loss", 0.5, 0)
    assert 1 == len(memory.records)


def test_each_rank_has_a_run_in_mode_new(second_of_two):
    with tracelet.start_logging(run_mode="new", run_id="night", backend="memory") as experiment:
        assert experiment
        assert ("night-rank-1", "night") == (experiment.run_id, experiment._info.group)


def test_the_runs_of_one_program_are_numbered(monkeypatch):
    """The ranks of a job that start several runs agree on each one's id."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "night"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tracelet.api._runs_in_job", Counter())
    ids = []
    for _ in range(3):
        with tracelet.start_logging() as experiment:
            ids.append(experiment.run_id)
    assert ["night", "night-2", "night-3"] == ids


def test_a_restarted_job_resumes_its_run(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "night"}.items():
        monkeypatch.setenv(name, value)
    steps = []
    for attempt in range(2):
        monkeypatch.setattr("tracelet.api._runs_in_job", Counter())
        experiment = tracelet.start_logging()
        experiment.log_metric("loss", 0.5, attempt)
        steps.append(experiment.stats().submitted)
        assert "night" == experiment.run_id
        experiment.stop(status="killed", exit_code=143)
    assert [1, 2] == steps


@pytest.mark.parametrize(("name", "value"), [("run_mode", "many"), ("rank_scope", "node")])
def test_an_unknown_mode_or_scope(name, value):
    with pytest.raises(tracelet.ConfigurationError, match=f"{name} must be one of"):
        tracelet.start_logging(**{name: value})


def test_a_job_with_the_id_of_a_finished_one_has_a_new_run(monkeypatch):
    """`torchrun --rdzv-id` may be the same each night."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "night"}.items():
        monkeypatch.setenv(name, value)
    ids = []
    for status in ("failed", "finished", "finished"):
        monkeypatch.setattr("tracelet.api._runs_in_job", Counter())
        experiment = tracelet.start_logging()
        experiment.log_metric("loss", 0.5, 0)
        experiment.stop(status=status)
        ids.append(experiment.run_id)
    assert ["night", "night", "night-2"] == ids


def test_a_child_of_a_rank_is_no_rank():
    """It inherits the variables; its run is one of its own, at once, also while the rank's is active."""
    program = run_program(
        """
        import subprocess, sys, time
        import tracelet
        experiment = tracelet.start_logging()
        began = time.monotonic()
        child = "import tracelet; print(tracelet.start_logging().run_id)"
        own = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True).stdout.strip()
        print(experiment.run_id, bool(own) and own != experiment.run_id, time.monotonic() - began < 8)
        """,
        RANK="0",
        WORLD_SIZE="2",
        TORCHELASTIC_RUN_ID="night",
    )
    assert "night True True" == program.out.strip(), program.err


def test_resume_false_begins_a_new_run_or_the_jobs_again(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "night"}.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        monkeypatch.setattr("tracelet.api._runs_in_job", Counter())
        tracelet.start_logging(resume=False).stop(status="failed")
