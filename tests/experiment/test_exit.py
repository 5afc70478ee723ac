"""How programs end: whatever way they take, what they said is kept, the status is true, and nobody waits for ever."""

import signal
import sys
import time
from pathlib import Path

import pytest
from programs import KILLED, csv_values, ending, journal_values, run_program, signalled, started, the_run
from support import BUSY

from tracelet.journal.store import JournalReader

START = """
    import atexit, os, signal, sys, threading, time
    import tracelet

    experiment = tracelet.start_logging(backend="csv", flush_timeout=120)
    for step in range(1000):
        experiment.log_metric("loss", step, step)
"""
ALL = list(range(1000))


def program(*lines):
    return START + "".join(f"    {line}\n" for line in "\n".join(lines).split("\n"))


# Ends of every kind.


@pytest.mark.parametrize(
    ("last_lines", "code", "expected"),
    [
        ("pass", 0, ("finished", 0)),
        ("tracelet.stop_logging()", 0, ("finished", 0)),
        ("sys.exit(3)", 3, ("failed", 3)),
        ("sys.exit()", 0, ("finished", 0)),
        ("sys.exit('a sentence')", 1, ("failed", 1)),
        ("threading.Thread(target=sys.exit, args=(5,)).start()", 0, ("finished", 0)),
        ("raise ValueError('boom')", 1, ("failed", 1)),
        ("with experiment: raise ValueError('boom')", 1, ("failed", 1)),
        ("with experiment: sys.exit(4)", 4, ("failed", 4)),
        ("with experiment: raise KeyboardInterrupt", -2, ("killed", 130)),
        ("raise KeyboardInterrupt", -2, ("killed", 130)),
        ("with experiment: pass", 0, ("finished", 0)),
        ("del experiment", 0, ("finished", 0)),
        ("atexit.register(experiment.log_metric, 'late', 1.0)", 0, ("finished", 0)),
    ],
)
def test_ends(last_lines, code, expected):
    """Each way out: the process's own exit code is what it would be, the run's status is true, every record arrives."""
    ended = run_program(program(last_lines))
    assert code == ended.returncode, ended.err
    folder = the_run()
    assert expected == ending(folder)
    assert ALL == csv_values(folder) == journal_values(folder)
    if "late" in last_lines:
        assert [1.0] == csv_values(folder, "late")
    assert ended.seconds < 25


def test_an_error_that_was_caught_is_no_failure():
    """A program that survives an exception, or the SystemExit of a parser, and goes on, has finished."""
    run_program(program("try:\n    raise ValueError\nexcept ValueError:\n    pass"))
    assert ("finished", 0) == ending(the_run())


def test_os_exit_loses_the_last_moment_at_most():
    """No end at all: the journal has everything up to a commit interval ago, and the next start delivers it."""
    source = program(
        "time.sleep(0.3)  # the world goes on; no call of ours happens",
        "experiment.log_metric('late', 1.0)",
        "os._exit(9)",
    )
    ended = run_program(source)
    assert 9 == ended.returncode
    folder = the_run()
    assert ALL == journal_values(folder)
    assert ("running", None) == ending(folder)

    run_program(
        "import sys, tracelet; assert tracelet.start_logging(run_id=sys.argv[1], backend='csv').flush(20)", folder.name
    )
    assert ALL == csv_values(folder)
    assert ("killed", 1) == ending(folder)  # the run's end is not that of the program which delivered it


def test_a_kill_repeats_nothing_in_a_store_that_knows_itself():
    """SIGKILL in the middle of a loop: what the journal has is, after the next start, in the csv once."""
    loop = (
        "print('ready', flush=True)\nstep = 1000\nwhile True:\n    experiment.log_metric('loss', step, step); step += 1"
    )
    with started(program(loop)) as running:
        assert running.stdout.readline()
        time.sleep(0.3)
        running.kill()
        running.wait(10)
    folder = the_run()
    run_program(
        "import sys, tracelet; assert tracelet.start_logging(run_id=sys.argv[1], backend='csv').flush(20)", folder.name
    )
    values = journal_values(folder)
    assert list(range(len(values))) == values
    assert values == csv_values(folder)
    assert len(values) > 1000


