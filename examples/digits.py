"""A small network learns the digits that come with scikit-learn. Ordinary TensorBoard code, and one line of tracelet.

Needs no account, no server and no data from elsewhere. Everything is written below ./demo/.
"""

import subprocess
import sys
import time
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import tracelet

EPOCHS, BATCH, RATE = 15, 64, 2e-3


def main() -> None:
    experiment = tracelet.start_logging("digits", project="demo", backend="csv", dir="demo/runs")  # the one line

    train(Path("demo/tensorboard", time.strftime("%Y%m%d-%H%M%S")))

    # A program that ends here is done: its end ends the run. This one goes on to show what was kept.
    tracelet.stop_logging()
    show(experiment.run_id)


def train(log_dir: Path) -> None:
    torch.manual_seed(0)
    pictures, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    pictures = pictures.float().reshape(-1, 1, 8, 8) / 16
    order = torch.randperm(len(labels))
    held_out, seen = order[:400], order[400:]
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)

    with SummaryWriter(log_dir / "train") as writer, SummaryWriter(log_dir / "val") as val_writer:
        writer.add_text("notes", f"One convolution, **two** linear layers, {len(seen)} pictures to learn from.")
        writer.add_images("pictures", pictures[seen[:32]], 0)
        step = 0
        for epoch in range(EPOCHS):
            model.train()
            for batch in seen[torch.randperm(len(seen))].split(BATCH):
                loss = nn.functional.cross_entropy(model(pictures[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                writer.add_scalar("loss", loss, step)
                step += 1
            writer.add_scalar("learning_rate", schedule.get_last_lr()[0], step)
            schedule.step()
            for name, weight in model.named_parameters():
                writer.add_histogram(f"weights/{name}", weight, epoch)

            model.eval()
            with torch.no_grad():
                answers = model(pictures[held_out])
            loss = nn.functional.cross_entropy(answers, labels[held_out])
            accuracy = (answers.argmax(1) == labels[held_out]).float().mean()
            val_writer.add_scalar("loss", loss, step)
            val_writer.add_scalar("accuracy", accuracy, step)
        writer.add_hparams(
            {"lr": RATE, "batch": BATCH, "epochs": EPOCHS}, {"accuracy": accuracy}, run_name="result", global_step=step
        )


def show(run_id: str) -> None:
    """What a person would type next."""
    shown = ["show", run_id, "--dir", "demo/runs"]
    for command in (shown, [*shown, "--plot", str(Path("demo", "digits.png"))]):
        print(f"\n$ tracelet {' '.join(command)}\n", flush=True)
        subprocess.run([sys.executable, "-m", "tracelet", *command], check=True)
    print("\nTensorBoard has all of it too: tensorboard --logdir demo/tensorboard")


if __name__ == "__main__":
    main()
