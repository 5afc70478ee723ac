"""The lock of a run: it belongs to the process that writes the run, and to none of its forked children."""

import contextlib
import os
import signal

import pytest
from programs import run_program, started

from tracelet.errors import RunInUse
from tracelet.journal.lock import is_locked, lock_run
from tracelet.journal.store import Journal

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")


@contextlib.contextmanager
def forked():
    """A forked child that lives until the end of the block."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        signal.pause()
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("hold", [lock_run, lambda folder: contextlib.closing(Journal(folder))])
def test_a_forked_child_does_not_hold_the_lock(hold, tmp_path):
    """Neither that of a run which this process writes, nor that of one which it deletes or delivers."""
    with contextlib.ExitStack() as stack:
        with hold(tmp_path):
            stack.enter_context(forked())
            assert is_locked(tmp_path)  # the child has not released it either
            with pytest.raises(RunInUse), lock_run(tmp_path):
                pass
        assert not is_locked(tmp_path)
        with lock_run(tmp_path):
            pass


def test_a_killed_run_is_not_live_because_of_its_child():
    """A DataLoader's worker may outlive a killed program: the run can be resumed, delivered and deleted at once."""
    source = """
        import os, signal, tracelet

        experiment = tracelet.start_logging()
        experiment.log_metric("loss", 1.0)
        assert experiment.flush(20)
        if os.fork() == 0:
            signal.alarm(60)
            os.read(0, 1)
            os._exit(0)
        print(experiment.folder, flush=True)
        signal.pause()
    """
    with started(source) as program:
        folder = program.stdout.readline().strip()
        program.kill()
        program.wait(20)
        resumed = f"""
            import sys, pathlib, tracelet
            from tracelet.journal.store import is_live
            folder = pathlib.Path({folder!r})
            assert not is_live(folder)
            tracelet.start_logging(run_id=folder.name, resume=True).log_metric("loss", 2.0)
        """
        ended = run_program(resumed)
    assert 0 == ended.returncode, ended.err
