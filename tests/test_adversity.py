"""What surrounds a run may be hostile: clocks, disks, file systems, names, locales, and people who run a cell again."""

import errno
import os
import shutil
import subprocess
import time

import numpy
import pytest
from backends.faults import Faulty, Gate, assert_balanced, journalled, raises, values
from programs import csv_values, run_program, the_run
from support import until

import tracelet
from tracelet import sync
from tracelet.backends import _registered
from tracelet.backends.memory import MemoryBackend
from tracelet.errors import BackendUnavailable, RunInUse
from tracelet.journal import lock
from tracelet.journal import writer as journal_writer
from tracelet.journal.store import Journal, is_live
from tracelet.records import Image, RunInfo, Scalar


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open()


# Clocks.


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_moves_no_deadline(jump, monkeypatch):
    """By a day, in the middle of an outage: what waits is delivered as soon, stop ends as soon, the order stays."""
    away = Faulty(write=raises(BackendUnavailable("away"), calls=2))
    experiment = tracelet.start_logging(backend=away)
    experiment.log_metric("loss", 0, 0)
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + jump)
    for step in range(1, 100):
        experiment.log_metric("loss", step, step)
    began = time.monotonic()
    while experiment.stats().backends["faulty"].pending:
        assert time.monotonic() - began < 20
        experiment.flush(1)
    experiment.stop(timeout=5)
    assert time.monotonic() - began < 25
    assert list(range(100)) == values(away.records)
    assert jump * 0.9 == pytest.approx((away.records[-1].wall_time - away.records[0].wall_time) * 0.9, abs=60)


# Cells that are run again.


def test_a_cell_that_is_run_again(tmp_path, lib):
    """Start without stop, with the writers of earlier cells alive: each run has what was said while it was the active
    one, from whichever writer, once."""
    writers, runs = [], []
    for cell in range(5):
        memory = MemoryBackend()
        experiment = tracelet.start_logging("notebook", backend=memory, root_logdir=str(tmp_path / "logs"))
        runs.append((experiment, memory))
        writers.append(lib.SummaryWriter(str(tmp_path / "logs")))
        for number, writer in enumerate(writers):
            for step in range(10):
                writer.add_scalar(f"from{number}", cell, step)
    tracelet.stop_logging()
    for writer in writers:
        writer.close()
    for cell, (experiment, memory) in enumerate(runs):
        expected = [(f"from{number}", float(cell), step) for number in range(cell + 1) for step in range(10)]
        assert expected == [(one.tag, one.value, one.step) for one in memory.of(Scalar)]
        assert 10 * (cell + 1) == experiment.stats().submitted == len(journalled(experiment.folder))
    assert 5 == len({experiment.run_id for experiment, _ in runs})


# Disks.


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte in memory; gives its folder, and what mounts it with other options."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a file system here")
    yield place, lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)
    tracelet.stop_logging(timeout=10)
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_for_journal_and_spool(small_disk, tmp_path):
    """Pictures fill it, the numbers after them find no room. The backend, on another disk, gets everything; once there
    is room again, the journal has it as well."""
    place, remount = small_disk
    experiment = tracelet.start_logging(backend="csv", dir=place, config={"dir": str(tmp_path / "out")})
    for step in range(3):
        experiment.log_table("noise", [[os.urandom(100_000).hex()]], step, columns=["text"])
    assert experiment.flush(30)
    for step in range(40_000):
        experiment.log_metric("loss", step, step)
        if step % 10_000 == 9_999:
            experiment.log_table("noise", [[os.urandom(100_000).hex()]], step, columns=["text"])
    assert experiment.flush(60)
    stats = experiment.stats()
    assert_balanced(stats)
    assert (40_007, 0) == (stats.backends["csv"].delivered, stats.backends["csv"].dropped)
    assert len(journalled(experiment.folder)) < 40_007
    remount("size=64m")
    experiment.stop()
    assert {} == experiment.stats().causes
    assert list(range(40_000)) == [one.value for one in journalled(experiment.folder) if isinstance(one, Scalar)]
    assert 7 == len(list((tmp_path / "out" / "tables").glob("noise*")))
    assert [] == list((tmp_path / "home").glob("tracelet-*"))


