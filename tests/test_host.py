"""Neutrality: what a training program had before, it has during a run and after it."""

import gc
import locale
import logging
import os
import random
import signal
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from backends.faults import Faulty, Gate, assert_balanced, raises, values
from programs import csv_values, journal_values, run_program, the_run
from support import BUSY, our_threads

import tracelet
from tracelet.errors import BackendUnavailable
from tracelet.records import Scalar


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open()


def surroundings():
    """What a library could quietly change in its process."""
    return {
        "sys.exit": sys.exit,
        "excepthook": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "signals": {
            one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM)
        },
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "path": list(sys.path),
        "finders": list(sys.meta_path),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "filters": list(warnings.filters),
        "root logger": (logging.getLogger().level, list(logging.getLogger().handlers), logging.root.manager.disable),
        "locale": locale.setlocale(locale.LC_ALL),
        "collector": (gc.isenabled(), gc.get_threshold()),
        "switch interval": sys.getswitchinterval(),
        "recursion": sys.getrecursionlimit(),
        "umask": os.umask(os.umask(0o022) or 0o022),
        "random": (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),
        "torch": (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()),
        "threads": our_threads(),
    }


def test_a_run_leaves_the_process_as_it_was(lib, tmp_path):
    """Hooks, signals, environment, generators, streams, threads: the same objects after the run as before it."""
    before = surroundings()
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        experiment = tracelet.start_logging(backend=["csv", "memory"])
        writer.add_scalar("loss", 1, 1)
        writer.add_image("picture", np.zeros((3, 4, 4)))
        experiment.log_params({"lr": 0.1})
        tracelet.stop_logging()
    after = surroundings()
    assert {} == {name: (before[name], after[name]) for name in before if before[name] != after[name]}


def test_a_run_changes_little_while_it_lasts(experiment):
    """During the run only sys.exit, the SIGTERM handler, one finder and our threads are others."""
    during = surroundings()
    experiment.stop()
    after = surroundings()
    different = {name for name in during if during[name] != after[name]}
    assert {"sys.exit", "signals", "finders", "threads"} == different


@pytest.mark.parametrize("fault", ["hangs", "raises", "unavailable"])
def test_a_bad_backend_costs_the_writer_nothing(fault, lib, tmp_path, gate, swallowed, read_values):
    """add_scalar has the same result, the same file, and about the same time, whatever the backend does."""
    faults = {"hangs": gate, "raises": raises(ValueError("x")), "unavailable": raises(BackendUnavailable("x"))}
    good = Faulty()
    good.name = "good"
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        experiment = tracelet.start_logging(backend=[Faulty(write=faults[fault]), good])
        began = time.monotonic()
        results = {writer.add_scalar("loss", step, step) for step in range(2000)}
        took = time.monotonic() - began
        experiment.stop(timeout=0.5)
    swallowed.clear()
    assert {None} == results
    assert took < 5 + BUSY
    assert list(range(2000)) == [event.step for event, _ in read_values(tmp_path / "logs")]
    assert list(range(2000)) == values(good.of(Scalar))
    assert_balanced(experiment.stats())


def test_the_hosts_exception_is_the_hosts(lib, tmp_path, experiment):
    """A call that TensorBoard refuses raises what it raises, and is not recorded."""
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        with pytest.raises(Exception) as with_us:
            writer.add_scalar("loss", "no number", 1)
        experiment.stop()
        with pytest.raises(Exception) as without_us:
            writer.add_scalar("loss", "no number", 1)
    assert (type(without_us.value), str(without_us.value)) == (type(with_us.value), str(with_us.value))
    assert 0 == experiment.stats().submitted


def test_a_silent_program_stays_silent():
    """Nothing of ours goes to stdout; stderr has our few lines, which logging can turn off."""
    source = """
        import logging, sys, tracelet
        {setup}
        experiment = tracelet.start_logging(backend="csv")
        experiment.log_metric("loss", 1)
    """
    spoken = run_program(source.format(setup=""))
    assert "" == spoken.out
    assert all(line.startswith("tracelet: ") for line in spoken.err.splitlines())
    assert 0 < len(spoken.err.splitlines()) <= 3
    silent = run_program(source.format(setup="logging.getLogger('tracelet').setLevel(logging.CRITICAL)"))
    assert ("", "") == (silent.out, silent.err)