# Signals.

WAIT = "print('ready', flush=True)\ntime.sleep(20)"


def test_sigterm_kills_as_before():
    """The default action: the run is drained, its status is killed, and the process dies of the signal."""
    ended = signalled(program(WAIT), signal.SIGTERM)
    assert KILLED == ended.returncode
    folder = the_run()
    assert ("killed", 143) == ending(folder)
    assert ALL == csv_values(folder)


@pytest.mark.parametrize(
    ("last_line", "end"),
    [
        ("sys.exit(7)", ("killed", 7)),
        ("raise SystemExit", ("killed", 0)),
        ("raise OSError('reclaimed')", ("killed", 1)),
        ("left.append(True)", ("finished", 0)),  # as a program that saves a checkpoint and goes on
    ],
)
def test_a_handler_from_before_decides(last_line, end):
    """The program's own SIGTERM handler runs, may still log, and its exit code stands."""
    source = f"""
        import signal, sys, time, tracelet

        left = []

        def leave(number, frame):
            experiment.log_metric("loss", 1, 1)
            {last_line}

        signal.signal(signal.SIGTERM, leave)
        experiment = tracelet.start_logging(backend="csv")
        experiment.log_metric("loss", 0, 0)
        print("ready", flush=True)
        while not left:
            time.sleep(0.01)
    """
    ended = signalled(source, signal.SIGTERM)
    assert end[1] == ended.returncode
    folder = the_run()
    assert end == ending(folder)
    assert [0, 1] == csv_values(folder)


def test_an_ignored_sigterm_stays_ignored():
    """A program that ignores SIGTERM goes on, and finishes."""
    source = """
        import signal, time, tracelet

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        experiment = tracelet.start_logging(backend="csv")
        assert signal.SIG_IGN == signal.getsignal(signal.SIGTERM)
        print("ready", flush=True)
        signal.sigtimedwait([signal.SIGUSR1], 0.3)
        experiment.log_metric("loss", 1, 1)
    """
    ended = signalled(source, signal.SIGTERM)
    assert 0 == ended.returncode, ended.err
    assert ("finished", 0) == ending(the_run())
    assert [1] == csv_values(the_run())


def test_a_handler_from_afterwards_is_left_alone():
    """What the program installs after us stays, also when the run stops."""
    source = program(
        "mine = lambda *_: None",
        "signal.signal(signal.SIGTERM, mine)",
        "tracelet.stop_logging()",
        "assert signal.getsignal(signal.SIGTERM) is mine",
    )
    ended = run_program(source)
    assert 0 == ended.returncode, ended.err


def test_stopping_restores_what_was_wrapped():
    """After the run, sys.exit and the SIGTERM handler are the objects they were."""
    source = """
        import signal, sys, tracelet

        before = sys.exit, signal.getsignal(signal.SIGTERM)
        tracelet.start_logging(backend="csv").stop()
        assert before == (sys.exit, signal.getsignal(signal.SIGTERM))
    """
    ended = run_program(source)
    assert 0 == ended.returncode, ended.err


def test_ctrl_c_in_a_loop():
    """SIGINT: KeyboardInterrupt as ever, the run is killed with 130, nothing said before is lost."""
    loop = (
        "print('ready', flush=True)\nstep = 1000\nwhile True:\n    experiment.log_metric('loss', step, step); step += 1"
    )
    ended = signalled(program(loop), signal.SIGINT)
    assert -int(signal.SIGINT) == ended.returncode
    assert "KeyboardInterrupt" in ended.err
    folder = the_run()
    assert ("killed", 130) == ending(folder)
    values = csv_values(folder)
    assert list(range(len(values))) == values == journal_values(folder)


def test_a_backend_that_is_imported_late_leaves_ctrl_c_its_exit_code():
    """CPython forgets the KeyboardInterrupt that ended the program if a string is executed after it."""
    source = """
        import tracelet

        class Late(tracelet.Backend):
            name = "late"
            def open(self, run): pass
            def write(self, batch): pass
            def close(self, status, exit_code): exec("pass")

        tracelet.start_logging(backend=["csv", Late()]).log_metric("loss", 1.0)
        raise KeyboardInterrupt
    """
    ended = run_program(source)
    assert -int(signal.SIGINT) == ended.returncode, ended.err
    assert ("killed", 130) == ending(the_run())


