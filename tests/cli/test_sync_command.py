"""tracelet sync: what waits is delivered, once, by one command."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

import tracelet
from tracelet.journal.store import Journal, JournalReader
from tracelet.journal.tables import Cursor


def offline(finished_run, **arguments):
    return finished_run({"loss": [1.0, 2.0, 3.0]}, mode="offline", **arguments)


def rows(folder: Path) -> list[str]:
    return (folder / "csv" / "scalars.csv").read_text().splitlines()[1:]


def test_what_waits_is_delivered_once(call, finished_run):
    """Without a word, every run in which something waits; the second time there is nothing to do."""
    one, two = offline(finished_run, run_id="one"), offline(finished_run, run_id="two")

    first = call("sync")
    assert 0 == first.exit_code, first.output
    assert ["one: csv: 3 delivered (3 new)", "two: csv: 3 delivered (3 new)"] == first.stdout.splitlines()
    kept = rows(one.folder), rows(two.folder)
    assert [3, 3] == [len(lines) for lines in kept]

    again = call("sync")
    assert (0, "No pending records under ") == (again.exit_code, again.stdout[:25])
    assert kept == (rows(one.folder), rows(two.folder))
    assert "one: up to date" == call("sync", "one").stdout.strip()


def test_the_status_of_the_run_stays(call, finished_run, tmp_path):
    """Delivering is not living: how the run ended, and when, is as it was."""
    run = offline(finished_run, run_id="one")
    before = facts(run.folder)
    assert 0 == call("sync", "one").exit_code
    after = facts(run.folder)
    assert {key: before[key] for key in ("status", "exit_code", "ended")} == {
        key: after[key] for key in ("status", "exit_code", "ended")
    }


def facts(folder):
    with JournalReader(folder) as reader:
        return reader.facts()


def test_the_source_of_the_run_is_its_program(call, finished_run, tmp_path, monkeypatch):
    """A store that is filled later names the program, and not this command, which is itself again afterwards."""
    store = f"sqlite:///{tmp_path}/ml.db"
    monkeypatch.setattr(sys, "argv", ["train.py", "--lr", "1"])
    finished_run({"loss": [1.0]}, backend=None, run_id="one")
    monkeypatch.setattr(sys, "argv", ["tracelet", "sync"])
    main = sys.modules["__main__"]

    result = call("sync", "one", "--backend", "mlflow", "--config", f"tracking_uri={store}")

    assert 0 == result.exit_code, result.output
    (run,) = MlflowClient(store).search_runs(["0"])
    assert "train.py" == run.data.tags["mlflow.source.name"]
    assert (["tracelet", "sync"], main) == (sys.argv, sys.modules["__main__"])


def test_another_backend_is_one_command(call, finished_run, tmp_path):
    """A finished run goes somewhere it has never been, with the config that this place needs."""
    finished_run({"loss": [1.0, 2.0]}, backend=None, run_id="one")

    result = call("sync", "one", "--backend", "csv", "--config", f"dir={tmp_path / 'copy'}")
    assert (0, "one: csv: 2 delivered (2 new)") == (result.exit_code, result.stdout.strip())
    assert 2 == len((tmp_path / "copy" / "scalars.csv").read_text().splitlines()[1:])

    # The journal keeps where it went, so that the next time needs no config.
    assert {"dir": str(tmp_path / "copy")} == facts(tmp_path / "default" / "one")["config csv"]


def test_all_takes_runs_that_lack_nothing(call, finished_run):
    """--all with --backend sends every run; without, only runs meant for it in which something waits."""
    finished_run({"loss": [1.0]}, backend=None, run_id="one")
    assert "No pending records" in call("sync", "--backend", "csv").stdout
    assert "one: csv: 1 delivered (1 new)" == call("sync", "--backend", "csv", "--all").stdout.strip()


def test_all_goes_on_after_a_run_that_cannot_be_read(call, finished_run, tmp_path):
    """One line for it, exit code 1, and the others are delivered."""
    for run_id in ("a", "c"):
        offline(finished_run, run_id=run_id)
    broken = tmp_path / "default" / "b"
    broken.mkdir()
    (broken / "journal.db").write_bytes(b"no database" * 1000)

    result = call("sync", "--all")

    assert ["a: csv: 3 delivered (3 new)", "c: csv: 3 delivered (3 new)"] == result.stdout.splitlines()
    assert (1, 1) == (result.exit_code, result.stderr.count("\n"))
    assert str(broken) in result.stderr


def test_credentials_go_to_no_server_that_only_a_journal_names(call, finished_run, tmp_path, monkeypatch):
    """One line with what to do, exit code 1, no connection; the other runs are delivered."""
    offline(finished_run, run_id="own")
    stranger = finished_run({"loss": [1.0]}, backend=None, run_id="stranger")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a-very-secret-word")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        with contextlib.closing(Journal(stranger.folder)) as journal:
            journal.annotate("config mlflow", {"backend_url": address, "timeout": 1.0})
            journal.put_cursor("mlflow", Cursor())

        result = call("sync")

        assert (1, ["own: csv: 3 delivered (3 new)"]) == (result.exit_code, result.stdout.splitlines())
        assert (f"mlflow to {address}" in result.stderr, 1) == ("--trust" in result.stderr, result.stderr.count("\n"))
        named = call("sync", "stranger", "--backend", "mlflow")
        assert 1 == named.exit_code
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_recording_of_wandb_is_not_called_delivered(call, finished_run, monkeypatch):
    """While wandb is set offline, its server has nothing: said by the sync that records, by a later one, and by gc."""
    finished_run({"loss": [1.0, 2.0]}, backend=None, run_id="one")

    first = call("sync", "one", "--backend", "wandb", width=1000)  # the path of the recording in one line

    recording = "one: wandb: the offline recording in "
    (line, where) = first.stdout.splitlines()
    assert (0, "one: wandb: 2 recorded offline (2 new)") == (first.exit_code, line)
    assert where.startswith(recording)
    assert where.endswith(" is not uploaded")
    assert ["one: wandb: 2 recorded offline (0 new)", where] == call("sync", "one", width=1000).stdout.splitlines()
    assert "2 delivered (recorded offline, not uploaded yet)" in call("show", "one").stdout
    assert "wandb has an offline recording to upload" in call("gc", "--dry-run").stdout
    (run,) = json.loads(call("sync", "one", "--json").stdout)["runs"]
    assert where == f"{recording}{run['backends']['wandb']['pending_upload']} is not uploaded"
    assert "offline" == run["backends"]["wandb"]["state"]


def test_a_live_run_is_left_alone(call, tmp_path):
    """Its own process delivers; its cursors are not touched, and that is no failure."""
    with tracelet.start_logging(dir=tmp_path, run_id="alive", mode="offline", backend="csv") as run:
        run.log_metric("loss", 1.0, 1)
        assert run.flush(10)
        result = call("sync", "alive", "--backend", "csv")
        assert 0 == result.exit_code
        assert "alive: skipped: the run is still active" in result.stdout
        with JournalReader(run.folder) as reader:
            assert 0 == reader.cursors()["csv"].position
        assert not (run.folder / "csv").exists()


def test_a_backend_that_refuses_is_told_and_waits(call, finished_run, tmp_path, monkeypatch):
    """Exit code 1, the reason in the line, and nothing of the run is lost."""
    monkeypatch.setattr("tracelet.delivery.past._CONNECT_TIMEOUT", 0.5)
    (tmp_path / "file").write_bytes(b"no folder")
    finished_run({"loss": [1.0]}, backend=None, run_id="one")
    result = call("sync", "one", "--backend", "csv", "--config", f"dir={tmp_path / 'file'}")

    assert 1 == result.exit_code
    assert result.stdout.startswith("one: csv: 0 delivered (0 new), 1 pending: ")
    shown = call("show", "one").stdout
    assert "csv has pending records: " in shown
    assert "tracelet sync " in shown
    (tmp_path / "file").unlink()
    assert 0 == call("sync").exit_code


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("nobody",), "no run 'nobody'"),
        (("one", "--backend", "nowhere"), "unknown backend 'nowhere'"),
        (
            ("one", "--config", "dir=x"),
            "--config must be BACKEND.KEY=VALUE, or KEY=VALUE with exactly one --backend, got 'dir=x'",
        ),
        (("one", "--backend", "csv", "--config", "dri=x"), "has no key 'dri'"),
        (
            ("one", "--backend", "csv", "--config", "dir"),
            "--config must be BACKEND.KEY=VALUE, or KEY=VALUE with exactly one --backend, got 'dir'",
        ),
    ],
)
def test_what_cannot_be_meant_is_one_line(call, finished_run, arguments, word):
    offline(finished_run, run_id="one")
    result = call("sync", *arguments)
    assert 1 == result.exit_code
    assert word in result.stderr
    assert 1 == len(result.stderr.splitlines())


def test_a_killed_run_is_delivered_and_called_killed(call, tmp_path):
    """Its process had no time for an end; what it logged is delivered, and its status is said from then on."""
    program = """
        import os, tracelet
        run = tracelet.start_logging(run_id="one", backend="csv", mode="offline")
        for step in range(1000):
            run.log_metric("loss", step, step)
        assert run.flush(20)
        os._exit(9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, timeout=60, check=False)
    assert "one: csv: 1000 delivered (1000 new)" == call("sync").stdout.strip()
    folder = tmp_path / "default" / "one"
    assert "killed" == facts(folder)["status"]
    assert list(range(1000)) == [int(float(row.split(",")[3])) for row in rows(folder)]
    assert "killed" == json.loads((folder / "csv" / "run.json").read_text())["status"]


