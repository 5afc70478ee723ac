"""Trainings as others write them, under `tracelet run`, unchanged: what their event files hold, backends hold."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from backends import csv_store
from frameworks.event_compare import PARAMS, in_files, in_memory
from programs import DEADLINE, ending, the_run

from tracelet.journal.store import JournalReader
from tracelet.records import Params, Scalar, shown_step

SCRIPTS = Path(__file__).parent


class Journalled:
    """The run that a program left, as `in_memory` reads it."""

    def __init__(self):
        self.folder = the_run()
        with JournalReader(self.folder) as reader:
            self.records = list(reader.records())

    def of(self, kind):
        return [record for record in self.records if isinstance(record, kind)]

    def csv(self):
        return csv_store.stored(self.folder / "csv")


def run(script, *arguments, launcher=("-m", "tracelet", "run", "--backend", "csv")):
    """(stdout, stderr) of a script, which ended well."""
    done = subprocess.run(
        [sys.executable, *launcher, str(SCRIPTS / script), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        timeout=2 * DEADLINE,  # torch is imported once more in each worker
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout, done.stderr


def compare(base, root):
    """The names in the event files below `base`, once journal and csv were found to hold exactly those series."""
    expected, found = in_files(base, root, {}), Journalled()
    assert ("finished", 0) == ending(found.folder)
    assert expected
    told = in_memory(found)
    assert sorted(expected) == sorted(told)
    for name, points in expected.items():
        assert points == told[name], name
    stored = found.csv()
    scalars = [(one.tag, shown_step(one.step), one.value, one.wall_time) for one in found.of(Scalar)]
    assert list(map(repr, scalars)) == list(map(repr, stored.scalars))
    params = {name: value for one in found.of(Params) for name, value in one.values.items()}
    assert repr(sorted(params.items())) == repr(sorted(stored.params.items()))
    return {name for name in expected if name != PARAMS}, params


@pytest.mark.parametrize(("epochs", "workers"), [(3, 0), (1, 1)])
def test_argparse_and_a_summary_writer(epochs, workers):
    """The same output, the same event files, and all of them in the run; `--backend` behind the script is its own."""
    arguments = ("--epochs", str(epochs), "--backend", "nccl", "--workers", str(workers))
    plain = run("train_argparse.py", *arguments, "--logdir", "plain", launcher=())
    assert plain == run("train_argparse.py", *arguments, "--logdir", "logs")
    names, _ = compare("logs", "logs")
    assert {"train/loss", "val/loss", "train/weight", "train/command"} == names
    series = [
        {name: [point[3] for point in points] for name, points in in_files(base, base, {}).items()}
        for base in ("plain", "logs")
    ]
    for one, base in zip(series, ("plain", "logs"), strict=True):
        one["train/command"] = [text.replace(base, "") for text in one["train/command"]]
    assert series[0] == series[1]


def test_the_command_line_of_lightning():
    """Its default logger, with hyper-parameters, and the arguments of its own command line."""
    pytest.importorskip("jsonargparse")
    arguments = ("fit", "--model.lr=0.05", "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1")
    arguments += ("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.enable_progress_bar=false")
    arguments += ("--trainer.enable_checkpointing=false", "--trainer.default_root_dir=.")
    run("train_lightning_cli.py", *arguments, "--data.batch_size=3")
    names, params = compare("lightning_logs", "lightning_logs/version_0")
    assert {"train/loss_step", "train/loss_epoch", "val/loss", "epoch", "hp_metric"} == names
    assert {"lr": 0.05, "layers": 1} == {name: params[name] for name in ("lr", "layers")}
