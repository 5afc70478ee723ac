"""Trainings of frameworks that log to `wandb` and, where they can, to event files in `folder / "logs"` as well."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np


def lightning(folder: Path) -> None:
    """WandbLogger beside TensorBoardLogger, with a watched model and its checkpoint."""
    import torch

    framework = importlib.import_module("lightning.pytorch")

    class Line(framework.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, lr: float = 0.1, layers: int = 1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: Any, index: int) -> Any:
            loss = self.layer(batch).square().mean()
            self.log("train/loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val/loss", self.layer(batch).square().mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    loggers = [
        framework.loggers.TensorBoardLogger(str(folder / "logs"), name="", version=""),
        framework.loggers.WandbLogger(project="line", save_dir=str(folder), log_model=True),
    ]
    trainer = framework.Trainer(
        max_epochs=2, logger=loggers, log_every_n_steps=1, enable_progress_bar=False, accelerator="cpu", devices=1
    )
    model = Line()
    loggers[1].watch(model, log_freq=2, log_graph=False)
    data: Any = torch.utils.data.DataLoader([torch.full((2,), float(number)) for number in range(4)], batch_size=2)
    trainer.fit(model, data, data)


def transformers(folder: Path) -> None:
    """report_to="wandb" beside "tensorboard", with the model as an artifact."""
    from frameworks import tiny_bert

    os.environ["WANDB_LOG_MODEL"] = "end"
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "logs")
    tiny_bert.trainer(folder, report_to=["wandb", "tensorboard"]).train()


def accelerate(folder: Path) -> None:
    """log_with="wandb" beside "tensorboard": explicit steps, nested dicts, and an image."""
    framework = importlib.import_module("accelerate")
    try:
        accelerator = framework.Accelerator(
            cpu=True, log_with=["tensorboard", "wandb"], project_dir=str(folder / "logs")
        )
        accelerator.init_trackers("line", config={"lr": 0.1, "name": "line", "bias": True})
        for step in range(4):
            accelerator.log({"loss": 0.3 * step, "phase": "early", "parts": {"a": 0.1 * step, "b": 1.0}}, step=step)
        pixels = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
        accelerator.get_tracker("wandb").log_images({"seen": [pixels]}, step=4)
        accelerator.end_training()
    finally:
        importlib.import_module("accelerate.state").AcceleratorState._reset_state(True)


def stable_baselines3(folder: Path) -> None:
    """wandb's own callback, with sync_tensorboard=True."""
    ppo: Any = importlib.import_module("frameworks.test_stable_baselines3").ppo
    wandb = importlib.import_module("wandb")
    framework, callbacks = (
        importlib.import_module("stable_baselines3"),
        importlib.import_module("wandb.integration.sb3"),
    )
    wandb.init(project="walk", sync_tensorboard=True, config={"policy": "MlpPolicy"})
    model = ppo(framework, folder / "logs")
    model.learn(32, callback=callbacks.WandbCallback(model_save_path=str(folder / "models"), verbose=2))
    wandb.finish()


def skorch(folder: Path) -> None:
    """WandbLogger: each epoch is a row."""
    import torch

    wandb, framework = importlib.import_module("wandb"), importlib.import_module("skorch")
    callbacks = importlib.import_module("skorch.callbacks")
    net = framework.NeuralNetRegressor(
        torch.nn.Sequential(torch.nn.Linear(2, 1)),
        max_epochs=3,
        lr=0.01,
        callbacks=[callbacks.WandbLogger(wandb.init())],
        verbose=0,
    )
    rows = np.linspace(0, 1, 20, dtype=np.float32)
    net.fit(np.stack([rows, -rows], axis=1), rows[:, None])


def ignite(folder: Path) -> None:
    """WandBLogger with explicit steps, beside the TensorboardLogger."""
    import torch

    for name in ("engine", "metrics", "handlers.wandb_logger", "handlers.tensorboard_logger"):
        importlib.import_module(f"ignite.{name}")
    framework: Any = importlib.import_module("ignite")
    events, model = framework.engine.Events, torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(engine: Any, batch: Any) -> float:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    engine = framework.engine.Engine(step)
    loggers = [
        framework.handlers.wandb_logger.WandBLogger(project="line", config={"lr": 0.1}),
        framework.handlers.tensorboard_logger.TensorboardLogger(log_dir=str(folder / "logs")),
    ]
    for logger in loggers:
        logger.attach_output_handler(
            engine, events.ITERATION_COMPLETED, tag="training", output_transform=lambda loss: {"loss": loss}
        )
        logger.attach_opt_params_handler(engine, events.ITERATION_STARTED, optimizer=optimizer, param_name="lr")
    engine.run([torch.full((3, 2), float(number)) for number in range(4)], max_epochs=2)
    for logger in loggers:
        logger.close()
