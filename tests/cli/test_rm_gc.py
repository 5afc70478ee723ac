"""tracelet rm, tracelet gc: nothing goes that somebody lacks, and nothing goes unasked."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time

import pytest
from programs import csv_values
from typer.testing import CliRunner

import tracelet
from tracelet.cli import app
from tracelet.journal.store import Journal

KEPT = "removed-journal.json"
DIGEST = "digest.msgpack"


def answer(text, *arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments], input=text, env={"COLUMNS": "160"})


def test_gc_removes_what_every_backend_has(call, finished_run, tmp_path):
    """And keeps what the csv backend itself wrote into the run's folder, which can be read as before."""
    run = finished_run({"loss": [1.0, 2.0]}, run_id="one")
    before = (run.folder / "csv" / "scalars.csv").read_bytes()

    result = call("gc", "--yes")

    assert (0, "one: ") == (result.exit_code, result.stdout[:5])
    assert ["csv", DIGEST, KEPT] == sorted(path.name for path in run.folder.iterdir())
    assert before == (run.folder / "csv" / "scalars.csv").read_bytes()


@pytest.mark.parametrize("width", [80, 160])
def test_a_run_without_its_journal_is_still_listed(call, finished_run, width):
    """With the same row as before; the other commands name the backend that has its records."""
    finished_run({"loss": [1.0, 2.0]}, run_id="one", project="digits", exp_name="first")
    finished_run({"loss": [1.0, 2.0]}, run_id="two", mode="offline")
    before = json.loads(call("runs", "--json").stdout)["runs"][0]

    assert "show, compare and sync cannot read them" in " ".join(call("gc", "--yes").stdout.split())

    after = json.loads(call("runs", "--json").stdout)["runs"][0]
    assert (None, True) == (before.pop("journal_removed"), after.pop("journal_removed") >= before["seen"])
    assert before | {"disk": 0} == after | {"disk": 0}
    listed = call("runs", width=width).stdout
    for word in ("one", "digits", "first", "finished", "2 delivered", "journal removed"):
        assert word in " ".join(listed.split())
    for command in (("show", "one"), ("compare", "one", "two"), ("sync", "one", "--backend", "csv")):
        result = call(*command)
        assert (1, 1) == (result.exit_code, result.stderr.count("\n"))
        assert "its records are in csv" in result.stderr
    assert "two: csv: 2 delivered (2 new)" == call("sync").stdout.strip()
    assert "one: not removed: its journal is removed already" in call("gc", "one", "--yes").stdout
    assert "one: removed" in call("rm", "one", "--yes").stdout
    assert ["two"] == [run["run_id"] for run in json.loads(call("runs", "--json").stdout)["runs"]]


def test_a_summary_of_an_earlier_version_is_read(call, finished_run):
    """It has no state of a backend, and another name for the reason."""
    run = finished_run({"loss": [1.0]}, run_id="one")
    call("gc", "--yes")
    kept = json.loads((run.folder / KEPT).read_bytes())
    (csv,) = kept["backends"]
    for key in ("state", "reason", "dropped", "filtered_by"):
        del csv[key]
    (run.folder / KEPT).write_text(json.dumps(kept | {"backends": [csv | {"trouble": None}]}))
    (listed,) = json.loads(call("runs", "--json").stdout)["runs"]
    assert ("closed", 1) == (listed["backends"]["csv"]["state"], listed["backends"]["csv"]["delivered"])


def test_a_killed_run_is_still_a_crashed_one_without_its_journal(call, owned):
    owned(os.uname().nodename, 0)
    before = json.loads(call("runs", "--json").stdout)["runs"][0]
    call("gc", "--yes")
    after = json.loads(call("runs", "--json").stdout)["runs"][0]
    assert ("crashed", before["duration"]) == (after["status"], after["duration"])


def test_a_new_run_in_the_place_of_a_removed_one_has_a_journal_again(call, finished_run):
    """It counts, and not the summary of the old one; csv has the records of both."""
    finished_run({"loss": [1.0]}, run_id="one")
    call("gc", "--yes")
    run = finished_run({"loss": [2.0, 3.0, 4.0]}, run_id="one")

    (listed,) = json.loads(call("runs", "--json").stdout)["runs"]

    assert (3, None) == (listed["records"], listed["journal_removed"])
    assert [1.0, 2.0, 3.0, 4.0] == csv_values(run.folder)
    assert 0 == call("show", "one").exit_code


def test_gc_of_named_runs_and_of_old_ones(call, finished_run):
    runs = {run_id: finished_run({"loss": [1.0]}, run_id=run_id).folder for run_id in ("new", "old", "other")}
    for run_id in ("old", "other"):
        with contextlib.closing(Journal(runs[run_id])) as journal:
            journal.annotate("ended", time.time() - 3 * 86400)

    assert 0 == call("gc", "old", "new", "--older-than", "2.5d", "--yes").exit_code
    assert {"new", "other"} == {run_id for run_id, folder in runs.items() if (folder / "journal.db").exists()}
    assert 0 == call("gc", "new", "--yes").exit_code
    assert {"other"} == {run_id for run_id, folder in runs.items() if (folder / "journal.db").exists()}


