"""The program's wandb, in a session of its own for each test, and a run that captures it."""

import importlib

import pytest

import tracelet
from tracelet.records import Scalar, Text


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    """wandb in offline mode below `tmp_path`; what it holds in this process is given back at the end."""
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    module = importlib.import_module("wandb")
    module.teardown()
    # wandb numbers watched models in a process, and puts the number into their names.
    monkeypatch.setattr(importlib.import_module("wandb.sdk.wandb_watch"), "_global_watch_idx", 0)
    yield module
    module.teardown()
    importlib.import_module("wandb.sdk.lib.module").unset_globals()


@pytest.fixture
def captured(wandb, memory):
    """A run that captures wandb and delivers to `memory`."""
    return tracelet.start_logging(backend=memory, capture=["tensorboard", "wandb"])


@pytest.fixture
def points(captured, memory):
    """`points()`: (tag, value, step) of each scalar and text that was logged so far."""

    def found():
        assert captured.flush(30)
        values = {Scalar: lambda record: record.value, Text: lambda record: record.text}
        return [
            (record.tag, values[type(record)](record), record.step)
            for record in memory.records
            if type(record) in values
        ]

    return found
