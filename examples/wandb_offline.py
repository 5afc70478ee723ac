"""A whole training program that reports to Weights & Biases without an account: wandb's own offline mode.

What wandb would have sent lies in demo/wandb; `wandb sync <that folder>` uploads it once you have an account. With one,
leave `mode` out and watch the run live. Everything is written below ./demo/.
"""

import itertools
import json
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter

import tracelet

SETTINGS = {
    "model": {"kind": "mlp", "layers": [20, 64, 32, 5], "dropout": 0.1},
    "optimizer": {"name": "adamw", "lr": 3e-3},
    "training": {"epochs": 8, "batch_size": 64},
}


def main() -> None:
    Path("demo").mkdir(exist_ok=True)
    experiment = tracelet.start_logging(
        exp_name="mlp on blobs",
        project="examples",
        backend="wandb",
        dir="demo/runs",
        config={
            "mode": "offline",
            "dir": "demo",
            "tags": ["example", "offline"],
            "notes": "A multi-layer perceptron tells five clouds of points apart.",
            "group": "examples",
            "job_type": "training",
        },
    )
    experiment.log_params(SETTINGS)

    model, losses = train()

    # What was not known before the training is a parameter as well; nested and dotted names are the same.
    experiment.log_params({"result.final_loss": losses[-1], "result": {"parameters": count_parameters(model)}})
    experiment.log_artifact(draw(losses), artifact_path="plots/loss.png")
    torch.save(model.state_dict(), "demo/model.pt")
    experiment.log_artifact("demo/model.pt", artifact_path="models/")
    Path("demo/summary.json").write_text(json.dumps({"losses": losses}))
    experiment.log_artifact("demo/summary.json", artifact_path="summaries/")

    tracelet.stop_logging()
    print(experiment.stats())


def train() -> tuple[nn.Module, list[float]]:
    torch.manual_seed(0)
    sizes, rates = SETTINGS["model"]["layers"], SETTINGS["model"]["dropout"]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(rates)]
    model = nn.Sequential(*layers[:-2])
    optimizer = torch.optim.AdamW(model.parameters(), lr=SETTINGS["optimizer"]["lr"])
    loader = DataLoader(blobs(sizes[0], sizes[-1]), batch_size=SETTINGS["training"]["batch_size"], shuffle=True)

    losses = []
    with SummaryWriter("demo/tensorboard/wandb_offline") as writer:
        step = 0
        for epoch in range(SETTINGS["training"]["epochs"]):
            total = 0.0
            for points, classes in loader:
                loss = nn.functional.cross_entropy(model(points), classes)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                writer.add_scalar("batch/loss", loss, step)
                total += loss.item()
                step += 1
            losses.append(total / len(loader))
            writer.add_scalar("epoch/loss", losses[-1], epoch)
            for name, weight in model.named_parameters():
                writer.add_histogram(f"weights/{name}", weight, epoch)
                writer.add_histogram(f"gradients/{name}", weight.grad, epoch)
    return model, losses


def blobs(size: int, classes: int) -> TensorDataset:
    """Points around one centre for each class."""
    centres = torch.randn(classes, size) * 0.7
    labels = torch.randint(classes, (1500,))
    return TensorDataset(centres[labels] + torch.randn(1500, size), labels)


def count_parameters(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def draw(losses: list[float]) -> Figure:
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    axes.plot(losses, marker="o")
    axes.set(title="Loss over the epochs", xlabel="epoch", ylabel="cross entropy")
    axes.grid(visible=True)
    return figure


if __name__ == "__main__":
    main()
