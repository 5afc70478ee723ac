"""A program may fork at any moment, also while tracelet imports a package on another thread."""

import os

import pytest
from programs import run_program
from support import BUSY

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")

START = """
    import os, signal, sys, threading, time
    from pathlib import Path
    import tracelet
    from tracelet import forks
    from tracelet.testing import MemoryBackend

    def module(name, source):
        Path(name + ".py").write_text(source)
        sys.path.insert(0, os.getcwd())

    def wait_until_imported(name):
        end = time.monotonic() + 20
        while name not in sys.modules and time.monotonic() < end:
            time.sleep(0.001)

    def ends_well(in_child):
        "Fork, call `in_child` there, and return True if it ends."
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            in_child()
            os._exit(0)
        return os.waitpid(child, 0)[1] == 0
"""


def run(source):
    ended = run_program(f"{START}\n{source}")
    assert 0 == ended.returncode, ended.err


@pytest.mark.parametrize(
    ("method", "thread"), [("open", "tracelet-vendor"), ("attach", "starter"), ("write", "tracelet-vendor")]
)
def test_a_child_can_import_the_module_that_a_backend_was_importing(method, thread):
    """On a thread of ours, and on a thread of the program in a call of ours: the fork waits for the import."""
    run(
        f"""
    module("slow", "import time; time.sleep(0.5); thread = __import__('threading').current_thread().name")

    class Vendor(MemoryBackend):
        name = "vendor"
        def {method}(self, *args):
            import slow
            return super().{method}(*args)

    def start():
        tracelet.start_logging(backend=Vendor()).log_metric("loss", 1.0)

    threading.Thread(target=start, name="starter").start()
    wait_until_imported("slow")

    def in_child():
        import slow
        assert {thread!r} == slow.thread  # the parent's import was complete

    assert ends_well(in_child)
    """
    )


@pytest.mark.parametrize("name", ["stuck", "package.stuck"])
def test_an_import_that_never_ends_delays_forks_once(name):
    """After the timeout a child can still import the module, and its package, from the start."""
    run(
        f"""
    os.mkdir("package")
    Path("package/__init__.py").write_text("import package.stuck")
    source = "import os, threading; os.getpid() == {{}} and threading.Event().wait()".format(os.getpid())
    module({name.replace(".", "/")!r}, source)
    forks._IMPORT_TIMEOUT = 2.0

    class Vendor(MemoryBackend):
        name = "vendor"
        def open(self, *args):
            import {name}

    tracelet.start_logging(backend=Vendor(), wait=False)
    wait_until_imported({name!r})

    def in_child():
        import {name}
        assert {name} is sys.modules[{name!r}]

    started = time.monotonic()
    for _ in range(6):
        assert ends_well(in_child)
    assert time.monotonic() - started < 2.0 + {BUSY}
    os._exit(0)
    """
    )


def test_an_import_of_the_program_itself_delays_no_fork():
    """A module may run for hours while another thread of the program imports it."""
    run("""
    module("server", "import threading; threading.Event().wait()")
    threading.Thread(target=__import__, args=("server",), daemon=True).start()
    tracelet.start_logging()
    wait_until_imported("server")
    started = time.monotonic()
    assert ends_well(lambda: None)
    assert time.monotonic() - started < 5
    """)


@pytest.mark.parametrize(
    ("setup", "in_child"),
    [
        ("from tracelet.api import _starting as lock", "tracelet.start_logging(run_id='child').stop()"),
        ("from tracelet.backends.environment import _lock as lock", "tracelet.backends.environment.override('A', 'b')"),
        ("lock = tracelet.start_logging()._orchestrator._queue._changing()", "tracelet.api._active.stats()"),
        ("lock = forks.no_fork", "tracelet.start_logging(run_id='child').stop()"),
    ],
)
def test_a_lock_that_another_thread_holds_is_free_in_a_child(setup, in_child):
    """`new_lock` gives locks that a child can take, since nobody there releases them."""
    run(f"""
    {setup}
    held = threading.Event()

    def hold():
        with lock:
            held.set()
            if lock is not forks.no_fork:
                time.sleep(60)

    threading.Thread(target=hold, daemon=True).start()
    held.wait(20)
    assert ends_well(lambda: {in_child})
    os._exit(0)
    """)


