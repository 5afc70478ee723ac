"""`run.summary`, and what `define_metric` makes of it."""

import math

import pytest

import tracelet.compat.wandb as wandb
from tracelet.records import Summary


@pytest.fixture
def run():
    return wandb.init()


def test_last_values(run):
    import numpy

    run.log({"loss": 0.5, "flag": True, "count": numpy.int64(3), "words": "x", "gone": None, "nested": {"a": 1}})
    run.log({"loss": 0.25, "nested": {"b": 2}})
    summary = run.summary
    assert (0.25, True, 3, "x") == (summary["loss"], summary.flag, summary["count"], summary["words"])
    assert (1, 2) == (summary["nested"]["a"], summary.nested.b)
    assert "gone" not in summary
    assert (1, 9) == (summary["_step"], summary.get("absent", 9))
    assert {"loss", "flag", "count", "words", "nested"} == {name for name in summary if not name.startswith("_")}
    with pytest.raises(AttributeError):
        summary.absent  # noqa: B018
    with pytest.raises(KeyError):
        summary["absent"]


def test_a_tensor_of_several_elements_does_not_raise(run):
    import torch

    run.log({"weights": torch.ones(2, 2), "one": torch.tensor([0.5])})
    assert (0.5, [[1.0, 1.0], [1.0, 1.0]]) == (run.summary["one"], run.summary["weights"])


def test_values_that_the_program_sets(run, journal):
    run.summary["best"] = 0.9
    run.summary.update({"a": 1}, b=2)
    run.summary["deep"] = {"x": {"y": 1}}
    run.summary["deep"]["x"]["z"] = 2
    assert {"x": {"y": 1, "z": 2}} == run.summary.plain()["deep"]
    del run.summary["a"]
    assert "a" not in run.summary
    merged = {}
    for one in journal(run, Summary):
        merged |= one.values
    assert {"best": 0.9, "a": 1, "b": 2, "deep.x.y": 1, "deep.x.z": 2} == merged


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("min", {"min": 1.0}),
        ("max", {"max": 3.0}),
        ("mean", {"mean": 2.0}),
        ("first", {"first": 3.0}),
        ("last", {"last": 2.0}),
        ("min,max", {"min": 1.0, "max": 3.0}),
        ("MIN, last", {"min": 1.0, "last": 2.0}),
        ("copy", 2.0),
        ("best", {"best": 1.0}),
    ],
)
def test_aggregates(run, summary, expected):
    wandb.define_metric("loss", summary=summary)
    for value in (3.0, 1.0, 2.0):
        run.log({"loss": value, "plain": value})
    assert (expected, 2.0) == (run.summary.plain()["loss"], run.summary["plain"])


def test_a_goal(run):
    run.define_metric("accuracy", summary="best", goal="maximize")
    for value in (0.5, 0.9, 0.7):
        run.log({"accuracy": value})
    assert 0.9 == run.summary["accuracy"]["best"]


def test_none_has_no_summary(run):
    run.define_metric("hidden", summary="none")
    run.log({"hidden": 1.0})
    assert "hidden" not in run.summary


def test_nan_stays_nan(run):
    run.define_metric("loss", summary="min,max,last")
    for value in (1.0, math.nan, 0.5):
        run.log({"loss": value})
    found = run.summary.plain()["loss"]
    assert (True, True, 0.5) == (math.isnan(found["min"]), math.isnan(found["max"]), found["last"])


def test_an_exact_name_comes_before_a_pattern(run):
    run.define_metric("val/*", summary="min")
    run.define_metric("val/accuracy", summary="max")
    run.define_metric("*", summary="mean")
    for value in (1.0, 3.0):
        run.log({"val/accuracy": value, "val/loss": value, "other": value})
    found = run.summary.plain()
    assert ({"max": 3.0}, {"min": 1.0}, {"mean": 2.0}) == (found["val/accuracy"], found["val/loss"], found["other"])


def test_the_axis_is_added_to_a_row_without_it_and_gives_the_steps(run, points):
    epoch = run.define_metric("epoch")
    run.define_metric("val/*", step_metric=epoch)
    run.define_metric("free", step_metric="epoch", step_sync=False)
    run.log({"epoch": 4})
    run.log({"val/loss": 1.0})
    run.log({"free": 1.0})
    assert [("epoch", 4, 4.0), ("val/loss", 4, 1.0), ("epoch", 4, 4.0), ("free", 4, 1.0)] == points(run)


@pytest.mark.parametrize("names", [("*", "val/*"), ("val/*", "*")])
def test_the_longest_pattern_comes_first(run, points, names):
    """In whatever order they were defined, as in wandb: for the summary and for the steps."""
    for name in names:
        run.define_metric(name, summary={"*": "mean", "val/*": "min"}[name], step_metric={"*": "g", "val/*": "e"}[name])
    run.log({"g": 7, "e": 3, "val/loss": 1.0})
    assert {"min": 1.0} == run.summary.plain()["val/loss"]
    assert ("val/loss", 3, 1.0) in points(run)


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": ""},
        {"name": "a*b"},
        {"name": "a", "summary": "median"},
        {"name": "a", "goal": "up"},
        {"name": "a", "hidden": 1},
        {"name": "a", "step_metric": 3},
    ],
)
def test_what_define_metric_refuses(run, arguments):
    with pytest.raises(wandb.Error, match="define_metric"):
        run.define_metric(**arguments)


def test_what_define_metric_returns(run):
    metric = run.define_metric("val/loss", step_metric="epoch", summary="min", goal="minimize", overwrite=True)
    assert ("val/loss", "epoch", ("min",), "minimize") == (metric.name, metric.step_metric, metric.summary, metric.goal)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("v.a", {"a": {"min": 1.0, "max": 3.0}, "b": {"c": 0}}),
        ("v.*", {"a": {"min": 1.0, "max": 3.0}, "b": {"c": {"min": 0.0, "max": 1.0}}}),
        ("v", {"a": 1, "b": {"c": 0}}),
    ],
)
def test_a_definition_of_nested_keys(name, expected):
    """Their names are those of wandb's charts."""
    with wandb.init() as run:
        run.define_metric(name, summary="min,max")
        run.log({"v": {"a": 3, "b": {"c": 1}}})
        run.log({"v": {"a": 1, "b": {"c": 0}}})
        assert expected == run.summary["v"]
