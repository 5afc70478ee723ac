"""tracelet runs, and the command line as a whole."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import sqlite3
import subprocess
import sys

import msgspec
import pytest

import tracelet
from tracelet.backends import _registered
from tracelet.backends.capabilities import OfflineRecording
from tracelet.backends.memory import MemoryBackend
from tracelet.journal.store import Journal, JournalReader
from tracelet.journal.tables import Cursor


def line_of(text: str, run_id: str) -> str:
    (line,) = [line for line in text.splitlines() if run_id in line]
    return " ".join(line.split())


def test_a_run_is_one_line(call, finished_run):
    """Id, project, name, how it ended, its records, its room on the disk, and what each backend has of them."""
    experiment = finished_run({"loss": [0.5, 0.25]}, exp_name="first", project="digits")

    line = line_of(call("runs").stdout, experiment.run_id)

    assert line.startswith(f"{experiment.run_id} digits first finished ")
    assert re.search(r" 2 \d+\.\d KiB csv: 2 delivered$", line)


def test_a_long_name_does_not_fill_the_terminal(call, finished_run):
    finished_run({"loss": [0.5]}, exp_name="n" * 100_000)
    assert len(call("runs").stdout) < 5000
    assert len(call("runs", width=60).stdout) < 5000


@pytest.mark.parametrize("command", ["runs", "runs --json", "gc --yes"])
def test_an_output_that_cannot_be_written(command, finished_run, tmp_path):
    """A closed one is nobody's; a full disk is said in one line."""
    finished_run({"loss": [0.5]})
    program = f"{shlex.quote(sys.executable)} -m tracelet {command}"
    closed, full = (
        subprocess.run(
            f"{program} {target}",
            shell=True,
            env={**os.environ, "TRACELET_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        for target in (">&-", ">/dev/full")
    )
    assert (0, "") == (closed.returncode, closed.stderr)
    assert (1, "tracelet: the output: No space left on device\n") == (full.returncode, full.stderr)


def test_a_running_run_says_so(call, tmp_path):
    """While its process lives, a run is `running`."""
    with tracelet.start_logging(dir=tmp_path) as experiment:
        assert " running " in line_of(call("runs").stdout, experiment.run_id)


@pytest.mark.parametrize(("code", "status"), [("raise ValueError", "failed"), ("os._exit(3)", "crashed")])
def test_how_a_process_ended_is_told(call, tmp_path, code, status):
    """An exception is a `failed` run; a process that had no time to say anything left a `crashed` one."""
    program = f"import os, tracelet\nrun = tracelet.start_logging(run_id='r1')\nprint(run.flush())\n{code}"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, timeout=60, check=False)

    assert f" {status} " in line_of(call("runs").stdout, "r1")


def test_what_waits_is_counted(call, finished_run):
    """A backend that a run is meant for, but that got nothing, has everything waiting."""
    experiment = finished_run({"loss": [1.0, 2.0, 3.0]}, mode="offline")

    assert line_of(call("runs").stdout, experiment.run_id).endswith("csv: 0 delivered, 3 pending")


@pytest.mark.parametrize("width", [30, 60, 109])
def test_a_narrow_terminal_loses_nothing(call, finished_run, width):
    """Where there is no room for a table, the same words stand below each other, and no line is too wide."""
    experiment = finished_run({"loss": [0.5]}, exp_name="first", project="digits")

    text = call("runs", width=width).stdout

    assert width >= max(len(line) for line in text.splitlines())
    for word in (experiment.run_id, "digits", "first", "finished", "1 delivered"):
        assert word in text


def test_oldest_first(call, finished_run):
    """The newest run is the last line, next to the prompt."""
    ids = ["run-b", "run-c", "run-a"]
    for run_id in ids:
        finished_run({"loss": [0.5]}, run_id=run_id)

    assert ids == [line.split()[0] for line in call("runs").stdout.splitlines() if "run-" in line]


def test_no_runs_is_no_error(call, tmp_path):
    result = call("runs", "--dir", tmp_path / "nowhere")

    assert 0 == result.exit_code
    assert result.stdout.startswith("No runs under ")


def test_a_broken_journal_does_not_hide_the_others(call, finished_run, tmp_path):
    """A folder whose journal cannot be read is a line with the reason."""
    experiment = finished_run({"loss": [0.5]})
    broken = tmp_path / "default" / "broken"
    broken.mkdir()
    (broken / "journal.db").write_bytes(b"not a database, but long enough to be taken for one" * 20)

    result = call("runs")

    assert 0 == result.exit_code
    assert "finished" in line_of(result.stdout, experiment.run_id)
    assert "unreadable" in line_of(result.stdout, "broken ")


def test_a_setting_nobody_knows_is_one_line(call, monkeypatch):
    """Errors of the user's are one line on stderr and exit code 1."""
    monkeypatch.setenv("TRACELET_COLOUR", "red")

    result = call("runs")

    assert 1 == result.exit_code
    assert "" == result.stdout
    assert result.stderr.startswith("tracelet: unknown environment variable TRACELET_COLOUR")
    assert 1 == result.stderr.count("\n")


def test_markup_in_names_is_text(call, finished_run):
    """A name is shown as it is, whatever a terminal library or a terminal would make of it."""
    experiment = finished_run({"loss": [0.5]}, exp_name="[red]:smile:[/]\x1b[31m")

    assert r"[red]:smile:[/]\x1b[31m" in line_of(call("runs").stdout, experiment.run_id)


def test_runs_as_a_module():
    """`python -m tracelet --version` is the installed version, and imports neither torch nor a vendor."""
    program = [sys.executable, "-X", "importtime", "-m", "tracelet", "--version"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)

    assert f"tracelet {tracelet.__version__}\n" == done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert set() == imported & {"torch", "tensorboard", "wandb", "matplotlib"}


def test_a_closed_pipe_is_no_traceback(finished_run, tmp_path):
    """`tracelet runs | head -0` ends quietly."""
    for number in range(50):
        finished_run({}, run_id=f"run-{number}", backend=None)
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, "-m", "tracelet", "runs", "--dir", str(tmp_path)]
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(program, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=60, check=False)

    assert "" == done.stderr


