"""The frameworks' own wandb loggers, unmodified, with the facade in wandb's place: equal to their TensorBoard twin."""

import numpy as np
import pytest
from backends import csv_store
from frameworks.event_compare import in_files
from programs import run_program
from support import TESTS

_PROGRAM = """
import pathlib, sys
sys.path.insert(0, {tests!r})
from tracelet import replacing
replacing.install("wandb")
from frameworks import wandb_trainings
wandb_trainings.{framework}(pathlib.Path({folder!r}))
import wandb
wandb.finish()
real = [name for name, module in sys.modules.items() if name.startswith("wandb") and "tracelet" not in module.__name__]
assert not real, real
"""


@pytest.fixture
def trained(_alone, tmp_path):
    """`trained(framework)`: (series in the event files, content of csv) after a training with the facade."""

    def train(framework):
        source = _PROGRAM.format(tests=str(TESTS), framework=framework, folder=str(tmp_path))
        program = run_program(
            source, deadline=180, TRACELET_BACKEND="csv", TRACELET_DIR=str(tmp_path / "runs"), WANDB_MODE="online"
        )
        assert 0 == program.returncode, program.err
        (folder,) = tmp_path.glob("runs/*/*/csv")
        return _in_events(tmp_path / "logs"), csv_store.stored(folder)

    return train


def _in_events(folder):
    """(step, float32) of each scalar in the event files below a folder, by tag."""
    if not folder.exists():
        return {}
    found = in_files(folder, folder, {})
    scalars = {tag: [point for point in points if point[0] == "scalar"] for tag, points in found.items()}
    return {tag: [(step, text) for _, step, _, text in points] for tag, points in scalars.items() if points}


def _series(content):
    series = {}
    for tag, step, value, _ in content.scalars:
        series.setdefault(tag, []).append((step, repr(float(np.float32(value)))))
    return series


def test_lightning(trained):
    """Names, steps and values; parameters, gradients of the watched model, its checkpoint."""
    events, content = trained("lightning")
    found = _series(content)
    events.pop("hp_metric")  # an invention of the TensorBoardLogger
    assert {"train/loss_step", "train/loss_epoch", "val/loss", "epoch"} == set(events)
    assert events == {tag: points for tag, points in found.items() if tag != "trainer/global_step"}
    assert {"lr": 0.1, "layers": 1}.items() <= content.params.items()
    assert {"gradients/layer.weight", "gradients/layer.bias"} == {tag for tag, *_ in content.histograms}
    assert any(name.endswith("model.ckpt") for name in content.artifacts)


def test_transformers(trained):
    """All but the sums of the training, which go to the summary; the configuration; the model."""
    events, content = trained("transformers")
    found = _series(content)
    sums = {"train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos", "train_loss"}
    assert sums <= set(content.summary)
    expected = {tag: points for tag, points in events.items() if tag.removeprefix("train/") not in sums}
    assert expected
    assert expected == {tag: points for tag, points in found.items() if tag != "train/global_step"}
    assert (8, 2) == (content.params["hidden_size"], content.params["num_train_epochs"])
    assert any(name.endswith("model.safetensors") for name in content.artifacts)


def test_accelerate(trained):
    """Explicit steps, texts and nested dicts, the configuration, an image."""
    events, content = trained("accelerate")
    found = _series(content)
    assert {"loss", "parts.a", "parts.b"} == set(found)
    (loss,) = [points for tag, points in events.items() if tag.endswith("loss")]
    assert loss == found["loss"]
    assert [(step, repr(float(np.float32(0.1 * step)))) for step in range(4)] == found["parts.a"]
    assert [("phase", step, "early") for step in range(4)] == [text for text in content.texts if text[0] == "phase"]
    assert {"lr": 0.1, "name": "line", "bias": True}.items() <= content.params.items()
    assert [("seen/0", 4)] == list(content.images)


def test_stable_baselines3(trained):
    """What its SummaryWriter logs, the algorithm's parameters, and the saved model."""
    events, content = trained("stable_baselines3")
    assert {tag.removeprefix("PPO_1/"): points for tag, points in events.items()} == _series(content)
    assert {"policy": "MlpPolicy", "algo": "PPO", "n_steps": 16}.items() <= content.params.items()
    assert "model.zip" in content.artifacts


def test_skorch(trained):
    """Each epoch is a row, and the model is watched."""
    _, content = trained("skorch")
    found = _series(content)
    assert {"dur", "train_loss", "valid_loss"} == set(found)
    assert [0, 1, 2] == [step for step, _ in found["train_loss"]]
    assert all(float(text) > 0 for _, text in found["train_loss"])


def test_ignite(trained):
    """Outputs and the optimizer at the steps of the iterations."""
    events, content = trained("ignite")
    found = _series(content)
    assert list(range(1, 9)) == [step for step, _ in found["training/loss"]]
    assert events == found
    assert 0.1 == content.params["lr"]
