"""tensorboard opens and closes a local event file for each record; while a run is active it stays open."""

import builtins
import copy
import gc
import io
import os

import pytest
from torch.utils.tensorboard import SummaryWriter

import tracelet
from tracelet.capture.tensorboard import open_files
from tracelet.importer.tfrecord import Frame, frames


def the_file(folder):
    (path,) = [one for one in folder.iterdir() if "tfevents" in one.name]
    return path


def records(path):
    found = list(frames(path))
    assert all(isinstance(one, Frame) for one in found)
    return len(found) - 1  # without the file's own first


def descriptors(folder):
    """Open descriptors of files below a folder."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target.startswith(str(folder)) and "tfevents" in target:
            found.append(target)
    return found


@pytest.fixture
def opened(monkeypatch):
    """How often the library opened an event file."""
    names, original = [], io.open

    def spy(name, *args, **kwargs):
        if "tfevents" in os.fsdecode(name) if isinstance(name, (str, bytes)) else False:
            names.append(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(io, "open", spy)
    monkeypatch.setattr(builtins, "open", spy)
    return names


def write(writer, steps):
    for step in steps:
        writer.add_scalar("loss", step * 0.1, step)
    writer.flush()


def test_the_library_opens_it_once(tmp_path, opened):
    with tracelet.start_logging(), SummaryWriter(str(tmp_path)) as writer:
        write(writer, range(100))
        assert 100 == records(the_file(tmp_path))  # each record is there at once, without a buffer
        assert 1 == len(opened)


def test_a_writer_that_outlives_the_run_goes_back(tmp_path, opened):
    """The library writes by itself again; nothing is missing, and nothing stays open."""
    with tracelet.start_logging():
        writer = SummaryWriter(str(tmp_path))
        write(writer, range(10))
        assert 1 == len(descriptors(tmp_path))
    before = len(opened)
    write(writer, range(10, 15))
    assert before + 5 == len(opened)
    assert [] == descriptors(tmp_path)
    writer.close()
    assert 15 == records(the_file(tmp_path))


def test_nothing_stays_open(tmp_path):
    """After `close`, and where the program forgets the writer."""
    with tracelet.start_logging():
        with SummaryWriter(str(tmp_path / "closed")) as writer:
            write(writer, range(3))
        assert [] == descriptors(tmp_path)
        forgotten = SummaryWriter(str(tmp_path / "forgotten"))
        write(forgotten, range(3))
        forgotten.file_writer.event_writer._async_writer._worker.stop()
        del forgotten
        writer = None
    gc.collect()
    assert [] == descriptors(tmp_path)


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_file_that_is_taken_away_is_begun_anew(how, tmp_path, monkeypatch):
    """As by the library itself, a moment later."""
    monkeypatch.setattr(open_files, "_CHECK_EVERY", 0.0)
    folder = tmp_path / "logs"
    with tracelet.start_logging(), SummaryWriter(str(folder)) as writer:
        write(writer, range(5))
        path = the_file(folder)
        path.rename(tmp_path / "moved") if how == "moved" else path.unlink()
        write(writer, range(5, 12))
        assert 7 == len(list(frames(path)))
    assert how == "deleted" or 5 == records(tmp_path / "moved")


def test_many_writers_keep_no_more_than_some(tmp_path, monkeypatch):
    """A program may have as many writers as it has descriptors."""
    monkeypatch.setattr(open_files, "_MAX_OPEN", 3)
    with tracelet.start_logging():
        writers = [SummaryWriter(str(tmp_path / str(number))) for number in range(8)]
        for writer in writers:
            write(writer, range(4))
        assert 3 == len(descriptors(tmp_path))
        for writer in writers:
            writer.close()
    assert [4] * 8 == [records(the_file(tmp_path / str(number))) for number in range(8)]


def test_a_network_file_system_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(open_files, "on_network", lambda folder: True)
    with tracelet.start_logging(), SummaryWriter(str(tmp_path)) as writer:
        write(writer, range(4))
        assert [] == descriptors(tmp_path)
    assert 4 == records(the_file(tmp_path))


def test_an_error_of_the_disk_reaches_the_program(tmp_path, monkeypatch):
    """Where the library would raise it: at a later call."""
    with tracelet.start_logging():
        writer = SummaryWriter(str(tmp_path))
        write(writer, range(4))
        with monkeypatch.context() as patch:
            patch.setattr(
                open_files.os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
            )
            patch.setattr("threading.excepthook", lambda args: None)
            with pytest.raises(OSError, match="No space left"):
                for step in range(1000):
                    writer.add_scalar("loss", 1.0, step)
                writer.flush()


@pytest.mark.parametrize("events", ["sync", "async"])
def test_a_writer_cannot_be_copied_as_without_us(events, tmp_path):
    """The library's own TypeError, of its thread's lock; and nothing is closed or written by what was copied."""
    with SummaryWriter(tmp_path / "plain") as writer, pytest.raises(TypeError) as plain:
        copy.deepcopy(writer)
    with tracelet.start_logging(events=events), SummaryWriter(tmp_path) as writer:
        write(writer, [1, 2])
        with pytest.raises(TypeError) as ours:
            copy.deepcopy(writer)
        assert str(plain.value) == str(ours.value)
        write(writer, [3])


def test_a_copy_of_the_open_file_leaves_the_original_open(tmp_path):
    """It is the library's object, which knows no descriptor of ours."""
    with tracelet.start_logging(), SummaryWriter(tmp_path) as writer:
        write(writer, [1, 2])
        file = writer.file_writer.event_writer._async_writer._writer._writer
        for duplicate in (copy.copy, copy.deepcopy):
            assert type(file._original) is type(duplicate(file))
        gc.collect()
        assert 1 == len(descriptors(tmp_path))
        write(writer, [3])
    assert 3 == records(the_file(tmp_path))
