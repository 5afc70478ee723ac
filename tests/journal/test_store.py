"""The journal: in order, complete, readable while it is written, private, and honest about damage."""

import contextlib
import math
import os
import shutil
import socket
import sqlite3
import stat
import threading
import zlib

import pytest
from backends.faults import values
from programs import run_program, started

from tracelet.errors import JournalError, RunInUse
from tracelet.filesystem import on_network
from tracelet.journal.store import Journal, JournalReader, is_live
from tracelet.journal.tables import Cursor, Rejection
from tracelet.records import KINDS, Artifact, File, Params, RunInfo, Scalar, Text, kind
from tracelet.testing import sample_records

INFO = RunInfo(run_id="r1", project=None, name="ünïcode", folder="/x", tags=("a",), created=1.5)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def journal(folder):
    journal = Journal(folder)
    yield journal
    journal.close()


@pytest.fixture
def reader(journal, folder):
    with JournalReader(folder) as reader:
        yield reader


def points(start, stop):
    return [Scalar("loss", float(number), number, 1.0) for number in range(start, stop)]


def written(folder, batches):
    """A closed journal of so many batches of ten points."""
    journal = Journal(folder)
    for number in range(batches):
        journal.append(points(10 * number, 10 * number + 10))
    journal.close()


def whole(folder):
    """(what can be read, what is said about the rest)."""
    found, damage, position = [], [], 0
    with JournalReader(folder) as reader:
        while True:
            try:
                batch = reader.next_batch(position)
            except JournalError as error:
                return found, [*damage, str(error)]
            if batch is None:
                return found, damage
            found += batch.records
            if batch.damaged:
                damage.append(batch.damaged)
            position = batch.last


# Order and content.


def test_records_come_back_in_order(journal, reader):
    """Whatever the batches were; each has the numbers of its records."""
    for start, stop in ((0, 1), (1, 4), (4, 1000)):
        assert stop == journal.append(points(start, stop))
    assert points(0, 1000) == list(reader.records())
    assert 1000 == reader.last() == journal.last
    assert [(1, 1), (2, 4), (5, 1000)] == [
        (batch.first, batch.last) for batch in map(reader.next_batch, (0, 1, 4)) if batch is not None
    ]
    assert None is reader.next_batch(1000)


@pytest.mark.parametrize("after", range(31))
def test_reading_begins_anywhere(after, journal, reader):
    """After any record: the rest of its batch, with the right numbers."""
    for start in (0, 10, 20):
        journal.append(points(start, start + 10))
    batch = reader.next_batch(after)
    if after == 30:
        assert None is batch
    else:
        assert (after + 1, after // 10 * 10 + 10) == (batch.first, batch.last)
        assert list(range(after, batch.last)) == values(batch.records)


def test_a_reader_takes_the_runs_folder_in_any_form(journal):
    """The journal's own path, and a folder without one, are refused with what is expected."""
    journal.append(points(0, 3))
    with JournalReader(str(journal.path.parent)) as reader:
        assert 3 == reader.last()
    for wrong in (str(journal.path), journal.path, "nowhere"):
        with pytest.raises(JournalError, match=r"no such file\. Pass a run's folder, got ") as error:
            JournalReader(wrong)
        assert repr(str(wrong)) in str(error.value)


def test_every_kind_comes_back(journal, reader, tmp_path):
    """All kinds of record, field by field."""
    records = sample_records(tmp_path)
    assert {kind(one) for one in KINDS} == {kind(record) for record in records}
    journal.append(records)
    assert records == list(reader.records())


def test_numbers_come_back_to_the_bit(journal, reader):
    given = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1, 2.0**53 + 2]
    steps = [None, 0, -(2**63), 2**63 - 1, 1, 2, 3]
    journal.append([Scalar("x", value, step, 1e9 + 0.25) for value, step in zip(given, steps, strict=True)])
    found = list(reader.records())
    assert list(map(repr, given)) == list(map(repr, values(found)))
    assert steps == [record.step for record in found]


def test_awkward_texts_come_back(journal, reader):
    records = [Text("", "a\0b\r\n🚀", 1, 1.0), Params({"a": None, "b": [1, [2.5, "x"]], "c": True}, 1.0)]
    journal.append(records)
    assert records == list(reader.records())


def test_reopening_goes_on_with_the_numbers(folder):
    """A second process appends; the first's records stay."""
    written(folder, 2)
    journal = Journal(folder)
    assert 20 == journal.last
    assert 22 == journal.append(points(20, 22))
    journal.close()
    assert (points(0, 22), []) == whole(folder)