DAMAGE = {
    "info": "UPDATE meta SET value = x'c1' WHERE key = 'info'",
    "status": "UPDATE meta SET value = x'a4ff' WHERE key = 'status'",
    "owner": "UPDATE meta SET value = x'01' WHERE key = 'owner'",
    "cursor": "UPDATE cursors SET data = x'c1'",
    "one bit of a text": "UPDATE meta SET value = x'a866696e69736865e4' WHERE key = 'status'",
    "endless nesting": f"UPDATE meta SET value = x'81a161{'91' * 100_000}c0' WHERE key = 'config csv'",
    "an endless view": """
        ALTER TABLE meta RENAME TO other;
        CREATE VIEW meta AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS key, x'c0' AS
        value FROM n;
    """,
}


@pytest.mark.parametrize("row", list(DAMAGE))
def test_a_damaged_row_does_not_hide_the_others(call, finished_run, row):
    """Every command that looks at all runs goes on; the damaged run is told, and can be removed."""
    for run_id in ("whole", "damaged"):
        run = finished_run({"loss": [0.5]}, run_id=run_id)
    with sqlite3.connect(run.folder / "journal.db") as database:
        database.executescript(DAMAGE[row])
    database.close()

    listed = call("runs").stdout
    assert "finished" in line_of(listed, "whole")
    assert "unreadable" in line_of(listed, "damaged ")
    for command in (("show", "damaged"), ("sync", "damaged"), ("sync", "damaged", "--backend", "csv")):
        result = call(*command)
        assert (1, "") == (result.exit_code, result.stdout)
        assert result.stderr.startswith("tracelet: cannot read ")
        assert 1 == result.stderr.count("\n")
    assert "damaged: not removed: unreadable" in call("gc", "--yes").stdout
    assert 0 == call("rm", "damaged", "--yes").exit_code
    assert not run.folder.exists()


def test_sync_of_all_names_the_run_that_cannot_be_read(call, finished_run):
    """It may have pending records: exit code 1 and a line for it, and the other run is delivered."""
    whole, damaged = (finished_run({"loss": [0.5]}, run_id=run_id, mode="offline") for run_id in ("whole", "damaged"))
    with sqlite3.connect(damaged.folder / "journal.db") as database:
        database.execute("UPDATE cursors SET data = x'c1'")
    database.close()

    result = call("sync")

    assert (1, "whole: csv: 1 delivered (1 new)") == (result.exit_code, result.stdout.strip())
    assert (1, True) == (result.stderr.count("\n"), str(damaged.folder) in result.stderr)
    assert (whole.folder / "csv" / "scalars.csv").exists()


