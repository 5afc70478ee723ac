"""`import tracelet.auto`: a run that the environment and the settings file describe."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import DEADLINE, csv_values, ending, run_program, the_run

import tracelet
from tracelet.runs.folders import all_runs


def test_it_begins_a_run():
    """Settings come from variables and the file alone; the end of the program ends it."""
    Path("tracelet.toml").write_text("project = 'file'\n", encoding="utf-8")
    source = """
        import tracelet.auto
        import tracelet
        tracelet.get_active_experiment().log_metric("loss", 0.5, 1)
    """
    ended = run_program(source, fresh=True, TRACELET_BACKEND="csv")
    assert (0, "") == (ended.returncode, ended.out), ended.err
    assert [0.5] == csv_values(the_run())
    assert ("finished", 0) == ending(the_run())
    assert "file" == the_run().parent.name


def test_an_active_run_is_left_alone(experiment):
    """Imported late, or under `tracelet run`, it changes nothing."""
    module = importlib.import_module("tracelet.auto")
    importlib.reload(module)
    assert tracelet.get_active_experiment() is experiment


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"TRACELET_BACKEND": "wandbb"}, "UnknownBackend: unknown backend 'wandbb'"),
        ({"TRACELET_BAKEND": "csv"}, "ConfigurationError: unknown environment variable TRACELET_BAKEND"),
    ],
)
def test_a_mistake_is_raised_on_the_line(environment, said):
    ended = run_program("import tracelet.auto\nprint('trained')", fresh=True, **environment)
    assert (1, "") == (ended.returncode, ended.out)
    assert said in ended.err


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_worker_begins_none(method):
    """A worker that imports the main module again, with its imports, is no second run."""
    Path("train.py").write_text(
        f"""
import tracelet.auto
import multiprocessing
import tracelet

def work(number):
    return number

if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        assert [0, 1, 2, 3] == pool.map(work, range(4))
    tracelet.get_active_experiment().log_metric("loss", 1.0)
""",
        encoding="utf-8",
    )
    command = [sys.executable, "train.py"]
    environment = {**os.environ, "TRACELET_BACKEND": "csv"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert 0 == ended.returncode, ended.stderr
    assert [1.0] == csv_values(the_run())
    assert 1 == len(all_runs(Path(os.environ["TRACELET_DIR"])))


def test_nothing_where_it_is_disabled():
    ended = run_program("import tracelet.auto", TRACELET_MODE="disabled")
    assert (0, "", "") == (ended.returncode, ended.out, ended.err)
    assert [] == all_runs(Path(os.environ["TRACELET_DIR"]))
