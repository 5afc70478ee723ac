"""SIGTERM: whatever it interrupts, and however often it comes, the run is delivered and its status is true."""

import signal
import time

import pytest
from programs import KILLED, csv_values, ending, journal_values, run_program, signalled, the_run


def test_a_second_signal_does_not_cut_the_delivery_short():
    """Job managers send SIGTERM twice."""
    source = """
        import os, signal, threading, time, tracelet

        class Slow(tracelet.Backend):
            name = "slow"
            def open(self, run): pass
            def write(self, batch):
                first.wait(20)
                time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGTERM)

        first = threading.Event()
        experiment = tracelet.start_logging(backend=["csv", Slow()], flush_timeout=20)
        for step in range(20_000):
            experiment.log_metric("loss", step, step)
        threading.Timer(0, lambda: (os.kill(os.getpid(), signal.SIGTERM), first.set())).start()
        time.sleep(20)
    """
    ended = run_program(source)
    assert KILLED == ended.returncode, ended.err
    assert ("killed", 143) == ending(the_run())
    assert list(range(20_000)) == csv_values(the_run()) == journal_values(the_run())


BUSY = {
    "stats": "experiment.stats()",
    "flush": "experiment.flush()",
    "log": "logging.getLogger('other').warning('line')",
    "import": "importlib.reload(textwrap)",
    "thread": "threading.Thread(target=int).start()",
}


def terminated_in(call, setup):
    """A program that logs a thousand points, and gets SIGTERM while its main thread repeats `call`."""
    program = f"""
        experiment = tracelet.start_logging(backend="csv", flush_timeout=60)
        def log():
            for step in range(1000):
                experiment.log_metric("loss", step, step)
            os.kill(os.getpid(), signal.SIGTERM)
        threading.Thread(target=log, daemon=True).start()
        while True:
            {call}
    """
    return setup + program


@pytest.mark.parametrize("interrupted", BUSY)
def test_the_interrupted_code_may_hold_a_lock(interrupted):
    """It is continued until it has released its locks, while the run ends."""
    source = """
        import importlib, io, logging, os, signal, textwrap, threading, time, tracelet

        logging.getLogger("other").addHandler(logging.StreamHandler(io.StringIO()))
    """
    ended = run_program(terminated_in(BUSY[interrupted], source))
    assert KILLED == ended.returncode, ended.err
    assert ended.seconds < 40
    assert ("killed", 143) == ending(the_run())
    assert list(range(1000)) == csv_values(the_run()) == journal_values(the_run())


def test_the_interrupted_call_is_delivered():
    """A record that is about to be submitted when the signal comes is before the end, also in the backend."""
    source = """
        import os, signal, time, tracelet

        def interrupted(record):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            submit(record)

        experiment = tracelet.start_logging(backend="csv")
        experiment.log_metric("loss", 0, 0)
        submit, experiment._orchestrator.submit = experiment._orchestrator.submit, interrupted
        experiment.log_metric("loss", 1, 1)
    """
    ended = run_program(source)
    assert KILLED == ended.returncode, ended.err
    assert [0, 1] == csv_values(the_run()) == journal_values(the_run())


@pytest.mark.parametrize("interrupted", ["stats", "flush"])
def test_the_programs_handler_may_stop_the_run(interrupted):
    """Its handler runs on the interrupted thread, and is called once."""
    source = """
        import os, signal, sys, threading, tracelet

        def leave(number, frame):
            print("called")
            tracelet.stop_logging()
            sys.exit(7)

        signal.signal(signal.SIGTERM, leave)
    """
    ended = run_program(terminated_in(BUSY[interrupted], source))
    assert (7, "called\n") == (ended.returncode, ended.out), ended.err
    assert ended.seconds < 40
    assert list(range(1000)) == csv_values(the_run()) == journal_values(the_run())


@pytest.mark.parametrize("end", ["sys.exit()", "experiment.stop()", "experiment.stop(); time.sleep(20)"])
def test_a_signal_during_the_end_waits_for_it(end):
    """The end that has begun is completed, then the process dies of the signal."""
    source = f"""
        import os, signal, sys, time, tracelet

        class Last(tracelet.Backend):
            name = "last"
            def open(self, run): pass
            def write(self, batch):
                print("ready", flush=True)
                time.sleep(0.3)
            def close(self, status, exit_code):
                print("closed", flush=True)

        experiment = tracelet.start_logging(backend=Last(), flush_timeout=60)
        experiment.log_metric("loss", 1, 1)
        {end}
    """
    ended = signalled(source, signal.SIGTERM)
    assert (KILLED, "closed\n") == (ended.returncode, ended.out), ended.err
    assert "running" != ending(the_run())[0]


def test_ctrl_c_ends_the_wait():
    """The user does not wait for a dead vendor: the process dies of the first signal."""
    source = """
        import os, signal, threading, time, tracelet

        class Stuck(tracelet.Backend):
            name = "stuck"
            def open(self, run): pass
            def write(self, batch):
                print("ready", flush=True)
                threading.Event().wait(60)
            def close(self, status, exit_code): pass

        experiment = tracelet.start_logging(backend=Stuck(), flush_timeout=30)
        experiment.log_metric("loss", 1, 1)
        threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
        time.sleep(20)
    """
    began = time.monotonic()
    assert KILLED == signalled(source, signal.SIGTERM).returncode
    assert time.monotonic() - began < 20
