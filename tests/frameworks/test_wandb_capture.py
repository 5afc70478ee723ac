"""Frameworks that log to wandb, unmodified: what they log is recorded as their TensorBoard twin, or wandb, has it."""

import importlib
from collections import defaultdict

import numpy as np
import pytest
from backends import wandb_store
from frameworks import wandb_trainings
from frameworks.event_compare import in_files

import tracelet
from tracelet.records import Artifact, Histogram, Params, Scalar, Summary

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def wandb(_alone, tmp_path, monkeypatch):
    """wandb in offline mode, in a session of its own."""
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    module = importlib.import_module("wandb")
    module.teardown()
    # wandb numbers watched models in a process, and puts the number into their names.
    monkeypatch.setattr(importlib.import_module("wandb.sdk.wandb_watch"), "_global_watch_idx", 0)
    yield module
    module.teardown()
    importlib.import_module("wandb.sdk.lib.module").unset_globals()


@pytest.fixture
def experiment(wandb, memory):
    """The one line of tracelet above the framework's code."""
    return tracelet.start_logging(backend=memory, capture=["wandb"])


@pytest.fixture
def series(wandb, experiment, memory):
    """`series()`: (step, float32) of each point, by name, once all has arrived."""

    def found():
        if wandb.run is not None:
            wandb.finish()
        experiment.stop()
        assert {} == experiment.stats().causes
        points = defaultdict(list)
        for record in memory.of(Scalar):
            points[record.tag].append((record.step, repr(float(np.float32(record.value)))))
        return dict(points)

    return found


@pytest.fixture
def stored(wandb, tmp_path):
    """`stored()`: (row's step, float32) of each number in wandb's own run, by name."""

    def found():
        wandb.teardown()
        points = defaultdict(list)
        for row in wandb_store.only(tmp_path).rows:
            for key, value in row.items():
                if not key.startswith("_") and type(value) in (int, float):
                    points[key].append((row["_step"], repr(float(np.float32(value)))))
        return dict(points)

    return found


def in_events(folder):
    """(step, float32) of each scalar in the event files below a folder, by tag."""
    found = in_files(folder, folder, {})
    scalars = {tag: [point for point in points if point[0] == "scalar"] for tag, points in found.items()}
    return {tag: [(step, text) for _, step, _, text in points] for tag, points in scalars.items() if points}


def params(memory):
    return {name: value for record in memory.of(Params) for name, value in record.values.items()}


def test_lightning(series, memory, tmp_path):
    """WandbLogger beside TensorBoardLogger: same names, steps and values; parameters, and a watched model."""
    wandb_trainings.lightning(tmp_path)

    found = series()
    expected = in_events(tmp_path / "logs")
    expected.pop("hp_metric")  # an invention of the TensorBoardLogger
    assert {"train/loss_step", "train/loss_epoch", "val/loss", "epoch"} == set(expected)
    assert expected == {tag: points for tag, points in found.items() if tag != "trainer/global_step"}
    assert {"lr": 0.1, "layers": 1}.items() <= params(memory).items()
    assert {"gradients/layer.weight", "gradients/layer.bias"} == {record.tag for record in memory.of(Histogram)}
    assert ["model"] == [record.type for record in memory.of(Artifact)]


def test_transformers(series, stored, memory, tmp_path, monkeypatch):
    """report_to="wandb" beside "tensorboard": the global step is the step; sums of the training are in the summary."""
    monkeypatch.setenv("WANDB_LOG_MODEL", "end")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    wandb_trainings.transformers(tmp_path)

    found, store = series(), stored()
    expected = in_events(tmp_path / "logs")
    summary = {name for record in memory.of(Summary) for name in record.values}
    sums = {"train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos", "train_loss"}
    assert sums <= summary
    assert {f"train/{name}" for name in sums} <= set(expected)
    assert {tag: points for tag, points in expected.items() if tag.removeprefix("train/") not in sums} == {
        tag: points for tag, points in found.items() if tag != "train/global_step"
    }
    assert set(store) == set(found)
    assert [1, 2, 3, 4] == sorted({step for step, _ in found["train/loss"]})
    found_params = params(memory)
    assert (8, 2) == (found_params["hidden_size"], found_params["num_train_epochs"])
    assert {"model"} == {record.type for record in memory.of(Artifact)}
    assert 2 == len(memory.of(Artifact))


def test_accelerate(series, stored, memory, tmp_path):
    """log_with="wandb" beside "tensorboard": explicit steps, nested dicts, and the configuration."""
    wandb_trainings.accelerate(tmp_path)

    found, store = series(), stored()
    assert {"loss", "parts.a", "parts.b"} == set(found)
    assert in_events(tmp_path / "logs" / "line")["loss"] == found["loss"] == store["loss"]
    assert [(step, repr(float(np.float32(0.1 * step)))) for step in range(4)] == found["parts.a"]
    assert {"lr": 0.1, "name": "line", "bias": True}.items() <= params(memory).items()
    assert ["seen/0"] == [record.tag for record in memory.records if type(record).__name__ == "Image"]


def test_stable_baselines3(wandb, memory, tmp_path):
    """sync_tensorboard=True and WandbCallback, with both captured: each series once, parameters, the saved model."""
    experiment = tracelet.start_logging(backend=memory, capture=["tensorboard", "wandb"])
    try:
        wandb_trainings.stable_baselines3(tmp_path)
    finally:
        wandb.tensorboard.unpatch()
    experiment.stop()

    found = defaultdict(list)
    for record in memory.of(Scalar):
        found[record.tag].append((record.step, repr(float(np.float32(record.value)))))
    assert in_events(tmp_path / "logs" / "PPO_1") == found
    assert {"policy": "MlpPolicy", "algo": "PPO", "n_steps": 16}.items() <= params(memory).items()
    assert ["model.zip"] == [record.name.split("/")[-1] for record in memory.of(Artifact)]


def test_skorch(series, stored, memory, tmp_path):
    """WandbLogger: each epoch is a row; the gradients of the watched model."""
    wandb_trainings.skorch(tmp_path)

    found = series()
    assert {"dur", "train_loss", "valid_loss"} == set(found)
    assert [0, 1, 2] == [step for step, _ in found["train_loss"]]
    assert stored() == found
    assert params(memory)["wandb.id"]


def test_ignite(series, stored, memory, tmp_path):
    """WandBLogger: outputs at each iteration, metrics at each epoch, and the optimizer, with explicit steps."""
    wandb_trainings.ignite(tmp_path)

    found = series()
    assert list(range(1, 9)) == [step for step, _ in found["training/loss"]]
    assert stored() == found
    assert 0.1 == params(memory)["lr"]