def test_ctrl_c_during_the_end():
    """Who will not wait for a dead server interrupts the wait: the journal is whole, and closed with a status."""
    source = """
        import threading, tracelet

        class Stuck(tracelet.Backend):
            name = "stuck"
            def open(self, run): pass
            def write(self, batch):
                threading.Event().wait(60)

        experiment = tracelet.start_logging(backend=Stuck())
        for step in range(1000):
            experiment.log_metric("loss", step, step)
        threading.Timer(0.5, print, ("ready",), {"flush": True}).start()
        experiment.stop(timeout=20)
    """
    began = time.monotonic()
    signalled(source, signal.SIGINT)
    assert time.monotonic() - began < 10
    assert ALL == journal_values(the_run())
    assert "running" != ending(the_run())[0]


# Dead vendors.


@pytest.mark.parametrize("hook", ["open", "write", "close"])
def test_a_backend_that_hangs_does_not_keep_the_interpreter(hook):
    """The exit takes the flush timeout and a moment, whatever the backend does."""
    source = f"""
        import threading, time, tracelet

        class Stuck(tracelet.Backend):
            name = "stuck"
            def open(self, run): pass
            def write(self, batch): pass
            def close(self, status, exit_code): pass

        setattr(Stuck, "{hook}", lambda self, *_: threading.Event().wait(60))
        experiment = tracelet.start_logging(backend=["csv", Stuck()], flush_timeout=1, connect_timeout=0.5)
        for step in range(1000):
            experiment.log_metric("loss", step, step)
        print(time.time())
    """
    ended = run_program(source)
    assert 0 == ended.returncode, ended.err
    assert time.time() - float(ended.out) < 1 + 2 + BUSY
    assert ALL == csv_values(the_run())


def test_a_backend_that_ends_its_thread_does_not_delay_the_exit():
    """A vendor that calls sys.exit inside `write` ends its own delivery, and nothing else."""
    source = """
        import sys, tracelet

        class Leaving(tracelet.Backend):
            name = "leaving"
            def open(self, run): pass
            def write(self, batch): sys.exit(5)

        experiment = tracelet.start_logging(backend=["csv", Leaving()], flush_timeout=120)
        for step in range(1000):
            experiment.log_metric("loss", step, step)
    """
    ended = run_program(source)
    assert 0 == ended.returncode, ended.err
    assert ended.seconds < 25
    assert ("finished", 0) == ending(the_run())
    assert ALL == csv_values(the_run())


def test_the_drain_runs_before_a_vendors_exit_hook():
    """A hook that a backend registers while it opens runs after our drain, though it was registered later."""
    source = """
        import atexit, tracelet

        class Vendor(tracelet.Backend):
            name = "vendor"
            held = []
            def open(self, run):
                atexit.register(lambda: print("held", len(self.held), flush=True))
            def write(self, batch):
                self.held.extend(batch)

        experiment = tracelet.start_logging(backend=Vendor())
        for step in range(1000):
            experiment.log_metric("loss", step, step)
    """
    assert "held 1000\n" == run_program(source).out


def test_starting_in_an_exit_handler():
    """A run that begins while the interpreter shuts down: it may fail, but it ends."""
    source = """
        import atexit, tracelet

        def late():
            experiment = tracelet.start_logging(backend="csv")
            experiment.log_metric("loss", 1, 1)
            experiment.stop()
            print("done")

        atexit.register(late)
    """
    ended = run_program(source, deadline=10)
    if sys.version_info < (3, 12):  # from then on the interpreter starts no threads at its end
        assert "done\n" == ended.out
        assert [1] == csv_values(the_run())


# A full disk.

LIMIT = """
    import resource, sys, time, tracelet

    experiment = tracelet.start_logging(backend={backend!r}, flush_timeout=3)
    for step in range(1000):
        experiment.log_metric("loss", step, step)
    assert experiment.flush(20)
    size = {size}
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    for step in range(1000, 101_000):
        experiment.log_metric("loss", step, step)
"""


