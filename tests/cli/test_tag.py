"""tracelet tag, and the commands that show edited names, notes and tags; tracelet runs --where, --sort, --columns."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def three(finished_run):
    for number in range(3):
        run = finished_run({"val/loss": [1.0, number / 4]}, run_id=f"r{number}", exp_name=f"n{number}", tags=["x"])
    return run


def listed(call, *arguments):
    done = call("runs", "--json", *arguments)
    assert 0 == done.exit_code, done.stderr
    return json.loads(done.stdout)["runs"]


def test_edits_are_shown_everywhere(call, three):
    done = call(
        "tag", "r1", "--add", "best, two words", "--add", "new", "--remove", "x", "--name", "w16", "--notes", "n"
    )

    assert ["Run r1", "name w16", "tags best, two words, new", "notes n"] == [
        " ".join(line.split()) for line in done.stdout.splitlines()
    ]
    assert done.stdout == call("tag", "w16").stdout
    (run,) = listed(call, "--where", '"best" in tags')
    assert ("w16", ["best", "two words", "new"], "n") == (run["name"], run["tags"], run["notes"])
    assert "w16" in call("runs").stdout
    shown = json.loads(call("show", "w16", "--json").stdout)
    assert ("w16", ["best", "two words", "new"], "n") == (shown["name"], shown["tags"], shown["notes"])
    compared = json.loads(call("compare", "w16", "n2", "--json").stdout)["runs"]
    assert ["w16", "n2"] == [run["label"] for run in compared]

    edited = json.loads(call("tag", "w16", "--name", "", "--json").stdout)
    assert ("n1", ["best", "two words", "new"]) == (edited["name"], edited["tags"])
    assert 1 == call("tag", "w16").exit_code


def test_runs_by_conditions(call, three):
    found = listed(call, "--where", 'summary["val/loss"] > 0.1', "--sort", '-summary["val/loss"]')
    assert ["r2", "r1"] == [run["run_id"] for run in found]
    assert "r2" in call("runs", "--where", 'name == "n2"').stdout
    assert "No runs under" in call("runs", "--where", 'name == "other"').stdout


def test_columns(call, three):
    arguments = ("--columns", 'name,summary["val/loss"],params.lr,duration', "--sort", "-name")
    lines = [" ".join(line.split()) for line in call("runs", *arguments).stdout.splitlines()]
    assert 'run name summary["val/loss"] params.lr duration' == lines[1]
    assert [("r2 n2 0.5", " s"), ("r1 n1 0.25", " s"), ("r0 n0 0", " s")] == [
        (line.rpartition(" s")[0].rpartition(" ")[0], line[-2:]) for line in lines[3:6]
    ]
    (first, *_) = listed(call, *arguments)
    assert {"name": "n2", 'summary["val/loss"]': 0.5, "params.lr": None} == {
        key: value for key, value in first["columns"].items() if key != "duration"
    }


@pytest.mark.parametrize("option", ["--where", "--sort", "--columns"])
def test_an_invalid_expression_shows_its_place(call, option):
    done = call("runs", option, "status(1)")
    first, shown, caret = done.stderr.splitlines()
    assert 1 == done.exit_code
    assert first.startswith(f"tracelet: {option[2:]}: ")
    assert ("  status(1)", "  ^") == (shown, caret)
