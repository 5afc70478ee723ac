"""Event files become what live capture of the same program would have recorded."""

import importlib

import numpy as np
import pytest
from capture.tensorboard.calls import CALLS, make, public_methods
from event_files import as_in_files, imported, records
from support import WRITER_MODULES

import tracelet
from tracelet.importer import import_run
from tracelet.records import Embedding, Params, Scalar, Table


@pytest.fixture
def both(tmp_path):
    """`both(program)`: the records of the program while it runs, and of its event files in `tmp_path/logs`."""

    def run(program):
        with tracelet.start_logging(root_logdir=tmp_path / "logs", dir=tmp_path / "live") as live:
            program(str(tmp_path / "logs"))
        files = imported(tmp_path / "logs", tmp_path / "imported")
        return [as_in_files(one) for one in records(live.folder)], [as_in_files(one) for one in files]

    return run


@pytest.mark.parametrize("name", CALLS)
def test_each_method_is_imported_as_it_is_captured(name, lib, tmp_path, both):
    """Kind, name, writer, payload, step and time of every public method of both libraries."""
    if name not in public_methods(lib):
        pytest.skip(f"{lib.name} has no {name}")

    def program(logs):
        with lib.SummaryWriter(logs) as writer:
            make(name, writer, tmp_path)

    captured, files = both(program)
    assert captured == files
    assert captured


def test_a_program_is_imported_in_its_order(lib, both):
    """Across all of its folders, as the clock had it."""

    def program(logs):
        with lib.SummaryWriter(logs) as train, lib.SummaryWriter(f"{logs}/val") as val:
            for step in range(40):
                train.add_scalar("loss", 1 / (step + 1), step)
                train.add_scalars("both", {"a": 0.1, "b": float(step)}, step)
                val.add_scalar("loss", float("nan") if step == 3 else step / 7, step)
                train.add_histogram("h", np.arange(step + 2.0), step)
                if step % 10 == 0:
                    val.add_text("note", f"step {step}", step)
            train.add_hparams({"lr": 0.1, "layers": 3, "name": "net"}, {"acc": 0.9})
            val.add_hparams({"lr": 0.2}, {"acc": 0.8}, None, None)

    # The values in the table of trials are those of the call, or of the file.
    captured, files = ([one for one in found if not isinstance(one, Table)] for found in both(program))
    assert [*map(repr, captured)] == [*map(repr, files)]
    assert {"loss", "val/loss", "both/a", "both/b", "h", "val/note", "hparams/acc", "val/hparams/acc"} == {
        one.tag for one in files if not isinstance(one, Params)
    }


# Without a key that ends in "/", or has two in a row: a path has no empty part.
HOSTILE = ["plain/tag", "a b", "ünï/cödé", "\U0001f680", "..", "a_b_c", "x/y", "%2f", "1795343688.98", "val/loss", "-"]


def test_hostile_tags_are_imported_as_torch_captures_them(both):
    """torch writes tags as they are. Those of add_scalars make folders, which are told from a writer's own."""
    from torch.utils.tensorboard import SummaryWriter

    def program(logs):
        with SummaryWriter(logs) as writer, SummaryWriter(f"{logs}/val") as val:
            for number, tag in enumerate(HOSTILE):
                writer.add_scalar(tag, 0.5, number)
                writer.add_text(tag, "words", number)
                writer.add_scalars(f"m {tag}", {"k": 0.5, f"v {tag}": 0.25, "k/1": 0.125}, number)
                val.add_scalar(tag, 0.5, number)
            writer.add_embedding(np.eye(3), tag="50%/a\\b", global_step=-2)

    captured, files = both(program)
    assert captured == sorted(files, key=lambda one: isinstance(one, Embedding))  # its time is that of a file


def test_hostile_tags_are_imported_as_tensorboardx_wrote_them(both):
    """What tensorboardX replaced in a tag stays replaced; add_scalars' folders have the tag as the program wrote it."""
    from tensorboardX import SummaryWriter

    def program(logs):
        with SummaryWriter(logs) as writer:
            for tag in ("loss (train)", "a@5", "x y"):
                writer.add_scalar(tag, 0.5, 1)
                writer.add_scalars(tag, {"k 1": 0.5, "k/2": 0.25}, 1)

    captured, files = both(program)
    expected = ["loss__train_", "loss (train)/k 1", "loss (train)/k/2", "a_5", "a@5/k 1", "a@5/k/2"]
    assert [*expected, "x_y", "x y/k 1", "x y/k/2"] == [one.tag for one in files]
    assert [one.value for one in captured] == [one.value for one in files]


