"""`open_run` and `list_runs`: what a program logged, read back."""

from __future__ import annotations

import logging
import math
import os
import time
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest

import tracelet
from tracelet import records as r
from tracelet.journal.store import Journal, JournalReader
from tracelet.runs import digest
from tracelet.runs.cleanup import remove_journal
from tracelet.runs.reading import Run
from tracelet.testing.samples import sample_records


def logged(points, *, run_id=None, params=None, summary=None, **more):
    """A run that logged `points`, {tag: values}, and ended."""
    with tracelet.start_logging(backend="csv", run_id=run_id, **more) as experiment:
        experiment.log_params(params or {})
        for tag, values in points.items():
            for step, value in enumerate(values):
                experiment.log_metric(tag, value, step)
        experiment.summary.update(summary or {})
    return experiment


def ranked(folder, label, records):
    """The journal of another rank of the run in `folder`."""
    rank = folder / "ranks" / label
    journal = Journal(rank)
    info = r.RunInfo(run_id=folder.name, project=None, name=None, folder=str(rank), label=label, prefix=f"{label}/")
    journal.put_info(info)
    journal.append(records)
    journal.close()


def many(folder, batches, batch):
    """A run of `batches` batches of the records that `batch(number)` returns."""
    journal = Journal(folder)
    journal.put_info(r.RunInfo(run_id=folder.name, project=None, name=None, folder=str(folder), created=time.time()))
    for number in range(batches):
        journal.append(batch(number))
    journal.annotate("status", "finished")
    journal.close()


def test_a_run_is_described():
    experiment = logged(
        {"loss": [0.5, 0.25]},
        exp_name="first",
        project="digits",
        group="sweep",
        tags=["a"],
        notes="why",
        params={"opt": {"lr": 0.1}},
        summary={"best": 0.9},
    )

    run = tracelet.open_run(experiment.run_id)

    assert (experiment.run_id, "first", "digits", "sweep", "why") == (
        run.id,
        run.name,
        run.project,
        run.group,
        run.notes,
    )
    assert (("a",), "finished", 0, experiment.folder) == (run.tags, run.status, run.exit_code, run.folder)
    assert (4, 4) == (run.records, run.backends["csv"].delivered)
    assert 0 <= time.time() - run.created < 60
    assert 0 < run.duration < 60
    assert {"opt.lr": 0.1} == run.params
    assert {"loss": 0.25, "best": 0.9} == run.summary
    assert ["loss"] == run.series
    assert f"<Run digits/{run.id} (first): finished>" == repr(run)


def test_scalars_are_arrays_of_the_exact_values():
    values = [0.1, math.nan, math.inf, -math.inf, 5e-324, -0.0]
    with tracelet.start_logging(backend="csv") as experiment:
        for step, value in zip((3, -1, 2**62, 3, None, 0), values, strict=True):
            experiment.log_metric("loss", value, step)
            experiment.log_metric("other", 1.0, 0)
    run = tracelet.open_run("latest")

    loss = run.scalars("loss")
    assert (np.int64, np.float64, np.float64) == (loss.step.dtype, loss.wall_time.dtype, loss.value.dtype)
    assert np.array(values).tobytes() == loss.value.tobytes()
    assert [3, -1, 2**62, 3] == loss.step.tolist()[:4]
    assert ["loss"] * 6 == loss.tag.tolist()
    with JournalReader(run.folder) as reader:
        records = [record for record in reader.records() if isinstance(record, r.Scalar)]
    every = run.scalars()
    assert [record.tag for record in records] == every.tag.tolist()
    assert [record.wall_time for record in records] == every.wall_time.tolist()
    assert [record.step or 0 for record in records] == every.step.tolist()
    frame = every.to_pandas()
    assert ["tag", "step", "wall_time", "value"] == list(frame.columns)
    assert 6 == len(frame[frame.tag == "loss"]) == len(frame[frame.tag == "other"])
    assert (0, []) == (len(run.scalars("nothing")), run.scalars("nothing").tag.tolist())
    assert "<Scalars loss: 6 points>" == repr(loss)


def test_pandas_is_named_if_it_is_missing(monkeypatch):
    logged({"loss": [1.0]})
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(tracelet.MissingDependency, match=r"pip install 'tracelet\[export\]'"):
        tracelet.open_run("latest").scalars().to_pandas()


