"""What a backend gets of a run: by name, by kind, by time; what it does not get is in the journal, and counted."""

import math
from pathlib import Path

import msgspec
import pytest
from backends import csv_store, mlflow_store
from backends.faults import assert_balanced, journalled, values
from support import REPOSITORY, our_threads

import tracelet
from tracelet import sync
from tracelet.backends import filters
from tracelet.backends.filters import Filter, FilterState
from tracelet.backends.memory import MemoryBackend
from tracelet.errors import ConfigurationError
from tracelet.journal.store import JournalReader
from tracelet.records import KINDS, Artifact, Histogram, Image, Params, Scalar, Text, kind

DEADLINE = 60


def scalar(tag, wall_time=0.0):
    return Scalar(tag, 1.0, 0, wall_time)


def text(tag, wall_time=0.0):
    return Text(tag, "x", 0, wall_time)


def kept(records, **given):
    """What goes through, in one piece."""
    found, others = FilterState(KINDS, filters.parse(given, "here")).apply(1, records)
    assert len(records) == len(found) + len(others)
    return [record for _, record in found]


def reasons(records, **given):
    _, others = FilterState(KINDS, filters.parse(given, "here")).apply(1, records)
    return dict(others)


# Names.


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, ["loss", "val/loss", "debug/grad/w", "Loss", "debug"]),
        ({"include": ["loss"]}, ["loss"]),
        ({"include": ["*loss"]}, ["loss", "val/loss"]),
        ({"include": "*loss, debug"}, ["loss", "val/loss", "debug"]),
        ({"exclude": ["debug/*"]}, ["loss", "val/loss", "Loss", "debug"]),
        ({"include": ["*/*"], "exclude": ["debug/*"]}, ["val/loss"]),
        ({"include": ["[Ll]oss"]}, ["loss", "Loss"]),
        ({"include": ["????"]}, ["loss", "Loss"]),
        ({"exclude": ["*"]}, []),
        ({"include": [], "exclude": ()}, ["loss", "val/loss", "debug/grad/w", "Loss", "debug"]),
    ],
)
def test_names_are_shell_patterns(given, names):
    """`*` crosses `/`, letters are themselves, the whole name must fit; what is excluded stays out though included."""
    records = [scalar(name) for name in ("loss", "val/loss", "debug/grad/w", "Loss", "debug")]
    assert names == [record.tag for record in kept(records, **given)]


def test_a_bracket_of_a_name_stands_in_brackets():
    assert ["a[0]"] == [one.tag for one in kept([scalar("a[0]"), scalar("a0")], include=["a[[]0]"])]


def test_every_kind_is_in_the_documentation():
    page = (REPOSITORY / "docs" / "filters.md").read_text(encoding="utf-8")
    assert [] == [kind(one) for one in KINDS if f"`{kind(one)}`" not in page]


def test_parameters_and_artifacts_have_no_such_names():
    """Patterns are for series; a kind is asked for by its word."""
    records = [Params({"lr": 1}, 0.0), Artifact("model.pt", (), 0.0), scalar("loss")]
    assert records[:2] == kept(records, exclude=["*"])
    assert records[:2] == kept(records, include=["nothing"])
    assert records[2:] == kept(records, exclude_kinds=["params", "artifact"])
    assert records[2:] == kept(records, kinds=["scalar"])


# Time.


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 1, 9, 10, 11, 19, 20, 35, 44], [0, 10, 20, 35]),
        ([100, 0, 5, 10], [100, 0, 10]),  # a clock that was set back
        ([100, 99.5, 100.5], [100]),  # two threads
        ([5, 5, 5], [5]),
        ([1, 2, math.nan, 3], [1, math.nan, 3]),  # no time at all
    ],
)
def test_one_in_so_many_seconds(times, expected):
    """By the wall times of the records, the first of a series always, each measured from the last that was kept."""
    found = [one.wall_time for one in kept([scalar("loss", time) for time in times], every={"scalar": 10})]
    assert [str(float(time)) for time in expected] == [str(float(time)) for time in found]


