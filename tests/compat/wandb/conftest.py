"""No run of the facade outlives its test, and wandb's variables are those of the test."""

import pytest

import tracelet.compat.wandb as wandb
from tracelet.journal.store import JournalReader


@pytest.fixture(autouse=True)
def _finished(_nothing_left, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_DIR")
    yield
    wandb.teardown()
    assert wandb.run is None


@pytest.fixture
def journal():
    """`journal(run, *kinds)`: the records of a finished run, of these kinds."""

    def read(run, *kinds):
        run.finish()
        with JournalReader(run._experiment.folder) as reader:
            return [record for record in reader.records() if not kinds or isinstance(record, kinds)]

    return read


@pytest.fixture
def points(journal):
    """`points(run)`: (key, step, value) of all numbers."""
    from tracelet.records import Scalar

    return lambda run: [(one.tag, one.step, one.value) for one in journal(run, Scalar)]
