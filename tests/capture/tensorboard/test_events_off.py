"""`events=False`: the same records, and no event file."""

import functools
import gc
import threading
import weakref

import numpy as np
import pytest
from calls import CALLS, WALL_TIME, make, public_methods, timeless
from support import our_threads

import tracelet
from tracelet.backends.memory import MemoryBackend
from tracelet.records import Scalar


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def event_files(folder):
    return [path.name for path in folder.rglob("*tfevents*")]


def points(records):
    return [(one.tag, one.value, one.step) for one in records if isinstance(one, Scalar)]


@pytest.fixture
def off(memory):
    """A run without event files that delivers to `memory`."""
    return tracelet.start_logging(backend=memory, events=False)


@pytest.fixture
def host_calls(lib, monkeypatch):
    """The tags of the scalars that the library itself was asked for."""
    asked, original = [], lib.module.scalar

    def scalar(name, *args, **kwargs):
        asked.append(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(lib.module, "scalar", scalar)
    return asked


# The same records.


@pytest.mark.parametrize("name", CALLS)
def test_each_public_method_gives_the_records_of_sync(name, lib, tmp_path):
    """Twice, so that what goes a shorter way the second time is seen; and no event file comes to be."""
    if name not in public_methods(lib):
        pytest.skip(f"{lib.name} has no {name}")

    def told(events):
        folder, memory = tmp_path / str(events), MemoryBackend()
        folder.mkdir()
        with tracelet.start_logging(backend=memory, events=events):
            with lib.SummaryWriter(str(folder / "logs")) as writer:
                make(name, writer, folder)
                make(name, writer, folder)
        return timeless(memory.records)

    expected = told("sync")
    assert expected == told(False)
    assert [] == event_files(tmp_path / "False")
    assert event_files(tmp_path / "sync")


SCALARS = [
    ("t", 0.1, 1),
    ("t", -0.0, 1),
    ("t", 5e-324, 1),
    ("t", 1e300, 1),
    ("t", float("nan"), 1),
    ("t", float("inf"), 1),
    ("t", -float("inf"), 1),
    ("t", 2**53 + 1, 1),
    ("t", -(2**63), 1),
    ("t", 2**63, 1),
    ("t", 10**400, 1),
    ("t", True, 1),
    ("t", np.float32(0.1), 1),
    ("t", np.float64(0.1), 1),
    ("t", np.int64(7), 1),
    ("t", np.array([0.1]), 1),
    ("t", "0.5", 1),
    ("t", "text", 1),
    ("t", None, 1),
    ("t", [0.1], 1),
    ("t", 0.1),
    ("t", 0.1, None),
    ("t", 0.1, 0),
    ("t", 0.1, -5),
    ("t", 0.1, 2**63 - 1),
    ("t", 0.1, 2**63),
    ("t", 0.1, -(2**63) - 1),
    ("t", 0.1, True),
    ("t", 0.1, 1.5),
    ("t", 0.1, np.int64(4)),
    ("t", 0.1, "4"),
    ("t", 0.1, "four"),
    ("t", 0.1, 1, WALL_TIME),
    ("t", 0.1, 1, None),
    ("t", 0.1, 1, "now"),
    ("", 0.1, 1),
    ("loss @ 5 é\U0001f680", 0.1, 1),
    ("/slash//", 0.1, 1),
    (None, 0.1, 1),
    (5, 0.1, 1),
    (np.str_("t"), 0.1, 1),
    (),
    ("t",),
    ("t", 0.1, 1, None, False, False, "too many"),
]


@pytest.mark.parametrize("arguments", SCALARS, ids=repr)
def test_add_scalar_is_that_of_sync(arguments, lib, tmp_path, caplog):
    """Same record or same exception, the first time and when the tag is known; same warnings."""

    def told(events):
        memory, outcomes = MemoryBackend(), []
        with tracelet.start_logging(backend=memory, events=events):
            with lib.SummaryWriter(str(tmp_path / str(events))) as writer:
                writer.add_scalar("t", 0.5, 0)
                caplog.clear()
                for _ in range(3):
                    try:
                        outcomes.append(writer.add_scalar(*arguments))
                    except Exception as error:  # noqa: BLE001
                        outcomes.append((type(error), str(error)))
                warned = [one.message for one in caplog.records if not one.name.startswith("tracelet")]
        return timeless(memory.records), outcomes, warned

    assert told("sync") == told(False)


def test_a_tag_that_torch_refuses_is_refused_again(off, memory, tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "logs")) as writer:
        for step in range(3):
            with pytest.raises(UnicodeEncodeError):
                writer.add_scalar("lone \ud800", 0.1, step)
    off.stop()
    assert [] == memory.records


