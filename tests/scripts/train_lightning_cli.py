"""A training by Lightning's command line, which knows nothing of us: its logger is the default one."""

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI


class Line(LightningModule):
    def __init__(self, lr: float = 0.1, layers: int = 1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(layers)))

    def training_step(self, batch, index):
        loss = self.layer(batch).square().mean()
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        self.log("val/loss", self.layer(batch).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class Ones(LightningDataModule):
    def __init__(self, batch_size: int = 2):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(6, 2), batch_size=self.batch_size)

    def val_dataloader(self):
        return self.train_dataloader()


if __name__ == "__main__":
    LightningCLI(Line, Ones, seed_everything_default=1)
