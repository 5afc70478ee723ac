"""Torn and damaged event files: every whole record is imported, and what is lost is named."""

import os
import struct

import hypothesis
import pytest
from event_files import BEGUN, event, framed, records, steps, write
from hypothesis import strategies
from tensorboard.compat.proto.event_pb2 import Event

from tracelet.errors import JournalError
from tracelet.importer import import_run, reader
from tracelet.importer.tfrecord import CorruptRange, Frame, frames
from tracelet.importer.windows import PlainWindow
from tracelet.journal.store import Journal
from tracelet.records import Embedding, Scalar
from tracelet.runs.summary import summarise

FIVE = [event(step) for step in range(5)]
WHOLE = b"".join(FIVE)
ENDS = [sum(map(len, FIVE[: count + 1])) for count in range(5)]


def kept(path, **more):
    return [one.data for one in frames(path, **more) if isinstance(one, Frame)]


def lost(path):
    return [one for one in frames(path) if isinstance(one, CorruptRange)]


def data(piece):
    return piece[12:-4]


def test_a_file_torn_at_any_byte_gives_what_is_whole(tmp_path):
    """The cut is named; nothing else is."""
    path = write(tmp_path)
    for cut in range(ENDS[3] + 1, ENDS[4]):
        path.write_bytes(WHOLE[:cut])
        assert [data(piece) for piece in FIVE[:4]] == kept(path)
        (damage,) = lost(path)
        assert (ENDS[3], ENDS[3]) == damage[:2]
        assert f"cut off after {cut - ENDS[3]} bytes" in damage.reason


def test_a_byte_that_changed_costs_one_record(tmp_path):
    """Wherever it stands, in the length, the data or a checksum: the records before and behind are read."""
    path = write(tmp_path)
    for at in range(ENDS[1], ENDS[2]):
        path.write_bytes(WHOLE[:at] + bytes([WHOLE[at] ^ 0x10]) + WHOLE[at + 1 :])
        assert [data(FIVE[place]) for place in (0, 1, 3, 4)] == kept(path)
        (damage,) = lost(path)
        assert (ENDS[1], ENDS[2]) == damage[:2]


@pytest.mark.parametrize("junk", [b"\0" * 3_000_000, b"junk", os.urandom(5000), FIVE[0][:20]], ids=len)
def test_junk_between_records_is_passed_over(tmp_path, junk):
    """Zeros of a power cut, text, noise, a record that was cut off before another process went on."""
    path = write(tmp_path, *FIVE[:2], junk, *FIVE[2:])
    assert [*map(data, FIVE)] == kept(path)
    assert sum(map(len, FIVE[:2])) == lost(path)[0].start


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"these are no records at all"])
def test_junk_at_the_end_is_told(tmp_path, tail):
    path = write(tmp_path, *FIVE, tail)
    assert [*map(data, FIVE)] == kept(path)
    assert [(ENDS[4], ENDS[4])] == [damage[:2] for damage in lost(path)]


@pytest.mark.parametrize("chunk", [1, 40, 64, 1000])
def test_the_size_of_a_portion_changes_nothing(tmp_path, chunk):
    """Records larger than a portion, and cut by its edge, are whole."""
    pieces = [framed(os.urandom(size)) for size in (0, 1, 300, 20_000, 5, 70)]
    path = write(tmp_path, *pieces)
    assert [*map(data, pieces)] == kept(path, chunk=chunk)
    assert [*map(data, pieces)][3:] == kept(path, start=sum(map(len, pieces[:3])), chunk=chunk)


@hypothesis.given(strategies.lists(strategies.binary(max_size=40) | strategies.sampled_from(FIVE), max_size=8))
@hypothesis.settings(max_examples=100)
def test_whatever_stands_in_a_file_is_read_to_its_end(tmp_path_factory, pieces):
    """No error, no record that was not written, and no whole one left out that begins where one ended."""
    path = write(tmp_path_factory.mktemp("any"), *pieces)
    found = list(frames(path))
    assert {one.data for one in found if isinstance(one, Frame)} <= {data(piece) for piece in FIVE}
    leading = [data(piece) for piece in pieces[: next((n for n, one in enumerate(pieces) if one not in FIVE), 8)]]
    assert leading == kept(path)[: len(leading)]
    assert all(one.end >= one.start for one in found)


