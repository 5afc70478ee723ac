"""Ranks that log to one run, without a launcher: starts and ends in any order, sync, and removal."""

import json
import signal
from pathlib import Path

import pytest
from backends import mlflow_store
from programs import run_program, started
from typer.testing import CliRunner

import tracelet
from tracelet import sync
from tracelet.cli import app
from tracelet.journal.store import JournalReader
from tracelet.runs.folders import all_runs, rank_folders

pytestmark = pytest.mark.timeout(300)
PROGRAM = """
    import sys
    import tracelet
    experiment = tracelet.start_logging(run_mode="shared", run_id="night", backend=sys.argv[1] or None)
    for step in range(5):
        experiment.log_metric("loss", step / 4, step)
    experiment.flush()
    print("logged", flush=True)
    sys.stdin.readline()
    experiment.stop()
"""


def ranks(rank):
    return {"RANK": str(rank), "WORLD_SIZE": "3"}


def run_rank(rank, backend="", **variables):
    program = run_program(PROGRAM, backend, **ranks(rank), **variables)
    assert 0 == program.returncode, program.err
    return program


def the_run():
    (folder,) = all_runs(Path("runs"))
    return folder


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def stored():
    """The series in MLflow."""
    run = mlflow_store.only(Path("mlflow.db"))
    return run.status, {run.tag_of(key) for key, *_ in run.metrics}, len(run.metrics)


def test_sync_of_a_run_delivers_all_its_ranks_into_one():
    """Also where rank 1 was there first."""
    for rank in (1, 0, 2):
        run_rank(rank)
    folder = the_run()
    assert ["rank-1", "rank-2"] == [path.name for path in rank_folders(folder)]
    synced = sync.deliver(folder, ["mlflow"])
    assert synced.complete
    assert [{"mlflow": 5}] * 3 == [part.new for part in (synced, *synced.ranks)]
    assert ("FINISHED", {"loss", "rank-1/loss", "rank-2/loss"}, 15) == stored()
    assert [] == sync.waiting(folder)
    again = sync.deliver(folder, ["mlflow"])
    assert [{"mlflow": 0}] * 3 == [part.new for part in (again, *again.ranks)]
    assert 15 == stored()[2]


def test_the_command_reports_each_rank():
    run_rank(0)
    run_rank(1)
    result = CliRunner().invoke(app, ["sync", "night", "--backend", "csv", "--json"])
    (run,) = json.loads(result.stdout)["runs"]
    assert (0, True) == (result.exit_code, run["complete"])
    assert ("rank-1", 5) == (run["ranks"][0]["run_id"], run["ranks"][0]["backends"]["csv"]["delivered"])
    result = CliRunner().invoke(app, ["sync", "night", "--all"])
    assert ["night: up to date", "night rank-1: up to date"] == result.stdout.splitlines()


def test_a_rank_that_is_killed_is_delivered_later():
    """Its records up to the kill; the run has the status of rank 0."""
    with started(PROGRAM, "mlflow", **ranks(0)) as first:
        assert "logged\n" == first.stdout.readline()
        with started(PROGRAM, "", **ranks(1)) as second:
            assert "logged\n" == second.stdout.readline()
            second.send_signal(signal.SIGKILL)
            second.wait(20)
        first.communicate("\n", timeout=60)
    assert ("FINISHED", {"loss"}, 5) == stored()
    assert sync.deliver(the_run(), ["mlflow"]).complete
    assert ("FINISHED", {"loss", "rank-1/loss"}, 10) == stored()


def test_a_rank_that_comes_first_waits_for_rank_0():
    """Without a warning, and until its own end at most."""
    with started(PROGRAM, "mlflow", **ranks(1)) as second:
        with started(PROGRAM, "mlflow", **ranks(0)) as first:
            first.communicate("\n", timeout=60)
        _, err = second.communicate("\n", timeout=60)
    assert "unavailable" not in err
    assert ("FINISHED", {"loss", "rank-1/loss"}, 10) == stored()


def test_rank_0_never_comes():
    """The end of the other rank is bounded, and its records are pending."""
    program = run_rank(1, "mlflow", TRACELET_FLUSH_TIMEOUT="2", TRACELET_CONNECT_TIMEOUT="1")
    assert "5 records are not delivered yet" in program.err
    assert program.seconds < 30
    assert [] == all_runs(Path("runs"))
    run_rank(0, "mlflow")
    assert sync.deliver(the_run()).complete
    assert ("FINISHED", {"loss", "rank-1/loss"}, 10) == stored()


def test_a_rank_resumes_its_own_journal():
    for _ in range(2):
        run_rank(0)
        run_rank(1)
    (rank,) = rank_folders(the_run())
    for folder in (the_run(), rank):
        with JournalReader(folder) as reader:
            assert 10 == reader.last()


def test_show_names_the_ranks_and_shows_one():
    run_rank(0)
    run_rank(1)
    whole = CliRunner().invoke(app, ["show", "night"]).stdout
    assert "ranks    rank-1" in whole
    assert "rank-1/loss" not in whole
    assert "rank-1/loss" in CliRunner().invoke(app, ["show", str(the_run() / "ranks" / "rank-1")]).stdout


def test_removing_a_run_removes_its_ranks_but_no_live_one():
    run_rank(0)
    with started(PROGRAM, "", **ranks(1)) as second:
        assert "logged\n" == second.stdout.readline()
        refused = CliRunner().invoke(app, ["rm", "night", "--yes"])
        assert 1 == refused.exit_code
        assert the_run().exists()
        second.communicate("\n", timeout=60)
    assert 0 == CliRunner().invoke(app, ["rm", "night", "--yes"]).exit_code
    assert [] == all_runs(Path("runs"), removed=True)


def test_gc_removes_the_journals_of_delivered_ranks():
    run_rank(0, "csv")
    run_rank(1, "csv")
    (rank,) = rank_folders(the_run())
    assert 0 == CliRunner().invoke(app, ["gc", "night", "--yes"]).exit_code
    assert [False, False] == [(folder / "journal.db").exists() for folder in (rank, rank.parent.parent)]
    assert (rank / "csv" / "scalars.csv").exists()


def test_the_one_process_of_a_job_shares_with_nobody(memory):
    with tracelet.start_logging(run_mode="shared", backend=memory) as experiment:
        experiment.log_metric("loss", 0.5, 0)
    assert ["loss"] == [record.tag for record in memory.records]


def test_gc_and_rm_see_the_records_of_a_rank_that_are_pending():
    run_rank(0, "csv")
    run_rank(1)
    sync.deliver(the_run())
    result = CliRunner().invoke(app, ["gc", "night", "--yes"])
    assert "rank-1: no backend has it" in result.stdout
    assert (the_run() / "journal.db").exists()
    assert "rank-1: no backend has it" in CliRunner().invoke(app, ["rm", "night"], input="n\n").stdout


def test_each_rank_has_its_own_exact_parameters_in_mlflow():
    """None replaces another's file, whoever is last."""
    logs_parameters = "    experiment.log_params({'lr': [0.1]})\n"
    program = PROGRAM.replace("    experiment.flush()", f"{logs_parameters}    experiment.flush()")
    with started(program, "mlflow", **ranks(0)) as first, started(program, "mlflow", **ranks(1)) as second:
        for one in (first, second):
            assert "logged\n" == one.stdout.readline()
        for one in (second, first):
            one.communicate("\n", timeout=60)
    run = mlflow_store.only(Path("mlflow.db"))
    assert {"lr": [0.1], "rank-1/lr": [0.1]} == run.exact_params