def test_each_series_has_a_time_of_its_own():
    """A series is a name and a kind; kinds that are not named are not slowed down."""
    records = [one for time in (0, 4, 8) for one in (scalar("a", time), scalar("b", time), text("a", time))]
    found = kept(records, every={"scalar": 6})
    assert [("a", 0), ("a", 8)] == [(one.tag, one.wall_time) for one in found if one.tag == "a" and type(one) is Scalar]
    assert [0, 4, 8] == [one.wall_time for one in found if type(one) is Text]
    assert [0, 8] == [one.wall_time for one in found if one.tag == "b"]


def test_what_is_excluded_does_not_count_as_seen():
    """The reason is the first key that keeps a record back: place, kind, name, time."""
    records = [scalar("a", 0), scalar("b", 1), text("a", 2), scalar("a", 3), Params({}, 4)]
    given = {"exclude_kinds": ["text"], "exclude": ["b"], "every": {"scalar": 10}}
    assert {2: "exclude", 3: "exclude_kinds", 4: "every"} == reasons(records, **given)
    _, others = FilterState((Scalar,), filters.parse(given, "here")).apply(1, records)
    assert {2: "exclude", 3: "accepts", 4: "every", 5: "accepts"} == dict(others)
    assert {1: "include", 2: "kinds"} == reasons([scalar("b"), text("a")], kinds=["scalar"], include=["a"])


# What is said wrongly is said at once.


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kinds": ["scalars"]}, ["'scalars'", "Kinds: scalar, histogram, image"]),
        ({"exclude_kinds": "image,figure"}, ["'figure'", "exclude_kinds"]),
        ({"every": {"picture": 10}}, ["'picture'", "Kinds: "]),
        ({"every": {"params": 10}}, ["'params' has no tags", "exclude_kinds=['params']"]),
        ({"every": {"image": 0}}, ["'image'", "above 0"]),
        ({"every": {"image": -1.5}}, ["-1.5"]),
        ({"every": {"image": math.inf}}, ["inf"]),
        ({"every": {"image": math.nan}}, ["nan"]),
        ({"every": {"image": "10/min"}}, ["every", "{'image': 60}"]),
        ({"every": 60}, ["every", "{'image': 60}"]),
        ({"every": "image"}, ["'image'", "image=60,histogram=30"]),
        ({"include": [5]}, ["include", "patterns"]),
        ({"include": {"loss": 1}}, ["include", "patterns"]),
        ({"exclude": None}, ["exclude"]),
        ({"excluded": ["x"]}, ["'excluded'", "Did you mean exclude?"]),
    ],
)
def test_what_cannot_be_meant_is_refused(given, words, tmp_path):
    """On the user's line, for one backend or among several, with what to do; nothing was begun."""
    several = {"backend": "csv,memory", "config": {"csv": given}}
    for arguments in ({"backend": "csv", "config": given}, several):
        with pytest.raises(ConfigurationError) as caught:
            tracelet.start_logging(dir=tmp_path, **arguments)
        for word in ("csv", *words):
            assert word in str(caught.value)
    assert [] == our_threads() == list(tmp_path.glob("*/*/journal.db"))


def test_a_filter_needs_a_backend():
    """There is nobody to keep anything from."""
    with pytest.raises(ConfigurationError, match=r"'exclude' is neither a backend of this run \(none\)"):
        tracelet.start_logging(config={"exclude": ["x"]})


def test_an_object_takes_a_filter_and_nothing_else():
    memory = MemoryBackend()
    with pytest.raises(ConfigurationError, match="pass 'dir' to its constructor"):
        tracelet.start_logging(backend=memory, config={"dir": "x"})
    assert None is tracelet.get_active_experiment()


def test_a_name_of_a_backends_own_is_its_own():
    """A backend from elsewhere that knows a key `exclude` keeps it."""

    class Own(MemoryBackend):
        name = "own"

        class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
            exclude: str = ""

    tracelet.register_backend("own", Own)
    backend = tracelet.start_logging(backend="own", config={"exclude": "mine", "include": ["loss"]}).get_backend("own")
    assert ("mine", Filter(include=("loss",))) == (backend.config.exclude, backend.filter)


# In a run.


def log(experiment):
    """Ten rounds, ten seconds apart: a loss, a gradient, a note; parameters once."""
    experiment.log_params({"lr": 0.1})
    for step in range(10):
        experiment.log_metric("loss", step, step, wall_time=1000.0 + 10 * step)
        experiment.log_metric("debug/grad", -step, step, wall_time=1000.0 + 10 * step)
        experiment.log_text("note", "hello", step)


