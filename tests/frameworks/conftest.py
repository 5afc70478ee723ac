"""A run beside a framework's training, the comparison at its end, and no way to a model hub."""

import os

import pytest
from backends import csv_store
from frameworks.event_compare import PARAMS, in_files, in_memory

import tracelet
from tracelet.records import Params, Scalar, shown_step

_OFF = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")


@pytest.fixture(autouse=True)
def _alone(_isolated, tmp_path, monkeypatch):
    """No hub is asked, no device but the processor is used, and the packages keep their files below `tmp_path`."""
    for name in [name for name in os.environ if name.startswith(("HF_", "ACCELERATE_", "TENSORBOARD_"))]:
        monkeypatch.delenv(name)
    for name in _OFF:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def experiment(memory):
    """The one line of tracelet above a framework's code."""
    return tracelet.start_logging(backend=[memory, "csv"])


@pytest.fixture
def carried(experiment, memory):
    """`carried(base, root, members)`: the series of the event files below `base`, all of which both backends have."""

    def compare(base, root, members=None):
        experiment.stop()
        expected, found = in_files(base, root, members or {}), in_memory(memory)
        assert expected
        assert sorted(expected) == sorted(found)
        for name, points in expected.items():
            assert points == found[name], name
        _compare_csv(experiment, memory)
        return {name: [point[1:] for point in points] for name, points in expected.items() if name != PARAMS}

    return compare


def _compare_csv(experiment, memory):
    stored = csv_store.stored(experiment.folder / "csv")
    scalars = [(one.tag, shown_step(one.step), one.value, one.wall_time) for one in memory.of(Scalar)]
    assert list(map(repr, scalars)) == list(map(repr, stored.scalars))
    params = {}
    for one in memory.of(Params):
        params |= one.values
    # By repr: 1 == 1.0 == True.
    assert repr(sorted(params.items())) == repr(sorted(stored.params.items()))


@pytest.fixture
def params(memory):
    """`params()`: all hyper-parameters that arrived, the later value of a name."""

    def merged():
        tracelet.stop_logging()
        return {name: value for one in memory.of(Params) for name, value in one.values.items()}

    return merged