def test_series_that_want_one_name_get_the_names_of_the_live_run(lib, both):
    """The first in time has the name, in whichever file it stands."""

    def program(logs):
        with lib.SummaryWriter(logs) as writer, lib.SummaryWriter(f"{logs}/val") as val:
            writer.add_scalar("first", 0.5, 0)
            val.add_scalar("loss", 0.5, 0)
            writer.add_scalar("val/loss", 0.5, 1)
            writer.add_scalars("val", {"loss": 0.5}, 1)

    captured, files = both(program)
    assert ["first", "val/loss", ".//val/loss", ".//val//loss"] == [one.tag for one in captured]
    assert captured == files


@pytest.mark.parametrize("folder", ["exp/train", "exp"])
@pytest.mark.parametrize("parts", [["train"], ["train", "val"], ["val", "train"]])
def test_parts_of_a_job_are_imported_as_they_are_captured(lib, tmp_path, folder, parts):
    """No root is given, and the folder of one part is imported, or the one above."""
    with tracelet.start_logging(dir=tmp_path / "live") as live:
        writers = [lib.SummaryWriter(str(tmp_path / "exp" / part)) for part in parts]
        for writer in writers:
            writer.add_scalar("loss", 0.5, 1)
            writer.close()
    names = [one.tag for one in records(live.folder) if folder == "exp" or one.writer == "train"]
    assert sorted(names) == sorted(one.tag for one in imported(tmp_path / folder, tmp_path / "runs"))
    assert "train/loss" in names


def test_splits_without_a_writer_above_are_namespaces(lib, tmp_path):
    """The experiment's folder is the root."""
    for name in ("train", "val"):
        with lib.SummaryWriter(str(tmp_path / "exp" / name)) as writer:
            writer.add_scalar("loss", 0.5, 1)
    found = imported(tmp_path / "exp", tmp_path / "runs")
    assert [("train/loss", "train"), ("val/loss", "val")] == sorted((one.tag, one.writer) for one in found)


def test_a_folder_that_only_looks_like_one_of_add_scalars_is_a_writers(tmp_path):
    """`loss_val` with `loss` and `accuracy` in it was made by a person."""
    for module in WRITER_MODULES.values():
        writer_class = importlib.import_module(module).SummaryWriter
        logs = tmp_path / module
        with writer_class(str(logs)) as writer, writer_class(str(logs / "loss_val")) as val:
            writer.add_scalar("loss", 0.5, 1)
            val.add_scalar("loss", 0.5, 1)
            val.add_scalar("accuracy", 0.5, 1)
        found = imported(logs, tmp_path / "runs")
        assert ["loss", "loss_val/loss", "loss_val/accuracy"] == [one.tag for one in found]


@pytest.mark.filterwarnings("ignore")
def test_lightning_is_imported_as_it_is_captured(tmp_path):
    """Each version of its logger is a run; what its Trainer logged by itself is in it."""
    import lightning
    import torch

    class Line(lightning.LightningModule):
        def __init__(self, lr=0.1, layers=1, bias=True):
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch, index):
            loss = self.layer(batch).square().mean()
            self.log("train/loss", loss, on_step=True, on_epoch=True)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    logger = lightning.pytorch.loggers.TensorBoardLogger(tmp_path, name="lightning_logs")
    version = tmp_path / "lightning_logs" / "version_0"
    with tracelet.start_logging(root_logdir=version, dir=tmp_path / "live") as live:
        trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", log_every_n_steps=1, logger=logger, **quiet)
        trainer.fit(Line(), torch.utils.data.DataLoader(torch.ones(6, 2), batch_size=2))
        logger.log_metrics({"both": {"a": 0.1, "b": 0.2}}, step=9)
        logger.finalize("success")
        logger.experiment.close()
    captured = [as_in_files(one) for one in records(live.folder)]
    files = imported(version, tmp_path / "runs")
    assert captured == [as_in_files(one) for one in files]
    assert {"train/loss_step", "train/loss_epoch", "epoch", "hp_metric", "both/a", "both/b"} == {
        one.tag for one in files if isinstance(one, Scalar)
    }


def test_what_a_run_is_called_and_when_it_was(lib, tmp_path):
    """Name, project, times and root of an imported run; its id sorts with the others by its start."""
    with lib.SummaryWriter(str(tmp_path / "exp")) as writer:
        writer.add_scalar("loss", 0.5, 1)
        writer.add_scalar("loss", 0.5, 2, 2e9)
    done = import_run(tmp_path / "exp", base=tmp_path / "runs", project="digits", name="sweep/exp")
    with tracelet.journal.store.JournalReader(done.folder) as reader:
        info, facts, found = reader.info(), reader.facts(), list(reader.records())
    assert ("sweep/exp", "digits", str(done.folder)) == (info.name, info.project, info.folder)
    assert tmp_path / "runs" / "digits" / info.run_id == done.folder
    assert 0 <= found[0].wall_time - info.created < 60
    assert (str(tmp_path / "exp"), "finished", 0, 2e9) == tuple(
        facts[key] for key in ("root", "status", "exit_code", "ended")
    )
    assert (2, 1, ()) == (done.records, done.series, done.damage)
