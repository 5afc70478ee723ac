"""A Trainer that knows nothing of us: everything it tells its TensorBoard logger arrives, once, in both packages."""

import importlib

import pytest

import tracelet
from tracelet.records import Params, Scalar

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def lightning(request):
    """The package under each of its two names."""
    return importlib.import_module(request.param)


def line(lightning, **hparams):
    """A model that logs at each step, at each epoch, through a metric of torchmetrics, and past Lightning's log."""
    import torch
    from torchmetrics.classification import BinaryAccuracy

    class Line(lightning.LightningModule):
        def __init__(self, lr=0.1, layers=1, name="line", bias=True):
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(2, 1)
            self.accuracy = BinaryAccuracy()
            self.example_input_array = torch.ones(1, 2)

        def forward(self, batch):
            return self.layer(batch)

        def training_step(self, batch, index):
            loss = self(batch).square().mean()
            self.log("train/loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch, index):
            guesses = self(batch)[:, 0]
            self.accuracy(guesses, torch.arange(len(batch)) % 2)
            self.log("val/accuracy", self.accuracy)
            self.log_dict({"val/loss": guesses.square().mean(), "val/half": guesses.mean().bfloat16()})

        def on_validation_epoch_end(self):
            writer = self.logger.experiment
            writer.add_histogram("weights", self.layer.weight, self.global_step)
            writer.add_text("words", f"**epoch** {self.current_epoch}", self.global_step)

        def test_step(self, batch, index):
            self.log("test/loss", self(batch).square().mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    return Line(**hparams)


def trainer(lightning, folder, **more):
    return lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=1,
        default_root_dir=folder,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        **more,
    )


@pytest.fixture
def data():
    import torch

    return torch.utils.data.DataLoader(torch.arange(12.0).reshape(6, 2), batch_size=2)


def test_a_training_is_carried_whole(lightning, data, tmp_path, experiment, carried, params):
    """Scalars of steps, epochs and torchmetrics, the test after the training, histograms, texts, the graph."""
    logger = lightning.loggers.TensorBoardLogger(tmp_path / "logs", log_graph=True)
    model, training = line(lightning), trainer(lightning, tmp_path, logger=logger)
    training.fit(model, data, data)
    training.test(model, data, verbose=False)

    series = carried(tmp_path / "logs", logger.log_dir)
    scalars = {"train/loss_step", "train/loss_epoch", "val/loss", "val/half", "val/accuracy", "test/loss"}
    assert scalars | {"epoch", "hp_metric", "weights", "words", "graph"} == set(series)
    assert list(range(6)) == [step for step, *_ in series["train/loss_step"]]
    assert 2 == len(series["weights"]) == len(series["val/accuracy"])
    # By repr: the event file has 1.0 for the int and for the bool.
    assert repr({"lr": 0.1, "layers": 1, "name": "line", "bias": True}) == repr(params())


def test_the_logger_that_lightning_takes_by_itself_is_carried(lightning, data, tmp_path, carried):
    """Trainer() without a word about loggers."""
    training = trainer(lightning, tmp_path)
    training.fit(line(lightning), data, data)

    carried(tmp_path / "lightning_logs", tmp_path / "lightning_logs" / "version_0")


def test_two_trainings_of_one_run_are_two_prefixes(lightning, data, tmp_path, carried):
    """A second Trainer writes beside the first: nothing is mixed."""
    for _ in range(2):
        trainer(lightning, tmp_path).fit(line(lightning), data, data)

    series = carried(tmp_path / "lightning_logs", tmp_path / "lightning_logs" / "version_0")
    assert len(series["train/loss_step"]) == len(series["version_1/train/loss_step"]) == 6


def test_metrics_with_hyper_parameters_are_carried_once(lightning, tmp_path, memory):
    """log_hyperparams writes its summaries past the public methods, log_metrics of a dict goes to add_scalars."""
    logger = lightning.loggers.TensorBoardLogger(tmp_path, name="logs")
    with tracelet.start_logging(backend=memory):
        logger.log_hyperparams({"lr": 0.1, "net": {"layers": 3}}, {"best": 0.25})
        logger.log_metrics({"loss": 0.1, "both": {"a": 0.2, "b": 0.3}}, step=4)
        logger.experiment.close()
    scalars = [(one.tag, one.value, one.step) for one in memory.of(Scalar)]
    assert [("best", 0.25, None), ("loss", 0.1, 4), ("both/a", 0.2, 4), ("both/b", 0.3, 4)] == scalars
    assert [{"lr": 0.1, "net/layers": 3}] == [one.values for one in memory.of(Params)]
    assert 5 == len(memory.records)


def test_a_training_that_fails_is_carried_up_to_there(lightning, data, tmp_path, carried):
    """What was logged before the exception."""
    model = line(lightning)

    def fail():
        raise ArithmeticError("no more")

    model.on_validation_epoch_end = fail
    training = trainer(lightning, tmp_path)
    with pytest.raises(ArithmeticError):
        training.fit(model, data, data)

    series = carried(tmp_path / "lightning_logs", tmp_path / "lightning_logs" / "version_0")
    assert 3 == len(series["train/loss_step"])