METHODS = {
    "images": r.Image,
    "videos": r.Video,
    "audio": r.Audio,
    "texts": r.Text,
    "tables": r.Table,
    "histograms": r.Histogram,
    "pr_curves": r.PRCurve,
    "embeddings": r.Embedding,
    "meshes": r.Mesh,
    "alerts": r.Alert,
}


def files_of(record):
    """The record without its files, and their bytes."""
    fields = {name: getattr(record, name) for name in ("data", "parts", "files") if hasattr(record, name)}
    contents = {
        name: tuple(Path(file.path).read_bytes() for file in value)
        if isinstance(value, tuple)
        else Path(value.path).read_bytes()
        for name, value in fields.items()
    }
    return msgspec.structs.replace(record, **dict.fromkeys(fields)), contents


def test_every_kind_of_record_is_read_with_its_files(tmp_path):
    """Equal to what was logged, and each file has the bytes that were."""
    samples = [files_of(record) for record in sample_records(tmp_path) if not isinstance(record, r.Artifact)]
    with tracelet.start_logging(backend="csv") as experiment:
        for record, contents in samples:
            experiment._submit(msgspec.structs.replace(record, **contents))
        experiment.log_artifact(__file__)
    run = tracelet.open_run("latest")

    for cls in set(r.KINDS) - {r.Artifact}:
        wanted = [sample for sample in samples if isinstance(sample[0], cls)]
        assert wanted == [files_of(record) for record in run.iter_records(cls)]
        assert len(wanted) == 1
    for name, cls in METHODS.items():
        assert list(run.iter_records(cls)) == list(getattr(run, name)())
    assert [] == list(run.images("nothing"))
    assert 1 == len(list(run.images("sample/image")))
    (artifact,) = run.artifacts.values()
    assert Path(__file__).read_bytes() == Path(artifact.files[0].path).read_bytes()
    assert [1, 2] == run.params["model.layers"]
    assert 0.93 == run.summary["best_accuracy"]
    assert ("sample", "two words") == run.tags


def test_a_file_that_is_not_of_the_run_has_no_path(tmp_path):
    file = r.File("../../etc/passwd", "0" * 64, 3, "")
    many(tmp_path / "run", 1, lambda _: [r.Image("x", file, "png", 1, 1, 0, 1.0)])
    (image,) = tracelet.open_run(tmp_path / "run").images()
    assert "" == image.data.path


def test_ranks_and_resumed_processes_are_one_run():
    experiment = logged({"loss": [1.0]}, run_id="r1", params={"lr": 1})
    logged({"loss": [2.0]}, run_id="r1", params={"seed": 2})
    ranked(
        experiment.folder,
        "rank-1",
        [r.Params({"rank-1/lr": 3}, 1.0), r.Scalar("rank-1/loss", 4.0, 0, 1.0), r.Text("rank-1/note", "b", 0, 1.0)],
    )
    ranked(experiment.folder, "rank-2", [r.Text("rank-2/note", "a", 0, 0.5), r.Tags(("late",), 1.0)])
    run = tracelet.open_run("r1")

    assert [1.0, 2.0] == run.scalars("loss").value.tolist()
    assert [4.0] == run.scalars("rank-1/loss").value.tolist()
    assert ["loss", "loss", "rank-1/loss"] == run.scalars().tag.tolist()
    assert {"lr": 1, "seed": 2, "rank-1/lr": 3} == run.params
    assert ["a", "b"] == [text.text for text in run.texts()]
    assert ("late",) == run.tags
    assert ["loss", "rank-1/loss"] == run.series


def test_a_live_run_is_read():
    """As far as it is in the journal; what is added later is read by the next call."""
    with tracelet.start_logging(backend="csv", run_id="r1") as experiment:
        experiment.log_metric("loss", 1.0, 0)
        assert experiment.flush(30)
        run = tracelet.open_run("r1")
        assert ("running", [1.0], {"loss": 1.0}) == (run.status, run.scalars("loss").value.tolist(), run.summary)
        experiment.log_metric("loss", 2.0, 1)
        assert experiment.flush(30)
        assert [1.0, 2.0] == run.scalars("loss").value.tolist()
        assert {"loss": 2.0} == tracelet.open_run("r1").summary
        assert ["r1"] == [found.id for found in tracelet.list_runs('status == "running" and summary.loss == 2')]