def test_two_at_once(call, finished_run, tmp_path):
    """Whoever comes second says so and does nothing; every row is there once."""
    with tracelet.start_logging(dir=tmp_path, run_id="big", mode="offline", backend="csv") as run:
        for step in range(20_000):
            run.log_metric("loss", step, step)
    command = [sys.executable, "-m", "tracelet", "sync", "big"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) for _ in range(2)]
    told = [one.communicate(timeout=90)[0] for one in both]
    assert [0, 0] == [one.returncode for one in both], told
    assert list(range(20_000)) == [int(float(row.split(",")[3])) for row in rows(run.folder)]
    assert any("big: csv: 20000 delivered (20000 new)" in one for one in told)


def test_watch_delivers_what_comes_until_ctrl_c(tmp_path, finished_run):
    """A run that ends later is delivered by the watcher that waits for it; Ctrl-C ends it in order."""
    command = [sys.executable, "-m", "tracelet", "sync", "--watch"]
    watcher = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TRACELET_DIR": str(tmp_path)},
    )
    try:
        offline(finished_run, run_id="late")
        deadline = time.monotonic() + 60
        while not (tmp_path / "default" / "late" / "csv" / "scalars.csv").exists():
            assert time.monotonic() < deadline, "the watcher did not come"
            time.sleep(0.05)
        while "csv" not in (line := watcher.stdout.readline()):
            assert line, watcher.stderr.read()
        watcher.send_signal(2)
        _, err = watcher.communicate(timeout=60)
    finally:
        watcher.kill()
        watcher.wait()
    assert "late: csv: 3 delivered (3 new)" == line.strip()
    assert (0, "") == (watcher.returncode, err)


def test_an_interrupted_sync_is_taken_up_again(call, tmp_path):
    """Killed in the middle, and begun again: every record once."""
    with tracelet.start_logging(dir=tmp_path, run_id="big", mode="offline", backend="csv") as run:
        for step in range(60_000):
            run.log_metric("loss", step, step)
    command = [sys.executable, "-m", "tracelet", "sync", "big"]
    first = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, env={**os.environ, "TRACELET_DIR": str(tmp_path)}
    )
    scalars = run.folder / "csv" / "scalars.csv"
    deadline = time.monotonic() + 60
    while not scalars.exists() or scalars.stat().st_size < 10_000:
        assert time.monotonic() < deadline, "nothing was delivered"
        assert first.poll() is None, "it was done before it was killed"
    first.kill()
    first.wait(20)
    assert 0 == call("sync").exit_code
    assert list(range(60_000)) == [int(float(row.split(",")[3])) for row in rows(run.folder)]