@pytest.mark.parametrize(("arguments", "word"), [(("--older-than", "soon"), "such as 30d"), (("nobody",), "no run")])
def test_gc_of_what_cannot_be_meant_is_one_line(call, finished_run, arguments, word):
    run = finished_run({"loss": [1.0]}, run_id="one")
    result = call("gc", *arguments, "--yes")
    assert (1, "", True) == (result.exit_code, result.stdout, word in result.stderr)
    assert (run.folder / "journal.db").exists()


def test_gc_leaves_the_files_of_the_user(call, finished_run):
    """Beside the journal and in its folder of files, whatever they are called; tracelet's own files go."""
    with finished_run({"loss": [1.0]}, run_id="one", project="p") as run:
        pass
    with tracelet.start_logging(dir=run.folder.parent.parent, run_id="one", resume=True, backend="csv") as run:
        run.log_artifact(b"bytes", "notes.txt")
    spool = run.folder / "files"
    assert 1 == len([path for path in spool.rglob("*") if path.is_file()])
    theirs = [run.folder / "best.pt", run.folder / "journal.db.bak", spool / "mine.pt", spool / "ab" / "mine.pt"]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"the only checkpoint")

    shown = call("gc", "--dry-run").stdout
    assert 0 == call("gc", "--yes").exit_code

    assert 1 == shown.count("one: ")
    assert {*theirs, run.folder / DIGEST, run.folder / KEPT} == {
        path for path in run.folder.rglob("*") if path.is_file() and "csv" not in path.parts
    }


@pytest.mark.parametrize("linked", ["the run", "the project", "the files", "the journal"])
def test_gc_follows_no_link(call, finished_run, tmp_path, linked):
    """The original, somewhere else, is as it was."""
    run = finished_run({"loss": [1.0]}, run_id="one", dir=tmp_path / "there", project="p")
    with tracelet.start_logging(dir=tmp_path / "there", run_id="one", resume=True, backend="csv") as again:
        again.log_artifact(b"bytes", "notes.txt")
    here = tmp_path / "p"
    if linked == "the project":
        here.symlink_to(run.folder.parent)
    elif linked == "the run":
        here.mkdir()
        (here / "one").symlink_to(run.folder)
    else:
        shutil.copytree(run.folder, here / "one")
        name = {"the files": "files", "the journal": "journal.db"}[linked]
        copy = here / "one" / name
        shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
        copy.symlink_to(run.folder / name)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}

    result = call("gc", "--yes", "--dir", tmp_path)

    assert 0 == result.exit_code
    assert before == {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    if linked in ("the run", "the project"):
        assert f"tracelet gc {run.folder}" in " ".join(result.stdout.split())
        assert 0 == call("gc", run.folder, "--yes").exit_code
        assert not (run.folder / "journal.db").exists()


def test_rm_follows_no_link(call, finished_run, tmp_path):
    run = finished_run({"loss": [1.0]}, run_id="one", dir=tmp_path / "there")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "one").symlink_to(run.folder)
    assert 1 == call("rm", "one", "--yes").exit_code
    assert (run.folder / "journal.db").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"mode": "offline"}, "csv lacks 2 records (pending)"),
        ({"backend": None}, "the journal is the only copy"),
    ],
)
def test_gc_keeps_what_a_backend_lacks(call, finished_run, arguments, word):
    """The reason is said, and the journal is whole."""
    run = finished_run({"loss": [1.0, 2.0]}, run_id="one", **arguments)
    result = call("gc", "--yes")
    assert (0, True) == (result.exit_code, word in result.stdout)
    assert (run.folder / "journal.db").exists()


def test_gc_keeps_a_live_run_and_one_with_rejections(call, tmp_path):
    class Choosy(tracelet.Backend):
        name = "choosy"

        def open(self, run):
            pass

        def write(self, batch):
            raise tracelet.RecordRejected("never")

    tracelet.start_logging(dir=tmp_path, backend=Choosy(), run_id="refused").log_metric("loss", 1.0, 1)
    tracelet.stop_logging()
    with tracelet.start_logging(dir=tmp_path, backend="csv", run_id="alive"):
        result = call("gc", "--yes")
    assert "alive: not removed: its process is alive" in result.stdout
    assert "refused: not removed: choosy lacks 1 records (rejected)" in result.stdout


@pytest.mark.parametrize("how", ["--dry-run", "asked"])
def test_gc_asks(finished_run, tmp_path, how):
    run = finished_run({"loss": [1.0]}, run_id="one")
    arguments = ["gc", "--dir", tmp_path] + (["--dry-run"] if how == "--dry-run" else [])
    result = answer("n\n", *arguments)
    assert 0 == result.exit_code
    assert "one: " in result.stdout
    assert (run.folder / "journal.db").exists()