def test_a_disk_that_becomes_read_only(small_disk):
    """As after an error of the disk: backends get everything, and the journal as well once it may be written."""
    place, _ = small_disk
    memory = MemoryBackend()
    experiment = tracelet.start_logging(backend=memory, dir=place)
    experiment.log_metric("loss", 0, 0)
    assert experiment.flush(10)
    os.sync()
    blocked = experiment._orchestrator._writer._journal._db
    blocked.execute("PRAGMA query_only=ON")  # a file system with files open for writing refuses to be remounted
    for step in range(1, 1000):
        experiment.log_metric("loss", step, step)
    assert experiment.flush(30)
    assert list(range(1000)) == values(memory.records)
    assert 1 == len(journalled(experiment.folder))
    blocked.execute("PRAGMA query_only=OFF")
    experiment.stop()
    assert list(range(1000)) == values(journalled(experiment.folder))


def test_a_read_only_place_for_runs(small_disk):
    """Nothing can be kept: the run begins, its backend gets everything, the rest is counted."""
    place, remount = small_disk
    remount("ro")
    memory = MemoryBackend()
    with tracelet.start_logging(backend=memory, dir=place) as experiment:
        for step in range(100):
            experiment.log_metric("loss", step, step)
        experiment.log_image("picture", [[0.0, 1.0]], 0, dataformats="HW")
    assert list(range(100)) == values(memory.of(Scalar))
    assert 101 == experiment.stats().backends["memory"].delivered
    assert_balanced(experiment.stats())


@pytest.mark.parametrize(("place", "reason"), [("/sys", "Permission denied"), ("/proc", "No such file or directory")])
def test_a_folder_for_files_that_cannot_be_written(place, reason, memory, monkeypatch, caplog):
    """While images wait, the cause is said once, whatever the next temporary file is called; nothing is lost."""
    monkeypatch.setattr(journal_writer, "_RETRY_EVERY", 0.001)
    experiment = tracelet.start_logging(backend=memory)
    files = experiment.folder / "files"
    files.symlink_to(place)
    for step in range(10):
        experiment.log_image("picture", numpy.full((2, 2, 3), step, numpy.uint8), step)
        assert experiment.flush(30)
    warned = [record.getMessage() for record in caplog.records if "cannot write" in record.getMessage()]
    assert [f"tracelet: cannot write {files}: {reason}"] == [text.partition(". Logging")[0] for text in warned]
    files.unlink()
    experiment.stop(timeout=10)

    assert list(range(10)) == [record.step for record in memory.records]
    assert list(range(10)) == [record.step for record in journalled(experiment.folder)]


def test_created_folders_are_private_whatever_the_umask(tmp_path):
    """Also the parents of a run's folder, and all that csv makes below it."""
    before = os.umask(0)
    try:
        experiment = tracelet.start_logging(dir=tmp_path / "new" / "runs", backend="csv")
        experiment.log_image("deep/picture", numpy.zeros((2, 2, 3), numpy.uint8), 1)
        experiment.stop()
    finally:
        os.umask(before)
    made = [tmp_path / "new", *(path for path in (tmp_path / "new").rglob("*") if path.is_dir())]

    assert 8 < len(made)
    assert {0o700} == {path.stat().st_mode & 0o777 for path in made}


