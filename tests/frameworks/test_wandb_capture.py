"""Frameworks that log to wandb, unmodified: what they log is recorded as their TensorBoard twin, or wandb, has it."""

import importlib
from collections import defaultdict

import numpy as np
import pytest
from backends import wandb_store
from frameworks import tiny_bert
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
    import torch

    lightning = importlib.import_module("lightning.pytorch")

    class Line(lightning.LightningModule):
        def __init__(self, lr=0.1, layers=1):
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch, index):
            loss = self.layer(batch).square().mean()
            self.log("train/loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch, index):
            self.log("val/loss", self.layer(batch).square().mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    loggers = [
        lightning.loggers.TensorBoardLogger(str(tmp_path / "logs"), name="", version=""),
        lightning.loggers.WandbLogger(project="line", save_dir=str(tmp_path), log_model=True),
    ]
    trainer = lightning.Trainer(
        max_epochs=2, logger=loggers, log_every_n_steps=1, enable_progress_bar=False, accelerator="cpu", devices=1
    )
    model = Line()
    loggers[1].watch(model, log_freq=2, log_graph=False)
    data = torch.utils.data.DataLoader([torch.full((2,), float(number)) for number in range(4)], batch_size=2)
    trainer.fit(model, data, data)

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
    tiny_bert.trainer(tmp_path, report_to=["wandb", "tensorboard"]).train()

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
    import torch

    accelerate = importlib.import_module("accelerate")
    try:
        accelerator = accelerate.Accelerator(
            cpu=True, log_with=["tensorboard", "wandb"], project_dir=str(tmp_path / "logs")
        )
        accelerator.init_trackers("line", config={"lr": 0.1, "name": "line", "bias": True})
        for step in range(4):
            accelerator.log({"loss": 0.3 * step, "phase": "early", "parts": {"a": 0.1 * step, "b": 1.0}}, step=step)
        accelerator.get_tracker("wandb").log_images({"seen": [torch.rand(4, 4, 3).numpy()]}, step=4)
        accelerator.end_training()
    finally:
        importlib.import_module("accelerate.state").AcceleratorState._reset_state(True)

    found, store = series(), stored()
    assert {"loss", "parts.a", "parts.b"} == set(found)
    assert in_events(tmp_path / "logs" / "line")["loss"] == found["loss"] == store["loss"]
    assert [(step, repr(float(np.float32(0.1 * step)))) for step in range(4)] == found["parts.a"]
    assert {"lr": 0.1, "name": "line", "bias": True}.items() <= params(memory).items()
    assert ["seen/0"] == [record.tag for record in memory.records if type(record).__name__ == "Image"]


def test_stable_baselines3(wandb, memory, tmp_path):
    """sync_tensorboard=True and WandbCallback, with both captured: each series once, parameters, the saved model."""
    from frameworks.test_stable_baselines3 import ppo

    sb3, callbacks = importlib.import_module("stable_baselines3"), importlib.import_module("wandb.integration.sb3")
    experiment = tracelet.start_logging(backend=memory, capture=["tensorboard", "wandb"])
    try:
        wandb.init(project="walk", sync_tensorboard=True, config={"policy": "MlpPolicy"})
        model = ppo(sb3, tmp_path / "logs")
        model.learn(32, callback=callbacks.WandbCallback(model_save_path=str(tmp_path / "models"), verbose=2))
        wandb.finish()
    finally:
        wandb.tensorboard.unpatch()
    experiment.stop()

    found = defaultdict(list)
    for record in memory.of(Scalar):
        found[record.tag].append((record.step, repr(float(np.float32(record.value)))))
    assert in_events(tmp_path / "logs" / "PPO_1") == found
    assert {"policy": "MlpPolicy", "algo": "PPO", "n_steps": 16}.items() <= params(memory).items()
    assert ["model.zip"] == [record.name.split("/")[-1] for record in memory.of(Artifact)]


def test_skorch(wandb, series, stored, memory):
    """WandbLogger: each epoch is a row; the gradients of the watched model."""
    import torch

    skorch = importlib.import_module("skorch")
    callbacks = importlib.import_module("skorch.callbacks")
    net = skorch.NeuralNetRegressor(
        torch.nn.Sequential(torch.nn.Linear(2, 1)),
        max_epochs=3,
        lr=0.01,
        callbacks=[callbacks.WandbLogger(wandb.init())],
        verbose=0,
    )
    rows = np.linspace(0, 1, 20, dtype=np.float32)
    net.fit(np.stack([rows, -rows], axis=1), rows[:, None])

    found = series()
    assert {"dur", "train_loss", "valid_loss"} == set(found)
    assert [0, 1, 2] == [step for step, _ in found["train_loss"]]
    assert stored() == found
    assert params(memory)["wandb.id"]


def test_ignite(series, stored, memory):
    """WandBLogger: outputs at each iteration, metrics at each epoch, and the optimizer, with explicit steps."""
    import torch

    for name in ("engine", "metrics", "handlers.wandb_logger"):
        importlib.import_module(f"ignite.{name}")
    ignite = importlib.import_module("ignite")
    events, model = ignite.engine.Events, torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(engine, batch):
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    engine = ignite.engine.Engine(step)
    logger = ignite.handlers.wandb_logger.WandBLogger(project="line", config={"lr": 0.1})
    logger.attach_output_handler(
        engine, events.ITERATION_COMPLETED, tag="training", output_transform=lambda loss: {"loss": loss}
    )
    logger.attach_opt_params_handler(engine, events.ITERATION_STARTED, optimizer=optimizer, param_name="lr")
    engine.run([torch.full((3, 2), float(number)) for number in range(4)], max_epochs=2)
    logger.close()

    found = series()
    assert list(range(1, 9)) == [step for step, _ in found["training/loss"]]
    assert stored() == found
    assert 0.1 == params(memory)["lr"]