def test_a_full_disk_is_said_and_survived():
    """No file may grow: one clear sentence, the loop runs through, the exit is bounded, what was kept is whole."""
    ended = run_program(LIMIT.format(backend="csv", size=200_000) + "    print(time.time())\n")
    assert 0 == ended.returncode, ended.err
    assert time.time() - float(ended.out) < 3 + 2 + BUSY
    assert 1 <= ended.err.count("records stay in memory until the disk is writable") <= 3, ended.err
    assert "records are lost: " in ended.err
    assert "Traceback" not in ended.err
    folder = the_run()
    values = journal_values(folder)
    assert len(values) >= 1000
    assert list(range(len(values))) == values
    delivered = csv_values(folder)
    assert list(range(len(delivered))) == delivered


def test_a_disk_that_recovers_has_everything():
    """While the disk is full records wait in memory; once there is room, nothing is missing."""
    source = LIMIT.replace("(size, size)", "(size, resource.RLIM_INFINITY)").format(backend="csv", size=200_000)
    source += """
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    experiment.stop(timeout=25)
    assert experiment.stats().backends["csv"].dropped == 0
    """
    ended = run_program(source)
    assert 0 == ended.returncode, ended.err
    folder = the_run()
    assert list(range(101_000)) == journal_values(folder) == csv_values(folder)


def test_an_artifact_on_a_full_disk_does_not_end_the_training():
    """The disk's trouble is not the program's error: it is counted and said, and log_artifact returns."""
    source = """
        import resource, tracelet

        experiment = tracelet.start_logging()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        experiment.log_artifact(b"x" * 1_000_000, "big.bin")
        stats = experiment.stats()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(stats.submitted, sum(stats.causes.values()))
    """
    ended = run_program(source)
    assert (0, "1 1\n") == (ended.returncode, ended.out), ended.err
    assert "File too large" in ended.err
    assert [] == list((the_run() / "files").glob("new-*"))


# Forks.


@pytest.mark.parametrize(
    "child",
    [
        "os._exit(0)",
        "sys.exit(0)",
        "experiment.log_metric('loss', -1, 0); experiment.flush(5); sys.exit(0)",
        "experiment.stats(); experiment.stop(); os._exit(0)",
        "tracelet.stop_logging(); sys.exit(3)",
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)",
    ],
)
def test_a_forked_child_leaves_the_run_alone(child):
    """While the parent logs in a loop, twenty children come and go: none hangs, none delivers, none ends the run."""
    source = program(
        "for number in range(20):",
        "    pid = os.fork()",
        "    if pid == 0:",
        *[f"        {line}" for line in child.split("; ")],
        "    for step in range(1000 + 50 * number, 1050 + 50 * number):",
        "        experiment.log_metric('loss', step, step)",
        "    os.waitpid(pid, 0)",
        "stats = experiment.stats()",
        "assert (stats.submitted, stats.backends['csv'].dropped) == (2000, 0), stats",
    )
    ended = run_program(source, fresh=True)
    assert 0 == ended.returncode, ended.err
    folder = the_run()
    assert ("finished", 0) == ending(folder)
    assert list(range(2000)) == journal_values(folder) == csv_values(folder)
    assert ("forked process" in ended.err) == ("log_metric" in child)


def test_multiprocessing_workers_leave_the_run_alone():
    """A pool of forked workers, which are ended by SIGTERM: no hang, the parent's records are exact."""
    source = program(
        "import multiprocessing",
        "for number in range(20):",
        "    with multiprocessing.get_context('fork').Pool(2) as pool:",
        "        for step in range(1000 + 10 * number, 1010 + 10 * number):",
        "            experiment.log_metric('loss', pool.apply(abs, (step,)), step)",
    )
    ended = run_program(source)
    assert 0 == ended.returncode, ended.err
    folder = the_run()
    assert list(range(1200)) == journal_values(folder) == csv_values(folder)
    assert "forked process" not in ended.err


