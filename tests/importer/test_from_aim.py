"""Runs of Aim: what its repository holds is what an import has, and the repository stays as it is."""

import math
import shutil
from pathlib import Path

import pytest
from backends import aim_store
from past_stores import imports, only, tree
from programs import run_program

from tracelet.errors import ConfigurationError
from tracelet.records import Alert, Audio, Histogram, Image, Params, Scalar, Summary, Text

PROGRAM = """
import math, os, sys
os.chdir(sys.argv[1])
import numpy as np
from aim import Audio, Distribution, Image, Run, Text

run = Run(repo=".", experiment="digits", system_tracking_interval=1, capture_terminal_logs=True)
print("printed")
run.name, run.description = "first", "note"
run.add_tag("a")
run["hparams"] = {"lr": 0.1, "net": {"layers": 2}}
run["other"] = {"lr": 1, "sizes": [1, None]}
run["lr"] = "top"
for step, value in ((5, 0.1), (3, 1e-320), (0, math.nan), (1, math.inf), (2, -math.inf), (2**40, 2.0)):
    run.track(value, name="value", step=step)
run.track(0.5, name="loss", step=1, context={"subset": "val"})
run.track(0.25, name="loss", step=1, context={"subset": "train", "fold": 3})
run.track(0.75, name="val/loss", step=1)
pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
run.track(Image(pixels, caption="cap"), name="image", step=2, context={"subset": "val"})
run.track([Image(pixels), Image(pixels + 1)], name="images", step=2)
run.track(Text("words"), name="text", step=3)
run.track(Distribution(hist=[1, 2], bin_range=(0.0, 4.0)), name="histogram", step=4)
run.track(Audio(b"RIFF0000WAVEfmt " + bytes(8) + (8000).to_bytes(4, "little"), format="wav"), name="sound", step=5)
run.log_warning("careful")
open("weights.bin", "wb").write(b"weights")
run.set_artifacts_uri("file://" + os.path.abspath("artifacts"))
run.log_artifact("weights.bin", name="model/weights.bin", block=True)
run.close()
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aim")
    program = run_program(PROGRAM, folder, HOME=str(folder))
    assert 0 == program.returncode, program.err
    return folder


@pytest.fixture(scope="module")
def journal(repository, tmp_path_factory):
    return only(imports("aim", repository, tmp_path_factory.mktemp("runs")))


def test_scalars_are_what_the_repository_holds(repository, journal):
    """Value, step and time, in the order of time. A context is a part of the name, as with tracelet's own runs."""
    points = [point[1:] for point in journal.points() if point[0] == "value"]
    values = [(5, 0.1), (3, 1e-320), (0, math.nan), (1, math.inf), (2, -math.inf), (2**40, 2.0)]
    assert [(step, repr(value)) for step, value in values] == [point[:2] for point in points]
    stored = aim_store.only(repository).series("value")
    assert sorted((step, repr(value), time) for step, value, time in stored) == sorted(points)
    losses = {record.tag: (record.value, record.writer) for record in journal.of(Scalar) if record.tag != "value"}
    assert {"val/loss", "val//loss", "train/fold=3/loss"} == losses.keys()
    assert {(0.5, "val"), (0.25, "train"), (0.75, "")} == set(losses.values())


def test_system_metrics_have_the_names_of_tracelet(journal):
    system = {record.tag for record in journal.records if isinstance(record, Scalar) and record.writer == "system"}
    assert {"system/memory_percent", "system/disk_percent"} <= system


def test_the_run_is_described(journal):
    info = journal.info
    assert ("digits", "first", "note", ("a",)) == (info.project, info.name, info.notes, info.tags)
    assert ("finished", 0) == (journal.facts["status"], journal.facts["exit_code"])
    assert [("careful", "warning")] == [(alert.title, alert.level) for alert in journal.of(Alert)]
    (params,) = journal.of(Params)
    expected = {"other.lr": 1, "other.sizes": [1, None], "lr": "top", "hparams.lr": 0.1, "net.layers": 2}
    assert expected == params.values


