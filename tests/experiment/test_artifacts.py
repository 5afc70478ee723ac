"""log_artifact: the bytes of that moment, under the path that was meant, or an error on the caller's line."""

import io
import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from backends.faults import journalled
from matplotlib.figure import Figure
from PIL import Image as Picture

import tracelet
from tracelet.records import Artifact


@pytest.fixture
def kept():
    """`kept()`: the run ends; what the csv folder holds of it, by path."""
    experiment = tracelet.start_logging(backend="csv")

    def read():
        experiment.stop()
        folder = experiment.folder / "csv" / "artifacts"
        return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}

    read.experiment = experiment
    return read


def contents(files):
    return {name: path.read_bytes() for name, path in files.items()}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    return path


@pytest.mark.parametrize(
    ("artifact_path", "expected"),
    [
        (None, "model.pt"),
        ("models/", "models/model.pt"),
        ("models", "models/model.pt"),
        ("a/b/", "a/b/model.pt"),
        ("best.pt", "best.pt"),
        ("models/best.pt", "models/best.pt"),
        (Path("models/best.pt"), "models/best.pt"),
        ("models\\best.pt", "models/best.pt"),
        ("./models/", "models/model.pt"),
        ("with space/ünïcode.pt", "with space/ünïcode.pt"),
    ],
)
def test_where_a_file_goes(artifact_path, expected, kept, model):
    """A trailing "/" or no suffix: a folder, the name stays; a suffix: the new name."""
    kept.experiment.log_artifact(model, artifact_path)
    assert {expected: b"weights"} == contents(kept())


@pytest.mark.parametrize("form", [str, Path, os.fspath])
def test_a_path_in_any_form(form, kept, model):
    kept.experiment.log_artifact(form(model))
    assert {"model.pt": b"weights"} == contents(kept())


def test_a_folder_with_what_is_below(kept, tmp_path):
    """Every file, at any depth, also empty ones, under the folder's name or the one given."""
    source = tmp_path / "checkpoint"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "a.txt").write_bytes(b"a")
    (source / "deep" / "er" / "b.txt").write_bytes(b"")
    kept.experiment.log_artifact(source)
    kept.experiment.log_artifact(source, "named/")
    kept.experiment.log_artifact(source, "v1.5")
    below = {"a.txt": b"a", "deep/er/b.txt": b""}
    assert {f"{top}/{name}": data for top in ("checkpoint", "named", "v1.5") for name, data in below.items()} == (
        contents(kept())
    )


