"""tracelet view: any run in the vendor's own viewer, without a change to the run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
from ctypes import c_float
from pathlib import Path

import psutil
import pytest
from cli.viewer_pages import SERIES, killed, viewing
from programs import run_program
from support import BUSY, until
from torch.utils.tensorboard import SummaryWriter

import tracelet
from tracelet.backends import VIEWERS, _registered, viewers
from tracelet.backends.capabilities import ViewerCommand, Viewing
from tracelet.backends.memory import MemoryBackend
from tracelet.errors import RunInUse
from tracelet.runs.folders import all_runs
from tracelet.view import ViewerServer, ViewerStore, import_events

VALUES = [0.1, 0.2, 0.3]  # no float32 holds them, and TensorBoard shows float32
OLD = [0.5, 0.25, 0.125]


@pytest.fixture
def small(finished_run):
    return finished_run({"loss": VALUES}, name="small", project="digits", backend=None).folder


@pytest.fixture
def browser(tmp_path, monkeypatch):
    """`browser()`: the addresses that were opened."""
    program, opened = tmp_path / "browser", tmp_path / "opened"
    program.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{program} %s")
    return lambda: opened.read_text().splitlines() if opened.exists() else []


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("viewer", VIEWERS)
def test_every_viewer_shows_past_live_and_imported_runs(viewer, small, tmp_path, monkeypatch):
    """A new point of a live run is there within 5 s. Neither the past run nor the live run's deliveries change, no
    server listens beyond loopback, and none survives the command."""
    monkeypatch.setenv("TRACELET_PROJECT", "digits")
    with SummaryWriter(tmp_path / "logs" / "old") as writer:
        for step, value in enumerate(OLD):
            writer.add_scalar("loss", value, step)
    before = digests(small)
    live = tracelet.start_logging("live", dir=tmp_path, project="digits", backend="csv", events=True)
    with live:
        live.log_metric("loss", 0.5, 0)
        assert live.flush()
        with viewing(
            *("small", "live", tmp_path / "logs", "--dir", tmp_path, "--in", viewer, "--watch"), cwd=tmp_path
        ) as view:
            view.wait()

            def shown(run):
                with contextlib.suppress(urllib.error.HTTPError):  # Aim lists a run a moment before it finds it
                    return SERIES[viewer](view.url, "digits", run, "loss")

            def points(*values):
                exact = [c_float(value).value for value in values] if viewer == "tensorboard" else values
                return list(enumerate(exact))

            until(lambda: shown("live") == points(0.5), 5 + BUSY)
            until(lambda: shown("small") == points(*VALUES), 5 + BUSY)
            until(lambda: shown("old") == list(enumerate(OLD)), 5 + BUSY)
            live.log_metric("loss", 0.7, 1)
            logged = time.monotonic()
            until(lambda: shown("live") == points(0.5, 0.7), 5 + BUSY)
            print(f"{viewer}: a point is seen after {time.monotonic() - logged:.1f} s")

            processes = view.processes()
            sockets = [found for process in processes for found in process.net_connections("inet")]
            listening = {found.laddr.ip for found in sockets if found.status == psutil.CONN_LISTEN}
            assert {"127.0.0.1"} == listening
            asked = {found.raddr.ip.removeprefix("::ffff:") for found in sockets if found.raddr}
            assert {"127.0.0.1"} >= asked
            assert 0 == view.end()
            assert [] == psutil.wait_procs(processes, 1)[1]
        assert before == digests(small)
        assert {"csv"} == set(live.stats().backends)
    assert (2, 0) == (live.stats().backends["csv"].delivered, live.stats().backends["csv"].pending)
    assert {small, live.folder} == set(all_runs(tmp_path))


def test_without_a_run_all_are_shown_also_later_ones(tmp_path, finished_run, browser):
    with viewing("--dir", tmp_path, "--in", "tensorboard", "--watch", cwd=tmp_path) as view:
        until(lambda: f"Waiting for a run under {tmp_path}\n" in view.lines)
        finished_run({"loss": [0.5]}, name="first", project="digits")
        view.wait()
        finished_run({"loss": [0.25]}, name="second", project="digits")
        for name, value in (("first", 0.5), ("second", 0.25)):
            until(lambda: SERIES["tensorboard"](view.url, "digits", name, "loss") == [(0, value)], 5 + BUSY)  # noqa: B023
        assert 0 == view.end(signal.SIGINT)
    assert [] == browser()  # the output is no terminal


@pytest.mark.parametrize("options", [[], ["--no-open"]])
def test_a_terminal_gets_a_browser(options, small, tmp_path, browser):
    primary, secondary = os.openpty()
    command = [sys.executable, "-m", "tracelet", "view", "--in", "tensorboard", "--dir", tmp_path, *options]
    with open(primary, "rb", buffering=0) as terminal, subprocess.Popen(command, stdout=secondary) as process:
        os.close(secondary)
        with killed(process):
            shown = b""
            while b"new records" not in shown:
                shown += terminal.read(1000)
            (url,) = re.findall(rb"http://[\d.:]+/", shown)
            assert ([] if options else [url.decode()]) == browser()
            process.send_signal(signal.SIGHUP)  # the terminal is closed
            assert 0 == process.wait(30)


@pytest.mark.parametrize("viewer", ["tensorboard", "trackio"])
def test_a_second_view_delivers_only_new_records(viewer, small, tmp_path):
    with ViewerStore(tmp_path, viewer) as store:
        assert 3 == store.deliver(small)
        assert 0 == store.deliver(small)
    stored = digests(store.store)
    with ViewerStore(tmp_path, viewer) as store:
        assert 0 == store.deliver(small)
    assert stored == digests(store.store)

    with tracelet.start_logging(dir=tmp_path, project="digits", backend=None, run_id=small.name) as resumed:
        resumed.log_metric("loss", 0.4, 3)
    with ViewerStore(tmp_path, viewer) as store:
        assert 1 == store.deliver(small)


def test_the_viewer_shows_the_end_of_a_run(tmp_path):
    """While a run is active, it is running in the viewer; afterwards it has its own status and end."""
    from mlflow import MlflowClient

    def status():
        client = MlflowClient(f"sqlite:///{tmp_path}/.view/mlflow/store/mlflow.db")
        (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
        return run.info.status, run.data.tags["mlflow.source.name"]

    with ViewerStore(tmp_path, "mlflow") as store:
        with tracelet.start_logging("live", dir=tmp_path, project="digits", backend=None) as live:
            live.log_metric("loss", 0.5, 0)
            live.flush()
            store.deliver(live.folder)
            assert ("RUNNING", sys.argv[0]) == status()
        store.deliver(live.folder)
        assert ("FINISHED", sys.argv[0]) == status()


def test_ranks_are_one_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for rank in (1, 0):
        program = run_program(
            "import tracelet\n"
            "with tracelet.start_logging(run_mode='shared', run_id='night', dir='.', backend=None) as experiment:\n"
            "    experiment.log_metric('loss', 0.5, 1)\n",
            RANK=str(rank),
            WORLD_SIZE="2",
        )
        assert 0 == program.returncode, program.err
    (folder,) = all_runs(tmp_path)
    with ViewerStore(tmp_path, "tensorboard") as store:
        assert 2 == store.deliver(folder)
    found = {str(path.parent.relative_to(store.store)) for path in store.store.rglob("events.*")}
    assert {"default/night", "default/night/rank-1/rank-1"} == found


def test_imported_event_files_are_no_runs(tmp_path):
    """They are imported below `.view`, also of several experiments, and again only if they grow."""
    for name in ("a", "b"):
        with SummaryWriter(tmp_path / "logs" / name) as writer:
            writer.add_scalar("loss", 0.5, 1)
    base = tmp_path / "base"
    folders = import_events(tmp_path / "logs", base)
    assert folders == import_events(tmp_path / "logs", base)
    with ViewerStore(base, "tensorboard") as store:
        assert [1, 1] == [store.deliver(folder) for folder in folders]
    assert [] == all_runs(base)


def test_two_views_of_one_folder_and_viewer(small, tmp_path):
    with ViewerStore(tmp_path, "tensorboard"), pytest.raises(RunInUse, match="another `tracelet view` shows"):
        ViewerStore(tmp_path, "tensorboard")


class Stubborn(MemoryBackend, Viewing):
    """A viewer that ignores SIGTERM, with a child that does, too."""

    name, view_package = "stubborn", "json"
    program = """
        import http.server, os, signal, sys
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            signal.pause()
        http.server.test(http.server.SimpleHTTPRequestHandler, bind=sys.argv[1], port=int(sys.argv[2]))
    """

    @classmethod
    def view_config(cls, store, run):
        return {}

    @classmethod
    def view_command(cls, store, host, port):
        return ViewerCommand((sys.executable, "-c", textwrap.dedent(cls.program), host, str(port)))


class Broken(Stubborn):
    name, program = "broken", "print('no licence'); raise SystemExit(3)"


@pytest.fixture
def own_viewers(monkeypatch):
    for cls in (Stubborn, Broken):
        monkeypatch.setitem(_registered, cls.name, cls)


def test_a_server_that_does_not_end_is_killed(own_viewers, tmp_path, monkeypatch):
    """Its children, too."""
    monkeypatch.setattr("tracelet.view.server._END_TIMEOUT", 0.5)
    others = set(psutil.Process().children(recursive=True))
    with ViewerServer("stubborn", tmp_path, tmp_path / "store") as server:
        server.wait(30)
        processes = set(psutil.Process().children(recursive=True)) - others
        assert 2 == len(processes)
    assert [] == psutil.wait_procs(processes, 1)[1]


def test_a_server_that_fails_is_an_error(own_viewers, call, small):
    """With the last lines of its output."""
    result = call("view", "--in", "broken")
    assert 1 == result.exit_code
    assert "broken ended with exit code 3: no licence" in result.stderr
    assert signal.default_int_handler is signal.getsignal(signal.SIGINT)


def test_errors_say_what_to_do(call, small, tmp_path, monkeypatch):
    assert "backend 'csv' has no viewer of its own. Use one of: trackio" in call("view", "--in", "csv").stderr
    assert "unknown viewer 'tensorbord'. Did you mean tensorboard?" in call("view", "--in", "tensorbord").stderr
    assert "no runs under" in call("view", "--dir", tmp_path / "empty").stderr
    assert "no run 'other'" in call("view", "other").stderr
    (tmp_path / "plain").mkdir()
    assert "plain is no run, and has no event files" in call("view", tmp_path / "plain").stderr
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = call("view", "--in", "tensorboard", "--port", other.getsockname()[1])
        assert f"port {other.getsockname()[1]} is not free on 127.0.0.1" in result.stderr

    monkeypatch.setattr("tracelet.replacing.find_installed", lambda name: None)
    assert "pip install 'tracelet[aim]'" in call("view", "--in", "aim").stderr
    assert "no viewer is installed. Install one with: pip install 'tracelet[view]'" in call("view").stderr


def test_the_first_installed_viewer_is_the_default(monkeypatch):
    real = viewers.replacing.find_installed
    assert "trackio" == viewers.installed_viewer()
    monkeypatch.setattr("tracelet.replacing.find_installed", lambda name: None if name == "trackio" else real(name))
    assert "tensorboard" == viewers.installed_viewer()
