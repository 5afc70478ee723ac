"""Hostile and compressed files: bounded memory, and no file ends the import of another."""

import gzip
import inspect
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from event_files import BEGUN, event, framed, imported, records, steps, write
from programs import run_program
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorflow_files import mesh_part, strings, summary, tensor

from tracelet.capture.tensorboard.checksum import masked_crc32c
from tracelet.importer import experiments, import_run, tfrecord
from tracelet.journal.store import JournalReader
from tracelet.records import Audio, RawSummary, Scalar

IMPORT = """
    import resource, sys
    from pathlib import Path
    from tracelet.importer import import_run

    import_run(Path(sys.argv[1]) / "warm", base=Path(sys.argv[2]))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2)
    done = import_run(Path(sys.argv[1]) / "exp", base=Path(sys.argv[2]))
    print(done.folder)
    """


def filled(tag, count, plugin="tensor"):
    """A tensor of `count` elements, written as one."""
    value = tensor(tag, np.int32(1), plugin)
    value.tensor.tensor_shape.dim.add(size=count)
    return value


def long_record(data):
    """As `framed`, of which TensorBoard's own checksum would take seconds."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def sparse(folder):
    """A record of 3 GiB, which takes no disk."""
    path = write(folder, event(0))
    length = struct.pack("<Q", 3 * 2**30)
    with open(path, "ab") as file:
        file.write(length + struct.pack("<I", masked_crc32c(length)))
        file.truncate(file.tell() + 3 * 2**30 + 4)
        file.seek(0, os.SEEK_END)
        file.write(event(1))


def zeros(folder):
    """A gzip file of 400 MB of zeros between two events."""
    member = gzip.compress(bytes(64 * 10**6), 1)
    path = write(folder, gzip.compress(event(0)), *[member] * 6, gzip.compress(event(1)))
    path.rename(f"{path}.gz")


def empty_messages(folder):
    """Six million summary values without content, in 12 MB."""
    values = b"\x0a\x00" * 6_000_000
    varint = bytes([len(values) >> shift & 0x7F | 0x80 for shift in (0, 7, 14)]) + bytes([len(values) >> 21])
    write(folder, event(0), long_record(b"\x2a" + varint + values), event(1))


HOSTILE = {
    "one value for a large tensor": lambda folder: write(folder, event(0), summary(0, filled("t", 2**29)), event(1)),
    "one value for a large curve": lambda folder: write(
        folder, event(0), summary(0, filled("t", 2**29, "pr_curves")), event(1)
    ),
    "many tensors in one event": lambda folder: write(
        folder, event(0), summary(0, *(filled(f"t{number}", 2**18 - number) for number in range(700))), event(1)
    ),
    "a long record": sparse,
    "much from gzip": zeros,
    "many messages": empty_messages,
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_memory_is_bounded(tmp_path, make):
    """The import needs less than 300 MB more, and reads what is before and after the hostile bytes."""
    write(tmp_path / "warm", event(0), summary(0, filled("t", 2)))
    make(tmp_path / "exp")
    program = run_program(IMPORT, tmp_path, tmp_path / "runs")
    assert (0, "") == (program.returncode, program.err)
    assert [0, 1] == steps(records(Path(program.out.strip())))


BROKEN = {
    "a scalar of no type": tensor("half", np.float32(1), "scalars"),
    "a face of 300 corners": mesh_part("m", 2, np.zeros((1, 1, 300), "i4"), (1, 2)),
    "a number that is too large": tensor("n", np.uint8(1), "scalars"),
    "a curve of two rows": tensor("c", np.zeros((2, 3)), "pr_curves"),
    "a shape of another size": tensor("s", np.zeros(4), "tensor"),
    "a histogram with a gap": tensor("g", np.array([[0.0, 1, 2], [5, 6, 7]]), "histograms"),
    "an image without a size": strings("i", [b"4"], "images"),
    "a histogram with other counts": Summary.Value(tag="o"),
}
BROKEN["a scalar of no type"].tensor.dtype = 99
BROKEN["a number that is too large"].tensor.ClearField("tensor_content")
BROKEN["a number that is too large"].tensor.int_val[:] = [2**30]
BROKEN["a shape of another size"].tensor.tensor_shape.dim[0].size = 2**62
BROKEN["a histogram with other counts"].histo.bucket.append(1)


@pytest.mark.parametrize("value", BROKEN.values(), ids=BROKEN)
def test_a_value_that_contradicts_itself_is_kept_raw_and_named(tmp_path, value):
    """The other values of its event are read."""
    loss = Summary.Value(tag="loss", simple_value=1)
    if "mesh" in value.metadata.plugin_data.plugin_name:
        write(tmp_path / "exp", summary(0, mesh_part("m", 1, np.zeros((1, 3, 3), "f4"), (1, 2)), value, loss))
    else:
        write(tmp_path / "exp", summary(0, loss, value, loss))
    done = import_run(tmp_path / "exp", base=tmp_path / "runs")
    found = records(done.folder)
    assert value.ByteSize() in [one.data.size for one in found if isinstance(one, RawSummary)]
    assert any(isinstance(one, Scalar) and one.tag == "loss" for one in found)
    assert ["imported as raw" in text for text in done.damage] == [True]


def test_names_with_nul_are_imported(tmp_path):
    """Also where a name becomes a part of a file's name."""
    odd = Summary.Value(tag="s\0o", audio=Summary.Audio(content_type="audio/w\0v", encoded_audio_string=b"RIFF"))
    write(tmp_path / "exp", summary(0, Summary.Value(tag="x\0y", simple_value=1), odd), event(1))
    scalar, audio, _ = imported(tmp_path / "exp", tmp_path / "runs")
    assert ("x\0y", Audio, "s\0o", "wav") == (scalar.tag, type(audio), audio.tag, audio.format)


