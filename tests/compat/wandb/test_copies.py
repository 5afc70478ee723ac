"""Copies of a config, a summary and a run: in checkpoints, in copies of models, and in child processes."""

import copy
import pickle

import pytest
import torch

import tracelet.compat.wandb as wandb


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_of_the_config_or_the_summary_has_no_run(points, duplicate):
    with wandb.init(config={"model": {"layers": [1]}}) as run:
        run.log({"loss": {"train": 1.0}})
        config, summary, nested = duplicate(run.config), duplicate(run.summary), duplicate(run.summary["loss"])
        assert ({"model": {"layers": [1]}}, 1.0, {"train": 1.0}) == (dict(config), summary["loss"]["train"], nested)
        config.lr, summary["best"] = 0.1, 2
        assert "lr" not in run.config
        assert "best" not in run.summary


def test_a_deep_copy_of_the_config_shares_nothing():
    with wandb.init(config={"layers": [1]}) as run:
        copy.deepcopy(run.config)["layers"].append(2)
        assert [1] == run.config.layers


def test_a_copy_of_a_model_keeps_its_run(points):
    """As in wandb, for averaged models for example."""
    model = torch.nn.Linear(1, 1)
    model.run = wandb.init()
    copy.deepcopy(model).run.log({"loss": 1.0})
    assert pickle.loads(pickle.dumps(model)).run is model.run is copy.copy(model.run)
    assert [("loss", 0, 1.0)] == points(model.run)
    assert copy.deepcopy(model).run is model.run


def test_a_run_of_another_process_ignores_calls(caplog):
    """A checkpoint with a run can be read where the run is not."""
    run = wandb.init()
    stored = pickle.dumps(run)
    run.finish()
    read = pickle.loads(stored)
    assert f"run {run.id} is not open in this process" in caplog.text
    read.log({"loss": 1.0})
    assert (run.id, True) == (read.id, read.disabled)
    assert wandb.run is None