def test_a_batch_that_cannot_be_encoded_leaves_no_trace(journal, reader):
    """The numbers have no gap."""
    with pytest.raises(UnicodeEncodeError):
        journal.append([Scalar("\ud800", 1.0, 1, 1.0)])
    assert 1 == journal.append(points(0, 1))
    assert points(0, 1) == list(reader.records())


# Beside the records.


def test_the_run_is_described(journal, reader):
    with pytest.raises(JournalError, match="has no description"):
        reader.info()
    journal.put_info(INFO)
    journal.annotate("root", "/logs")
    journal.annotate("root", "/other")
    assert INFO == reader.info()
    assert "/other" == reader.facts()["root"]
    owner = reader.facts()["owner"]
    assert (socket.gethostname(), os.getpid()) == (owner["host"], owner["pid"])


def test_cursors_and_rejections_are_kept(journal, reader):
    """One cursor a backend; rejections add up, and keep record and reason."""
    assert {} == reader.cursors()
    record = Artifact("a/", (File("f", "0" * 64, 3),), 1.0)
    journal.put_cursor("csv", Cursor(position=5, delivered=5))
    journal.put_cursor("wandb", Cursor(position=2, rejected=1, filtered=1), [Rejection(2, "too big", record)])
    journal.put_cursor("wandb", Cursor(position=9, rejected=2), [Rejection(9, "no", points(0, 1)[0])])
    assert {"csv": Cursor(position=5, delivered=5), "wandb": Cursor(position=9, rejected=2)} == reader.cursors()
    assert [(2, "too big", record), (9, "no", points(0, 1)[0])] == [
        (one.seq, one.reason, one.record) for one in reader.rejections("wandb")
    ]
    assert [] == reader.rejections("csv")


def test_readers_read_while_it_is_written(folder, journal):
    """Three readers follow a writer; each sees every record once, in order, and nobody waits."""
    done = threading.Event()
    seen = [[], [], []]

    def follow(into):
        with JournalReader(folder) as reader:
            position = 0
            while position < 5000 and not done.is_set():
                if batch := reader.next_batch(position):
                    into += batch.records
                    position = batch.last

    threads = [threading.Thread(target=follow, args=(into,)) for into in seen]
    for thread in threads:
        thread.start()
    for start in range(0, 5000, 50):
        journal.append(points(start, start + 50))
    for thread in threads:
        thread.join(30)
    done.set()
    for into in seen:
        assert points(0, 5000) == into


def test_reading_does_not_slow_down_with_the_length(folder):
    """The last of 20 000 batches is found by the index: no scan over what was read before."""
    journal = Journal(folder)
    journal._db.execute("BEGIN")
    for number in range(20_000):
        journal.append(points(number, number + 1))
    journal._db.execute("COMMIT")
    journal.close()
    steps = 0

    def count():
        nonlocal steps
        steps += 1

    with JournalReader(folder) as reader:
        reader._db.set_progress_handler(count, 1)
        assert 20_000 == reader.next_batch(19_999).last
    assert steps < 500


# One writer.


