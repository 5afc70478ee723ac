"""tracelet export: the scalars of runs as a table, or whole runs as a folder."""

from __future__ import annotations

import csv
import json
import math
import sys

import pandas
import pytest

import tracelet
from tracelet.runs.exporting import COLUMNS

VALUES = [0.1, math.nan, math.inf, -math.inf, 5e-324, 1e300]


@pytest.fixture
def runs(finished_run):
    return [
        finished_run({"loss": VALUES, 'a "b",\nc': [1.0]}, run_id="r1"),
        finished_run({"loss": [2.0]}, run_id="r2"),
    ]


def expected(runs):
    found = [(run.run_id, tracelet.open_run(run.folder).scalars()) for run in runs]
    return [
        (run_id, *row)
        for run_id, points in found
        for row in zip(points.tag, points.step.tolist(), points.wall_time.tolist(), points.value.tolist(), strict=True)
    ]


def same(rows, others):
    return list(map(repr, map(tuple, rows))) == list(map(repr, map(tuple, others)))


def test_parquet(call, runs, tmp_path):
    done = call("export", "r1", "r2", "r1", "--to", tmp_path / "all.parquet")

    assert (0, "") == (done.exit_code, done.stderr)
    frame = pandas.read_parquet(tmp_path / "all.parquet")
    assert list(COLUMNS) == list(frame.columns)
    assert same(expected(runs), frame.itertuples(index=False, name=None))


def test_csv(call, runs, tmp_path):
    assert 0 == call("export", "r1", "r2", "--to", tmp_path / "all.CSV").exit_code

    with open(tmp_path / "all.CSV", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert list(COLUMNS) == header
    read = [(run, tag, int(step), float(wall_time), float(value)) for run, tag, step, wall_time, value in rows]
    assert same(expected(runs), read)


def test_json(call, runs, tmp_path):
    """Strict JSON: NaN and the infinities are texts that `float` reads."""
    assert 0 == call("export", "r1", "r2", "--to", tmp_path / "all.json").exit_code

    rows = json.loads((tmp_path / "all.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert same(expected(runs), [(*list(row.values())[:-1], float(row["value"])) for row in rows])
    assert {COLUMNS} == {tuple(row) for row in rows}


def test_a_folder_has_everything(call, tmp_path):
    with tracelet.start_logging(dir=tmp_path, backend="csv", run_id="r1") as run:
        run.log_params({"lr": 0.1})
        run.log_metric("loss", 0.5, 0)
        run.log_text("note", "hello", 1)
        run.log_table("t", [[1]], columns=["a"])
        run.log_artifact(__file__)

    assert 0 == call("export", "r1", "--to", tmp_path / "out").exit_code

    folder = tmp_path / "out" / "r1"
    described = json.loads((folder / "run.json").read_text())
    assert ({"lr": 0.1}, {"loss": 0.5}, "finished") == tuple(described[key] for key in ("params", "summary", "status"))
    assert 1 == len(pandas.read_parquet(folder / "scalars.parquet"))
    records = {
        record["kind"]: record for record in map(json.loads, (folder / "records.jsonl").read_text().splitlines())
    }
    assert ("note", "hello", 1) == tuple(records["text"][key] for key in ("tag", "text", "step"))
    assert {"columns": ["a"], "rows": [[1]]} == json.loads((folder / records["table"]["data"]["path"]).read_text())
    (file,) = records["artifact"]["files"]
    with open(__file__, "rb") as original:
        assert original.read() == (folder / file["path"]).read_bytes()

    again = call("export", "r1", "--to", tmp_path / "out")
    assert (1, True) == (again.exit_code, "it exists" in again.stderr)


def test_a_run_without_scalars(call, finished_run, tmp_path):
    finished_run({}, run_id="r1")
    for suffix in ("parquet", "csv", "json"):
        assert 0 == call("export", "r1", "--to", tmp_path / f"all.{suffix}").exit_code
    assert [] == json.loads((tmp_path / "all.json").read_text())
    assert list(COLUMNS) == list(pandas.read_parquet(tmp_path / "all.parquet").columns)


def test_without_pyarrow(call, runs, tmp_path, monkeypatch):
    """The error names the extra; a folder gets csv instead."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = call("export", "r1", "--to", tmp_path / "all.parquet")
    assert (1, True) == (done.exit_code, "pip install 'tracelet[export]'" in done.stderr)
    assert not (tmp_path / "all.parquet").exists()
    assert 0 == call("export", "r1", "--to", tmp_path / "out").exit_code
    assert (tmp_path / "out" / "r1" / "scalars.csv").is_file()


@pytest.mark.parametrize(("name", "words"), [("a.xlsx", ".parquet, .csv, .json"), ("no/a.csv", "No such file")])
def test_what_cannot_be_written(call, runs, tmp_path, name, words):
    done = call("export", "r1", "--to", tmp_path / name)
    assert (1, True) == (done.exit_code, words in done.stderr)
