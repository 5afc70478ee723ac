"""Hugging Face's Trainer with report_to="tensorboard"."""

import json
from pathlib import Path

import pytest
from frameworks.tiny_bert import trainer

pytestmark = pytest.mark.filterwarnings("ignore")


def root(folder):
    """Where the Trainer put its first event file."""
    return min(Path(folder).rglob("events.out.tfevents.*")).parent


def test_a_training_is_carried_whole(tmp_path, memory, carried):
    """Losses of each step, both evaluations and the one after the training, the two texts of its configuration."""
    training = trainer(tmp_path / "out", report_to="tensorboard")
    training.train()
    training.evaluate()

    series = carried(tmp_path / "out", root(tmp_path / "out"))
    assert [1, 2, 3, 4] == [step for step, *_ in series["train/loss"]]
    assert [2, 4, 4] == [step for step, *_ in series["eval/accuracy"]]
    assert {"train/learning_rate", "train/grad_norm", "train/train_runtime", "eval/loss", "args"} < set(series)
    ((_, _, configuration),) = series["model_config"]
    assert 8 == json.loads(configuration)["hidden_size"]


def test_a_second_trainer_writes_beside_the_first(tmp_path, carried):
    """Its series have its directory before their names."""
    for name in ("a", "b"):
        trainer(tmp_path / "out" / name, report_to="tensorboard").train()

    series = carried(tmp_path / "out", root(tmp_path / "out" / "a"))
    assert 2 == len([name for name in series if name.endswith("train/loss")])
    assert [1, 2, 3, 4] == [step for step, *_ in series["train/loss"]]