def test_damage_is_named_by_file_and_offset(tmp_path):
    """A record that is no event, and one that nobody understands, cost themselves alone."""
    strange = framed(bytes.fromhex("2a0b0a090a014c4a04") + b"\x0a\x00" + b"\xff\xff")
    path = write(tmp_path / "exp" / "val", FIVE[0], framed(b"no event"), FIVE[1], strange, FIVE[2], FIVE[3][:9])
    done = import_run(tmp_path / "exp", base=tmp_path / "runs")
    assert [0, 1, 2] == steps(records(done.folder))
    named = f"val/{path.name}, byte "
    assert [f"{named}{ENDS[0]}", f"{named}{ENDS[0] + 24 + len(FIVE[1])}", named] == [
        text.partition(":")[0] if number < 2 else text[: len(named)] for number, text in enumerate(done.damage)
    ]
    assert "cut off after 9 bytes" in done.damage[-1]


def test_a_summary_that_contradicts_itself_is_named(tmp_path):
    """A text without a text, a curve without rows, a scalar of no type: said, and passed over."""

    broken = []
    for plugin in ("scalars", "pr_curves", "custom_scalars", "mesh", "hparams", "tensor"):
        made = Event(step=1, wall_time=BEGUN + 1.0)
        value = made.summary.value.add(tag="t")
        value.metadata.plugin_data.plugin_name = plugin
        value.metadata.plugin_data.content = b"\xff\xff"
        value.tensor.dtype = 99
        broken.append(framed(made.SerializeToString()))
    write(tmp_path / "exp", FIVE[0], *broken, FIVE[1])
    done = import_run(tmp_path / "exp", base=tmp_path / "runs")
    assert [0, 1] == steps(records(done.folder))
    assert len(broken) == len(done.damage)


def test_a_file_that_shrank_is_not_read_again(tmp_path):
    """Its records are in the run; what stands there now is another story, told once."""
    path = write(tmp_path / "exp", *FIVE)
    done = import_run(tmp_path / "exp", base=tmp_path / "runs")
    path.write_bytes(FIVE[4])
    again = import_run(tmp_path / "exp", base=tmp_path / "runs")
    assert (0, 1) == (again.records, len(again.damage))
    assert () == import_run(tmp_path / "exp", base=tmp_path / "runs").damage
    assert [0, 1, 2, 3, 4] == steps(records(done.folder))


@pytest.mark.parametrize("good_reads", [0, 3])
def test_a_file_that_could_not_be_read_is_read_later(tmp_path, monkeypatch, good_reads):
    """A disk fails, a permission is missing: the next import reads the rest, also if the file has not changed."""
    monkeypatch.setattr(reader, "_MAX_BUFFER", 64)
    path = write(tmp_path / "exp", *FIVE)
    write(tmp_path / "exp" / "val", *FIVE)
    read, remaining = PlainWindow.read, [good_reads]

    def failing(self, offset, length):
        if self._path == path:
            remaining[0] -= 1
            if remaining[0] < 0:
                raise OSError(5, "Input/output error")
        return read(self, offset, length)

    with monkeypatch.context() as patch:
        patch.setattr(PlainWindow, "read", failing)
        first = import_run(tmp_path / "exp", base=tmp_path / "runs")
    assert ["Input/output error"] == [damage.rpartition(": ")[2] for damage in first.damage]
    found = records(import_run(tmp_path / "exp", base=tmp_path / "runs").folder)

    assert [0, 0, 1, 1, 2, 2, 3, 3, 4, 4] == sorted(steps(found))
    assert 0 == import_run(tmp_path / "exp", base=tmp_path / "runs").records


