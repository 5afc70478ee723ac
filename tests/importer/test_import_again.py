"""Importing again adds what is new, whatever happened in between; and which folders are experiments."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from event_files import BEGUN, event, imported, records, steps, write
from programs import DEADLINE

from tracelet.errors import ConfigurationError, JournalError, RunInUse
from tracelet.importer import experiments, import_run, run
from tracelet.journal.store import Journal, JournalReader
from tracelet.records import Scalar


@pytest.fixture
def source(tmp_path):
    return tmp_path / "exp"


@pytest.fixture
def again(source, tmp_path):
    """`again()`: what one more import of `source` added."""
    return lambda: import_run(source, base=tmp_path / "runs")


def append(path, *pieces):
    with open(path, "ab") as file:
        file.write(b"".join(pieces))


def test_importing_again_adds_nothing(source, again):
    write(source, event(0), event(1))
    first = again()
    assert (2, 0) == (first.records, again().records)
    assert [0, 1] == steps(records(first.folder))


def test_what_was_written_since_is_added(source, again):
    """In a file that grew, in a later file, in a new folder below."""
    path = write(source, event(0), event(1))
    folder = again().folder
    append(path, event(2))
    assert 1 == again().records
    write(source, event(3), begun=BEGUN + 3)
    write(source / "val", event(4), begun=BEGUN + 4)
    done = again()
    assert (2, folder) == (done.records, done.folder)
    assert [("loss", step) for step in range(4)] + [("val/loss", 4)] == [(one.tag, one.step) for one in records(folder)]


def test_a_record_that_was_cut_off_is_read_once_it_is_whole(source, again):
    """While a program writes, the end of its file is any byte; that is told, and told once."""
    last = event(1)
    path = write(source, event(0), last[:20])
    done = again()
    assert (1, 1) == (done.records, len(done.damage))
    append(path, last[20:])
    done = again()
    assert (1, 0) == (done.records, len(done.damage))
    assert [0, 1] == steps(records(done.folder))


def test_names_stay_what_they_were(source, again):
    """Of two series that want one name, the first import's first keeps it, whichever goes on first."""
    root = write(source, event(0, tag="val/loss"))
    val = write(source / "val", event(1))
    folder = again().folder
    append(val, event(2))
    again()
    append(root, event(3, tag="val/loss"))
    again()
    assert [("val/loss", 0), ("val//loss", 1), ("val//loss", 2), ("val/loss", 3)] == [
        (one.tag, one.step) for one in records(folder)
    ]


def test_add_scalars_is_known_again(source, again):
    """Whose folder it is was settled the first time, also where a later file alone would say another thing."""
    from torch.utils.tensorboard import SummaryWriter

    for step in range(2):
        with SummaryWriter(str(source), filename_suffix=f".{step}") as writer:
            writer.add_scalars("m", {"a": 0.5}, step)
            writer.add_scalar("m", 0.25, step)
        folder = again().folder
    pieces = event(7, tag="other", wall_time=2e9), event(8, tag="m", wall_time=2e9)
    write(source / "m_a", *pieces, begun=2_000_000_000)
    again()
    assert ["m/a", "m", "m/a", "m", "m_a/other", "m/a"] == [one.tag for one in records(folder)]


def test_a_restart_keeps_what_it_purged(source, tmp_path):
    """As live capture of both processes would: TensorBoard hides the earlier points, the run has both, in order."""
    from torch.utils.tensorboard import SummaryWriter

    for purge, first in ((None, 0), (3, 3)):
        with SummaryWriter(str(source), purge_step=purge, filename_suffix=f".{first}") as writer:
            for step in range(first, first + 5):
                writer.add_scalar("loss", 0.5, step)
    assert [0, 1, 2, 3, 4, 3, 4, 5, 6, 7] == steps(imported(source, tmp_path / "runs"))


def test_two_writers_at_once_are_in_the_order_of_their_times(source, tmp_path):
    """Their files are not one behind the other."""
    write(source, *(event(step) for step in range(0, 10, 2)))
    write(source, *(event(step) for step in range(1, 10, 2)), begun=BEGUN + 1)
    assert [*range(10)] == steps(imported(source, tmp_path / "runs"))


