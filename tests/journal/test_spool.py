"""The spool: every content once, under its digest, never changed, nothing half-written left behind."""

import hashlib
import os
import stat
import threading

import pytest

from tracelet.errors import JournalError
from tracelet.journal.spool import Spool
from tracelet.records import Artifact, Embedding, Image, Mesh, Scalar, Table


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "files"


@pytest.fixture
def spool(folder):
    return Spool(folder)


def stored(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def image(data):
    return Image("i", data, "png", 1, 1, 1, 1.0)


def test_bytes_are_kept_under_their_digest(spool, folder):
    file = spool.put(b"abc", ".png")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert (f"{digest}.png", digest, 3, "") == (file.name, file.digest, file.size, file.path)
    assert b"abc" == (folder / digest[:2] / f"{digest}.png").read_bytes()


def test_the_same_bytes_are_one_file(spool, folder):
    for _ in range(3):
        spool.put(b"abc", ".png")
    assert 1 == len(stored(folder))


def test_a_snapshot_is_a_copy(spool, folder, tmp_path):
    """What happens to the source afterwards does not matter; a link in the source is followed."""
    source = tmp_path / "model.pt"
    source.write_bytes(b"abc")
    (tmp_path / "link").symlink_to(source)
    file = spool.snapshot(source, "models/model.pt")
    assert file.digest == spool.snapshot(tmp_path / "link", "x").digest
    source.write_bytes(b"other")
    (path,) = stored(folder)
    assert (b"abc", "models/model.pt", 3) == (path.read_bytes(), file.name, file.size)
    assert path.stat().st_ino != source.stat().st_ino


def test_a_missing_source_leaves_nothing(spool, folder, tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(FileNotFoundError):
            spool.snapshot(tmp_path / "nowhere", "x")
    assert [] == stored(folder)
    assert before == len(os.listdir("/proc/self/fd"))


def test_a_folder_that_cannot_be_written_is_a_journal_error(spool, folder):
    folder.write_bytes(b"in the way")
    with pytest.raises(JournalError, match="cannot write"):
        spool.put(b"abc", "")


def test_payloads_become_files_and_paths(spool, folder, tmp_path):
    """`keep` takes the bytes out of a record; `resolve` says where they are; the rest of the record stays."""
    records = [
        image(b"1"),
        Table("t", b"{}", 1, 1.0),
        Mesh("m", (b"2", b"3"), "{}", 1, 1.0),
        Embedding("e", ("tensors.tsv", "sprite.png"), (b"4", b"5"), 1, 1.0),
        Scalar("s", 1.0, 1, 1.0),
    ]
    kept = [spool.store(record) for record in records]
    resolved = [spool.resolve(record) for record in kept]
    files = [
        resolved[0].data,
        resolved[1].data,
        *resolved[2].parts,
        *resolved[3].parts,
    ]
    contents = []
    for file in files:
        with open(file.path, "rb") as opened:
            contents.append(opened.read())
    assert [b"1", b"{}", b"2", b"3", b"4", b"5"] == contents
    assert [".png", ".json", ".ply", ".ply", ".tsv", ".png"] == [os.path.splitext(file.path)[1] for file in files]
    assert records[4] is resolved[4]
    assert kept == [spool.store(record) for record in kept]


def test_an_artifact_is_resolved_by_its_digests(spool):
    file = spool.put(b"abc", "")
    artifact = Artifact("models/", (type(file)("a/b.pt", file.digest, 3),), 1.0)
    (found,) = spool.resolve(spool.store(artifact)).files
    with open(found.path, "rb") as opened:
        assert (b"abc", "a/b.pt") == (opened.read(), found.name)


def test_many_threads_one_content(spool, folder, tmp_path):
    """The same and different bytes from eight threads: whole files, no leftovers."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * 100_000)
    failures = []

    def work(number):
        try:
            for turn in range(20):
                spool.put(b"same", ".bin")
                spool.put(f"{number} {turn}".encode(), ".bin")
                spool.snapshot(source, "x")
        except BaseException as error:  # noqa: BLE001 - told on the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [] == failures
    assert 8 * 20 + 2 == len(stored(folder))
    for path in stored(folder):
        assert path.name.partition(".")[0] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_only_the_user_can_read_it(spool, folder):
    spool.put(b"abc", ".png")
    assert {0o700} == {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in stored(folder)}
