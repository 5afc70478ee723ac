"""summary, add_tags, alert: what is said of a run as a whole, on the one way that everything goes."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from backends import aim_store, clearml_store, csv_store, mlflow_store, tensorboard_store, trackio_store, wandb_store
from backends.faults import journalled

import tracelet
from tracelet import sync
from tracelet.backends import backend_class
from tracelet.records import Alert, Params, Scalar, Summary, Tags
from tracelet.redaction import Secrets
from tracelet.runs import report
from tracelet.testing import MemoryBackend, deliver, run_info
from tracelet.testing.samples import WALL_TIME

DEADLINE = 60


# The summary.


def test_a_figure_is_a_record_and_reads_as_it_was_said(experiment, memory, records):
    """One record a statement; the mapping has the last of each."""
    before = time.time()
    experiment.summary["best"] = 0.5
    experiment.summary.update({"best": 0.75, "epochs": 20}, why="patience")
    found = records()
    assert [{"best": 0.5}, {"best": 0.75, "epochs": 20, "why": "patience"}] == [dict(one.values) for one in found]
    assert all(before <= one.wall_time <= time.time() for one in found)
    assert {"best": 0.75, "epochs": 20, "why": "patience"} == dict(experiment.summary)
    assert (3, True, 0.75, None) == (
        len(experiment.summary),
        "best" in experiment.summary,
        experiment.summary["best"],
        experiment.summary.get("worst"),
    )
    assert found == journalled(experiment.folder)


def test_figures_are_plain_values(experiment, records):
    """Numbers of any library, lists, nested dicts by dotted names; NaN and the infinities are themselves."""
    experiment.summary.update(
        {
            "numpy": np.float32(0.5),
            "tensor": torch.tensor(3),
            "array": np.array([1.0, 2.0]),
            "val": {"f1": 0.25, "by": {"class": [1, 2]}},
            "inf": -math.inf,
            "none": None,
            "path": Path("a/b"),
            "kind": np.float32,
        }
    )
    experiment.summary["nan"] = math.nan
    first, second = records()
    assert {
        "numpy": 0.5,
        "tensor": 3,
        "array": [1.0, 2.0],
        "val.f1": 0.25,
        "val.by.class": [1, 2],
        "inf": -math.inf,
        "none": None,
        "path": "a/b",
        "kind": str(np.float32),
    } == dict(first.values)
    assert math.isnan(second.values["nan"])


def test_nothing_said_is_no_record(experiment, records):
    experiment.summary.update({})
    experiment.add_tags()
    assert [] == records()


@pytest.mark.parametrize("given", [5, "words", [1, 2], {1: 2}, [("a",)]])
def test_what_are_no_figures_is_refused(given, experiment):
    with pytest.raises(tracelet.TraceletError, match=r"^summary.* must be a "):
        experiment.summary.update(given)
    assert (0, {}) == (experiment.stats().submitted, dict(experiment.summary))


def test_a_misspelt_attribute_is_no_figure(experiment):
    """`summary.best = 1` would be kept nowhere."""
    with pytest.raises(AttributeError):
        experiment.summary.best = 1


def test_a_disabled_run_reads_its_figures_all_the_same():
    """A program that asks for what it said goes on as on the rank that is logged."""
    experiment = tracelet.start_logging(mode="disabled")
    experiment.summary["best"] = 0.5
    experiment.add_tags("a")
    experiment.alert("title")
    assert (0.5, 0) == (experiment.summary["best"], experiment.stats().submitted)


# Tags and alerts.


def test_tags_are_words(experiment, records):
    experiment.add_tags("a", "two words", "a")
    (found,) = records()
    assert ("a", "two words") == found.tags


@pytest.mark.parametrize("bad", ["", "  ", None, 5, ["a", "b"]])
def test_what_is_no_tag_is_refused(bad, experiment):
    with pytest.raises(tracelet.TraceletError, match="a tag must be a non-empty str"):
        experiment.add_tags("good", bad)
    assert 0 == experiment.stats().submitted


def test_an_alert_has_a_title_a_text_and_a_level(experiment, records):
    experiment.alert("done")
    experiment.alert("loss is NaN", "at step 7", level="error")
    experiment.alert(ValueError("x"), ["text"], "warning")
    assert [("done", "", "info"), ("loss is NaN", "at step 7", "error"), ("x", "['text']", "warning")] == [
        (one.title, one.text, one.level) for one in records()
    ]


@pytest.mark.parametrize(
    ("title", "level", "words"), [("t", "WARN", "'warning'"), ("t", None, "'info'"), (" ", "info", "title")]
)
def test_what_is_no_alert_is_refused(title, level, words, experiment):
    with pytest.raises(tracelet.ConfigurationError, match=words):
        experiment.alert(title, level=level)
    assert 0 == experiment.stats().submitted


def test_after_the_end_nothing_is_kept(experiment, memory):
    experiment.stop()
    experiment.summary["best"] = 1
    experiment.add_tags("a")
    experiment.alert("title")
    assert [] == memory.records


def test_credentials_are_hidden():
    """In the words of each, as in parameters."""
    secrets = Secrets()
    secrets.add(["s3cret-value"])
    words = "see s3cret-value"
    for record in (Summary({"a": words}, 1.0), Tags((words,), 1.0), Alert(words, words, "info", 1.0)):
        assert "s3cret-value" not in repr(secrets.clean(record))
        assert "see ***" in repr(secrets.clean(record))


# The one way.


def say(experiment):
    experiment.log_metric("loss", 0.5, 1)
    experiment.summary.update({"best": 0.5, "why": "patience"})
    experiment.summary["best"] = 0.25
    experiment.add_tags("added", "first")
    experiment.alert("slow", "very", "warning")


def assert_told(found):
    assert {"best": 0.25, "why": "patience"} == found.summary
    assert ["first", "added"] == found.tags
    assert [("slow", "very", "warning")] == found.alerts


def test_what_waits_is_delivered_by_sync():
    experiment = tracelet.start_logging(backend="csv", mode="offline", tags=["first"])
    say(experiment)
    experiment.stop()
    (backend,) = sync.deliver(experiment.folder).backends
    assert (5, 0) == (backend.delivered, backend.pending)
    assert_told(csv_store.stored(experiment.folder / "csv"))


def test_a_delivery_process_delivers_them():
    experiment = tracelet.start_logging(backend="csv", delivery="process", tags=["first"], flush_timeout=DEADLINE)
    say(experiment)
    experiment.stop()
    assert 5 == experiment.stats().backends["csv"].delivered
    assert_told(csv_store.stored(experiment.folder / "csv"))


def test_a_person_is_shown_them(memory):
    experiment = tracelet.start_logging(backend=memory, tags=["first"])
    say(experiment)
    experiment.stop()
    found = report.read(experiment.folder)
    assert ({"best": 0.25, "why": "patience"}, ["first", "added"]) == (found.final, found.tags)
    assert [("slow", "very", "warning")] == [(one.title, one.text, one.level) for one in found.alerts]


# Each store.

READERS = {
    "csv": lambda folder: csv_store.stored(folder / "run" / "csv"),
    "tensorboard": lambda folder: tensorboard_store.stored(folder / "run" / "tensorboard"),
    "trackio": lambda folder: trackio_store.stored(folder / "trackio"),
    "wandb": lambda folder: wandb_store.stored(folder / "home"),
    "mlflow": mlflow_store.stored,
    "clearml": lambda folder: clearml_store.read(folder / "home" / "clearml"),
    "aim": aim_store.stored,
}


@pytest.fixture(autouse=True)
def _fresh_wandb():
    """wandb looks at its environment once in a session: the next test has one of its own."""
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


def given(tmp_path, name, records, after=0):
    """The store once a backend was opened, given the records, and closed."""
    backend = backend_class(name)()
    held = backend.open(run_info(tmp_path)) or 0
    outcome = deliver(backend, records[max(0, held - after) :], after=max(after, held))
    backend.close("finished", 0)
    assert [] == outcome.rejected
    return READERS[name](tmp_path)


@pytest.mark.parametrize("name", READERS)
def test_what_is_offered_again_is_there_once(name, tmp_path):
    """A process that died before its cursor was written; its alerts go to nobody a second time."""
    records = [
        Tags(("a", "b"), WALL_TIME),
        Alert("slow", "", "warning", WALL_TIME),
        Alert("slow", "", "warning", WALL_TIME + 1),
        Summary({"best": 0.5, "why": "x"}, WALL_TIME + 1),
        Alert("done", "well", "info", WALL_TIME + 2),
    ]
    first = given(tmp_path, name, records)
    again = given(tmp_path, name, records)
    for found in (first, again):
        assert [("slow", "", "warning")] * 2 + [("done", "well", "info")] == found.alerts
        assert ["a", "b"] == sorted(tag for tag in found.tags if tag in ("a", "b"))
        assert {"best": 0.5, "why": "x"} == found.summary


@pytest.mark.parametrize("name", READERS)
def test_a_curve_of_the_same_name_is_another_thing(name, tmp_path):
    """The summary `loss`, the curve `loss`, the parameter `loss` and the tag `loss`."""
    records = [
        Scalar("loss", 0.5, 1, WALL_TIME),
        Params({"loss": "mse"}, WALL_TIME),
        Tags(("loss",), WALL_TIME),
        Summary({"loss": 0.25}, WALL_TIME + 1),
    ]
    found = given(tmp_path, name, records)
    assert [("loss", 1, 0.5)] == [point[:3] for point in found.scalars]
    assert ("mse", 0.25, 1) == (found.params["loss"], found.summary["loss"], found.tags.count("loss"))


def test_mlflow_compares_runs_by_the_numbers(tmp_path):
    """A metric of its own for each, of which the page shows the last; words are run tags, all of them are in a file."""
    records = [
        Summary({"best": 0.75, "acc@1": 3, "why": "x" * 9000, "done": True, "classes": ["a"]}, WALL_TIME),
        Summary({"best": 0.5}, WALL_TIME),  # in the same millisecond, where MLflow shows the larger
        Summary({"acc@1": 2}, WALL_TIME + 1),
    ]
    given(tmp_path, "mlflow", records[:2])
    given(tmp_path, "mlflow", records[2:], after=2)
    run = mlflow_store.only(tmp_path / "mlflow.db")
    assert {"best": 0.5, "acc@1": 2.0} == run.summary_metrics()
    assert ("true", '["a"]', "x" * 3999 + "…") == tuple(
        run.tags[f"summary/{name}"] for name in ("done", "classes", "why")
    )
    assert "x" * 9000 == run.exact_summary["why"]


def test_mlflow_has_tags_with_values_and_shows_the_last_alert(tmp_path):
    found = [Tags(("stage=dev", "good"), WALL_TIME), Tags(("stage=prod",), WALL_TIME + 1)]
    found += [Alert("one", "", "info", WALL_TIME), Alert("two", "words", "error", WALL_TIME + 1)]
    given(tmp_path, "mlflow", found)
    run = mlflow_store.only(tmp_path / "mlflow.db")
    assert ("prod", "true", "error: two") == (run.tags["stage"], run.tags["good"], run.tags["tracelet.alert"])
    pages = sorted(data.decode() for path, data in run.artifacts.items() if path.endswith(".md"))
    assert [
        "# one\n\ninfo, 2023-11-14T22:13:20.250000+00:00\n",
        "# two\n\nwords\n\nerror, 2023-11-14T22:13:21.250000+00:00\n",
    ] == pages


def test_clearml_shows_the_numbers_as_single_values(tmp_path):
    """Where `report_single_value` puts them; what no server takes is in the configuration object alone."""
    given(tmp_path, "clearml", [Summary({"best": 0.5, "n": 3, "nan": math.nan, "why": "x", "ok": True}, WALL_TIME)])
    (session,) = clearml_store.sessions(tmp_path / "home" / "clearml")
    shown = [one for one in clearml_store.events(session) if one["type"] == "training_stats_scalar"]
    assert [("Summary", "best", -(2**31), 0.5), ("Summary", "n", -(2**31), 3.0)] == [
        (one["metric"], one["variant"], one["iter"], one["value"]) for one in shown if one["metric"] == "Summary"
    ]


def test_wandb_takes_long_words_shortened(tmp_path):
    """A tag of 64 characters at most, with a hash; a title of less, the whole of it in the text."""
    long, other = "t" * 70, "t" * 69 + "u"
    records = [Tags((long, other, "x" * 64), WALL_TIME)]
    records += [Alert("a" * 64, "text", "info", WALL_TIME), Alert("b" * 63, "", "info", WALL_TIME)]
    found = given(tmp_path, "wandb", records)
    assert (3, {64}) == (len(set(found.tags) - {"contract"}), {len(tag) for tag in found.tags if tag != "contract"})
    assert [("a" * 62 + "…", "a" * 64 + "\n\ntext", "info"), ("b" * 63, "", "info")] == found.alerts


def test_an_aim_run_that_says_more_keeps_both(tmp_path):
    """The program's own `log_info` stands between our alerts."""
    backend = backend_class("aim")()
    backend.open(run_info(tmp_path))
    deliver(backend, [Alert("one", "", "error", WALL_TIME)])
    backend.native.log_info("own words")
    deliver(backend, [Alert("two", "", "info", WALL_TIME + 1)], after=1)
    backend.close("finished", 0)
    points = [one for one in aim_store.only(tmp_path).points if one.name == "__log_records"]
    assert ["one", "own words", "two"] == [one.value.storage["message"] for one in points]
    assert WALL_TIME == points[0].value.storage["timestamp"]


def test_memory_has_them_as_records(tmp_path):
    backend = MemoryBackend()
    deliver(backend, [Summary({"a": 1}, 1.0), Tags(("x",), 1.0), Alert("t", "", "info", 1.0)])
    assert [1, 1, 1] == [len(backend.of(kind)) for kind in (Summary, Tags, Alert)]