def test_a_damaged_config_stops_the_sync_of_its_run_only(call, finished_run):
    """Also when a backend is named."""
    for run_id in ("a", "b"):
        run = finished_run({"loss": [0.5]}, run_id=run_id, mode="offline")
        if run_id == "a":
            with contextlib.closing(Journal(run.folder)) as journal:
                journal.annotate("config csv", {"dir": 5})

    result = call("sync", "--backend", "csv")

    assert (1, "b: csv: 1 delivered (1 new)") == (result.exit_code, result.stdout.strip())
    assert "config of backend 'csv'" in result.stderr


@pytest.mark.parametrize("value", [math.inf, math.nan, -1e300])
@pytest.mark.parametrize("field", ["created", "ended", "beat"])
def test_an_impossible_time_hides_no_run(call, finished_run, value, field):
    """From a foreign event file, or a damaged journal: the row says that it is invalid, or how long is unknown."""
    finished_run({"loss": [0.5]}, run_id="whole")
    with contextlib.closing(Journal(finished_run({"loss": [0.5]}, run_id="strange").folder)) as journal:
        with JournalReader(journal.path.parent) as reader:
            info = reader.info()
        match field:
            case "created":
                journal.put_info(msgspec.structs.replace(info, created=value))
            case "ended":
                journal.annotate("ended", value)
            case "beat":
                journal.annotate("status", "running")
                journal.annotate("owner", {"host": "elsewhere", "pid": 1, "beat": value})

    listed = call("runs").stdout

    assert "finished" in line_of(listed, "whole")
    assert "1 delivered" in line_of(listed, "strange")
    assert "invalid time" in listed if field == "created" else "strange" in listed
    for command in (("runs", "--json"), ("show", "strange"), ("compare", "strange", "whole"), ("gc", "--dry-run")):
        assert 0 == call(*command).exit_code, command
    assert 0 == call("sync", "strange", "--backend", "csv").exit_code


@pytest.mark.parametrize("content", ["[" * 100_000, "{}"])
def test_the_notes_of_a_backend_hide_no_run(call, finished_run, content, monkeypatch):
    """A note that is nested without end is a damaged one."""
    monkeypatch.delenv("WANDB_MODE")  # offline, there is nothing to upload
    for run_id in ("whole", "strange"):
        run = finished_run({"loss": [0.5]}, run_id=run_id)
    with contextlib.closing(Journal(run.folder)) as journal:
        journal.put_cursor("wandb", Cursor())
    (run.folder / "wandb.json").write_text(content)

    listed = call("runs").stdout

    assert "finished" in line_of(listed, "whole")
    assert "wandb: 0 delivered" in line_of(listed, "strange")


def test_notes_that_cannot_be_read_are_the_reason_in_the_row(call, finished_run, monkeypatch):
    """A backend of another package may raise anything."""

    class Fragile(MemoryBackend, OfflineRecording):
        name = "fragile"

        @classmethod
        def pending_upload(cls, folder):
            raise RuntimeError("no note")

    monkeypatch.setitem(_registered, "fragile", Fragile)
    finished_run({"loss": [0.5]}, run_id="whole")
    finished_run({"loss": [0.5]}, run_id="strange", backend="fragile")

    listed = call("runs").stdout

    assert "finished" in line_of(listed, "whole")
    assert "unreadable" in line_of(listed, "strange ")
    assert "RuntimeError: no note" in " ".join(listed.split())
    assert "strange: not removed: unreadable: " in call("gc", "--yes").stdout


def test_a_pipe_in_place_of_a_journal_is_not_waited_for(call, finished_run, tmp_path):
    finished_run({"loss": [0.5]}, run_id="whole")
    (tmp_path / "default" / "pipe").mkdir()
    os.mkfifo(tmp_path / "default" / "pipe" / "journal.db")

    assert "unreadable" in line_of(call("runs").stdout, "pipe ")
    assert "pipe: not removed: unreadable: " in call("gc", "--yes").stdout


def test_a_folder_that_cannot_be_looked_into_is_one_line(call, tmp_path):
    for command in (("runs",), ("sync",), ("gc",), ("show", "x"), ("rm", "x", "--yes")):
        result = call(*command, "--dir", tmp_path / ("x" * 300))

        assert (1, "", 1) == (result.exit_code, result.stdout, result.stderr.count("\n"))
        assert result.stderr.startswith("tracelet: cannot look for runs in ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look anywhere")
def test_a_folder_that_may_not_be_entered_is_one_line(call, tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    monkeypatch.setenv("TRACELET_DIR", str(closed))
    for command in (("runs",), ("show", closed / "run")):
        result = call(*command)

        assert (1, "", 1) == (result.exit_code, result.stdout, result.stderr.count("\n"))
        assert "Permission denied" in result.stderr