def test_an_embedding_that_could_not_be_read_is_read_later(tmp_path, monkeypatch):
    embedding(tmp_path / "logs")
    with monkeypatch.context() as patch:
        patch.setattr(reader, "_bytes", lambda path: (tmp_path / "missing").read_bytes())
        assert 1 == len(import_run(tmp_path / "logs", base=tmp_path / "runs").damage)
    again = import_run(tmp_path / "logs", base=tmp_path / "runs")
    assert [Embedding] == [type(record) for record in records(again.folder) if not isinstance(record, Scalar)]
    assert 0 == import_run(tmp_path / "logs", base=tmp_path / "runs").records


def test_a_damaged_position_is_an_error(tmp_path):
    """It says what to do; nothing is imported twice."""
    write(tmp_path / "exp", *FIVE)
    done = import_run(tmp_path / "exp", base=tmp_path / "runs")
    journal = Journal(done.folder)
    journal.annotate("import", {"last": "five"})
    journal.close()
    with pytest.raises(JournalError, match=r"position of the last import is damaged.*tracelet rm"):
        import_run(tmp_path / "exp", base=tmp_path / "runs")
    assert [0, 1, 2, 3, 4] == steps(records(done.folder))


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"hello"])
def test_a_file_without_a_record_makes_no_run(tmp_path, content):
    write(tmp_path / "exp", content)
    done = import_run(tmp_path / "exp", base=tmp_path / "runs")
    assert (0, False) == (done.records, done.folder.exists())


def test_an_impossible_time_is_not_the_start_or_the_end_of_the_run(tmp_path):
    """The points keep it, as TensorBoard does; the run began and ended with those that have a time."""
    times = (BEGUN + 5.0, BEGUN + 9.0, float("inf"), float("nan"))
    head = Event(wall_time=float("inf"), file_version="brain.Event:2").SerializeToString()
    write(tmp_path / "exp", framed(head), *(event(step, wall_time=time) for step, time in enumerate(times)))

    run = import_run(tmp_path / "exp", base=tmp_path / "runs")

    summary = summarise(run.folder)
    assert (4.0, BEGUN + 9.0) == (summary.duration, summary.seen)
    assert str([*times]) == str([record.wall_time for record in records(run.folder)])


@pytest.mark.parametrize("value", [0.1, float("nan"), float("inf"), -float("inf"), -0.0, 1e-45])
def test_values_are_the_float32_of_the_file(tmp_path, value):
    """To the bit."""
    write(tmp_path / "exp", event(2**62, value), event(-1, value))
    (one, two) = records(import_run(tmp_path / "exp", base=tmp_path / "runs").folder)
    assert isinstance(one, Scalar)
    assert [2**62, -1] == [one.step, two.step]
    assert struct.pack("f", value) == struct.pack("f", one.value)


def embedding(logs):
    """Write the files of an embedding beside an event file, and return their folder."""
    write(logs, event(1))
    (logs / "projector_config.pbtxt").write_text("embeddings {}")
    folder = logs / "00001" / "words"
    folder.mkdir(parents=True)
    (folder / "tensors.tsv").write_text("1\t2\n")
    return folder


@pytest.mark.parametrize("name", ["tensors.tsv", "metadata.tsv", "sprite.png", "words"])
def test_a_link_beside_event_files_imports_no_other_file(name, tmp_path, caplog):
    """An unpacked archive may link any file of this user; the link is skipped with a warning, the rest imported."""
    logs = tmp_path / "logs"
    folder = embedding(logs)
    for secret in ("tensors.tsv", "secret"):
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        (tmp_path / "elsewhere" / secret).write_text("private key")
    link = folder if name == "words" else folder / name
    if name == "words":
        (folder / "tensors.tsv").unlink()
        folder.rmdir()
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / "elsewhere" / "secret")

    run = import_run(logs, base=tmp_path / "runs")

    assert run is not None
    assert f"skipped {link}, because it is a link" in caplog.text
    stored = [path.read_bytes() for path in run.folder.rglob("*") if path.is_file()]
    assert not [content for content in stored if b"private key" in content]
    found = records(run.folder)
    assert 1 == len([record for record in found if isinstance(record, Scalar)])
    embeddings = [record.names for record in found if isinstance(record, Embedding)]
    assert ([("tensors.tsv",)] if name in ("metadata.tsv", "sprite.png") else []) == embeddings