def test_keywords_are_the_hosts_affair(lib, off, memory, tmp_path):
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        for step in range(3):
            writer.add_scalar(tag="a", scalar_value=0.5, global_step=step, walltime=9.0)
        off.stop()
    assert [Scalar("a", 0.5, step, 9.0) for step in range(3)] == memory.records


def test_the_host_is_asked_once_a_tag(lib, off, memory, host_calls, tmp_path):
    """What it took once, it takes again: nothing of it runs after that."""
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        for step in range(50):
            writer.add_scalar("a", step / 8, step)
            writer.add_scalar("b", step, None)
    off.stop()
    assert ["a", "b"] == host_calls
    assert [point for step in range(50) for point in (("a", step / 8, step), ("b", step, None))] == points(
        memory.records
    )


def test_the_wall_time_is_that_of_the_call(lib, off, memory, tmp_path):
    import time

    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        for step in range(3):
            before = time.time()
            writer.add_scalar("a", 0.5, step)
            after = time.time()
    off.stop()
    assert before <= memory.records[-1].wall_time <= after
    assert sorted(one.wall_time for one in memory.records) == [one.wall_time for one in memory.records]


def test_two_writers_and_two_threads(lib, off, memory, tmp_path):
    """Each scalar is in its writer's namespace, whoever was the last."""
    writers = [lib.SummaryWriter(str(tmp_path / "logs" / name)) for name in ("", "train", "val")]

    def log(number):
        for step in range(500):
            writers[1 + (step + number) % 2].add_scalar(f"t{number}", step, step)

    threads = [threading.Thread(target=log, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    off.stop()
    for number in range(2):
        expected = [(f"{('train', 'val')[(step + number) % 2]}/t{number}", float(step), step) for step in range(500)]
        assert expected == [one for one in points(memory.records) if one[0].endswith(str(number))]


def test_a_subclass_has_its_say(lib, off, memory, tmp_path):
    """What it adds in add_scalar, or where it gets its file writer from, is as with event files."""

    class Twice(lib.SummaryWriter):
        def add_scalar(self, tag, value, *args, **kwargs):
            super().add_scalar(tag, value, *args, **kwargs)
            super().add_scalar(f"{tag}/double", 2 * value, *args, **kwargs)

    class Counting(lib.SummaryWriter):
        asked = 0

        def _get_file_writer(self):
            self.asked += 1
            return super()._get_file_writer()

    with Twice(str(tmp_path / "logs")) as writer, Counting(str(tmp_path / "logs")) as counting:
        began = counting.asked
        for step in range(3):
            writer.add_scalar("loss", 0.25, step)
            counting.add_scalar("counted", 0.5, step)
        assert 3 == counting.asked - began
    off.stop()
    expected = [("loss", 0.25), ("loss/double", 0.5), ("counted", 0.5)]
    assert [(tag, value, step) for step in range(3) for tag, value in expected] == points(memory.records)


@pytest.mark.parametrize("name", ["add_event", "add_summary"])
def test_somebody_else_sees_every_call(name, lib, off, memory, tmp_path, monkeypatch):
    """Who wraps a FileWriter's method during the run gets what goes through it, and so do we."""
    seen, original = [], getattr(lib.FileWriter, name)

    @functools.wraps(original)
    def theirs(*args, **kwargs):
        seen.append(name)
        return original(*args, **kwargs)

    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_scalar("a", 0.5, 0)
        writer.add_scalar("a", 0.5, 1)
        monkeypatch.setattr(lib.FileWriter, name, theirs)
        for step in (2, 3):
            writer.add_scalar("a", 0.5, step)
        monkeypatch.undo()
        writer.add_scalar("a", 0.5, 4)
    off.stop()
    assert [name] * 2 == seen
    assert [("a", 0.5, step) for step in range(5)] == points(memory.records)


def test_who_wrapped_add_scalar_before_sees_every_call(lib, memory, tmp_path, monkeypatch):
    seen, original = [], lib.SummaryWriter.add_scalar

    @functools.wraps(original)
    def theirs(*args, **kwargs):
        seen.append(args[1])
        return original(*args, **kwargs)

    monkeypatch.setattr(lib.SummaryWriter, "add_scalar", theirs)
    with tracelet.start_logging(backend=memory, events=False), lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        for step in range(3):
            writer.add_scalar("a", 0.5, step)
    assert ["a"] * 3 == seen
    assert 3 == len(memory.records)


def test_values_for_a_block(off, memory, tmp_path):
    """tensorboardX's use_metadata, also with a tag that is known."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_scalar("a", 0.5, 0)
        with writer.use_metadata(global_step=7, walltime=12.0):
            writer.add_scalar("a", 0.5)
        writer.add_scalar("a", 0.5, 8)
    off.stop()
    assert [("a", 0.5, 0), ("a", 0.5, 7), ("a", 0.5, 8)] == points(memory.records)
    assert 12.0 == memory.records[1].wall_time


# No files.


def test_not_even_a_directory(lib, off, memory, tmp_path):
    """Whatever a writer is made with and asked for: nothing of the file system is touched."""
    folder = tmp_path / "logs"
    writer = lib.SummaryWriter(str(folder), purge_step=3, max_queue=1, flush_secs=1, filename_suffix=".x")
    with writer:
        for _ in range(2):
            writer.add_scalar("a", 0.5, 1)
            writer.add_scalars("both", {"a": 0.1}, 1)
            writer.add_hparams({"lr": 0.1}, {"acc": 0.9})
            writer.add_text("note", "words")
            writer.flush()
            writer.close()
        writer.add_scalar("a", 0.5, 2)
        assert str(folder) == str(writer.file_writer.get_logdir())
        writer.file_writer.reopen()
    off.stop()
    assert not folder.exists()
    assert 3 == len([one for one in points(memory.records) if one[0] == "a"])
    assert [] == [one for one in threading.enumerate() if "EventLogger" in type(one).__name__ and one.is_alive()]


def test_an_embedding_has_its_files(lib, off, memory, tmp_path):
    """They are what its record is made of; there is no event file beside them."""
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_embedding(np.eye(3), metadata=["a", "b", "c"], global_step=1, tag="points")
    off.stop()
    (record,) = memory.records
    assert ("tensors.tsv", "metadata.tsv") == record.names
    assert [] == event_files(tmp_path)
    assert "00001/points/tensors.tsv" in files(tmp_path / "logs")


def test_tensorboardx_without_a_file(off, memory, tmp_path):
    """`write_to_disk=False` as well, and the writer that its add_hparams makes."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(tmp_path / "logs"), write_to_disk=False) as writer:
        for step in range(3):
            writer.add_scalar("a", 0.5, step)
        writer.add_hparams({"lr": 0.1}, {"acc": 0.5}, name="hp")
    off.stop()
    assert not (tmp_path / "logs").exists()
    assert [*(("a", 0.5, step) for step in range(3)), ("hp/acc", 0.5, None)] == points(memory.records)


def test_a_writer_made_before_keeps_its_file(lib, memory, tmp_path, read_values):
    """And what its add_scalars and add_hparams write beside it."""
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        with tracelet.start_logging(backend=memory, events=False):
            for step in range(3):
                writer.add_scalar("a", 0.5, step)
            writer.add_scalars("both", {"x": 0.25}, 1)
            name = "run_name" if lib.is_torch else "name"
            writer.add_hparams({"lr": 0.1}, {"acc": 0.5}, **{name: "hp"})
    assert [("a", step) for step in range(3)] == [
        (value.tag, event.step) for event, value in read_values(tmp_path / "logs")
    ]
    sub = tmp_path / "logs" / ("both_x" if lib.is_torch else "both/x")
    assert [0.25] == [value.simple_value for _, value in read_values(sub)]
    assert 4 == len(read_values(tmp_path / "logs" / "hp"))
    assert 6 == len(memory.records)


def test_after_stop_it_stays_without_a_file(lib, off, memory, tmp_path):
    """And works; a writer made then has one."""
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_scalar("a", 0.5, 1)
        off.stop()
        writer.add_scalar("a", 0.5, 2)
        writer.add_text("note", "words")
        writer.add_image("i", np.zeros((3, 4, 4)))
        writer.flush()
    assert not (tmp_path / "logs").exists()
    with lib.SummaryWriter(str(tmp_path / "later")) as writer:
        writer.add_scalar("a", 0.5, 3)
    assert 1 == len(event_files(tmp_path / "later"))
    assert [("a", 0.5, 1)] == points(memory.records)


def test_a_run_after_one_without_files(lib, off, memory, tmp_path):
    """The writer that has none is carried by the next run as well."""
    second = MemoryBackend()
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        bound = writer.add_scalar
        bound("a", 0.5, 1)
        off.stop()
        with tracelet.start_logging(backend=second):
            writer.add_scalar("a", 0.5, 2)
            bound("a", 0.5, 3)
    assert [[("a", 0.5, 1)], [("a", 0.5, 2), ("a", 0.5, 3)]] == [points(one.records) for one in (memory, second)]
    assert [] == event_files(tmp_path)


# The life cycle.


def test_everything_is_put_back(lib, tmp_path, memory):
    before = dict(vars(lib.module)), dict(vars(lib.SummaryWriter)), dict(vars(lib.FileWriter))
    with tracelet.start_logging(backend=memory, events=False):
        assert lib.module.EventFileWriter is not before[0]["EventFileWriter"]
        assert issubclass(lib.module.EventFileWriter, before[0]["EventFileWriter"])
        with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
            writer.add_scalar("a", 0.5, 1)
    for was, now in zip(before, (lib.module, lib.SummaryWriter, lib.FileWriter), strict=True):
        assert [] == [name for name, value in vars(now).items() if was.get(name) is not value]
    assert [] == our_threads()


def test_who_derived_from_ours_has_files_afterwards(lib, off, tmp_path, monkeypatch):
    """As wandb's patch does: its class stays after the run, and then makes what the library makes."""

    class Theirs(lib.module.EventFileWriter):
        pass

    monkeypatch.setattr(lib.module, "EventFileWriter", Theirs)
    with lib.SummaryWriter(str(tmp_path / "during")) as writer:
        writer.add_scalar("a", 0.5, 1)
        off.stop()
    assert lib.module.EventFileWriter is Theirs
    with lib.SummaryWriter(str(tmp_path / "after")) as writer:
        writer.add_scalar("a", 0.5, 1)
    assert ([], 1) == (event_files(tmp_path / "during"), len(event_files(tmp_path / "after")))


def test_nothing_holds_a_stopped_run(lib, tmp_path):
    """Neither a writer without a file nor a method that the program kept."""
    memory = MemoryBackend()
    experiment = tracelet.start_logging(backend=memory, events=False)
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        bound = writer.add_scalar
        for step in range(3):
            bound("loss", 0.1, step)
        experiment.stop()
        bound("loss", 0.2)
        dead = weakref.ref(experiment), weakref.ref(memory)
        del experiment, memory, bound
        gc.collect()
        assert (None, None) == (dead[0](), dead[1]())
