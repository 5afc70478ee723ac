"""Which names the series of real writers get, whatever library writes them."""

import importlib
import itertools
import os

import numpy as np
import pytest
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
    with lib.SummaryWriter(str(tmp_path / "exp" / "a")) as first:
        first.add_scalar("loss", 0.1, 1)
        with lib.SummaryWriter(str(tmp_path / "exp" / "b")) as second:
            second.add_scalar("loss", 0.2, 1)
            first.add_scalar("loss", 0.3, 2)
            second.add_scalar("loss", 0.4, 2)
    assert [("loss", ""), ("b/loss", "b")] * 2 == named(records())


ORDERS = list(itertools.permutations(["train", "val"]))


@pytest.mark.parametrize("early", [0, 1, 2])
@pytest.mark.parametrize(("first", "second"), ORDERS)
def test_train_and_val_have_the_same_names_in_any_order(lib, tmp_path, memory, first, second, early):
    """Whichever writer comes first, and however many of them come before the run."""
    folders = [str(tmp_path / "exp" / name) for name in (first, second)]
    writers = [lib.SummaryWriter(folder) for folder in folders[:early]]
    with tracelet.start_logging(backend=memory):
        writers += [lib.SummaryWriter(folder) for folder in folders[early:]]
        for writer in reversed(writers):
            writer.add_scalar("loss", 0.1, 1)
            writer.close()
    assert [(f"{second}/loss", second), (f"{first}/loss", first)] == named(memory.records)


@pytest.mark.parametrize("modules", itertools.product(WRITER_MODULES.values(), repeat=2))
@pytest.mark.parametrize("early", [0, 1, 2])
def test_the_first_of_several_writers_is_the_oldest(tmp_path, memory, modules, early):
    """Not the one that writes first; also across both libraries, and for a writer of a subclass."""
    classes = [importlib.import_module(name).SummaryWriter for name in modules]
    classes[0] = type("Own", (classes[0],), {})
    makers = [lambda cls=cls, name=name: cls(str(tmp_path / name)) for cls, name in zip(classes, "ab", strict=True)]
    writers = [make() for make in makers[:early]]
    with tracelet.start_logging(backend=memory):
        writers += [make() for make in makers[early:]]
        for writer in reversed(writers):
            writer.add_scalar("loss", 0.1, 1)
            writer.close()
    assert [("b/loss", "b"), ("loss", "")] == named(memory.records)


def test_a_writer_that_an_earlier_run_left_open_is_not_the_first(lib, tmp_path, memory):
    """As in a notebook: the second run has a writer of its own."""
    with tracelet.start_logging(backend=MemoryBackend()):
        left_open = lib.SummaryWriter(str(tmp_path / "a"))
    with tracelet.start_logging(backend=memory), lib.SummaryWriter(str(tmp_path / "b")) as writer:
        writer.add_scalar("loss", 0.1, 1)
    left_open.close()
    assert [("loss", "")] == named(memory.records)


@pytest.mark.parametrize("kind", ["nothing", "purge", "value", "text", "series"])
def test_values_from_before_the_run_are_said_once(lib, tmp_path, memory, caplog, kind):
    """In one line for all writers, with the command that imports them; silent for writers without values."""
    writers = [lib.SummaryWriter(str(tmp_path / name), purge_step=5 if kind == "purge" else None) for name in "ab"]
    for writer in writers:
        match kind:
            case "value":
                writer.add_scalar("loss", 0.1, 1)
            case "text":
                writer.add_text("note", "x" * 100_000, 1)
            case "series":
                writer.add_scalars("loss", {"k": 0.1}, 1)
        if kind in ("text", "series"):  # a long one, and another file: not in the buffer of the first
            writer.flush()
    with tracelet.start_logging(backend=memory):
        for writer in writers:
            writer.close()
    lines = [record.getMessage() for record in caplog.records if "before start_logging" in record.getMessage()]
    assert (0 if kind in ("nothing", "purge") else 1) == len(lines)
    assert all(f"tracelet import {tmp_path / 'a'} {tmp_path / 'b'}" in line for line in lines)


# A directory belongs to its writer.


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("options", [{}, {"write_to_disk": False}])
def test_a_writer_keeps_its_directory_when_the_program_changes_its_own(
    lib, tmp_path, memory, monkeypatch, options, early
):
    """One curve, also of add_scalars and after it was closed. A later writer with the same path has its own."""
    if options and lib.is_torch:
        pytest.skip("torch always writes to disk")
    made = [lib.SummaryWriter("tb", **options)] if early else []
    with tracelet.start_logging(backend=memory):
        (writer,) = made or [lib.SummaryWriter("tb", **options)]
        writer.add_scalar("loss", 0.1, 0)
        (tmp_path / "job").mkdir()
        monkeypatch.chdir(tmp_path / "job")
        with lib.SummaryWriter("tb", **options) as other:
            other.add_scalar("loss", 0.2, 0)
            for number in range(1, 3):
                writer.add_scalar("loss", 0.1, number)
                writer.add_text("note", "words", number)
                writer.add_scalars("both", {"k": 0.1}, number)
                other.add_scalar("loss", 0.2, number)
        writer.close()
        writer.add_scalar("loss", 0.1, 3)
        writer.close()
    names = [record.tag for record in memory.records]
    assert {"loss": 4, "job/tb/loss": 3, "note": 2, "both/k": 2} == {name: names.count(name) for name in set(names)}


def test_a_writer_without_a_hash_is_captured(lib, tmp_path, records):
    """A class that defines `==` has none; and two equal writers stay two."""

    class Equal(lib.SummaryWriter):
        __hash__ = None

        def __eq__(self, other):
            return True

    with Equal(str(tmp_path / "a")) as first, Equal(str(tmp_path / "b")) as second:
        for writer in (first, second):
            writer.add_scalar("loss", 0.1, 1)
    assert ["loss", "b/loss"] == [one.tag for one in records()]


def test_a_directory_in_memory_keeps_its_name(tmp_path, memory):
    """tensorboardX without files takes any text: the root `memory://` has both its slashes."""
    from tensorboardX import SummaryWriter

    with tracelet.start_logging(backend=memory) as run:
        for name in ("memory://", "memory://deep"):
            SummaryWriter(name, write_to_disk=False).add_scalar("loss", 0.1, 1)
    assert [("loss", ""), ("deep/loss", "deep")] == named(memory.records)
    with tracelet.journal.store.JournalReader(run.folder) as reader:
        assert "memory://" == reader.facts()["root"]
    assert "memory:" not in os.listdir()


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
    """The first one that writes in a run is its root: it came before the run, but with the run before."""
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
    for number, spelling in enumerate(["exp/one", "link/one/", f"{tmp_path}/exp/one"]):
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
