"""tracelet import --from: the runs of another store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tracelet import backends
from tracelet.errors import MissingDependency

TABLE = "run,step,loss\nfirst,0,0.5\nfirst,1,0.25\nsecond,0,x\nsecond,1,0.125\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A CSV file with two runs, one with an invalid cell."""
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


def runs(base: Path) -> list[Path]:
    return sorted(path.parent for path in base.glob("*/*/journal.db"))


def test_each_run_of_the_store_is_a_run(call, table, tmp_path):
    """A line for each, with its damage; importing again says that nothing is new."""
    result = call("import", "--from", "csv", table, "--project", "digits")
    assert (0, "") == (result.exit_code, result.stderr)
    lines = [line.partition(": ")[2] for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert ["2 records of 1 series from first", "1 records of 1 series from second"] == lines
    assert "'loss': 1 cells are invalid; the first is 'x' in line 4" in result.stdout
    assert {"digits"} == {run.parent.name for run in runs(tmp_path)}
    again = call("import", "--from", "csv", table, "--project", "digits")
    assert (0, 2, 2) == (again.exit_code, again.stdout.count("nothing new"), len(runs(tmp_path)))


def test_runs_go_to_backends(call, table, tmp_path):
    """Those that are chosen, and each once."""
    for new in (2, 0):
        result = call("import", "--from", "csv", table, "--run", "first", "--backend", "csv", "--json")
        document = json.loads(result.stdout)
        (imported,), (delivered,) = document["runs"], document["delivered"]
        assert (new, "first", str(table)) == (imported["records"], imported["name"], imported["source"])
        assert (True, 2, new) == (
            delivered["complete"],
            delivered["backends"]["csv"]["delivered"],
            delivered["backends"]["csv"]["new"],
        )
    (run,) = runs(tmp_path)
    assert 3 == len((run / "csv" / "scalars.csv").read_text().splitlines())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from", "mlfow"), "Did you mean mlflow?"),
        (("--run", "first"), "need --from"),
        (("--from", "csv", "--watch"), "for event files"),
        (("--from", "aim", "--step-column", "x"), "--from csv"),
        (("--from", "csv", "--run", "third"), "has no run that --run and --experiment select to import"),
        (("--from", "csv", "--step-column", "x"), "no column 'x'"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(call, table, tmp_path, options, message):
    result = call("import", table, *options)
    assert (1, 1, []) == (result.exit_code, len(result.stderr.splitlines()), runs(tmp_path))
    assert message in result.stderr


def test_a_missing_package_is_named_with_its_installation(call, table, monkeypatch):
    monkeypatch.setattr(backends.replacing, "find_installed", lambda package: None)
    result = call("import", "--from", "wandb", table)
    assert (1, True) == (result.exit_code, "pip install 'tracelet[wandb]'" in result.stderr)
    with pytest.raises(MissingDependency):
        backends.check_installed("wandb")


def test_one_unreadable_source_does_not_stop_the_others(call, table, tmp_path):
    result = call("import", "--from", "csv", tmp_path / "missing.csv", table)
    assert (1, 2) == (result.exit_code, len(runs(tmp_path)))
    assert "cannot read" in result.stderr