def test_runs_have_many_names():
    first = logged({}, run_id="abc", exp_name="one", project="p")
    second = logged({}, run_id="abd", exp_name="one", project="q")
    for name, run in {
        "abc": first,
        "p/abc": first,
        "p/one": first,
        "q/latest": second,
        "latest": second,
        "q/ab": second,
        first.folder: first,
        str(second.folder): second,
    }.items():
        assert run.folder == tracelet.open_run(name).folder
    for name in ("one", "ab"):
        with pytest.raises(tracelet.RunNotFound, match=r"matches 2 runs: p/abc \(one\), q/abd \(one\)"):
            tracelet.open_run(name)
    with pytest.raises(tracelet.RunNotFound, match="no run 'two'"):
        tracelet.open_run("two")


def test_a_long_run_is_read_in_bounded_memory(tmp_path):
    """One tag of a hundred, and all of them in parts."""
    tags = [f"tag/{number}" for number in range(100)]
    many(tmp_path / "run", 40, lambda n: [r.Scalar(tags[i % 100], i / 7, n * 50 + i // 100, 1e9) for i in range(5000)])
    run = tracelet.open_run(tmp_path / "run")
    tracemalloc.start()
    try:
        points = run.scalars("tag/42")
        one_tag = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        count = sum(len(part) for part in run.iter_scalars())
        all_tags = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (list(range(2000)), 200_000) == (points.step.tolist(), count)
    assert one_tag < 2 << 20
    assert all_tags < 40 << 20


def test_a_damaged_part_is_left_out_with_a_warning(tmp_path, caplog):
    many(tmp_path / "run", 3, lambda number: [r.Scalar("x", float(number), number, 1.0)])
    journal = Journal(tmp_path / "run")
    journal._db.execute("UPDATE batches SET checksum = 1 WHERE first = 2")
    journal.close()
    with caplog.at_level(logging.WARNING):
        assert [0, 2] == tracelet.open_run(tmp_path / "run").scalars("x").step.tolist()
    assert "damaged (checksum)" in caplog.text


# The digest of parameters and summaries.


def test_a_digest_grows_with_its_run_and_belongs_to_it_alone(tmp_path):
    """Stored beside the journal. A run that is resumed, or another one in its place, is read anew."""
    logged({"loss": [1.0]}, run_id="r1", params={"lr": 1})
    folder = tracelet.open_run("r1").folder
    assert {"lr": 1} == tracelet.open_run("r1").params
    stored = (folder / digest.FILE_NAME).read_bytes()
    assert {"lr": 1} == tracelet.open_run("r1").params
    assert stored == (folder / digest.FILE_NAME).read_bytes()

    logged({"loss": [2.0]}, run_id="r1", params={"lr": 2})
    assert ({"lr": 2}, {"loss": 2.0}) == (tracelet.open_run("r1").params, tracelet.open_run("r1").summary)

    (folder / "journal.db").unlink()
    many(folder, 1, lambda _: [r.Params({"other": i}, 1.0) for i in range(9)])
    assert {"other": 8} == tracelet.open_run("r1").params


@pytest.mark.parametrize("content", [b"", b"\xc1damaged", msgspec.msgpack.encode({"version": 0, "params": {"a": 1}})])
def test_a_damaged_digest_is_read_anew(content):
    logged({}, run_id="r1", params={"lr": 1})
    (tracelet.open_run("r1").folder / digest.FILE_NAME).write_bytes(content)
    assert {"lr": 1} == tracelet.open_run("r1").params


def test_a_folder_that_cannot_be_written_is_read(monkeypatch):
    logged({}, run_id="r1", params={"lr": 1})

    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(digest, "write_note", refuse)
    assert {"lr": 1} == tracelet.open_run("r1").params


def test_parameters_outlive_the_journal():
    """`gc` removes the journal, and leaves the digest."""
    logged({"loss": [1.0]}, run_id="r1", params={"lr": 1})
    remove_journal(tracelet.open_run("r1").folder)
    run = tracelet.open_run("r1")
    assert ({"lr": 1}, {"loss": 1.0}) == (run.params, run.summary)
    assert [run.id] == [found.id for found in tracelet.list_runs("params.lr == 1")]
    with pytest.raises(tracelet.JournalError, match="tracelet gc removed the journal"):
        run.scalars("loss")


def test_parameters_that_are_gone_with_the_journal_are_missing(caplog):
    """As an earlier version left the run: it is listed, without them."""
    logged({}, run_id="r1", params={"lr": 1}, tags=["x"])
    remove_journal(tracelet.open_run("r1").folder)
    run = tracelet.open_run("r1")
    (run.folder / digest.FILE_NAME).unlink()
    with caplog.at_level(logging.WARNING):
        assert ["r1"] == [run.id for run in tracelet.list_runs(sort="params.lr")]
        assert [] == tracelet.list_runs("params.lr == 1")
    assert "the params of a run are unknown: tracelet gc removed the journal" in caplog.text
    assert ("x",) == run.tags
    with pytest.raises(tracelet.JournalError, match="tracelet gc removed the journal"):
        _ = run.params


# Lists.


def test_runs_are_listed_by_conditions(tmp_path, caplog):
    for number in range(4):
        logged({"val/loss": [1.0, number / 4]}, run_id=f"r{number}", params={"lr": 10.0**-number})
    assert ["r0", "r1", "r2", "r3"] == [run.id for run in tracelet.list_runs()]
    assert ["r3", "r2"] == [run.id for run in tracelet.list_runs("params.lr < 0.1", '-summary["val/loss"]')]
    assert [] == tracelet.list_runs("params.other > 0")
    assert 4 == len(tracelet.list_runs(sort="-summary.lost"))
    assert [f"tracelet: no run has {name}" for name in ("params.other", "summary.lost")] == caplog.messages
    caplog.clear()
    assert [] == tracelet.list_runs(dir=tmp_path / "nothing")
    assert all(isinstance(run, Run) for run in tracelet.list_runs(sort="-created"))
    with pytest.raises(tracelet.ConfigurationError, match="where"):
        tracelet.list_runs("params.lr <")

    broken = tracelet.open_run("r0").folder
    (broken / "journal.db").write_bytes(b"no database" * 100)
    with caplog.at_level(logging.WARNING):
        assert ["r1", "r2", "r3"] == [run.id for run in tracelet.list_runs()]
    assert "skipped a run that cannot be read" in caplog.text


# Edits.


def test_a_run_is_edited_after_its_start():
    """Also while it runs; its journal stays as it is. Tags that the program adds later are there, too."""
    with tracelet.start_logging(backend="csv", run_id="r1", exp_name="a", tags=["x", "y"], notes="n") as experiment:
        assert experiment.flush(30)
        run = tracelet.open_run("r1")
        run.edit(add_tags=["best", "best"], remove_tags=["x"], name="b")
        assert ("b", "n", ("y", "best")) == (run.name, run.notes, run.tags)
        experiment.add_tags("x", "z")
    run = tracelet.open_run("b")
    assert ("r1", ("y", "best", "z")) == (run.id, run.tags)
    with JournalReader(run.folder) as reader:
        assert ("a", ("x", "y")) == (reader.info().name, reader.info().tags)

    run.edit(remove_tags=["best"], add_tags=["x"], name="", notes="new")
    assert ("a", "new", ("x", "y", "z")) == (run.name, run.notes, tuple(sorted(run.tags)))
    run.edit(notes="")
    assert "n" == tracelet.open_run("r1").notes


@pytest.mark.parametrize("content", [b"", b"[]", b'{"added": 1}', b"\xff"])
def test_damaged_edits_are_none(content):
    logged({}, run_id="r1", exp_name="a")
    (tracelet.open_run("r1").folder / "edits.json").write_bytes(content)
    assert "a" == tracelet.open_run("r1").name


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_edited():
    logged({}, run_id="r1")
    run = tracelet.open_run("r1")
    run.folder.chmod(0o500)
    with pytest.raises(tracelet.JournalError, match="cannot write"):
        run.edit(name="x")
    run.folder.chmod(0o700)