@pytest.mark.parametrize("wall_time", [float("inf"), float("-inf"), float("nan"), 1e300])
def test_any_wall_time_is_imported(tmp_path, wall_time):
    """A time outside the calendar is not the run's: no vendor could store it."""
    write(tmp_path / "exp", event(0, wall_time=wall_time), event(1))
    done = import_run(tmp_path / "exp", base=tmp_path / "runs")
    assert [0, 1] == sorted(steps(records(done.folder)))
    assert 0 == import_run(tmp_path / "exp", base=tmp_path / "runs").records
    with JournalReader(done.folder) as reader:
        assert reader.info().created in (0.0, BEGUN + 1.0)
        assert BEGUN + 1.0 == reader.facts()["ended"]


def test_much_damage_is_counted(tmp_path):
    """A hundred places of a file are named; a million would fill the memory."""
    write(tmp_path / "exp", event(0), *[framed(b"no event")] * 250, event(1))
    damage = import_run(tmp_path / "exp", base=tmp_path / "runs").damage
    assert 101 == len(damage)
    assert damage[-1].endswith("150 more corrupt ranges")


def test_a_pipe_does_not_block(tmp_path):
    """Nobody may ever write to it."""
    write(tmp_path / "exp", event(0))
    os.mkfifo(tmp_path / "exp" / "events.out.tfevents.1700000009.pipe")
    done = import_run(tmp_path / "exp", base=tmp_path / "runs")
    assert (1, True) == (done.records, "not a regular file" in done.damage[0])


# Compressed files


def zipped(path, data):
    path.unlink(missing_ok=True)
    path.with_name(path.name.removesuffix(".gz") + ".gz").write_bytes(gzip.compress(data))


def test_gzip_is_read(tmp_path):
    """Also in several members, with damage as in a plain file, and where the name does not say so."""
    pieces = [gzip.compress(event(0) + event(1)[:9]), gzip.compress(event(1)[9:] + b"junk"), gzip.compress(event(2))]
    write(tmp_path / "exp", *pieces, bytes(100))
    done = import_run(tmp_path / "exp", base=tmp_path / "runs")
    assert [0, 1, 2] == steps(records(done.folder))
    assert ["no valid record; skipped 4 bytes" in text for text in done.damage] == [True]