def test_rm_asks_and_says_what_is_at_stake(finished_run, tmp_path):
    run = finished_run({"loss": [1.0, 2.0]}, run_id="one", mode="offline")
    refused = answer("n\n", "rm", "one", "--dir", tmp_path)
    assert "csv lacks 2 records (pending)" in refused.stdout
    assert run.folder.exists()

    agreed = answer("y\n", "rm", "one", "--dir", tmp_path)
    assert agreed.stdout.strip().endswith("one: removed")
    assert not run.folder.exists()


def test_rm_refuses_a_live_run(call, tmp_path):
    """Whatever was answered: a process writes it."""
    with tracelet.start_logging(dir=tmp_path, run_id="alive") as run:
        result = call("rm", "alive", "--yes")
        assert 1 == result.exit_code
        assert "another process writes the run" in result.stderr
        assert (run.folder / "journal.db").exists()


def test_rm_takes_a_run_that_cannot_be_read(call, tmp_path):
    folder = tmp_path / "default" / "broken"
    folder.mkdir(parents=True)
    (folder / "journal.db").write_bytes(b"no database" * 1000)
    assert 0 == call("rm", "broken", "--yes").exit_code
    assert not folder.exists()


@pytest.mark.parametrize("word", ["", "nobody", "default/"])
def test_rm_of_nothing_removes_nothing(call, finished_run, word):
    """Above all an empty word: a variable of the shell that was not set."""
    run = finished_run({"loss": [1.0]})
    result = call("rm", word, "--yes")
    assert (1, "") == (result.exit_code, result.stdout)
    assert (run.folder / "journal.db").exists()


def test_rm_of_the_folder_that_one_is_in(call, finished_run, monkeypatch, tmp_path):
    """All of it goes."""
    run = finished_run({"loss": [1.0]}, run_id="one")
    monkeypatch.chdir(run.folder)
    result = call("rm", ".", "--yes")
    monkeypatch.chdir(tmp_path)
    assert (0, "one: removed") == (result.exit_code, result.stdout.splitlines()[-1])
    assert not run.folder.exists()


@pytest.fixture
def owned(finished_run, tmp_path):
    """`owned(host, age)`: a run without an end, whose process gave its last sign of life on `host` so long ago."""

    def make(host, age):
        folder = finished_run({"loss": [1.0]}, run_id="far").folder
        journal = Journal(folder)
        journal.annotate("status", "running")
        journal.annotate("owner", {"host": host, "pid": 1, "beat": time.time() - age})
        journal.close()
        return folder

    return make


def test_rm_refuses_a_run_that_lives_on_another_host(call, owned):
    """Its lock may not be seen here."""
    folder = owned("elsewhere", 0)
    result = call("rm", "far", "--yes")
    assert (1, True) == (result.exit_code, "another process writes the run" in result.stderr)
    assert (folder / "journal.db").exists()


def test_rm_takes_a_run_whose_process_died_on_another_host(call, owned):
    folder = owned("elsewhere", 3600)
    assert 0 == call("rm", "far", "--yes").exit_code
    assert not folder.exists()


def test_gc_takes_a_run_whose_process_was_killed(call, owned):
    """What counts is what the backends have."""
    folder = owned(os.uname().nodename, 0)
    result = call("gc", "--yes")
    assert result.stdout.splitlines()[-1].endswith("freed.")
    assert ["csv", DIGEST, KEPT] == sorted(path.name for path in folder.iterdir())


def test_gc_keeps_what_only_a_memory_had(call, finished_run):
    """It went with its process."""
    run = finished_run({"loss": [1.0]}, run_id="one", backend="memory")
    assert "one: not removed: no backend has it" in call("gc", "--yes").stdout
    assert (run.folder / "journal.db").exists()


def test_rm_goes_on_after_a_run_that_cannot_go(call, finished_run, tmp_path):
    """Exit code 1, and a line for it."""
    finished_run({"loss": [1.0]}, run_id="one")
    with tracelet.start_logging(dir=tmp_path, run_id="alive"):
        result = call("rm", "alive", "one", "--yes")
    assert (1, 1) == (result.exit_code, result.stderr.count("\n"))
    assert "one: removed" == result.stdout.splitlines()[-1]
    assert not (tmp_path / "default" / "one").exists()


@pytest.mark.parametrize("damaged", [False, True])
def test_rm_leaves_a_folder_that_is_no_runs(call, finished_run, tmp_path, damaged):
    """Anybody may call a file journal.db; a run's own folder is known by its tables, or by where it is."""
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "journal.db").write_bytes(b"dear diary")
    (foreign / "thesis.tex").write_text("the only copy")
    moved = finished_run({"loss": [1.0]}).folder.rename(tmp_path / "moved")
    if damaged:
        with sqlite3.connect(moved / "journal.db") as database:
            database.execute("UPDATE meta SET value = x'c1'")
        database.close()

    result = call("rm", foreign, moved, "--yes")

    assert 1 == result.exit_code
    assert "thesis" in "".join(path.name for path in foreign.iterdir())
    assert result.stderr.startswith(f"tracelet: cannot remove {foreign}: ")
    assert not moved.exists()