def test_times_of_the_programs_own_do_not_mix_files(source, tmp_path):
    """Two processes that each count seconds from 0 stay one behind the other."""
    for number in range(2):
        pieces = [event(10 * number + step, wall_time=float(step)) for step in range(3)]
        write(source, *pieces, begun=BEGUN + number)
    assert [0, 1, 2, 10, 11, 12] == steps(imported(source, tmp_path / "runs"))


def test_a_folder_that_was_used_again_is_another_run(source, again):
    """Somebody emptied it and trained anew."""
    path = write(source, event(0))
    first = again()
    path.unlink()
    write(source, event(5), begun=BEGUN + 60)
    second = again()
    assert first.folder != second.folder
    assert ([0], [5]) == (steps(records(first.folder)), steps(records(second.folder)))


def test_two_imports_at_once_are_one(source, again):
    """The second says that the run is in use, and has written nothing."""
    path = write(source, event(0))
    folder = again().folder
    append(path, event(1))
    journal = Journal(folder)
    with pytest.raises(RunInUse):
        again()
    journal.close()
    assert 1 == again().records


def test_an_import_that_was_overtaken_adds_nothing(source, again, monkeypatch):
    """Another one did it all after this one had looked, and before it had the run to itself."""
    write(source, event(0), event(1))
    done = []

    def opened(folder):
        if not done:
            done.append(None)
            done.append(again())
        return Journal(folder)

    monkeypatch.setattr(run, "Journal", opened)
    late = again()
    assert (2, 0) == (done[1].records, late.records)
    assert [0, 1] == steps(records(late.folder))


# The process that imports dies.

IMPORT = """
    import os, sys
    from pathlib import Path
    from tracelet.importer import import_run
    from tracelet.journal.store import Journal

    source, base, when, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    append, annotate = Journal.append, Journal.annotate
    calls = []

    def dying(journal, records):
        calls.append(records)
        if when == "before" and len(calls) == count:
            os._exit(9)
        last = append(journal, records)
        if when == "after" and len(calls) == count:
            os._exit(9)
        return last

    Journal.append = dying
    print("ready", flush=True)
    import_run(source, base=base)
    """


