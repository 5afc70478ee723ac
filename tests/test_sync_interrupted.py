"""A sync that comes at the wrong moment, twice at once, or is killed in the middle."""

import pytest
from programs import csv_values, run_program, started, the_run
from support import until

import tracelet
from tracelet import sync
from tracelet.backends.memory import MemoryBackend
from tracelet.journal.store import JournalReader

RECORDS = 30_000
# Between two batches it says so and waits: it is killed, or another one comes, while it is at work.
SYNC = """
    import pathlib, sys
    from tracelet import sync
    from tracelet.backends.csvfile.adapter import CsvBackend

    taken = CsvBackend.write

    def write(backend, batch):
        taken(backend, batch)
        backend.flush()
        print(f"at {batch.last}", flush=True)
        sys.stdin.readline()

    CsvBackend.write = write
    assert sync.deliver(pathlib.Path(sys.argv[1]), ["csv"]).complete
    print("done", flush=True)
"""


@pytest.fixture
def folder():
    """A finished run that no backend has."""
    with tracelet.start_logging(run_id="sent-later") as experiment:
        for step in range(RECORDS):
            experiment.log_metric("loss", step, step)
    return experiment.folder


def cursors(folder):
    with JournalReader(folder) as reader:
        return reader.cursors()


def test_a_live_run_is_left_to_its_process():
    """It says so, and touches neither cursors nor backend."""
    memory = MemoryBackend()
    experiment = tracelet.start_logging(backend=memory)
    experiment.log_metric("loss", 1)
    assert experiment.flush(10)
    until(lambda: cursors(experiment.folder)["memory"].position == 1)
    before = cursors(experiment.folder)
    synced = sync.deliver(experiment.folder, ["csv"])
    assert "the run is still active" == synced.skipped
    assert not synced.complete
    assert before == cursors(experiment.folder)
    assert not (experiment.folder / "csv").exists()
    experiment.log_metric("loss", 2)
    assert experiment.flush(10)
    assert [1.0, 2.0] == [one.value for one in memory.records]


def test_of_two_syncs_one_does_the_work(folder):
    """The other says so and does nothing; afterwards everything is there once."""
    with started(SYNC, folder) as first:
        assert first.stdout.readline().startswith("at "), first.stderr.read()
        before = cursors(folder)
        synced = sync.deliver(folder, ["csv", "memory"])
        assert None is not synced.skipped
        assert "memory" not in cursors(folder)
        assert before.keys() == cursors(folder).keys()
        first.communicate("\n" * 100_000, timeout=60)
        assert 0 == first.returncode
    assert list(range(RECORDS)) == csv_values(folder)


def test_a_killed_sync_is_repeated(folder):
    """Killed twice in the middle, then let through: everything is there, once and in order."""
    for _ in range(2):
        with started(SYNC, folder) as program:
            assert program.stdout.readline().startswith("at "), program.stderr.read()
            program.kill()
            program.wait(10)
    assert 0 < len(csv_values(folder)) < RECORDS
    ended = run_program(SYNC.replace("sys.stdin.readline()", "pass"), folder)
    assert 0 == ended.returncode, ended.err
    assert list(range(RECORDS)) == csv_values(the_run())
    assert {"csv": 0} == sync.deliver(folder, ["csv"]).new
