"""Processes that a program spawns: they import its main module again, and make no run of their own by that."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from backends import csv_store, mlflow_store, wandb_store

from tracelet.distributed.children import imports_main_again, is_worker
from tracelet.journal.store import JournalReader
from tracelet.records import Scalar
from tracelet.runs.folders import all_runs, rank_folders

pytestmark = pytest.mark.timeout(180)

AT_THE_TOP = """
import multiprocessing, sys
import tracelet

experiment = tracelet.start_logging("at the top")


def work(number):
    experiment.log_metric("child", number, number)
    experiment.log_metric("child", number, number)
    return bool(experiment)


if __name__ == "__main__":
    experiment.log_metric("parent", 1.0, 0)
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(pool.map(work, range(4), chunksize=2))
    experiment.log_metric("parent", 2.0, 1)
"""
IN_THE_FUNCTION = """
import multiprocessing, sys
import tracelet


def work(number):
    with tracelet.start_logging(f"trial {number}") as experiment:
        experiment.log_metric("child", number, number)
        return experiment.name


if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(sorted(pool.map(work, range(3))))
"""


def run(program, method):
    Path("train.py").write_text(program)
    command = [sys.executable, "train.py", method]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def runs():
    found = {}
    for folder in all_runs(Path(os.environ["TRACELET_DIR"])):
        with JournalReader(folder) as reader:
            found[reader.info().name] = [(record.tag, record.value) for record in reader.records()]
    return found


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_start_logging_at_the_top_makes_one_run(method):
    done = run(AT_THE_TOP, method)
    assert "[False, False, False, False]\n" == done.stdout
    assert {"at the top": [("parent", 1.0), ("parent", 2.0)]} == runs()
    warnings = done.stderr.count("does not log to the run of its parent")
    assert 1 <= warnings <= 2, done.stderr  # of each worker that got work


def test_a_forked_child_sends_nothing():
    done = run(AT_THE_TOP, "fork")
    assert "[True, True, True, True]\n" == done.stdout
    assert {"at the top": [("parent", 1.0), ("parent", 2.0)]} == runs()


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_worker_may_start_a_run_of_its_own(method):
    done = run(IN_THE_FUNCTION, method)
    assert "['trial 0', 'trial 1', 'trial 2']\n" == done.stdout
    assert {f"trial {number}": [("child", float(number))] for number in range(3)} == runs()


WITHOUT_AN_END = """
import multiprocessing, sys
import tracelet


