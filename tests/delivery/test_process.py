"""`delivery="process"`: what the program sees of it, and what becomes of the run when one of the two dies."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import psutil
import pytest
from backends import csv_store
from delivery import odd_backends
from programs import started
from support import BUSY, TESTS, our_threads

import tracelet
from tracelet import sync
from tracelet.backends import register_backend
from tracelet.backends.base import Backend
from tracelet.backends.memory import MemoryBackend
from tracelet.delivery.process import client
from tracelet.errors import ConfigurationError, NativeUnavailable
from tracelet.journal.store import JournalReader, is_live

DEADLINE = 30


@pytest.fixture(autouse=True)
def odd():
    for cls in (odd_backends.Crashing, odd_backends.Hanging, odd_backends.Talking):
        register_backend(cls.name, cls)


@pytest.fixture
def values(tmp_path):
    """What the backends of `odd_backends` hold."""
    return lambda: [json.loads(line) for line in (tmp_path / "values.jsonl").read_text().splitlines()]


def points(folder):
    return [(step, value) for _, step, value, _ in csv_store.stored(folder / "csv").scalars]


def last_of(folder):
    with JournalReader(folder) as reader:
        return reader.last()


def processes():
    """The delivery processes of this one that live."""
    found = []
    for one in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if any("tracelet.delivery.process" in word for word in one.cmdline()):
                found.append(one)
    return found


def wait_until(reached, what):
    deadline = time.monotonic() + DEADLINE
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


# What the program sees.


def test_the_program_keeps_its_own_process(tmp_path):
    """Delivered by another, lower in priority, without the variables that would tie it to the program's own run."""
    os.environ["TALKING_PARENT"] = "mine"
    try:
        exp = tracelet.start_logging(backend="talking", config={"dir": str(tmp_path)}, delivery="process")
    finally:
        del os.environ["TALKING_PARENT"]
    process = json.loads((tmp_path / "process.json").read_text())
    (worker,) = processes()
    assert (worker.pid, None) == (process["pid"], process["parent"])
    assert process["nice"] > os.nice(0)
    assert f"https://example.org/{worker.pid}" == exp.url


def test_native_says_why_there_is_none(tmp_path):
    exp = tracelet.start_logging(backend="csv", delivery="process", connect_timeout=DEADLINE)
    with pytest.raises(NativeUnavailable, match=r"in another process.*delivery='thread'"):
        _ = exp.get_backend("csv").native
    assert exp.wandb_run is None


def test_the_accessors_say_so_as_well():
    exp = tracelet.start_logging(backend="wandb", delivery="process", wait=False)
    with pytest.raises(NativeUnavailable, match="the wandb run is in another process"):
        _ = exp.wandb_run
    exp.stop(timeout=0)


def test_flush_holds_what_was_said():
    exp = tracelet.start_logging(backend="csv", delivery="process")
    for step in range(1000):
        exp.log_metric("loss", step, step)
    assert exp.flush(DEADLINE)
    assert [(step, step) for step in range(1000)] == points(exp.folder)
    assert 1000 == exp.stats().backends["csv"].delivered


def test_nothing_is_left_of_many_runs():
    """No process, thread or descriptor."""
    descriptors = psutil.Process().num_fds()
    for _ in range(5):
        with tracelet.start_logging(backend="csv", delivery="process") as exp:
            exp.log_metric("loss", 1.0)
        assert "closed" == exp.stats().backends["csv"].state
        assert ([], []) == (processes(), our_threads())
        assert not is_live(exp.folder)
    assert psutil.Process().num_fds() <= descriptors + 1


def test_an_end_that_hangs_is_given_up(tmp_path):
    """stop returns in time, and takes the process along; what was held counts."""
    exp = tracelet.start_logging(backend="hanging", config={"dir": str(tmp_path)}, delivery="process")
    exp.log_metric("loss", 1.0)
    began = time.monotonic()
    exp.stop(timeout=2)
    assert time.monotonic() - began < 2 + 2 + BUSY
    assert [] == processes()
    stats = exp.stats().backends["hanging"]
    assert (1, 0) == (stats.delivered, stats.pending)
    assert "did not confirm the end" in stats.reason


def test_what_goes_wrong_there_is_told_here(tmp_path, caplog, values):
    """Log lines and counts, without the credential; what the process prints is in the run's folder."""
    token = "talking-secret-token"
    exp = tracelet.start_logging(
        backend="talking", config={"dir": str(tmp_path), "token": token}, delivery="process", flush_timeout=5
    )
    (worker,) = processes()
    assert not any(token in word for word in worker.cmdline())
    logging.getLogger("tracelet").addHandler(caplog.handler)
    try:
        exp.log_metric("loss", 1.0)
        exp.stop()
    finally:
        logging.getLogger("tracelet").removeHandler(caplog.handler)
    assert [1.0] == values()[:1]
    stats = exp.stats()
    assert 1 == stats.backends["talking"].pending  # an unknown error may be an outage: nothing is rejected for it
    assert "error in Talking.write: ValueError" in stats.causes
    assert "ValueError: the token is ***" in caplog.text
    for path in exp.folder.rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes()
    assert 0o600 == (exp.folder / client.LOG_NAME).stat().st_mode & 0o777


