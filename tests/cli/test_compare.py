"""tracelet compare"""

from __future__ import annotations

import json
import math
import re

import pytest

import tracelet
from tracelet.runs import comparison, report


@pytest.fixture
def made(tmp_path):
    """`made(run_id, points, params, ...)`: a run that ended."""

    def make(run_id, points=None, params=None, **arguments):
        with tracelet.start_logging(run_id=run_id, dir=tmp_path, **arguments) as run:
            run.log_params(params or {})
            for name, values in (points or {}).items():
                for step, value in enumerate(values):
                    run.log_metric(name, value, step)
        return run

    return make


def lines(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_what_differs_and_what_became_of_it(call, made):
    """Parameters that differ, with their values; of each common series the last, lowest and highest value."""
    made("run-a", {"loss": [3.0, 1.0, 2.0], "only a": [1.0]}, {"lr": 0.1, "batch": 64, "extra": "x"}, exp_name="small")
    made("run-b", {"loss": [4.0, 0.5], "acc": [0.5]}, {"lr": 0.01, "batch": 64}, exp_name="large")
    made("run-c", {"loss": [7.0], "acc": [0.25]}, {"lr": 0.1, "batch": 64, "extra": None})

    result = call("compare", "run-a", "run-b", "run-c")
    found = lines(result.stdout)

    assert (0, "") == (result.exit_code, result.stderr)
    assert "parameter small large run-c" in found
    assert "lr 0.1 0.01 0.1" in found
    assert "extra x - None" in found
    assert "Equal in all runs: 1 of 3 parameters." in found
    assert "loss 2 (1 to 3) 0.5 (0.5 to 4) 7 (7 to 7)" in found
    assert "acc - 0.5 (0.5 to 0.5) 0.25 (0.25 to 0.25)" in found
    assert "In one run only: 1 of 3 scalars." in found


@pytest.mark.parametrize("width", [40, 70])
def test_a_narrow_terminal_loses_nothing(call, made, width):
    """Where there is no room for columns, each run has a line."""
    for run_id in ("run-a", "run-b", "run-c"):
        made(run_id, {"loss": [1.0]}, {"lr": run_id})
    text = call("compare", "run-a", "run-b", "run-c", width=width).stdout

    assert width >= max(map(len, text.splitlines()))
    assert "run-b: 1 (1 to 1)" in lines(text)
    assert "run-c: run-c" in lines(text)


@pytest.mark.parametrize(
    ("ids", "labels"),
    [
        (["a/run-1-x", "a/run-2-x", "b/other"], ["same (run-1)", "same (run-2)", "same (other)"]),
        (["a/1-x", "b/2-x"], ["same (1)", "same (2)"]),
        (["a/run", "a/run-2"], ["same (run)", "same (run-2)"]),
        (["a/run", "b/run"], ["same (a/run)", "same (b/run)"]),
    ],
)
def test_runs_of_one_name_are_told_apart(made, tmp_path, ids, labels):
    """By as many parts of their ids as it takes."""
    folders = []
    for number, one in enumerate(ids):
        project, _, run_id = one.partition("/")
        # Out of the way: one `dir` has each id once.
        folders.append(made(run_id, exp_name="same", project=project).folder.rename(tmp_path / f"moved-{number}"))
    found = comparison.compare(folders)

    assert tuple(labels) == found.labels


def test_the_machines_figures_come_last(call, made):
    for run_id in ("run-a", "run-b"):
        made(run_id, {"system/cpu": [1.0], "loss": [2.0]})
    found = lines(call("compare", "run-a", "run-b").stdout)

    assert found.index("loss 2 (2 to 2) 2 (2 to 2)") < found.index("system metrics: last (min to max) run-a run-b")
    assert "system/cpu 1 (1 to 1) 1 (1 to 1)" == found[-2 if found[-1] == "" else -1]


def test_values_that_only_look_alike_are_told_apart(call, made):
    """A number, and the text of its digits."""
    made("run-a", {}, {"seed": 1, "lr": "x"})
    made("run-b", {}, {"seed": "1", "lr": 2})
    found = lines(call("compare", "run-a", "run-b").stdout)

    assert "seed 1 '1'" in found
    assert "lr x 2" in found


@pytest.mark.parametrize(
    ("values", "differs"),
    [
        ([1, 1], False),
        ([1, 1.0], True),
        ([math.nan, math.nan], False),
        ([None, comparison.MISSING], True),
        (["", comparison.MISSING], True),
        ([[1, 2], [1, 2]], False),
        ([True, 1], True),
        ([1, "1"], True),
        ([None, "None"], True),
        (["a", "a"], False),
    ],
)
def test_values_differ_where_a_person_sees_it(values, differs):
    assert differs == comparison.Row("x", tuple(values)).differs


@pytest.mark.parametrize("runs", [["run-a"], ["run-a", "run-a"], ["run-a", "digits/run-a"]])
def test_a_run_is_not_compared_with_itself(call, made, runs):
    made("run-a", project="digits")
    result = call("compare", *runs)

    assert (1, 1) == (result.exit_code, result.stderr.count("\n"))
    assert "at least two runs" in result.stderr


def test_an_unknown_run_is_one_line(call, made):
    made("run-a")
    result = call("compare", "run-a", "nobody")

    assert (1, "") == (result.exit_code, result.stdout)
    assert result.stderr.startswith("tracelet: no run 'nobody' under ")


def test_json_is_strict_and_in_the_order_of_the_runs(call, made):
    """Nothing but JSON is printed; what a run does not have is null, and told from a null that was given."""
    made("run-a", {"loss": [math.nan]}, {"lr": None})
    made("run-b", {"loss": [1.0], "acc": [math.inf]}, {})

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    told = json.loads(call("compare", "run-b", "run-a", "--json").stdout, parse_constant=refuse)

    assert ["run-b", "run-a"] == [one["label"] for one in told["runs"]]
    assert {"differs": True, "values": [None, None], "has": [False, True]} == told["params"]["lr"]
    assert [1.0, "NaN"] == [one["last"] for one in told["scalars"]["loss"]]
    assert ["Infinity", None] == [one and one["max"] for one in told["scalars"]["acc"]]


def test_a_plot_has_a_chart_for_each_common_series(call, made, tmp_path):
    for run_id in ("run-a", "run-b"):
        made(run_id, {"loss": [1.0, 2.0], run_id: [1.0]})
    result = call("compare", "run-a", "run-b", "--plot", tmp_path / "both.png")

    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    assert f"Plot: {tmp_path / 'both.png'}\n" == result.stdout
    found = comparison.compare([tmp_path / "default" / "run-a", tmp_path / "default" / "run-b"])
    assert [("loss", ["run-a", "run-b"])] == [(one.title, [c.name for c in one.curves]) for one in found.charts()]


def charts_of(text):
    """The data of a page's charts."""
    return json.loads(text.partition('<script type="application/json" id="charts">')[2].partition("</script>")[0])


def test_a_page_has_the_curves_of_all_runs(call, made, tmp_path):
    """One chart for each common series, one curve in it for each run, of one colour throughout."""
    for run_id, more in (("run-a", {"first": [1.0]}), ("run-b", {}), ("run-c", {"first": [2.0]})):
        made(run_id, {"loss": [1.0, 2.0], **more}, {"lr": run_id})
    result = call("compare", "run-a", "run-b", "run-c", "--html", tmp_path / "both.html")
    data = charts_of((tmp_path / "both.html").read_text(encoding="utf-8"))

    assert 0 == result.exit_code
    assert {
        "loss": [("run-a", 0), ("run-b", 1), ("run-c", 2)],
        "first": [("run-a", 0), ("run-c", 2)],
    } == {chart["title"]: [(one["name"], one["color"]) for one in chart["curves"]] for chart in data}


def test_a_page_has_no_charts_of_system_metrics_with_one_point(call, made, tmp_path):
    """Short runs have ten of them. Their values are in the table."""
    for run_id, value in (("run-a", 40.25), ("run-b", 41.75)):
        made(run_id, {"loss": [1.0, 2.0], "system/memory_percent": [value]})
    assert 0 == call("compare", "run-a", "run-b", "--html", tmp_path / "both.html").exit_code
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert ["loss"] == [chart["title"] for chart in charts_of(text)]
    (row,) = re.findall(r"<tr><t[hd][^>]*>system/memory_percent<.*?</tr>", text)
    assert ["40.25", "41.75"] == re.findall(r"<td><span[^>]*>([\d.]+)", row)


def test_many_runs_keep_as_many_points_as_one(made):
    """The more runs, the fewer points of each: a chart stays as large as that of one run."""
    runs = [made(f"run-{number}", {"loss": [float(step % 97) for step in range(3000)]}) for number in range(4)]
    together = sum(len(points) for points in comparison.compare([run.folder for run in runs]).charts()[0].points())
    alone = len(report.read(runs[0].folder).scalars["loss"].points())

    assert together < 1.5 * alone