def test_a_second_writer_is_refused(folder, journal):
    """In this process or another, as long as the first lives."""
    with pytest.raises(RunInUse, match="another process writes the run in"):
        Journal(folder)
    source = """
        import sys, pathlib
        from tracelet.errors import RunInUse
        from tracelet.journal.store import Journal
        try:
            Journal(pathlib.Path(sys.argv[1]))
        except RunInUse:
            print("refused")
    """
    assert "refused\n" == run_program(source, folder).out
    journal.append(points(0, 1))
    assert is_live(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_a_pipe_in_place_of_the_lock_does_not_block(folder):
    folder.mkdir()
    os.mkfifo(folder / "journal.lock")
    with pytest.raises(JournalError, match=r"journal\.lock"):
        Journal(folder)


def test_a_dead_writer_holds_nothing(folder):
    """The lock goes with the process, however it ends."""
    source = """
        import sys, pathlib, time
        from tracelet.journal.store import Journal
        journal = Journal(pathlib.Path(sys.argv[1]))
        print("open", flush=True)
        time.sleep(60)
    """
    with started(source, folder) as program:
        assert program.stdout.readline()
        assert is_live(folder)
        program.kill()
        program.wait(10)
    assert not is_live(folder)
    Journal(folder).close()


def test_a_closed_journal_is_not_live(folder):
    written(folder, 1)
    assert not is_live(folder)


# Damage.


def test_a_damaged_batch_is_named_and_stepped_over(folder):
    """One byte is wrong in the middle: all other batches come back, and the damage has its numbers."""
    written(folder, 5)
    db = sqlite3.connect(folder / "journal.db")
    with db:
        (data,) = db.execute("SELECT data FROM batches WHERE first = 21").fetchone()
        flipped = data[:40] + bytes([data[40] ^ 1]) + data[41:]
        db.execute("UPDATE batches SET data = ? WHERE first = 21", (flipped,))
    db.close()
    found, damage = whole(folder)
    assert points(0, 20) + points(30, 50) == found
    assert ["records 21 to 30 are damaged (checksum)"] == damage


@pytest.mark.parametrize("last", ["text", b"bytes", 0.5])
def test_a_damaged_type_of_a_number_costs_nothing(folder, last):
    """A turned bit in a row changes it, which SQLite's own statements refuse."""
    written(folder, 3)
    for statements in (
        [("UPDATE sqlite_master SET sql = replace(sql, ' STRICT', '') WHERE name = 'batches'", ())],
        [
            ("UPDATE batches SET last = ?, data = substr(data, 2) WHERE first > 1", (last,)),
            ("UPDATE sqlite_master SET sql = sql || ' STRICT' WHERE name = 'batches'", ()),
        ],
    ):
        with contextlib.closing(sqlite3.connect(folder / "journal.db", isolation_level=None)) as database:
            database.execute("PRAGMA writable_schema = ON")
            for statement in statements:
                database.execute(*statement)
    found, damage = whole(folder)
    assert points(0, 10) == found
    assert ["records 11 to 11", "records 12 to 20", "records 21 to 21"] == [text[:16] for text in damage]
    with JournalReader(folder) as reader:
        assert 21 <= reader.last()


def test_a_damaged_name_of_a_table_is_said(folder):
    """SQLite's message quotes it, and Python cannot decode the message."""
    written(folder, 1)
    path = folder / "journal.db"
    path.write_bytes(path.read_bytes().replace(b"cursors", b"curs\xc7rs").replace(b"CREATE TABLE", b"CREATE\xffTABLE"))
    with pytest.raises(JournalError, match="journal"), JournalReader(folder) as reader:
        reader.last()


def test_records_of_a_later_version_are_named(folder):
    """A kind that this version does not know is damage with a reason, not an exception."""
    import msgspec

    written(folder, 3)
    data = msgspec.msgpack.encode([["hologram", 1, 2]])
    db = sqlite3.connect(folder / "journal.db")
    with db:
        db.execute("UPDATE batches SET data = ?, checksum = ? WHERE first = 11", (data, zlib.crc32(data)))
    db.close()
    found, damage = whole(folder)
    assert points(0, 10) + points(20, 30) == found
    assert ["records 11 to 20 are damaged (Invalid value 'hologram' - at `$[0][0]`)"] == damage


@pytest.mark.parametrize(
    ("damage", "read"),
    [
        ("UPDATE meta SET value = x'c1' WHERE key = 'info'", lambda reader: reader.info()),
        ("UPDATE meta SET value = x'c1' WHERE key = 'status'", lambda reader: reader.facts()),
        ("UPDATE meta SET value = x'a4ff' WHERE key = 'status'", lambda reader: reader.facts()),
        ("UPDATE meta SET value = x'01' WHERE key = 'status'", lambda reader: reader.facts()),
        ("UPDATE meta SET value = x'01' WHERE key = 'owner'", lambda reader: reader.facts()),
        ("UPDATE meta SET value = x'01' WHERE key = 'trouble csv'", lambda reader: reader.facts()),
        ("UPDATE cursors SET data = x'c1'", lambda reader: reader.cursors()),
        ("UPDATE rejections SET data = x'c1'", lambda reader: reader.rejections("csv")),
    ],
)
def test_a_damaged_row_beside_the_records_is_said(folder, damage, read):
    """As everything that cannot be read, and not in the words of a decoder; the records are as they were."""
    journal = Journal(folder)
    journal.append(points(0, 3))
    journal.put_info(INFO)
    for key, value in (("status", "finished"), ("trouble csv", None), ("anything", [1])):
        journal.annotate(key, value)
    journal.put_cursor("csv", Cursor(), [Rejection(1, "no", points(0, 1)[0])])
    journal.close()
    with JournalReader(folder) as reader:
        read(reader)
    with sqlite3.connect(folder / "journal.db") as database:
        assert 1 == database.execute(damage).rowcount
    database.close()

    with JournalReader(folder) as reader, pytest.raises(JournalError, match=r"cannot read .*journal\.db"):
        read(reader)
    assert (points(0, 3), []) == whole(folder)


def test_half_a_batch_before_the_damage_counts_rightly(folder):
    """Damage that comes to light after a part was delivered concerns the rest."""
    written(folder, 1)
    db = sqlite3.connect(folder / "journal.db")
    with db:
        db.execute("UPDATE batches SET checksum = 0")
    db.close()
    with JournalReader(folder) as reader:
        batch = reader.next_batch(4)
    assert (5, 10, []) == (batch.first, batch.last, batch.records)


def test_a_torn_log_gives_back_every_whole_batch(folder, tmp_path):
    """A kill or a power failure cuts the end of the write-ahead log anywhere: what is whole before the cut is there,
    nothing else is, and the run goes on from there."""
    journal = Journal(folder)
    journal.append(points(0, 10))
    log = folder / "journal.db-wal"
    sizes = [log.stat().st_size]
    for number in range(1, 6):
        journal.append(points(10 * number, 10 * number + 10))
        sizes.append(log.stat().st_size)
    cuts = sorted({*range(sizes[0], sizes[-1], 499), *sizes, *(size - 1 for size in sizes)})
    for cut in cuts:
        torn = tmp_path / f"torn{cut}"
        torn.mkdir()
        shutil.copyfile(folder / "journal.db", torn / "journal.db")
        (torn / "journal.db-wal").write_bytes(log.read_bytes()[:cut])
        kept = 10 * sum(size <= cut for size in sizes)
        assert (points(0, kept), []) == whole(torn)
        again = Journal(torn)
        assert kept == again.last
        again.append(points(100, 110))
        again.close()
        assert (points(0, kept) + points(100, 110), []) == whole(torn)
        shutil.rmtree(torn)
    journal.close()


def test_a_truncated_file_gives_back_what_is_there(folder):
    """Half of the file is gone: an unbroken run of records from the beginning, and a sentence about the rest."""
    written(folder, 200)
    path = folder / "journal.db"
    os.truncate(path, path.stat().st_size // 2)
    found, (damage,) = whole(folder)
    assert points(0, len(found)) == found
    assert str(path) in damage


def test_what_is_no_journal_is_said(tmp_path):
    with pytest.raises(JournalError, match="cannot open"):
        JournalReader(tmp_path / "nothing")
    (tmp_path / "journal.db").write_bytes(b"no database at all" * 100)
    with JournalReader(tmp_path) as reader, pytest.raises(JournalError, match="cannot read"):
        reader.next_batch(0)
    with pytest.raises(JournalError, match="cannot open"):
        Journal(tmp_path)


def test_nothing_in_it_is_executed(folder):
    """The file holds MessagePack; no pickle is ever made or read."""
    written(folder, 1)
    assert b"cbuiltins" not in (folder / "journal.db").read_bytes()


# Where and for whom.


def test_only_the_user_can_read_it(folder, journal):
    """0700 for the folder, 0600 for what holds values, whatever the umask."""
    journal.append(points(0, 10))
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        assert 0o600 == stat.S_IMODE((folder / name).stat().st_mode), name


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/home/me/runs", True),
        ("/home/me/local/runs", False),
        ("/home/metoo", False),
        ("/data set/runs", True),
        ("/scratch/x", True),
        ("/tmp/x", False),
        ("/bucket/x", True),
    ],
)
def test_a_network_file_system_is_recognised(place, expected, tmp_path):
    """By the longest mount point above the folder; a strange line in the table does no harm."""
    table = tmp_path / "mounts"
    table.write_text(
        "/dev/sda1 / ext4 rw 0 0\n"
        "server:/home /home/me nfs4 rw,vers=4.2 0 0\n"
        "/dev/sdb1 /home/me/local xfs rw 0 0\n"
        "server:/data /data\\040set cifs rw 0 0\n"
        "fs /scratch lustre rw 0 0\n"
        "bucket /bucket fuse.gcsfuse rw 0 0\n"
        "odd\n\n"
    )
    assert expected == on_network(place, mounts=str(table))


def test_no_mount_table_means_local(tmp_path):
    assert not on_network(tmp_path, mounts=str(tmp_path / "none"))


@pytest.mark.parametrize("values", [b"\xa1\xe4\x01", b"\xa1a" + b"\x91" * 100_000 + b"\xc0"], ids=["text", "nesting"])
def test_records_that_cannot_be_decoded_are_damaged_ones(tmp_path, values):
    """Whatever their checksum: the batches around them are read."""
    with contextlib.closing(Journal(tmp_path)) as journal:
        for step in (1, 2, 3):
            journal.append([Scalar("loss", 0.5, step, 1.0)])
    data = b"\x91\x94\xa6params\x81" + values + b"\x01\xa0"
    with sqlite3.connect(tmp_path / "journal.db") as database:
        database.execute("UPDATE batches SET data = ?, checksum = ? WHERE first = 2", (data, zlib.crc32(data)))
    database.close()

    with JournalReader(tmp_path) as reader:
        assert [1, 3] == [record.step for record in reader.records()]
        assert "records 2 to 2 are damaged" in reader.next_batch(1).damaged