def test_a_backend_that_another_process_cannot_have_is_refused(tmp_path):
    """Objects, and classes that no other process can import: on the caller's line, and no run is begun."""

    class Inner(Backend):
        name = "inner"

    register_backend("inner", Inner)
    with pytest.raises(ConfigurationError, match=r"inner.*another process cannot import"):
        tracelet.start_logging(backend="inner", delivery="process")
    with pytest.raises(ConfigurationError, match="needs names of backends, got the object"):
        tracelet.start_logging(backend=MemoryBackend(), delivery="process")
    with pytest.raises(ConfigurationError, match=r"config key 'settings' of backend 'wandb' must be plain data"):
        tracelet.start_logging(backend="wandb", config={"settings": {"x": object()}}, delivery="process")
    assert tracelet.get_active_experiment() is None
    assert [] == our_threads()


def test_a_run_is_gone_on_with(values):
    """The next process begins where the one before ended."""
    with tracelet.start_logging(backend="csv", delivery="process") as first:
        first.log_metric("loss", 1.0, 1)
    with tracelet.start_logging(backend="csv", delivery="process", run_id=first.run_id, resume=True) as second:
        second.log_metric("loss", 2.0, 2)
    assert [(1, 1.0), (2, 2.0)] == points(first.folder)


def test_without_a_backend_there_is_no_process():
    with tracelet.start_logging(delivery="process") as exp:
        exp.log_metric("loss", 1.0)
        assert [] == processes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_child_leaves_it_alone():
    """What a child says is not in the run, and its end is not the run's."""
    exp = tracelet.start_logging(backend="csv", delivery="process")
    exp.log_metric("loss", 1.0, 1)
    child = os.fork()
    if child == 0:
        exp.log_metric("loss", 2.0, 2)
        exp.flush(1)
        exp.stop(1)
        os._exit(0)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    exp.log_metric("loss", 3.0, 3)
    exp.stop()
    assert [(1, 1.0), (3, 3.0)] == points(exp.folder)


# Who dies.

PROGRAM = """
    import sys, time
    import tracelet

    experiment = tracelet.start_logging("killed", "p", "csv", delivery="process", connect_timeout=30)
    for step in range(5000):
        experiment.log_metric("loss", step, step)
    print(experiment.folder, flush=True)
    for step in range(5000, 1_000_000):
        experiment.log_metric("loss", step, step)
        time.sleep(0.001)
"""


def test_a_killed_program_has_its_run_finished(tmp_path):
    """By the process: everything that was committed is delivered, once, and the run says that it was killed."""
    with started(PROGRAM) as program:
        folder = tmp_path / program.stdout.readline().strip()
        wait_until(lambda: last_of(folder) > 5100, "the journal takes nothing")
        (worker,) = psutil.Process(program.pid).children()
        program.send_signal(signal.SIGKILL)
        program.wait(DEADLINE)
    worker.wait(DEADLINE)
    with JournalReader(folder) as reader:
        last, facts, cursor = reader.last(), reader.facts(), reader.cursors()["csv"]
    assert [(step, step) for step in range(last)] == points(folder)
    assert ("killed", 1) == (facts["status"], facts["exit_code"])
    assert not (folder / "journal.db-wal").exists()
    assert (last, last) == (cursor.position, cursor.delivered)
    assert not is_live(folder)
    assert {"csv": 0} == sync.deliver(folder, ["csv"]).new


def test_while_the_process_finishes_the_run_is_in_use(tmp_path):
    """Nobody else delivers the same records meanwhile."""
    source = f"""
        import sys
        sys.path.insert(0, {str(TESTS)!r})
        import tracelet
        from delivery import odd_backends
        tracelet.register_backend("hanging", odd_backends.Hanging)
        experiment = tracelet.start_logging(
            backend="hanging", config={{"dir": {str(tmp_path)!r}}}, delivery="process", connect_timeout=30
        )
        experiment.log_metric("loss", 1.0)
        print(experiment.folder, flush=True)
        sys.stdin.readline()
    """
    with started(source) as program:
        folder = tmp_path / program.stdout.readline().strip()
        (worker,) = psutil.Process(program.pid).children()
        program.send_signal(signal.SIGKILL)
        program.wait(DEADLINE)
    try:
        assert is_live(folder)
        assert sync.deliver(folder, ["csv"]).skipped is not None
    finally:
        worker.kill()
        worker.wait(DEADLINE)
    assert not is_live(folder)