def test_media_have_the_stored_bytes(repository, journal):
    images = {record.tag: Path(record.data.path).read_bytes() for record in journal.of(Image)}
    assert {"val/image", "images/0", "images/1"} == images.keys()
    stored = next(point for point in aim_store.only(repository).points if point.name == "image")
    assert images["val/image"] == images["images/0"] == stored.value.storage["data"].load()
    captions = {record.tag: (record.caption, record.width, record.height, record.step) for record in journal.of(Image)}
    assert ("cap", 5, 4, 2) == captions["val/image"]
    assert [("text", "words", 3)] == [(record.tag, record.text, record.step) for record in journal.of(Text)]
    (histogram,) = journal.of(Histogram)
    assert ((0.0, 2.0, 4.0), (0.0, 1.0, 2.0), 4) == (histogram.limits, histogram.counts, histogram.step)
    (sound,) = journal.of(Audio)
    assert ("wav", 8000.0, 5) == (sound.format, sound.sample_rate, sound.step)
    files = journal.files()
    assert b"weights" == files.pop("model/weights.bin: weights.bin")
    assert ["console.log: console.log"] == list(files)
    assert b"printed" in files["console.log: console.log"]
    assert () == journal.damage


def test_an_import_changes_nothing_and_adds_nothing_twice(repository, tmp_path):
    before = tree(repository)
    first, again = (imports("aim", repository / ".aim", tmp_path)[0] for _ in range(2))
    assert (True, 0, before) == (first.records > 0, again.records, tree(repository))


def test_a_run_of_tracelet_has_its_names_and_steps(tmp_path):
    """A repeated step, which Aim itself would replace, and exact buckets; its description is no parameter."""
    program = """
        import sys
        import numpy as np
        import tracelet
        folder = sys.argv[1]
        config = {"repo": folder, "system_tracking_interval": None, "capture_terminal_logs": False}
        with tracelet.start_logging("one", backend="aim", dir=f"{folder}/own", config=config) as experiment:
            experiment.log_params({"lr": 0.1})
            for _ in range(12):
                experiment.log_metric("~loss", 0.5, 3)
            experiment.log_histogram("h", np_histogram=([1, 2], [0.0, 0.1, 4.0]), step=2)
            experiment.summary["best"] = 0.75
    """
    done = run_program(program, tmp_path, HOME=str(tmp_path))
    assert 0 == done.returncode, done.err
    journal = only(imports("aim", tmp_path, tmp_path / "runs"))
    assert [("~loss", 3, "0.5")] * 12 == [point[:3] for point in journal.points()]
    assert [{"lr": 0.1}] == [record.values for record in journal.of(Params)]
    assert [{"best": 0.75}] == [record.values for record in journal.of(Summary)]
    (histogram,) = journal.of(Histogram)
    assert ((0.0, 0.1, 4.0), (0.0, 1.0, 2.0)) == (histogram.limits, histogram.counts)


def test_damage_is_reported(repository, tmp_path):
    """The points of a run are lost, and nothing else of it."""
    shutil.copytree(repository / ".aim", tmp_path / ".aim")
    (series,) = (tmp_path / ".aim" / "seqs" / "chunks").iterdir()
    for path in series.glob("*.sst"):
        path.write_bytes(b"damaged" * 100)
    journal = only(imports("aim", tmp_path, tmp_path / "runs"))
    assert (1, "killed") == (len(journal.damage), journal.facts["status"])
    assert [] == journal.points()
    assert 1 == len(journal.of(Params))


def test_a_repository_that_cannot_be_read_is_an_error(repository, tmp_path):
    """None at all, a remote one, or one of an older version, which Aim would upgrade."""
    for source in (tmp_path, "aim://127.0.0.1:53800"):
        with pytest.raises(ConfigurationError, match="repository"):
            imports("aim", source, tmp_path)
    old = tmp_path / "old"
    shutil.copytree(repository / ".aim", old / ".aim")
    (old / ".aim" / "VERSION").write_text("1.0")
    before = tree(old)
    with pytest.raises(ConfigurationError, match="aim upgrade"):
        imports("aim", old, tmp_path)
    assert before == tree(old)
