"""A training as people write it, which knows nothing of us: argparse, a loop, and a SummaryWriter for each part."""

import argparse
import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter


class Points(Dataset):
    """Points on a line; a class of the main module, which workers unpickle."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, at):
        x = torch.tensor([at / self.count])
        return x, 2 * x + 1


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--backend", default="gloo", help="our own, and nobody else's")
    parser.add_argument("--logdir", type=Path, default=Path("runs"))
    return parser.parse_args()


def main():
    args = parse_args()
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    loader = DataLoader(
        Points(16),
        batch_size=args.batch_size,
        shuffle=True,
        num_workers=args.workers,
        multiprocessing_context="spawn" if args.workers else None,
    )
    writer = SummaryWriter(args.logdir / "train")
    validation = SummaryWriter(args.logdir / "val")
    step = 0
    for epoch in range(args.epochs):
        for x, y in loader:
            loss = torch.nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            writer.add_scalar("loss", loss.item(), step)
            step += 1
        writer.add_histogram("weight", model.weight, epoch)
        validation.add_scalar("loss", loss, epoch)
        print(f"epoch {epoch}: {loss.item():.6f} ({args.backend})")
    writer.add_text("command", " ".join(sys.argv[1:]))
    writer.close()
    validation.close()


if __name__ == "__main__":
    main()
