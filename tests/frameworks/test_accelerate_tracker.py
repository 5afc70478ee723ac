"""TraceletTracker: Accelerator(log_with=TraceletTracker(...))."""

import importlib

import numpy as np
import pytest
from frameworks.test_accelerate import CONFIG, train

import tracelet
from tracelet.records import Image, Params, Scalar, Text

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def accelerate():
    package = importlib.import_module("accelerate")
    yield package
    importlib.import_module("accelerate.state").AcceleratorState._reset_state(True)


@pytest.fixture
def tracker_class(accelerate):
    return importlib.import_module("tracelet.integrations.accelerate").TraceletTracker


def test_a_loop_is_one_run(accelerate, tracker_class, memory):
    """Begun by init_trackers, ended by end_training; what TensorBoard's tracker would write, and pictures."""
    accelerator = accelerate.Accelerator(cpu=True, log_with=tracker_class("line", project="lines", backend=memory))
    accelerator.init_trackers("lines", config=CONFIG)
    experiment = accelerator.get_tracker("tracelet", unwrap=True)
    assert experiment is tracelet.get_active_experiment()
    train(accelerator)
    accelerator.get_tracker("tracelet").log_images({"seen": np.zeros((2, 3, 4, 4)), "one": [np.ones((3, 2, 2))]}, 4)
    accelerator.end_training()

    assert tracelet.get_active_experiment() is None
    assert ("line", "lines", "finished") == (memory.run.name, memory.run.project, memory.status)
    assert [repr(CONFIG)] == [repr(dict(one.values)) for one in memory.of(Params)]
    parts = [(one.tag, one.value, one.step) for one in memory.of(Scalar) if one.tag.startswith("parts")]
    assert [(f"parts/{key}", value, step) for step in range(4) for key, value in (("a", 0.1 * step), ("b", 1))] == parts
    assert [0, 1, 2, 3] == [one.step for one in memory.of(Scalar) if one.tag == "loss"]
    assert [("phase", "early", step) for step in range(4)] == [(one.tag, one.text, one.step) for one in memory.of(Text)]
    assert ["seen/0", "seen/1", "one"] == [one.tag for one in memory.of(Image)]


def test_a_run_of_the_program_stays_the_programs(accelerate, tracker_class, memory):
    experiment = tracelet.start_logging(backend=memory)
    accelerator = accelerate.Accelerator(cpu=True, log_with=tracker_class())
    accelerator.init_trackers("lines")
    accelerator.log({"loss": 0.1}, step=1, log_kwargs={"tracelet": {"wall_time": 5.0}})
    accelerator.end_training()

    assert experiment is tracelet.get_active_experiment()
    assert experiment.flush(30)
    assert [Scalar("loss", 0.1, 1, 5.0)] == memory.records


def test_what_is_logged_after_the_end_goes_on_with_the_run(accelerate, tracker_class, memory):
    accelerator = accelerate.Accelerator(cpu=True, log_with=tracker_class(backend=memory))
    accelerator.init_trackers("lines")
    accelerator.log({"loss": 0.1}, step=1)
    accelerator.end_training()
    first = memory.run.run_id
    accelerator.log({"loss": 0.2}, step=2)
    tracelet.stop_logging()

    assert first == memory.run.run_id
    assert [0.1, 0.2] == [one.value for one in memory.of(Scalar)]


def test_other_processes_log_nothing(accelerate, tracker_class, monkeypatch):
    state = importlib.import_module("accelerate.state").PartialState
    accelerator = accelerate.Accelerator(cpu=True)
    monkeypatch.setattr(state, "is_main_process", False)
    tracker = tracker_class(mode="offline")
    tracker.start()
    tracker.store_init_configuration(CONFIG)
    tracker.log({"loss": 0.1}, 1)
    tracker.finish()
    assert accelerator is not None
    assert tracelet.get_active_experiment() is None