def work(number):
    experiment = tracelet.start_logging(f"trial {number}", backend="csv")
    experiment.log_metric("child", number, number)
    if number == 1:
        raise RuntimeError("in the worker")
    if number == 2:
        sys.exit(3)


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    workers = [context.Process(target=work, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_run_ends_with_its_worker(method):
    """multiprocessing ends a forked process without exit callbacks."""
    run(WITHOUT_AN_END, method)
    assert {f"trial {number}": [("child", float(number))] for number in range(3)} == runs()
    found = {}
    for folder in all_runs(Path(os.environ["TRACELET_DIR"])):
        with JournalReader(folder) as reader:
            facts = reader.facts()
            found[reader.info().name] = facts.get("status"), facts.get("exit_code")
            assert [1] == [cursor.position for cursor in reader.cursors().values()]
    assert {"trial 0": ("finished", 0), "trial 1": ("failed", 1), "trial 2": ("failed", 3)} == found


JOINED = """
import multiprocessing, sys
import tracelet
from torch.utils.tensorboard import SummaryWriter

experiment = tracelet.start_logging("the run", backend="csv,mlflow,wandb", children="join", dir="runs")


def work(number):
    if number:
        experiment.log_metric("accuracy", number / 4, number)
    with SummaryWriter("events/child") as writer:
        writer.add_scalar("loss", number, number)
    if not number:
        experiment.log_metric("accuracy", number / 4, number)


if __name__ == "__main__":
    writer = SummaryWriter("events")
    writer.add_scalar("loss", 10.0, 0)
    experiment.flush()  # MLflow makes its tables: a child that is forked then may inherit a lock of SQLite itself
    context = multiprocessing.get_context(sys.argv[1])
    idle = context.Process(target=print, args=("idle",))
    workers = [context.Process(target=work, args=(number,)) for number in range(2)]
    for worker in [idle, *workers]:
        worker.start()
    for worker in [idle, *workers]:
        worker.join(60)
        assert 0 == worker.exitcode
    writer.add_scalar("loss", 11.0, 1)
    experiment.stop()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_children_may_join_the_run(method, tmp_path, monkeypatch):
    """Each has a journal in the run's folder. One that logs nothing leaves no trace. Stores show them as ranks."""
    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    for name in ("TRACELET_CONNECT_TIMEOUT", "TRACELET_FLUSH_TIMEOUT"):
        monkeypatch.setenv(name, "60")  # three processes import and connect all vendors at the same time
    run(JOINED, method)
    (folder,) = all_runs(Path("runs"))
    journals, found = [folder, *rank_folders(folder)], {}
    for path in journals:
        with JournalReader(path) as reader:
            assert ("finished", 0) == (reader.facts()["status"], reader.facts()["exit_code"])
            assert [0] * 3 == [cursor.position - reader.last() for cursor in reader.cursors().values()]
            label = reader.info().label
            found[label] = [(record.tag, record.value) for record in reader.records() if isinstance(record, Scalar)]
    children = sorted(name for name in found if name != "main")
    assert [("loss", 10.0), ("loss", 11.0)] == found["main"]
    assert 2 == len(children)
    logged = sorted(value for name in children for tag, value in found[name] if tag == f"{name}/child/loss")
    assert ([0.0, 1.0], 2) == (logged, sum(tag == f"{name}/accuracy" for name in children for tag, _ in found[name]))
    stored = mlflow_store.only(tmp_path / "mlflow.db")
    expected = {(tag, value) for points in found.values() for tag, value in points}
    assert expected == {(stored.tag_of(key), value) for key, _, value, _ in stored.metrics}
    vendors = {run.id: run.group for run in wandb_store.runs(tmp_path)}
    ids = {folder.name, *(f"{folder.name}-{name}" for name in children)}
    assert dict.fromkeys(ids, folder.name) == vendors
    for path, label in zip(journals, ["main", *children], strict=True):
        assert len(found[label]) == len(csv_store.stored(path / "csv").scalars)


WITH_AN_OBJECT = """
import subprocess, sys
import tracelet
from tracelet.testing import MemoryBackend

if len(sys.argv) == 2:
    with tracelet.start_logging("the run", children="join") as experiment:
        experiment.log_metric("loss", 1.0, 0)
        subprocess.run([sys.executable, __file__, "a", "child"], check=True)
else:
    backend = MemoryBackend()
    with tracelet.start_logging(backend=backend) as experiment:
        experiment.log_metric("loss", 2.0, 0)
    assert [2.0] == [record.value for record in backend.records], backend.records
"""


def test_a_child_that_joins_keeps_the_backend_that_it_passes():
    run(WITH_AN_OBJECT, "parent")
    (folder,) = all_runs(Path(os.environ["TRACELET_DIR"]))
    (child,) = rank_folders(folder)
    with JournalReader(child) as reader:
        assert [("child-1/loss", 2.0)] == [(record.tag, record.value) for record in reader.records()]


def test_a_module_of_multiprocessing_that_another_thread_imports_now(monkeypatch):
    """It has no functions yet: this is not a process that multiprocessing started."""
    monkeypatch.delitem(sys.modules, "__mp_main__", raising=False)
    monkeypatch.setitem(sys.modules, "multiprocessing.process", ModuleType("multiprocessing.process"))
    assert (False, False) == (is_worker(), imports_main_again())
