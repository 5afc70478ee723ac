"""One program, any backend: `python any_backend.py --backend mlflow` differs from `--backend wandb` in that word.

Needs no account: where a vendor has a server, what it keeps offline is used. Everything is written below ./demo/.
"""

import argparse
import os
from pathlib import Path

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import tracelet

EPOCHS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="csv", help="such as wandb or trackio, or several: mlflow,aim")
    arguments = parser.parse_args()
    Path("demo").mkdir(exist_ok=True)
    os.chdir("demo")  # vendors put their files where a program runs
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("CLEARML_OFFLINE_MODE", "1")

    experiment = tracelet.start_logging("sine", project="demo", backend=arguments.backend, dir="runs")
    experiment.log_params({"epochs": EPOCHS, "optimizer": {"name": "Adam", "lr": 0.01}})
    train()
    tracelet.stop_logging()


def train() -> None:
    """Learn one period of a sine from noisy points."""
    torch.manual_seed(0)
    x = torch.linspace(-3, 3, 200)[:, None]
    y = torch.sin(x) + 0.1 * torch.randn(200, 1)
    seen, held_out = torch.randperm(200).split(160)
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with SummaryWriter("logs") as writer, SummaryWriter("logs/val") as val_writer:
        step = 0
        for epoch in range(EPOCHS):
            for batch in seen[torch.randperm(160)].split(16):
                loss = nn.functional.mse_loss(model(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                writer.add_scalar("loss", loss.item(), step)
                step += 1
            with torch.no_grad():
                val_writer.add_scalar("loss", nn.functional.mse_loss(model(x[held_out]), y[held_out]).item(), step)
            writer.add_histogram("weights", model[0].weight, epoch)


if __name__ == "__main__":
    main()