def test_a_worker_that_is_ended_as_it_begins_ends():
    """SIGTERM may come between the fork and a child's first line: it is not lost there, or the pool waits for ever."""
    source = program(
        "import multiprocessing, signal",
        "before = signal.pthread_sigmask(signal.SIG_BLOCK, ())",
        "for _ in range(300):",
        "    with multiprocessing.get_context('fork').Pool(2) as pool:",
        "        assert list(range(3)) == pool.map(abs, range(3))",
        "assert before == signal.pthread_sigmask(signal.SIG_BLOCK, ())",
    )
    ended = run_program(source, fresh=True, deadline=60)
    assert 0 == ended.returncode, ended.err


def test_a_forked_child_may_have_a_run_of_its_own():
    """start_logging in a child begins another run, and leaves the parent's alone."""
    source = program(
        "pid = os.fork()",
        "if pid == 0:",
        "    own = tracelet.start_logging(run_id='child', backend='csv')",
        "    own.log_metric('loss', 7, 7)",
        "    sys.exit(0)",
        "os.waitpid(pid, 0)",
        "print(experiment.folder)",
    )
    ended = run_program(source)
    assert 0 == ended.returncode, ended.err
    parent = Path(ended.out.strip())
    assert ALL == csv_values(parent)
    assert [7] == csv_values(parent.parent / "child")
    assert ("finished", 0) == ending(parent) == ending(parent.parent / "child")


def test_a_forked_child_has_no_run():
    """Until it starts its own: then its writers log to that, and neither is said to be the other, or to be stopped."""
    source = program(
        "from torch.utils.tensorboard import SummaryWriter",
        "writer = SummaryWriter('logs')",
        "pid = os.fork()",
        "if pid == 0:",
        "    signal.alarm(60)",
        "    assert tracelet.get_active_experiment() is None",
        "    assert 'of the parent process' in repr(experiment)",
        "    own = tracelet.start_logging(run_id='child', backend='csv')",
        "    assert tracelet.get_active_experiment() is own",
        "    writer.add_scalar('loss', 7.0, 7)",
        "    print('now to the parent', file=sys.stderr, flush=True)",
        "    experiment.log_artifact(b'bytes', 'file.bin')",
        "    assert not (experiment.folder / 'files').exists()",
        "    sys.exit(0)",
        "assert 0 == os.waitpid(pid, 0)[1]",
        "assert tracelet.get_active_experiment() is experiment and 'running' in repr(experiment)",
        "writer.add_scalar('loss', 8.0, 8)",
        "print(experiment.folder)",
    )
    ended = run_program(source)
    assert 0 == ended.returncode, ended.err
    parent = Path(ended.out.strip())
    assert [*ALL, 8] == csv_values(parent)
    assert [7] == csv_values(parent.parent / "child")
    before, _, after = ended.err.partition("now to the parent")
    assert "a forked process cannot log" not in before
    assert "a forked process cannot log" in after
    assert "stopping run" not in ended.err


def test_a_child_that_is_forked_while_a_run_starts():
    """It is free to start its own: it waits neither for the thread in start_logging nor for the backend."""
    source = """
        import os, signal, sys, threading
        import tracelet
        from tracelet.testing import MemoryBackend

        opening, forked = threading.Event(), threading.Event()

        class Slow(MemoryBackend):
            name = "slow"
            def open(self, run):
                opening.set()
                forked.wait(60)
                return super().open(run)

        starter = threading.Thread(target=lambda: tracelet.start_logging(backend=Slow()))
        starter.start()
        opening.wait(60)
        pid = os.fork()
        if pid == 0:
            signal.alarm(30)
            tracelet.stop_logging()
            assert tracelet.get_active_experiment() is None
            tracelet.start_logging(run_id="child").log_metric("loss", 7.0)
            sys.exit(0)
        forked.set()
        assert 0 == os.waitpid(pid, 0)[1]
        starter.join()
        print(tracelet.get_active_experiment().folder.parent / "child")
    """
    ended = run_program(source)
    assert 0 == ended.returncode, ended.err
    child = Path(ended.out.strip())
    assert [7] == journal_values(child)
    assert ("finished", 0) == ending(child)


