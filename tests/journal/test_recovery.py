"""The journal of a live run stays where it is: deleted, it is restored; half begun or half committed, it is read."""

import os
import shutil
import sqlite3

import pytest
from programs import run_program

from tracelet.errors import JournalError, RunInUse
from tracelet.journal.store import Journal, JournalReader, is_empty
from tracelet.journal.tables import Cursor
from tracelet.records import RunInfo, Scalar


def info(created=1.5):
    return RunInfo(run_id="r", project=None, name=None, folder="/x", created=created)


def points(start, stop):
    return [Scalar("loss", float(number), number, 1.0) for number in range(start, stop)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "run"


@pytest.fixture
def journal(folder):
    journal = Journal(folder)
    journal.put_info(info())
    journal.append(points(0, 10))
    journal.put_cursor("csv", Cursor(position=5, delivered=5))
    return journal


DELETIONS = {
    "the folder": shutil.rmtree,
    "the folder above": lambda folder: shutil.rmtree(folder.parent),
    "the journal": lambda folder: (folder / "journal.db").unlink(),
    "the lock": lambda folder: (folder / "journal.lock").unlink(),
    "every file": lambda folder: [path.unlink() for path in folder.iterdir()],
    "a move": lambda folder: folder.rename(folder.with_name("moved")),
}


@pytest.mark.parametrize("how", DELETIONS)
def test_a_deleted_journal_is_restored(how, folder, journal):
    """Whatever was deleted: the open file has all records, and a reader sees each of them, before and after."""
    with JournalReader(folder) as reader:
        assert journal.is_in_place()
        DELETIONS[how](folder)
        assert not journal.is_in_place()
        journal.append(points(10, 20))
        reader.follow()
        assert points(0, 20) == list(reader.records())
        journal.restore()
        assert journal.is_in_place()
        journal.append(points(20, 30))
        reader.follow()
        assert points(0, 30) == list(reader.records())
    with pytest.raises(RunInUse):
        Journal(folder)
    with JournalReader(folder) as fresh:
        assert (points(0, 30), info(), {"csv": Cursor(position=5, delivered=5)}) == (
            list(fresh.records()),
            fresh.info(),
            fresh.cursors(),
        )
    journal.close()
    assert {"journal.db", "journal.lock"} == set(os.listdir(folder))
    assert points(0, 30) == stored(folder)


def stored(folder):
    with JournalReader(folder) as reader:
        return list(reader.records())


def test_a_journal_in_its_place_is_left_alone(folder, journal):
    """Another process began the run anew in between: its records stay as they are, and readers of the first stay."""
    shutil.rmtree(folder)
    other = Journal(folder)
    other.put_info(info(created=2.5))
    other.append(points(100, 110))
    with pytest.raises(RunInUse, match="another process"):
        journal.restore()
    with JournalReader(folder) as reader:
        journal.close()
        other.append(points(110, 120))
        assert points(100, 120) == list(reader.records())
    other.close()
    assert points(100, 120) == stored(folder)


def test_a_reader_does_not_follow_into_another_run(folder, journal):
    with JournalReader(folder) as reader:
        shutil.rmtree(folder)
        other = Journal(folder)
        other.put_info(info(created=2.5))
        other.append(points(100, 200))
        reader.follow()
        assert points(0, 10) == list(reader.records())
    other.close()
    journal.close()


def test_a_restoring_that_fails_leaves_the_records(folder, journal):
    """No folder can be made in place of a file; once it is gone, everything is restored."""
    shutil.rmtree(folder)
    folder.write_bytes(b"in the way")
    for _ in range(2):
        with pytest.raises(JournalError, match="cannot restore"):
            journal.restore()
    folder.unlink()
    journal.restore()
    journal.close()
    assert points(0, 10) == stored(folder)


def nothing(folder):
    folder.mkdir(parents=True)
    (folder / "journal.db").touch()


def tables(folder):
    Journal(folder).close()


def records(folder):
    journal = Journal(folder)
    journal.append(points(0, 1))
    journal.close()


def description(folder):
    journal = Journal(folder)
    journal.put_info(info())
    journal.close()


@pytest.mark.parametrize(
    ("begin", "expected"), [(nothing, True), (tables, True), (records, False), (description, False)]
)
def test_a_journal_without_content_is_empty(begin, expected, folder):
    """A full disk leaves a file without tables, a kill in the first moment tables without a description."""
    begin(folder)
    assert expected == is_empty(folder)


@pytest.mark.parametrize(("table", "expected"), [("batches", True), ("articles", False)])
def test_a_database_with_other_tables_is_not_empty(table, expected, folder):
    """A kill between two tables leaves some of them; a table of another program is content."""
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / "journal.db") as db:
        db.execute(f"CREATE TABLE {table} (x)")
    db.close()
    assert expected == is_empty(folder)


def test_a_commit_that_a_kill_cut_short_is_undone(folder):
    """On network file systems there is no log: a half commit is in the file, and what was before it beside it."""
    source = """
        import os, pathlib, signal, sys
        import tracelet.journal.store as store
        from tracelet.records import Scalar
        store.on_network = lambda folder: True
        journal = store.Journal(pathlib.Path(sys.argv[1]))
        journal.append([Scalar("loss", float(number), number, 1.0) for number in range(10)])
        journal._db.execute("PRAGMA cache_size=1")
        journal._db.execute("BEGIN")
        for number in range(100):
            journal.append([Scalar("x" * 5000, 0.0, 0, 1.0)])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    run_program(source, folder)
    assert (folder / "journal.db-journal").stat().st_size
    assert points(0, 10) == stored(folder)