def importing(source, base, when, count=0):
    program = [sys.executable, "-c", textwrap.dedent(IMPORT), str(source), str(base), when, str(count)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("count", [1, 2])
def test_an_import_that_died_is_gone_on_with(when, count, source, again, tmp_path):
    """Around the commit of a batch: nothing is twice in the run, and nothing is missing."""
    write(source, *(event(step) for step in range(6000)))
    write(source / "val", *(event(step, tag="a") for step in range(0, 6000, 10)))
    with importing(source, tmp_path / "runs", when, count) as program:
        assert 9 == program.wait(DEADLINE)
    found = records(again().folder)
    assert [*range(6000)] == [one.step for one in found if one.tag == "loss"]
    assert [*range(0, 6000, 10)] == [one.step for one in found if one.tag == "val/a"]


def test_an_import_that_was_killed_is_gone_on_with(source, again, tmp_path):
    """At any moment of a long one."""
    write(source, *(event(step) for step in range(30_000)))
    with importing(source, tmp_path / "runs", "never") as program:
        deadline = time.monotonic() + DEADLINE
        while not any(journalled(folder) for folder in (tmp_path / "runs").glob("*/*")):
            assert time.monotonic() < deadline
            assert program.poll() is None
        program.send_signal(signal.SIGKILL)
        assert -signal.SIGKILL == program.wait(DEADLINE)
    done = again()
    assert 0 < done.records < 30_000
    assert [*range(30_000)] == steps(records(done.folder))


def journalled(folder):
    try:
        with JournalReader(folder) as reader:
            return reader.last()
    except JournalError:
        return 0


# What an experiment is.


@pytest.mark.parametrize(
    ("holders", "expected"),
    [
        (["."], ["."]),
        ([".", "train", "deep/er"], ["."]),
        (["train", "val"], ["."]),
        (["Train", "validation", "TEST"], ["."]),
        (["train/a", "val/b"], ["."]),
        (["a", "b"], ["a", "b"]),
        (["a", "train"], ["a", "train"]),
        (["a/train", "a/val", "b"], ["a", "b"]),
        (
            ["lightning_logs/version_0", "lightning_logs/version_1"],
            ["lightning_logs/version_0", "lightning_logs/version_1"],
        ),
        (["sweep/lr=0.1/train", "sweep/lr=0.2/train"], ["sweep/lr=0.1", "sweep/lr=0.2"]),
        (["a", "a/b", "c/d"], ["a", "c/d"]),
        ([], []),
    ],
)
def test_what_an_experiment_is(holders, expected, tmp_path):
    """A folder with event files and all below it; one whose children are splits; else its children, looked at alike."""
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    for folder in holders:
        write(tmp_path / folder, event(0))
    assert expected == [os.path.relpath(one, tmp_path) for one in experiments(tmp_path)]
    assert (["."] if holders else []) == [os.path.relpath(one, tmp_path) for one in experiments(tmp_path, as_one=True)]


def test_as_one_has_the_folders_as_namespaces(tmp_path):
    for name in ("a", "b/c"):
        write(tmp_path / "logs" / name, event(0))
    assert ["a/loss", "b/c/loss"] == [one.tag for one in imported(tmp_path / "logs", tmp_path / "runs")]


def test_more_files_than_a_process_may_open(tmp_path):
    """A sweep of add_hparams has thousands of folders; all are read side by side."""
    for number in range(200):
        write(tmp_path / "exp" / f"trial{number}", *(event(step, wall_time=BEGUN + step + number) for step in range(3)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, hard))
    try:
        found = imported(tmp_path / "exp", tmp_path / "runs")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 600 == len(found)
    assert sorted(one.wall_time for one in found) == [one.wall_time for one in found]


def test_only_event_files_are_read(tmp_path):
    """By TensorBoard's own rule: what has tfevents in its name, but for the empty files of its profiler."""
    write(tmp_path / "exp", event(0))
    (tmp_path / "exp" / "notes.txt").write_text("no event")
    (tmp_path / "exp" / "events.out.tfevents.1.profile-empty").write_bytes(event(5))
    (tmp_path / "exp" / "tfevents.v2").write_bytes(event(1))
    assert [0, 1] == sorted(steps(imported(tmp_path / "exp", tmp_path / "runs")))


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="LOGDIR must be a folder with event files"):
        experiments(tmp_path / "nowhere")


def test_names_that_are_no_text_are_left_out(tmp_path, caplog):
    """A folder with a name of another encoding is told, and hinders no other; nor does a link that leads nowhere."""
    write(tmp_path / "exp", event(0))
    write(tmp_path / "exp" / os.fsdecode(b"caf\xe9"), event(1))
    (tmp_path / "exp" / "events.out.tfevents.1700000009.gone").symlink_to(tmp_path / "gone")
    done = import_run(tmp_path / "exp", base=tmp_path / "runs")
    assert [0] == steps(records(done.folder))
    assert ["events.out.tfevents.1700000009.gone, byte 0: cannot be read: No such file or directory"] == [*done.damage]
    assert ["skipped event files in" in one for one in caplog.messages] == [True]
    with pytest.raises(ConfigurationError, match="the path of an imported folder must be UTF-8"):
        import_run(tmp_path / "exp" / os.fsdecode(b"caf\xe9"), base=tmp_path / "runs")


def test_a_link_and_its_target_are_one_experiment(tmp_path):
    """Given either way, it is the same run."""
    write(tmp_path / "exp", event(0))
    (tmp_path / "link").symlink_to(tmp_path / "exp")
    first = import_run(tmp_path / "exp", base=tmp_path / "runs")
    second = import_run(tmp_path / "link", base=tmp_path / "runs")
    assert (first.folder, 0) == (second.folder, second.records)
    assert isinstance(records(first.folder)[0], Scalar)