def test_a_folder_loses_no_file_to_another(kept, tmp_path, caplog):
    """A name that is not UTF-8 is escaped, a linked folder is followed; what cannot be stored is named in a warning."""
    source = tmp_path / "checkpoint"
    (source / "sub").mkdir(parents=True)
    (source / "a.txt").write_bytes(b"a")
    (source / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"latin")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.txt").write_bytes(b"b")
    (source / "linked").symlink_to(tmp_path / "elsewhere")
    (source / "sub" / "loop").symlink_to(source)
    (source / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(source / "pipe")

    kept.experiment.log_artifact(source)

    assert "omitted 3: 'gone' (a broken link), 'pipe' (not a file), 'sub/loop' (a link to" in caplog.text
    found = contents(kept())
    assert {b"a", b"b", b"latin"} == set(found.values())
    assert {"checkpoint/a.txt", "checkpoint/linked/b.txt"} < set(found)


@pytest.mark.parametrize("artifact_path", [None, "models/", os.fsdecode(b"m\xfc.bin")])
def test_a_file_whose_name_is_not_utf_8(artifact_path, kept, tmp_path):
    """The journal stores UTF-8 only: the name is escaped, the bytes arrive."""
    path = tmp_path / os.fsdecode(b"caf\xe9.bin")
    path.write_bytes(b"weights")
    kept.experiment.log_artifact(path, artifact_path)
    assert [b"weights"] == [*contents(kept()).values()]


def test_a_file_that_cannot_be_read(experiment, tmp_path):
    """An error on the caller's line, with the reason."""
    (tmp_path / "a.txt").symlink_to("/proc/self/mem")
    with pytest.raises(tracelet.ArtifactError, match=r"cannot read '.*a\.txt': "):
        experiment.log_artifact(tmp_path / "a.txt")


def test_the_current_folder(kept, tmp_path, monkeypatch):
    """`log_artifact(".")` has the folder's own name."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.txt").write_bytes(b"a")
    monkeypatch.chdir(tmp_path / "work")
    kept.experiment.log_artifact(".")
    assert {"work/a.txt": b"a"} == contents(kept())


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json"])
def test_a_data_frame(suffix, kept):
    """The path names the file, its suffix the form; the values come back."""
    frame = pd.DataFrame({"label": [1, 2], "name": ["a,b", 'c"d']})
    kept.experiment.log_artifact(frame, f"predictions.{suffix}")
    frame.loc[:, "label"] = 0
    (path,) = kept().values()
    read = {"csv": pd.read_csv, "tsv": lambda p: pd.read_csv(p, sep="\t"), "json": pd.read_json}[suffix]
    assert f"predictions.{suffix}" == path.name
    assert {"label": [1, 2], "name": ["a,b", 'c"d']} == read(path).to_dict(orient="list")


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_data_frame_keeps_its_index_and_all_digits(suffix, kept):
    frame = pd.DataFrame({"loss": [0.1 + 0.2, 1.2345e-16, np.nan]}, index=pd.Index(["a", "b", "c"], name="run"))
    kept.experiment.log_artifact(frame, f"losses.{suffix}")
    (path,) = kept().values()
    if suffix == "csv":
        read = pd.read_csv(path, index_col="run", float_precision="round_trip")
        assert frame.equals(read)
    else:
        assert {"loss": {"a": 0.1 + 0.2, "b": 1.2345e-16, "c": None}} == json.loads(path.read_bytes())


def test_a_data_frame_with_missing_numbers(kept):
    frame = pd.DataFrame({"loss": pd.array([0.5, None], dtype="Float64")})
    kept.experiment.log_artifact(frame, "losses.json")
    (path,) = kept().values()
    assert {"loss": {"0": 0.5, "1": None}} == json.loads(path.read_bytes())


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_figure(suffix, kept):
    """A figure as it looks now, in the form of the suffix; it is not closed."""
    figure = Figure()
    figure.subplots().plot([1, 2, 3])
    kept.experiment.log_artifact(figure, f"plots/loss.{suffix}")
    figure.clear()
    ((name, path),) = kept().items()
    assert f"plots/loss.{suffix}" == name
    assert path.read_bytes().startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix])


@pytest.mark.parametrize("data", [b"", b"abc", bytearray(b"abc")])
def test_bytes(data, kept):
    kept.experiment.log_artifact(data, "raw/data.bin")
    assert {"raw/data.bin": bytes(data)} == contents(kept())


def test_an_empty_file(kept, tmp_path):
    (tmp_path / "empty.txt").touch()
    kept.experiment.log_artifact(tmp_path / "empty.txt")
    assert {"empty.txt": b""} == contents(kept())


def test_the_same_name_twice(kept, model):
    """Both versions are kept; the last one has the name."""
    kept.experiment.log_artifact(model)
    model.write_bytes(b"better weights")
    kept.experiment.log_artifact(model)
    files = contents(kept())
    assert b"better weights" == files["model.pt"]
    assert [b"better weights", b"weights"] == sorted(files.values())


def test_a_file_that_changes_right_after(kept, model):
    """The bytes of the call are delivered, whether the file is overwritten or deleted the next moment."""
    kept.experiment.log_artifact(model, "first.pt")
    model.write_bytes(b"something else")
    kept.experiment.log_artifact(model, "second.pt")
    model.unlink()
    assert {"first.pt": b"weights", "second.pt": b"something else"} == contents(kept())


def test_a_large_file_is_quick(kept, tmp_path):
    """128 MiB are taken within seconds, and cost no memory."""
    path = tmp_path / "large.bin"
    with open(path, "wb") as file:
        file.truncate(128 * 2**20)
    began = time.monotonic()
    kept.experiment.log_artifact(path)
    took = time.monotonic() - began
    print(f"128 MiB: {took:.2f} s")
    assert took < 10
    (copy,) = kept().values()
    assert 128 * 2**20 == copy.stat().st_size


def test_the_same_bytes_are_stored_once(experiment, tmp_path):
    """Ten names of one content are one file of the spool."""
    for number in range(10):
        experiment.log_artifact(b"same", f"{number}.bin")
    assert 1 == len([path for path in (experiment.folder / "files").rglob("*") if path.is_file()])


def test_the_record_describes_the_files(experiment, model):
    """The journal has name, size and digest, never the bytes."""
    experiment.log_artifact(model, "models/")
    assert experiment.flush(10)
    (record,) = journalled(experiment.folder)
    (file,) = record.files
    assert isinstance(record, Artifact)
    assert ("models/model.pt", "model.pt", 7, "file") == (record.name, file.name, file.size, record.type)
    assert b"weights" == (experiment.folder / "files" / file.digest[:2] / file.digest).read_bytes()


# What is refused, on the line that said it.


@pytest.mark.parametrize(
    "path", ["../up.pt", "a/../../up.pt", "/abs/olute.pt", "..", "C:/x.pt", "a\\..\\..\\b.pt", "", "."]
)
def test_a_path_that_leaves_the_artifacts(path, experiment, model):
    with pytest.raises(tracelet.ArtifactError, match=r"relative path without '\.\.'"):
        experiment.log_artifact(model, path)
    assert 0 == experiment.stats().submitted


def test_a_missing_file(experiment, tmp_path):
    """The message has the path as given, and where it was looked for."""
    with pytest.raises(tracelet.ArtifactError, match=r"no file or folder 'nowhere\.pt'") as caught:
        experiment.log_artifact("nowhere.pt")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("artifact", "path"),
    [(b"abc", None), (b"abc", "folder/"), (b"abc", "name"), (Figure(), None), (pd.DataFrame(), "tables/")],
)
def test_what_has_no_name_needs_one(artifact, path, experiment):
    with pytest.raises(tracelet.ArtifactError, match="needs artifact_path with a file name"):
        experiment.log_artifact(artifact, path)


def test_a_frame_in_an_unknown_form(experiment):
    with pytest.raises(tracelet.ArtifactError, match=r"\.csv, \.tsv, \.json, \.parquet, got '\.doc'"):
        experiment.log_artifact(pd.DataFrame(), "a.doc")


def test_a_figure_in_an_unknown_form(experiment):
    with pytest.raises(tracelet.ArtifactError, match="nonsense"):
        experiment.log_artifact(Figure(), "a.nonsense")


@pytest.mark.parametrize("artifact", [5, None, object(), [1, 2], {"a": 1}])
def test_what_is_no_artifact(artifact, experiment):
    with pytest.raises(tracelet.ArtifactError, match=f"got {type(artifact).__name__}"):
        experiment.log_artifact(artifact)


# Pictures and the like, from the call to the file.


def test_an_image_keeps_its_pixels(kept):
    """CHW, HWC, HW, grey, colour, transparent; arrays, PIL pictures: the PNG has the pixels that went in."""
    color = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    alpha = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4)
    expected = [color, color, grey, grey, alpha, color, grey]
    exp = kept.experiment
    exp.log_image("hwc", color, 1, dataformats="HWC")
    exp.log_image("chw", color.transpose(2, 0, 1), 1)
    exp.log_image("hw", grey, 1, dataformats="HW")
    exp.log_image("one", grey[None], 1)
    exp.log_image("rgba", alpha, 1, dataformats="hwc")
    exp.log_image("pil", Picture.fromarray(color), 1)
    exp.log_image("float", grey / 255.0 + 0.0005, 1, dataformats="HW")
    assert exp.flush(10)
    found = []
    for record in journalled(exp.folder):
        path = exp.folder / "files" / record.data.name[:2] / record.data.name
        with Picture.open(io.BytesIO(path.read_bytes())) as picture:
            assert (4, 4) == picture.size == (record.width, record.height)
            found.append(np.asarray(picture))
    for wanted, got in zip(expected, found, strict=True):
        assert np.array_equal(wanted, got)
    kept()
    index = (exp.folder / "csv" / "media.csv").read_text().splitlines()
    assert 1 + 7 == len(index)


def test_a_table_is_a_csv(kept):
    kept.experiment.log_table("results", [["a", 1], ["b", None]], 3, columns=["name", "count"])
    kept.experiment.log_table("frame", pd.DataFrame({"x": [1.5]}))
    kept()
    folder = kept.experiment.folder / "csv" / "tables"
    assert "name,count\r\na,1\r\nb,\r\n" == (folder / "results.csv").read_bytes().decode()
    assert "x\r\n1.5\r\n" == (folder / "frame.csv").read_bytes().decode()


def test_texts_and_histograms_are_lines(kept):
    kept.experiment.log_text("note", "héllo\nworld", 2)
    kept.experiment.log_histogram("weights", [0.0, 0.5, 1.0], 4, bins=2)
    kept()
    folder = kept.experiment.folder / "csv"
    (text,) = map(json.loads, (folder / "texts.jsonl").read_text().splitlines())
    (histogram,) = map(json.loads, (folder / "histograms.jsonl").read_text().splitlines())
    assert ("note", "héllo\nworld", 2) == (text["tag"], text["text"], text["step"])
    assert ([0.0, 0.5, 1.0], [0.0, 1.0, 2.0], 4) == (histogram["limits"], histogram["counts"], histogram["step"])