def test_a_cut_gzip_file_gives_what_is_whole(tmp_path):
    data = gzip.compress(b"".join(event(step, value=np.random.rand()) for step in range(100)))
    write(tmp_path / "exp", data[: len(data) // 2])
    done = import_run(tmp_path / "exp", base=tmp_path / "runs")
    found = steps(records(done.folder))
    assert found == [*range(len(found))]
    assert 10 < len(found) < 90
    assert ["the gzip data is cut off" in text for text in done.damage] == [True]


@pytest.mark.parametrize("chunk", [1, 50, 1 << 20])
def test_the_size_of_a_portion_changes_nothing_in_gzip(tmp_path, chunk):
    pieces = [framed(os.urandom(size)) for size in (0, 1, 300, 20_000, 5)]
    wrong = framed(b"x" * 40)[:-1] + b"!"
    path = write(tmp_path, gzip.compress(b"".join([*pieces[:2], wrong, *pieces[2:]])))
    plain = write(tmp_path / "plain", *pieces[:2], wrong, *pieces[2:])
    assert [*tfrecord.frames(plain)] == [*tfrecord.frames(path, chunk=chunk)]
    start = len(pieces[0] + pieces[1])
    assert [*tfrecord.frames(plain, start)] == [*tfrecord.frames(path, start, chunk=chunk)]


def test_files_compressed_after_an_import_add_nothing(tmp_path):
    """They are the same run and the same series; a copy beside the original is not read."""
    path = write(tmp_path / "exp", event(0), event(1))
    first = import_run(tmp_path / "exp", base=tmp_path / "runs")
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    beside = import_run(tmp_path / "exp", base=tmp_path / "runs")
    zipped(path, event(0) + event(1) + event(2))
    after = import_run(tmp_path / "exp", base=tmp_path / "runs")
    assert [(first.folder, 0, ()), (first.folder, 1, ())] == [
        (done.folder, done.records, done.damage) for done in (beside, after)
    ]
    assert [0, 1, 2] == steps(records(first.folder))


def test_a_record_whose_length_looks_like_compression_is_read(tmp_path):
    """A length may begin with the bytes of gzip or zlib."""
    for number, length in enumerate((0x8B1F, 0x9C78)):
        made = Event(step=1, wall_time=BEGUN + 1.0)
        made.summary.value.add(tag="loss", simple_value=1)
        made.summary.value.add(tag="x", image=Summary.Image(encoded_image_string=b"x"))
        room = length - made.ByteSize()
        made.summary.value[1].image.encoded_image_string = b"x" * (room + 1)
        made.summary.value[1].image.encoded_image_string = b"x" * (room + 1 - (made.ByteSize() - length))
        assert length == made.ByteSize()
        write(tmp_path / f"exp{number}", long_record(made.SerializeToString()))
        assert 2 == len(imported(tmp_path / f"exp{number}", tmp_path / "runs"))


def test_folders_nested_deeper_than_python_recurses_are_read(tmp_path):
    """With a low limit: pytest itself could not remove a thousand nested folders."""
    write(tmp_path / "logs" / "b", event(1))
    deepest = tmp_path / "logs"
    for _ in range(300):
        deepest /= "a"
        deepest.mkdir()
    write(deepest, event(2))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        found = experiments(tmp_path / "logs")
        assert [deepest, tmp_path / "logs" / "b"] == found
        assert [2] == steps(imported(found[0], tmp_path / "runs"))
    finally:
        sys.setrecursionlimit(limit)


def test_a_folder_that_cannot_be_read_is_said_once(tmp_path, monkeypatch, caplog):
    """However often `--watch` looks; the folders beside it are read."""
    write(tmp_path / "logs" / "a", event(1))
    (tmp_path / "logs" / "b").mkdir()
    scan = os.scandir

    def denied(path):
        if path == str(tmp_path / "logs" / "b"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    for _ in range(3):
        assert [tmp_path / "logs" / "a"] == experiments(tmp_path / "logs")
    assert [f"tracelet: cannot read {tmp_path}/logs/b: Permission denied"] == caplog.messages
