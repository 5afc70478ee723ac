"""The caption of a medium, in the place that each backend has for it."""

import csv
import importlib
import json

import numpy as np
import pytest
from backends import mlflow_store, trackio_store, wandb_store
from typer.testing import CliRunner

import tracelet
from tracelet.backends.aim import objects
from tracelet.cli import app
from tracelet.records import Audio, Image, Video
from tracelet.testing.samples import png, stored, wav

IMAGE, VIDEO, AUDIO = "A red field, «ünïcode»", "It moves", "A beep"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working directory of a finished run with media, with and without captions."""
    folder = tmp_path_factory.mktemp("captions")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_DIR", str(folder))
        patch.setenv("TRACKIO_DIR", str(folder / "trackio"))
        importlib.import_module("wandb").teardown()  # an earlier test's session has a folder of its own
        experiment = tracelet.start_logging(
            backend="csv,tensorboard,trackio,wandb,mlflow", project="captions", dir=folder / "runs", connect_timeout=60
        )
        field = np.zeros((3, 4, 4), np.uint8)
        experiment.log_image("image", field, 1, caption=IMAGE)
        experiment.log_image("bare", field, 1)
        experiment.log_video("video", np.stack([field, field]), 1, caption=VIDEO)
        experiment.log_audio("audio", np.zeros(100), 1, caption=AUDIO)
        experiment.stop()
    return folder


def test_csv_has_it_in_the_index(folder):
    (path,) = folder.glob("runs/*/*/csv/media.csv")
    with open(path, newline="", encoding="utf-8") as file:
        found = {row["tag"]: json.loads(row["details"]).get("caption") for row in csv.DictReader(file)}
    assert {"image": IMAGE, "bare": None, "video": VIDEO, "audio": AUDIO} == found


def test_tensorboard_has_it_as_the_description(folder, read_values):
    (path,) = {path.parent for path in folder.glob("runs/*/*/tensorboard/**/events.out.*")}
    found = {value.tag.partition("/")[0]: value.metadata.summary_description for _, value in read_values(path)}
    assert {"image": IMAGE, "bare": "", "video": VIDEO, "audio": AUDIO} == found


def test_trackio_has_it(folder):
    rows = [
        json.loads(row["metrics"]) for row in trackio_store.of_run(folder / "trackio" / "captions.db", "metrics", None)
    ]
    found = {tag: value["caption"] for row in rows for tag, value in row.items() if isinstance(value, dict)}
    assert {"image": IMAGE, "bare": None, "video": VIDEO, "audio": AUDIO} == found


def test_wandb_has_it(folder):
    found = {}
    for row in wandb_store.only(folder).rows:
        found |= {tag: row[tag].get("caption") for tag in ("image", "bare", "video", "audio") if tag in row}
    assert {"image": IMAGE, "bare": None, "video": VIDEO, "audio": AUDIO} == found


def test_mlflow_has_it_in_a_file_beside_the_medium(folder):
    run = mlflow_store.only(folder / "mlflow.db")
    assert [IMAGE] == [data.decode() for path, data in run.artifacts.items() if path.endswith(".caption.md")]
    found = {facts["tag"]: facts["caption"] for kind in ("video", "audio") for _, facts in run.facts(kind)}
    assert {"video": VIDEO, "audio": AUDIO} == found


def test_aim_has_it(tmp_path):
    image = Image("image", stored(tmp_path, png((1, 2, 3)), "a.png"), "png", 4, 4, 1, 0.0, caption=IMAGE)
    video = Video("video", image.data, "gif", 4, 4, 1, 0.0, caption=VIDEO)
    audio = Audio("audio", stored(tmp_path, wav(), "a.wav"), "wav", 8000.0, 1, 0.0, caption=AUDIO)
    made = [objects.to_image(image), objects.to_image(video), objects.to_audio(audio)]
    assert [IMAGE, VIDEO, AUDIO] == [medium.storage["caption"] for medium in made]


def test_the_page_of_the_run_shows_it(folder, tmp_path):
    (path,) = folder.glob("runs/*/*/journal.db")
    page = tmp_path / "page.html"
    shown = CliRunner().invoke(app, ["show", str(path.parent), "--html", str(page)])
    assert 0 == shown.exit_code, shown.output
    assert f"step 1: {IMAGE}" in page.read_text(encoding="utf-8")