GIVEN = {"exclude": ["debug/*"], "exclude_kinds": ["text"], "every": {"scalar": 25}}
FILTERED = {"exclude": 10, "exclude_kinds": 10, "every": 6}


def assert_filtered(experiment, name):
    """The numbers add up, and those of the reasons too."""
    assert_balanced(experiment.stats())
    stats = experiment.stats().backends[name]
    assert (31, FILTERED, 26) == (experiment.stats().submitted, stats.filtered_by, stats.filtered)
    assert (5, 0) == (stats.delivered, stats.pending)


def test_the_backend_gets_what_is_asked_for_and_the_journal_everything(memory, caplog):
    caplog.set_level("INFO", logger="tracelet")
    experiment = tracelet.start_logging(backend=memory, config=GIVEN)
    log(experiment)
    assert experiment.flush(DEADLINE)
    experiment.stop()
    assert [Params] == [type(one) for one in memory.records[:1]]
    assert [0, 3, 6, 9] == values(memory.records[1:])
    assert_filtered(experiment, "memory")
    assert 31 == len(journalled(experiment.folder))
    assert "memory: 5 delivered, 26 filtered" in caplog.text


def test_a_filter_beside_the_names_is_everybodys(tmp_path):
    """Key by key: what a backend says itself holds for it."""
    one, two = MemoryBackend(), MemoryBackend()
    one.name, two.name = "one", "two"
    config = {**GIVEN, "two": {"exclude": [], "every": {}}, "csv": {"dir": str(tmp_path / "out")}}
    experiment = tracelet.start_logging(backend=[one, two, "csv"], config=config)
    log(experiment)
    experiment.stop()
    for name in ("one", "csv"):
        assert_filtered(experiment, name)
    assert [(step, float(step)) for step in (0, 3, 6, 9)] == points(tmp_path / "out")
    assert {"exclude_kinds": 10} == experiment.stats().backends["two"].filtered_by
    assert 21 == len(two.records)


def points(folder):
    return [(step, value) for _, step, value, _ in csv_store.stored(folder).scalars]


def test_a_kind_without_a_place_is_told_apart():
    """`accepts` is the reason where no filter is."""

    class ScalarsOnly(MemoryBackend):
        name, accepts = "scalars", (Scalar,)

    backend = ScalarsOnly()
    experiment = tracelet.start_logging(backend=backend, config={"exclude": ["debug/*", "note"]})
    log(experiment)
    experiment.stop()
    assert {"accepts": 11, "exclude": 10} == experiment.stats().backends["scalars"].filtered_by
    assert_balanced(experiment.stats())


def test_another_process_filters_as_this_one():
    """`delivery="process"`: the same records, the same numbers, by reason."""
    experiment = tracelet.start_logging(backend="csv", delivery="process", config=GIVEN, flush_timeout=DEADLINE)
    log(experiment)
    assert experiment.flush(DEADLINE)
    experiment.stop()
    assert [(step, float(step)) for step in (0, 3, 6, 9)] == points(experiment.folder / "csv")
    assert_filtered(experiment, "csv")


def test_the_pace_goes_on_in_the_next_process(memory):
    """A run that is gone on with decides as one that was never interrupted, in small pieces or at once."""
    config, wall_times = {"every": {"scalar": 10}}, [0, 4, 9, 13, 14, 23, 24, 33, 34, 40]
    for at, time in enumerate(wall_times):
        store = MemoryBackend()
        experiment = tracelet.start_logging(run_id="one", backend=store, config=config)
        experiment.log_metric("loss", at, at, wall_time=1000.0 + time)
        experiment.stop()
        memory.records += store.records
    at_once = MemoryBackend()
    at_once.name = "other"
    tracelet.start_logging(run_id="one", backend=at_once, config=config).stop()
    assert [0, 3, 5, 7] == values(memory.records) == values(at_once.records)
    assert_balanced(experiment.stats())
    assert {"every": 6} == experiment.stats().backends["memory"].filtered_by