def test_a_killed_run_ended_before_its_process_delivered_the_rest(tmp_path):
    """The backend is given the same time as the journal, however long the delivery takes."""
    source = f"""
        import sys
        sys.path.insert(0, {str(TESTS)!r})
        import tracelet
        from delivery import odd_backends
        tracelet.register_backend("slow", odd_backends.Slow)
        experiment = tracelet.start_logging(
            backend="slow", config={{"dir": {str(tmp_path)!r}}}, delivery="process", connect_timeout=30
        )
        experiment.log_metric("loss", 1.0)
        print(experiment.folder, flush=True)
        sys.stdin.readline()
    """
    with started(source) as program:
        folder = tmp_path / program.stdout.readline().strip()
        (worker,) = psutil.Process(program.pid).children()
        program.send_signal(signal.SIGKILL)
        program.wait(DEADLINE)
    wait_until((tmp_path / "closing").exists, "the run is not closed")
    closing = time.time()
    (tmp_path / "release").touch()
    worker.wait(DEADLINE)
    with JournalReader(folder) as reader:
        facts = reader.facts()
    assert "killed" == facts["status"]
    assert json.loads((tmp_path / "closing").read_text()) == facts["ended"] <= closing


def test_a_process_that_dies_is_started_again(tmp_path, values, monkeypatch, caplog):
    """It goes on where the store is; nothing is lost, and nothing is there twice."""
    monkeypatch.setattr(client, "_RESTART_PAUSES", (0.1, 0.1))
    exp = tracelet.start_logging(backend="crashing", config={"dir": str(tmp_path)}, delivery="process")
    for step in range(100):
        exp.log_metric("loss", step, step)
        if step % 10 == 0:
            exp.flush(1)
    assert exp.flush(DEADLINE)
    exp.stop()
    assert list(range(100)) == values()
    assert (100, 0) == (exp.stats().backends["crashing"].delivered, exp.stats().backends["crashing"].pending)


def test_a_process_that_dies_again_and_again_is_given_up(monkeypatch):
    """The run goes on without it; what waits is in the journal, and can be synced."""
    monkeypatch.setattr(client, "_RESTART_PAUSES", (0.05,))
    exp = tracelet.start_logging(backend="csv", delivery="process")
    for _ in range(2):
        wait_until(processes, "no process is started")
        (worker,) = processes()
        worker.kill()
        wait_until(lambda killed=worker: killed not in processes(), "it lives on")
    exp.log_metric("loss", 1.0, 1)
    began = time.monotonic()
    exp.stop(timeout=20)
    assert time.monotonic() - began < 5 + BUSY
    stats = exp.stats().backends["csv"]
    assert (0, 1) == (stats.delivered, stats.pending)
    assert "ended with -9" in stats.reason
    assert {"csv": 1} == sync.deliver(exp.folder, ["csv"]).new
    assert [(1, 1.0)] == points(exp.folder)


def test_a_system_that_has_no_process_to_give(monkeypatch, swallowed):
    """The run goes on, and the process is tried again."""
    monkeypatch.setattr(client, "_RESTART_PAUSES", (0.05, 0.05))
    start, refused = subprocess.Popen, []

    def refuse(*args, **kwargs):
        if len(refused) < 2:
            refused.append(OSError("Cannot allocate memory"))
            raise refused[-1]
        return start(*args, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", refuse)
    exp = tracelet.start_logging(backend="csv", delivery="process", wait=False)
    exp.log_metric("loss", 1.0, 1)
    wait_until(lambda: exp.stats().backends["csv"].delivered == 1, "nothing is delivered")
    exp.stop()
    assert [(1, 1.0)] == points(exp.folder)
    assert refused == swallowed
    swallowed.clear()


def test_ctrl_c_is_for_the_program_alone(tmp_path):
    """The signal goes to the whole group; the run ends as killed, with everything in its store."""
    source = """
        import sys, time
        import tracelet

        experiment = tracelet.start_logging("c", "p", "csv", delivery="process", connect_timeout=30)
        experiment.log_metric("loss", 1.0, 1)
        print(experiment.folder, flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(source)]
    program = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        folder = tmp_path / program.stdout.readline().strip()
        os.killpg(program.pid, signal.SIGINT)
        program.communicate(timeout=DEADLINE)
    finally:
        if program.poll() is None:
            program.kill()
            program.communicate()
    assert [(1, 1.0)] == points(folder)
    with JournalReader(folder) as reader:
        assert "killed" == reader.facts()["status"]


def test_several_threads_ask_at_once():
    """Each flush is answered."""
    exp = tracelet.start_logging(backend="csv", delivery="process")
    held = []

    def say(number):
        for step in range(50):
            exp.log_metric(f"loss{number}", step, step)
        held.append(exp.flush(DEADLINE))

    threads = [threading.Thread(target=say, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [True] * 8 == held
    assert 400 == exp.stats().backends["csv"].delivered


def test_foreign_entries_of_the_path_do_not_stop_the_process(tmp_path, monkeypatch):
    """Python ignores a Path in sys.path, and programs put one into sys.argv as well."""
    monkeypatch.setattr(sys, "path", [tmp_path, *sys.path, 3])
    monkeypatch.setattr(sys, "argv", [tmp_path / "train.py", 1])
    experiment = tracelet.start_logging(backend="csv", delivery="process")
    experiment.log_metric("loss", 1.0, 0)
    assert experiment.flush(DEADLINE)
    experiment.stop()
    assert [(0, 1.0)] == points(experiment.folder)