def test_a_file_system_without_locks(monkeypatch):
    """As some NFS servers: the run is written all the same, and its heartbeat tells that it lives."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    memory = MemoryBackend()
    experiment = tracelet.start_logging(backend=memory)
    for step in range(100):
        experiment.log_metric("loss", step, step)
    assert experiment.flush(10)
    assert is_live(experiment.folder)
    experiment.stop()
    assert list(range(100)) == values(memory.records) == values(journalled(experiment.folder))


# Folders that are deleted.


def delete(folder):
    shutil.rmtree(folder.parent.parent)


def delete_the_journal(folder):
    for path in folder.glob("journal.*"):
        path.unlink()


@pytest.mark.parametrize("delivery", ["thread", "process"])
@pytest.mark.parametrize("deleted", [delete, delete_the_journal])
def test_a_folder_that_is_deleted_costs_no_record(deleted, delivery, monkeypatch, caplog):
    """As by `git clean`: the journal is restored with all records, said once; csv has the whole run, and what a backend
    lacks can be delivered later, as the last line says."""
    monkeypatch.setattr(Absent, "is_absent", True)
    monkeypatch.setitem(_registered, "absent", Absent)
    backends = "csv,absent" if delivery == "thread" else "csv"
    experiment = tracelet.start_logging(backend=backends, delivery=delivery, connect_timeout=0.5, run_id="held")
    for step in range(100):
        experiment.log_metric("loss", step, step)
    assert experiment.flush(30)
    deleted(experiment.folder)
    for step in range(100, 200):
        experiment.log_metric("loss", step, step)
    until(lambda: (experiment.folder / "journal.db").exists())
    with pytest.raises(RunInUse):
        Journal(experiment.folder)
    for step in range(200, 300):
        experiment.log_metric("loss", step, step)
    assert experiment.flush(30)
    experiment.stop(timeout=5)

    assert list(range(300)) == values(journalled(experiment.folder)) == csv_values(experiment.folder, "loss")
    stats = experiment.stats()
    assert_balanced(stats)
    assert (300, 300, {}) == (stats.submitted, stats.backends["csv"].delivered, stats.causes)
    assert 1 == sum("was deleted or moved while its run is active" in line.getMessage() for line in caplog.records)
    if delivery == "thread":
        assert "300 records are not delivered yet; they are stored in the journal" in caplog.text
        Absent.is_absent = False
        assert sync.deliver(experiment.folder, ["absent"]).complete


class Absent(MemoryBackend):
    """A backend whose server does not answer."""

    name = "absent"
    is_absent = True

    def open(self, run):
        if self.is_absent:
            raise BackendUnavailable("absent: no answer")


def test_a_folder_that_another_run_took_is_left_to_it(tmp_path, gate, caplog):
    """Deleted and begun anew by another process: its journal stays its own, and the end counts what is lost here."""
    reached = Faulty()
    experiment = tracelet.start_logging(backend=[reached, Absent()], connect_timeout=0.5)
    experiment.log_metric("loss", 0, 0)
    assert experiment.flush(30)
    other = Journal(tmp_path / "other")
    other.put_info(RunInfo(run_id="r", project=None, name=None, folder="/x", created=1.5))
    other.append([Scalar("other", 1.0, 1, 1.0)])
    experiment.folder.rename(tmp_path / "away")
    (tmp_path / "other").rename(experiment.folder)
    for step in range(1, 100):
        experiment.log_metric("loss", step, step)
    experiment.stop(timeout=5)
    stats = experiment.stats()
    assert_balanced(stats)
    assert list(range(100)) == values(reached.records)
    assert (100, 0) == (stats.backends["absent"].dropped, stats.backends["absent"].pending)
    assert "100 records are lost: the journal was deleted" in caplog.text
    assert "stored in the journal" not in caplog.text.partition("records are lost")[2]
    other.append([Scalar("other", 2.0, 2, 1.0)])
    assert [1.0, 2.0] == values(journalled(experiment.folder))
    other.close()


# The bound of memory.


def test_scalars_are_not_lost_to_media(monkeypatch, gate, caplog):
    """A queue full of pictures, and a disk that takes nothing: pictures are dropped, each counted, no scalar is; said
    once."""
    monkeypatch.setenv("TRACELET_QUEUE_BYTES", str(2**20))
    monkeypatch.setenv("TRACELET_QUEUE_TIMEOUT", "0.2")
    backend = Faulty(write=gate)
    experiment = tracelet.start_logging(backend=backend)
    obstacle = experiment.folder / "files"
    obstacle.write_bytes(b"no folder")
    for step in range(100):
        experiment.log_table("big", [[os.urandom(50_000).hex()]], step, columns=["text"])
        experiment.log_metric("loss", step, step)
    dropped = experiment.stats().backends["faulty"].dropped
    assert 0 < dropped < 100
    assert 1 == sum("records are dropped" in record.getMessage() for record in caplog.records)
    obstacle.unlink()
    gate._opened.set()
    assert experiment.flush(30)
    experiment.stop()
    assert list(range(100)) == values(backend.of(Scalar))
    stats = experiment.stats()
    assert_balanced(stats)
    assert (200, 200 - dropped, dropped) == (stats.submitted, stats.backends["faulty"].delivered, dropped)
    assert 200 - dropped == len(backend.records)
    unkept = stats.causes.get("delivered, but not stored in the journal: the disk was not writable", 0)
    assert 200 - dropped == len(journalled(experiment.folder)) + unkept
    assert dropped == sum(count for cause, count in stats.causes.items() if cause.startswith("dropped"))


# Names and locales.


@pytest.mark.parametrize("tag", ["x" * 10_000, "a/" * 3000 + "b", "日本" * 3000, "x." * 200 + "png"])
def test_a_very_long_tag(tag):
    """No file system takes it for a name: numbers and pictures arrive under it all the same."""
    with tracelet.start_logging(backend=["csv", "memory"]) as experiment:
        experiment.log_metric(tag, 1.0, 1)
        experiment.log_image(tag, [[0.0, 1.0]], 1, dataformats="HW")
        experiment.log_artifact(b"x", "models/m.bin")
    memory = experiment.get_backend("memory")
    assert (tag, tag) == (memory.of(Scalar)[0].tag, memory.of(Image)[0].tag)
    assert (3, 0) == (experiment.stats().backends["csv"].delivered, experiment.stats().backends["csv"].rejected)
    assert [1.0] == csv_values(experiment.folder, tag)


@pytest.mark.parametrize("locale", ["C", "POSIX", "de_DE.UTF-8"])
def test_a_locale_changes_nothing(locale):
    """Points are points, not commas, and names are UTF-8, whatever the program's locale."""
    source = r"""
        import locale, tracelet
        try:
            locale.setlocale(locale.LC_ALL, "")
        except locale.Error:
            pass
        with tracelet.start_logging("gr\u00f6\u00dfe", backend="csv", tags=["\u65e5"]) as experiment:
            experiment.log_metric("verlust/gr\u00f6\u00dfe", 0.5, 1)
            experiment.log_text("notiz", "\u65e5\u672c \u00fc")
    """
    ended = run_program(source, LC_ALL=locale, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert 0 == ended.returncode, ended.err
    folder = the_run()
    assert [0.5] == csv_values(folder, "verlust/größe")
    assert "日本 ü" in (folder / "csv" / "texts.jsonl").read_text(encoding="utf-8")
    assert "größe" in (folder / "csv" / "run.json").read_text(encoding="utf-8")


# A store that is ahead of the journal.


def test_what_a_store_has_beyond_the_journal_is_not_taken_for_what_is_said_now(gate):
    """Killed on a full disk, the journal lost what the store had got from memory; those numbers are given anew."""
    with tracelet.start_logging(run_id="killed") as experiment:
        for step in range(300):
            experiment.log_metric("loss", step, step)

    class Ahead(Faulty):
        def open(self, run):
            super().open(run)
            return 500

        def durable(self):
            return super().durable() if self.records else 500

    ahead = Ahead(open=gate)
    again = tracelet.start_logging(run_id="killed", backend=ahead, resume=True, connect_timeout=0.2)
    for step in range(300, 400):
        again.log_metric("loss", step, step)
    again.flush(1)
    gate._opened.set()
    again.stop()
    assert list(range(300, 400)) == values(ahead.records)