def test_a_programs_logging_is_its_own():
    """Where logging is set up, our lines go where its lines go, and the set-up stays."""
    source = """
        import logging, sys, tracelet
        logging.basicConfig(format="MINE %(name)s %(message)s", stream=sys.stdout, level=logging.INFO)
        before = list(logging.root.handlers)
        tracelet.start_logging(backend="csv").stop()
        assert before == logging.root.handlers
        assert [] == logging.getLogger("tracelet").handlers
    """
    ended = run_program(source)
    assert (0, "") == (ended.returncode, ended.err)
    assert all(line.startswith("MINE tracelet tracelet: ") for line in ended.out.splitlines())


def test_warnings_as_errors():
    """A program under `-W error` runs as before: we leave no file or thread behind that would be warned of."""
    source = """
        import tracelet
        experiment = tracelet.start_logging(backend="csv")
        experiment.log_metric("loss", 1)
        experiment.log_artifact(b"x", "x.bin")
    """
    ended = run_program(source, options=("-W", "error", "-X", "dev"))
    assert 0 == ended.returncode, ended.err
    assert "Warning" not in ended.err


def test_in_an_event_loop(memory):
    """Tasks of asyncio that log in turn: nothing is mixed up, the loop is never held."""
    import asyncio

    experiment = tracelet.start_logging(backend=memory)

    async def work(name):
        for step in range(100):
            experiment.log_metric(name, step, step)
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(*(work(f"m{number}") for number in range(10)))

    asyncio.run(main())
    assert experiment.flush(10)
    for number in range(10):
        assert list(range(100)) == [one.value for one in memory.records if one.tag == f"m{number}"]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_time_zones_do_not_move_points(zone):
    """Wall times are seconds since the epoch wherever the program runs."""
    source = """
        import time, tracelet
        experiment = tracelet.start_logging(backend="memory")
        before = time.time()
        experiment.log_metric("loss", 1)
        assert experiment.flush(10)
        (record,) = experiment.get_backend("memory").records
        assert before <= record.wall_time <= time.time()
    """
    ended = run_program(source, TZ=zone)
    assert 0 == ended.returncode, ended.err


@pytest.mark.parametrize(
    "emit", ["raise RuntimeError('broken')", "threading.current_thread() is threading.main_thread() or sys.exit(3)"]
)
def test_a_broken_log_handler_does_not_reach_our_threads(emit):
    """The program's own log handler raises at each of our lines: no record is lost, and no exception is raised."""
    source = f"""
        import logging, sys, threading, tracelet

        class Unusable(tracelet.Backend):
            name = "unusable"
            def open(self, run): raise ValueError("a reason to log on the delivery thread")
            def write(self, batch): pass

        class Broken(logging.Handler):
            def emit(self, record):
                {emit}

        logging.getLogger().addHandler(Broken())
        logging.getLogger("tracelet").setLevel(logging.DEBUG)
        experiment = tracelet.start_logging(backend=["csv", Unusable()], flush_timeout=2, connect_timeout=0.5)
        experiment.log_text("\\udcff is no text", "x")  # a reason to log on the journal thread
        for step in range(3000):
            experiment.log_metric("loss", step, step)
        print("trained")
    """
    ended = run_program(source)
    assert (0, "trained\n") == (ended.returncode, ended.out), ended.err
    assert list(range(3000)) == journal_values(the_run()) == csv_values(the_run())


def test_log_lines_follow_the_programs_stderr():
    """A test runner replaces sys.stderr and closes its own afterwards: each line goes to the stream of its moment."""
    source = """
        import contextlib, io, sys, tracelet

        with contextlib.redirect_stderr(io.StringIO()) as first:
            experiment = tracelet.start_logging(backend="csv", run_id="one")
            lines = first.getvalue()
        first.close()
        assert "new run one" in lines, lines
        with contextlib.redirect_stderr(io.StringIO()) as second:
            experiment.stop()
        assert "run one finished" in second.getvalue(), second.getvalue()
        sys.stderr.close()
        tracelet.start_logging(run_id="two").stop()
        sys.stderr = None
        tracelet.start_logging(run_id="three").stop()
    """
    ended = run_program(source)
    assert (0, "") == (ended.returncode, ended.err)
