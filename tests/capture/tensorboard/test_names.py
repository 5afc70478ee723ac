"""Which names the series of real writers get, whatever library writes them."""

import importlib

import numpy as np
from support import WRITER_MODULES

import tracelet
from tracelet.backends.memory import MemoryBackend
from tracelet.records import Scalar


def named(records):
    return [(one.tag, one.writer) for one in records if isinstance(one, Scalar)]


def test_one_writer_has_bare_tags(lib, tmp_path, records, monkeypatch):
    """Also in the default directory, which has the date and the host in its name."""
    monkeypatch.chdir(tmp_path)
    with lib.SummaryWriter() as writer:
        writer.add_scalar("train/loss", 0.1)
    assert [("train/loss", "")] == named(records())


def test_a_second_writer_renames_nothing(lib, tmp_path, records):
    """The first writer's series keeps its name; the second's has a prefix of its own."""
    with lib.SummaryWriter(str(tmp_path / "exp" / "train")) as train:
        train.add_scalar("loss", 0.1, 1)
        with lib.SummaryWriter(str(tmp_path / "exp" / "val")) as val:
            val.add_scalar("loss", 0.2, 1)
            train.add_scalar("loss", 0.3, 2)
            val.add_scalar("loss", 0.4, 2)
    assert [("loss", ""), ("val/loss", "val")] * 2 == named(records())


def test_two_writers_in_one_directory_are_one_series(lib, tmp_path, records):
    """Same name, steps as they come."""
    writers = [lib.SummaryWriter(str(tmp_path / "logs"), filename_suffix=f".{number}") for number in range(2)]
    for step in range(4):
        writers[step % 2].add_scalar("loss", step / 8, step)
    for writer in writers:
        writer.close()
    assert [("loss", step / 8, step) for step in range(4)] == [(one.tag, one.value, one.step) for one in records()]


def test_a_root_that_is_given(lib, tmp_path, memory):
    """`root_logdir` is the root, whichever writer comes first."""
    tracelet.start_logging(backend=memory, root_logdir=tmp_path / "exp")
    for name in ("val", "", "train"):
        with lib.SummaryWriter(str(tmp_path / "exp" / name)) as writer:
            writer.add_scalar("loss", 0.1)
    tracelet.stop_logging()
    assert [("val/loss", "val"), ("loss", ""), ("train/loss", "train")] == named(memory.records)


def test_a_run_takes_no_name_from_the_one_before(lib, tmp_path):
    """Start, stop, start with other directories: the second run's first writer is its root."""
    found = []
    for name in ("first", "second"):
        memory = MemoryBackend()
        with tracelet.start_logging(backend=memory), lib.SummaryWriter(str(tmp_path / name)) as writer:
            writer.add_scalar("loss", 0.1)
        found.append(named(memory.records))
    assert [[("loss", "")]] * 2 == found


def test_a_writer_that_lives_through_two_runs(lib, tmp_path):
    """In each it is named for itself."""
    found = []
    with lib.SummaryWriter(str(tmp_path / "a")) as first, lib.SummaryWriter(str(tmp_path / "b")) as second:
        for writers in ((first, second), (second, first)):
            memory = MemoryBackend()
            with tracelet.start_logging(backend=memory):
                for writer in writers:
                    writer.add_scalar("loss", 0.1)
            found.append(named(memory.records))
    assert [[("loss", ""), ("b/loss", "b")], [("loss", ""), ("a/loss", "a")]] == found


AWKWARD = ["/x y:z?", "acc@5", "ünï/cödé", "a//b", "loss (train)", "\U0001f680", "plain/tag", ".."]


def test_both_libraries_give_the_same_names(tmp_path):
    """Whatever they make of tags and sub-directories themselves."""
    found = {}
    for name, module in WRITER_MODULES.items():
        writer_class = importlib.import_module(module).SummaryWriter
        memory = MemoryBackend()
        with tracelet.start_logging(backend=memory), writer_class(str(tmp_path / name)) as writer:
            for tag in AWKWARD:
                writer.add_scalar(tag, 0.1)
            writer.add_scalars("m/t", {"u/1": 0.1, "v w": 0.2}, 1)
            writer.add_scalars("m t", {"u": 0.1}, 1)
            writer.add_hparams({"lr": 0.1}, {"acc": 0.1})
            writer.add_text("a b", "words")
            writer.add_histogram("c d", np.ones(2))
        found[name] = [(getattr(one, "tag", None), one.writer) for one in memory.records]
    assert found["torch"] == found["tensorboardX"]
    expected = [*AWKWARD, "m/t/u/1", "m/t/v w", "m t/u", None, "hparams/acc", "a b", "c d"]
    assert expected == [tag for tag, _ in found["torch"]]


def test_a_tag_and_a_series_of_the_same_spelling(writer, records):
    """add_scalar("m/a") and add_scalars("m", {"a"}) stay two series."""
    writer.add_scalars("m", {"a": 0.1}, 1)
    writer.add_scalar("m/a", 0.2, 1)
    writer.add_scalars("m", {"a": 0.3}, 2)
    assert [("m/a", 0.1), (".//m/a", 0.2), ("m/a", 0.3)] == [(one.tag, one.value) for one in records()]


def test_main_tags_that_share_a_directory(writer, records):
    """torch writes "a/b" and "a_b" into one directory; their series stay two."""
    for main in ("a/b", "a_b"):
        writer.add_scalars(main, {"k": 0.1}, 1)
    assert ["a/b/k", "a_b/k"] == [one.tag for one in records()]


def test_many_series_of_one_call(writer, records):
    """Each key of the dict is a series, in its order."""
    keys = [f"k{number}" for number in range(30)]
    writer.add_scalars("m", dict.fromkeys(keys, 0.1), 1)
    assert [f"m/{key}" for key in keys] == [one.tag for one in records()]


def test_the_programs_own_metric_is_the_root_writers_series(writer, experiment, records):
    """log_metric("loss") goes on with the curve that the root writer began."""
    writer.add_scalar("loss", 0.1, 1)
    experiment.log_metric("loss", 0.2, 2)
    assert [("loss", 1), ("loss", 2)] == [(one.tag, one.step) for one in records()]


def test_a_relative_directory_and_a_link_are_the_same_place(lib, tmp_path, records, monkeypatch):
    """Writers that spell one directory in different ways write one series."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "exp")
    for number, spelling in enumerate(["exp/val", "link/val/", f"{tmp_path}/exp/val"]):
        with lib.SummaryWriter(spelling, filename_suffix=f".{number}") as writer:
            writer.add_scalar("loss", 0.1, number)
    assert [("loss", "")] * 3 == named(records())


def test_a_lone_surrogate_is_spelled(tmp_path, memory):
    """tensorboardX takes such a tag; torch's protobuf refuses it. It stays another series than the one so spelled."""
    from tensorboardX import SummaryWriter

    with tracelet.start_logging(backend=memory), SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("lone \ud800", 1.0, 1)
        writer.add_scalar("lone \\ud800", 2.0, 1)
    names = [record.tag for record in memory.records]
    assert "lone \\ud800" == names[0]
    assert [1.0, 2.0] == [record.value for record in memory.records]
    assert 2 == len(set(names))
