"""What a power cut may cost: the end of the write-ahead log, never what is before it; and damage is named."""

import random
import shutil

import pytest
from backends.faults import values
from journal.test_store import points, whole, written
from programs import run_program, the_run

import tracelet
from tracelet.journal.store import Journal, JournalReader
from tracelet.journal.tables import Cursor


def torn(folder, into, log, cut):
    """The journal in `folder` as it lies there while it is open, with so much of its log."""
    into.mkdir(exist_ok=True)
    shutil.copyfile(folder / "journal.db", into / "journal.db")
    (into / "journal.db-wal").write_bytes(log[:cut])
    (into / "journal.db-shm").unlink(missing_ok=True)


@pytest.fixture
def log(tmp_path):
    """The log of a live journal of five batches, and its length before the last."""
    journal = Journal(tmp_path / "run")
    for number in range(4):
        journal.append(points(10 * number, 10 * number + 10))
    before = (tmp_path / "run" / "journal.db-wal").stat().st_size
    journal.append(points(40, 50))
    yield (tmp_path / "run" / "journal.db-wal").read_bytes(), before
    journal.close()


def test_a_cut_anywhere_in_the_last_batch_costs_that_batch(tmp_path, log):
    """And nothing before it; a reader stumbles over none of them."""
    data, before = log
    for cut in (*range(before, len(data), 5), *range(len(data) - 100, len(data))):
        torn(tmp_path / "run", tmp_path / "torn", data, cut)
        assert (points(0, 40), []) == whole(tmp_path / "torn")
    torn(tmp_path / "run", tmp_path / "torn", data, len(data))
    assert (points(0, 50), []) == whole(tmp_path / "torn")


def test_a_turned_bit_in_the_log_costs_what_is_behind_it(tmp_path, log):
    """SQLite's own checksums end the log there: an unbroken run of batches from the beginning."""
    data, before = log
    for at in range(before - 8000, len(data), 37):
        torn(tmp_path / "run", tmp_path / "torn", data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :], len(data))
        found, damage = whole(tmp_path / "torn")
        assert (points(0, len(found)), []) == (found, damage)
        assert len(found) % 10 == 0
        assert len(found) >= (40 if at >= before else 0)


def test_a_turned_bit_in_the_file_is_never_silent(tmp_path):
    """Every record comes back as it was, or its number is in a sentence about the damage."""
    written(tmp_path / "run", 200)
    file = tmp_path / "run" / "journal.db"
    data, chance = file.read_bytes(), random.Random(4)
    for at in chance.sample(range(len(data)), 400):
        file.write_bytes(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
        found, damage = whole(tmp_path / "run")
        assert damage or points(0, 2000) == found, at
        assert set(values(found)) <= set(range(2000)), at
        assert sorted(set(values(found))) == values(found), at


def test_a_cursor_is_never_ahead_of_what_was_cut(tmp_path, log):
    """Records and cursors are in one log: a cut that takes a record takes the cursors behind it."""
    journal = Journal(tmp_path / "acknowledged")
    sizes = []
    for number in range(5):
        journal.append(points(10 * number, 10 * number + 10))
        journal.put_cursor("csv", Cursor(position=10 * number + 10, delivered=10 * number + 10))
        sizes.append((tmp_path / "acknowledged" / "journal.db-wal").stat().st_size)
    data = (tmp_path / "acknowledged" / "journal.db-wal").read_bytes()
    for cut in range(sizes[0], len(data), 211):
        torn(tmp_path / "acknowledged", tmp_path / "torn", data, cut)
        again = Journal(tmp_path / "torn")
        with JournalReader(tmp_path / "torn") as reader:
            assert reader.cursors()["csv"].position <= again.last
        again.close()
        shutil.rmtree(tmp_path / "torn")
    journal.close()


PROGRAM = """
    import os, tracelet

    experiment = tracelet.start_logging(backend="csv", run_id="cut")
    for step in range(500):
        experiment.log_metric("loss", step, step)
    if {flushes}:
        assert experiment.flush(30)
        print((experiment.folder / "csv" / "scalars.csv").stat().st_size, flush=True)
    else:
        print(0, flush=True)
    for step in range(500, 1000):
        experiment.log_metric("loss", step, step)
    while experiment.stats().backends["csv"].delivered < 1000:
        pass
    os._exit(0)
"""


@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.999])
def test_what_the_csv_files_lost_is_delivered_again(part, flushes):
    """The journal is on the disk, and the end of scalars.csv, since the last flush, is not: it is whole again after the
    next delivery."""
    ended = run_program(PROGRAM.format(flushes=flushes))
    assert 0 == ended.returncode, ended.err
    safe, file = int(ended.out), the_run() / "csv" / "scalars.csv"
    data = file.read_bytes()
    file.write_bytes(data[: safe + int(part * (len(data) - safe))])
    tracelet.start_logging(run_id="cut", backend="csv").stop()
    assert data == file.read_bytes()