def test_a_fork_inside_an_import_does_not_wait_for_a_thread_that_waits_for_it():
    """A module may fork as it is imported, while a backend needs the same module."""
    run("""
    module("forking", "import __main__; __main__.fork()")
    importing = threading.Event()

    class Vendor(MemoryBackend):
        name = "vendor"
        def open(self, *args):
            importing.wait(20)
            opening.set()
            import forking
            return super().open(*args)

    opening = threading.Event()

    def fork():
        importing.set()
        opening.wait(20)
        time.sleep(0.2)
        started = time.monotonic()
        assert ends_well(lambda: None)
        assert time.monotonic() - started < 5

    tracelet.start_logging(backend=Vendor(), wait=False)
    import forking
    """)


def test_a_child_can_open_a_database_beside_the_threads_that_read_and_write_the_journal():
    """SQLite's own locks are never held at a fork."""
    run(
        """
    import sqlite3
    from tracelet.journal.store import JournalReader

    experiment = tracelet.start_logging()
    experiment.flush()
    is_over = False

    def read():
        while not is_over:
            with JournalReader(experiment.folder) as reader:
                reader.last()

    def write():
        while not is_over:
            experiment.log_metric("loss", 1.0)
            time.sleep(0.0001)

    def open_database():
        with sqlite3.connect("child.db") as database:
            database.execute("CREATE TABLE IF NOT EXISTS numbers (number)")

    for target in (read, read, write):
        threading.Thread(target=target).start()
    results = [ends_well(open_database) for _ in range(40)]
    is_over = True
    assert all(results), results
    """
    )


def test_a_child_can_open_a_database_beside_a_vendor_that_uses_one():
    """MLflow, for example, calls SQLite through SQLAlchemy."""
    run(
        """
    import sqlite3
    import sqlalchemy

    class Vendor(MemoryBackend):
        name = "vendor"
        def open(self, run):
            engine = sqlalchemy.create_engine("sqlite:///vendor.db", poolclass=sqlalchemy.NullPool)
            while not is_over:
                with engine.connect() as connection:
                    connection.execute(sqlalchemy.text("SELECT count(*) FROM sqlite_master"))
                time.sleep(0.001)

    is_over = False
    tracelet.start_logging(backend=Vendor(), wait=False)
    results = [ends_well(lambda: sqlite3.connect("child.db").execute("SELECT 1")) for _ in range(40)]
    is_over = True
    assert all(results), results
    """
    )


def test_a_call_that_hangs_delays_forks_once():
    """For five seconds: a disk that hangs does not hold up the program."""
    run(
        """
    is_over = threading.Event()

    def hang():
        with forks.delayed():
            is_over.wait(60)

    thread = threading.Thread(target=hang)
    thread.start()
    durations = []
    for _ in range(5):
        began = time.monotonic()
        assert ends_well(lambda: forks.delayed().__enter__())
        durations.append(time.monotonic() - began)
    is_over.set()
    thread.join()
    assert 4.5 < durations[0] and sum(durations) < 15, durations
    assert not forks._delaying
    """
    )


def test_no_other_thread_runs_between_the_last_check_and_the_fork():
    """Also if that takes longer than the switch interval, as on a busy machine. Then the interval is as before."""
    ended = run_program("""
    import os, sys, threading, time

    counts, seen = [0], []

    def last_before_fork():
        end, first = time.monotonic() + 0.03, counts[0]
        while time.monotonic() < end:
            pass
        seen.append(counts[0] - first)

    os.register_at_fork(before=last_before_fork)  # before tracelet's own, so it runs after it
    import sqlalchemy
    import tracelet

    def count():
        while True:
            counts[0] += 1

    threading.Thread(target=count, daemon=True).start()
    tracelet.start_logging()
    interval = sys.getswitchinterval()
    for _ in range(5):
        child = os.fork()
        if child == 0:
            os._exit(sys.getswitchinterval() != interval)
        assert 0 == os.waitpid(child, 0)[1]
    assert [0] * 5 == seen, seen
    assert interval == sys.getswitchinterval()
    """)
    assert 0 == ended.returncode, ended.err
