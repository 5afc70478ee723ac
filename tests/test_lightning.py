"""A Trainer that knows nothing of us: everything it tells its TensorBoard logger arrives, once."""

import importlib
from pathlib import Path

import numpy as np
import pytest

import tracelet
from tracelet.records import Params, Scalar

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def lightning():
    return importlib.import_module("lightning")


@pytest.fixture
def model(lightning):
    import torch

    class Line(lightning.LightningModule):
        def __init__(self, lr=0.1, layers=1, name="line", bias=True):
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

    return Line()


@pytest.fixture
def trainer(lightning, tmp_path):
    return lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=1,
        default_root_dir=tmp_path,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        logger=lightning.pytorch.loggers.TensorBoardLogger(tmp_path, name="logs"),
    )


def test_a_training_is_carried_whole(model, trainer, memory, read_values):
    """Event file and records are the same scalars, steps and times; the hyper-parameters are there once."""
    import torch

    data = torch.utils.data.DataLoader(torch.ones(6, 2), batch_size=2)
    with tracelet.start_logging(backend=memory):
        trainer.fit(model, data, data)
        trainer.logger.finalize("success")
        trainer.logger.experiment.close()

    folder = Path(trainer.logger.log_dir)
    values = read_values(folder)
    expected = [
        (value.tag, value.simple_value, event.step, event.wall_time)
        for event, value in values
        if value.WhichOneof("value") == "simple_value"
    ]
    found = [
        (one.tag, float(np.float32(one.value)), one.step or 0, one.wall_time)
        for one in memory.records
        if isinstance(one, Scalar)
    ]
    assert expected == found
    assert {"train/loss_step", "train/loss_epoch", "val/loss", "epoch", "hp_metric"} == {tag for tag, *_ in found}
    assert 6 == sum(tag == "train/loss_step" for tag, *_ in found)
    (params,) = [one for one in memory.records if isinstance(one, Params)]
    # By repr: the event file has 1.0 for the int and for the bool.
    assert repr({"lr": 0.1, "layers": 1, "name": "line", "bias": True}) == repr(dict(params.values))
    assert len(found) + 1 == len(memory.records)


def test_metrics_with_hyper_parameters_are_carried_once(lightning, tmp_path, memory):
    """log_hyperparams writes its summaries past the public methods, log_metrics of a dict goes to add_scalars."""
    logger = lightning.pytorch.loggers.TensorBoardLogger(tmp_path, name="logs")
    with tracelet.start_logging(backend=memory):
        logger.log_hyperparams({"lr": 0.1, "net": {"layers": 3}}, {"best": 0.25})
        logger.log_metrics({"loss": 0.1, "both": {"a": 0.2, "b": 0.3}}, step=4)
        logger.experiment.close()
    scalars = [(one.tag, one.value, one.step) for one in memory.records if isinstance(one, Scalar)]
    assert [("best", 0.25, None), ("loss", 0.1, 4), ("both/a", 0.2, 4), ("both/b", 0.3, 4)] == scalars
    assert [{"lr": 0.1, "net/layers": 3}] == [one.values for one in memory.records if isinstance(one, Params)]
    assert 5 == len(memory.records)