def test_a_store_that_lost_something_gets_what_it_had(memory):
    """Records that are delivered again after a loss are decided as the first time."""

    class Forgetful(MemoryBackend):
        name = "forgetful"

        def __init__(self, held=None):
            super().__init__()
            self.held = held

        def open(self, run):
            return self.held

    experiment = tracelet.start_logging(run_id="one", backend=Forgetful(), config=GIVEN)
    log(experiment)
    experiment.stop()
    again = Forgetful(held=13)
    experiment = tracelet.start_logging(run_id="one", backend=again, config=GIVEN)
    assert experiment.flush(DEADLINE)
    experiment.stop()
    assert [6, 9] == values(again.records)
    assert_filtered(experiment, "forgetful")


# Afterwards.


def test_sync_keeps_to_the_filter_of_the_run():
    """The journal remembers it with the rest of the config."""
    experiment = tracelet.start_logging(backend="csv", mode="offline", config=GIVEN)
    log(experiment)
    experiment.stop()
    with JournalReader(experiment.folder) as reader:
        assert filters.parse(GIVEN, "here") == filters.parse(reader.facts()["config csv"], "there")

    (backend,) = sync.deliver(experiment.folder).backends
    assert (5, 26, 0) == (backend.delivered, backend.filtered, backend.pending)
    assert [(step, float(step)) for step in (0, 3, 6, 9)] == points(experiment.folder / "csv")


def test_a_backend_that_comes_later_gets_the_rest(tmp_path):
    """What one was not given is in the journal for another, by a filter of its own or by none."""
    memory = MemoryBackend()
    experiment = tracelet.start_logging(backend=memory, config=GIVEN)
    log(experiment)
    experiment.stop()
    (all_of_it,) = sync.deliver(experiment.folder, ["csv"]).backends
    assert (31, 0) == (all_of_it.delivered, all_of_it.filtered)
    assert 20 == len(points(experiment.folder / "csv"))


def test_a_filter_on_the_command_line(tmp_path):
    """Lists are comma lists there, and nothing lifts what the journal remembers."""
    experiment = tracelet.start_logging(backend="csv", mode="offline", config=GIVEN)
    log(experiment)
    experiment.stop()
    config = {"csv": {"exclude": "", "exclude_kinds": "text, params", "every": "scalar=25, image=60"}}
    (backend,) = sync.deliver(experiment.folder, config=config).backends
    assert (8, 23) == (backend.delivered, backend.filtered)
    with JournalReader(experiment.folder) as reader:
        told = reader.facts()["config csv"]
    assert {"exclude_kinds": ["text", "params"], "every": {"scalar": 25.0, "image": 60.0}} == told


def test_a_vendors_store_has_what_is_asked_for(tmp_path):
    """MLflow's own SQLite file: curves and histograms thinned out, a series and a kind left out."""
    import numpy as np
    from torch.utils.tensorboard import SummaryWriter

    config = {"exclude": ["debug/*"], "every": {"histogram": 25, "image": 1000}}
    experiment = tracelet.start_logging(
        backend="mlflow", config=config, connect_timeout=DEADLINE, flush_timeout=DEADLINE
    )
    with SummaryWriter(str(tmp_path / "logs")) as writer:
        for step in range(6):
            clock = 1000.0 + 10 * step
            writer.add_scalar("loss", step, step, walltime=clock)
            writer.add_scalar("debug/grad", step, step, walltime=clock)
            writer.add_histogram("weights", np.array([0.0, step]), step, walltime=clock)
            writer.add_image("digit", np.array([[[0.0, 1.0]]]), step, walltime=clock)
    experiment.stop()

    stored = mlflow_store.stored(Path.cwd())
    assert [("loss", step, float(step), 1000.0 + 10 * step) for step in range(6)] == stored.scalars
    assert [0, 3] == [step for _, step, _, _ in stored.histograms]
    assert [("digit", 0)] == list(stored.images)
    stats = experiment.stats().backends["mlflow"]
    assert {"exclude": 6, "every": 4 + 5} == stats.filtered_by
    assert_balanced(experiment.stats())
    assert {kind(one): 6 for one in (Histogram, Image)} == {
        word: sum(kind(record) == word for record in journalled(experiment.folder)) for word in ("histogram", "image")
    }