def test_a_journal_survives_the_children_that_inherited_it():
    """Children that end normally close what they inherited; the parent's file stays whole."""
    source = program(
        "for number in range(30):",
        "    pid = os.fork()",
        "    if pid == 0:",
        "        sys.exit(0)",
        "    os.waitpid(pid, 0)",
        "    experiment.log_metric('loss', 1000 + number, 0)",
        "    assert experiment.flush(10)",
    )
    ended = run_program(source, fresh=True)
    assert 0 == ended.returncode, ended.err
    with JournalReader(the_run()) as reader:
        assert [("ok",)] == reader._db.execute("PRAGMA integrity_check").fetchall()
    assert list(range(1030)) == journal_values(the_run())


# How far the journal is behind.


def test_a_commit_is_a_moment_behind_a_busy_loop():
    """Beside a loop that never gives up the interpreter, a second process finds each record within 100 ms. Asserted at
    300 ms, for machines that are busy otherwise."""
    source = """
        import time, tracelet

        experiment = tracelet.start_logging()
        print(experiment.folder, flush=True)
        end = time.time() + 3
        while time.time() < end:
            for _ in range(5000):
                pass
            experiment.log_metric("clock", time.time())
    """
    with started(source) as program:
        folder = program.stdout.readline().strip()
        behind = []
        with JournalReader(__import__("pathlib").Path(folder)) as reader:
            position = 0
            while program.poll() is None:
                batch = reader.next_batch(position)
                if batch is not None:
                    behind.append(time.time() - batch.records[0].value)
                    position = batch.last
                time.sleep(0.002)
    behind.sort()
    median, most = behind[len(behind) // 2], behind[-1]
    print(
        f"journal behind a busy loop: median {median * 1000:.0f} ms, most {most * 1000:.0f} ms of {len(behind)} commits"
    )
    assert len(behind) > 10
    assert behind[int(len(behind) * 0.95)] < 0.3


def test_ctrl_c_while_deferred_calls_are_made_ends_the_run():
    """What is not written yet is counted, the run has its end, and nothing is captured after it."""
    source = """
        import os, signal, threading, numpy, tracelet
        from torch.utils.tensorboard import SummaryWriter

        experiment = tracelet.start_logging(backend="csv", events="async")
        writer = SummaryWriter("logs")
        image = numpy.random.rand(3, 1500, 1500)
        for step in range(12):
            writer.add_image("image", image, step)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            experiment.stop()
        except KeyboardInterrupt:
            print("interrupted")
        writer.add_scalar("loss", 1.0, 1)
        print(experiment.stats().submitted, sum(experiment.stats().causes.values()))
    """
    ended = run_program(source)
    assert 0 == ended.returncode, ended.err
    interrupted, counts = ended.out.splitlines()
    submitted, lost = map(int, counts.split())
    assert "interrupted" == interrupted
    assert submitted < 12
    assert 11 <= submitted + lost <= 12  # the call that the signal met may be made
    assert ("finished", 0) == ending(the_run())
    assert [] == journal_values(the_run())


def test_ctrl_c_during_the_start_leaves_no_run():
    """The same run can be started again, and no writer is captured in between."""
    source = """
        import os, signal, threading, tracelet
        from torch.utils.tensorboard import SummaryWriter

        class Slow(tracelet.Backend):
            name = "slow"
            def open(self, run):
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
                released.wait(30)
            def write(self, batch): pass

        released = threading.Event()
        try:
            tracelet.start_logging(backend=Slow(), run_id="mine")
        except KeyboardInterrupt:
            print(tracelet.get_active_experiment())
        with SummaryWriter("logs") as writer:
            writer.add_scalar("loss", 1.0, 1)
            tracelet.start_logging(backend="csv", run_id="mine")
            writer.add_scalar("loss", 2.0, 2)
        tracelet.stop_logging()
        released.set()
    """
    ended = run_program(source)
    assert (0, "None\n") == (ended.returncode, ended.out), ended.err
    assert [2.0] == csv_values(the_run()) == journal_values(the_run())
