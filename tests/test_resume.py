"""A run that goes on in a second process: the same runs of the backends, later steps appended, nothing sent again."""

from collections import Counter

import pytest
from backends import aim_store, clearml_store, mlflow_store, wandb_store
from backends.stores import READERS
from programs import run_program

import tracelet
from tracelet.backends.memory import MemoryBackend
from tracelet.errors import ConfigurationError, RunNotFound
from tracelet.records import Tags

PROGRAM = """
    import sys, tracelet

    backends, begin, end, resume = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "resume"
    experiment = tracelet.start_logging(
        "going on", "resume", backends, run_id="going-on", resume=resume, flush_timeout=300, connect_timeout=120
    )
    experiment.log_params({"lr": 0.1, "epochs": end, "model": {"layers": [1, 2]}})
    for step in range(begin, end):
        experiment.log_metric("loss", step / 7, step)
    experiment.stop()
    stats = experiment.stats()
    print([(name, one.delivered, one.pending, one.rejected) for name, one in sorted(stats.backends.items())])
"""
SAID = [*range(251), *range(200, 301)]

pytestmark = pytest.mark.timeout(1100)  # two programs with seven vendors each


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Two processes, one after the other, into all backends."""
    folder = tmp_path_factory.mktemp("resumed")
    places = {"TRACELET_DIR": folder / "runs", "WANDB_DIR": folder, "CLEARML_CACHE_DIR": folder / "clearml"}
    places["TRACKIO_DIR"] = folder / "trackio"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
            patch.setenv(name, str(folder))
        modes = {"WANDB_MODE": "offline", "CLEARML_OFFLINE_MODE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment = modes | {name: str(place) for name, place in places.items()}
        first = run_program(PROGRAM, ",".join(READERS), 0, 251, "begin", deadline=500, **environment)
        assert 0 == first.returncode, first.err
        assert str([(name, 252, 0, 0) for name in sorted(READERS)]) == first.out.strip(), first.err
        second = run_program(PROGRAM, ",".join(READERS), 200, 301, "resume", deadline=500, **environment)
        assert 0 == second.returncode, second.err
        assert str([(name, 354, 0, 0) for name in sorted(READERS)]) == second.out.strip(), second.err
    return folder


@pytest.mark.parametrize("backend", list(READERS))
def test_later_steps_are_appended(backend, resumed):
    """Each point of both processes once, in the order of the calls where the store keeps one."""
    found = [(step, value) for tag, step, value, _ in READERS[backend](resumed).scalars if tag == "loss"]
    expected = [(step, step / 7) for step in SAID]
    if backend == "aim":  # its sequences are sorted by step
        assert Counter(expected) == Counter(found)
    else:
        assert expected == found


@pytest.mark.parametrize("backend", list(READERS))
def test_a_parameter_takes_the_later_value(backend, resumed):
    """The same value again does no harm, and a new one wins, also where a vendor's own parameters cannot change."""
    assert {"lr": 0.1, "epochs": 301, "model.layers": [1, 2]} == dict(READERS[backend](resumed).params)


def test_it_is_one_run_everywhere(resumed):
    """No vendor has a second run."""
    assert 1 == len(list(resumed.glob("runs/*/*/csv")))
    assert 1 == len(list(resumed.glob("runs/*/*/tensorboard")))
    assert 1 == len(mlflow_store.runs(resumed / "mlflow.db"))
    assert 1 == len(aim_store.runs(resumed))
    assert 1 == len({run.id for run in wandb_store.runs(resumed)})
    tasks = {clearml_store.description(folder)["id"] for folder in clearml_store.sessions(resumed / "clearml")}
    assert 1 == len(tasks)


def test_what_cannot_be_gone_on_with_is_said():
    """No such run, a run that shall be new, and one that is still written."""
    with pytest.raises(RunNotFound, match="no run 'nowhere'"):
        tracelet.start_logging(run_id="nowhere", resume=True)
    with pytest.raises(ConfigurationError, match="resume=True needs the run_id of an existing run"):
        tracelet.start_logging(resume=True)
    running = tracelet.start_logging(run_id="here", resume=False, backend=MemoryBackend())
    running.log_metric("loss", 1)
    assert running.flush(10)
    refused = run_program(
        """
        import tracelet
        from tracelet.errors import RunInUse
        try:
            tracelet.start_logging(run_id="here", resume=True)
        except RunInUse:
            print("refused")
        """
    )
    assert "refused\n" == refused.out, refused.err
    running.stop()
    with pytest.raises(ConfigurationError, match="resume=False needs a new run_id"):
        tracelet.start_logging(run_id="here", resume=False)


def test_a_resumed_run_keeps_its_description(caplog):
    """What is ignored is said; new tags are added."""
    tracelet.start_logging("first", run_id="here", tags=["a"], notes="why").stop()
    memory = MemoryBackend()
    with tracelet.start_logging(
        "second", run_id="here", tags=["a", "b"], notes="why", group="g", backend=memory
    ) as run:
        assert "first" == run.name
    assert "run here is resumed and keeps its own name and group" in caplog.text
    assert [("b",)] == [record.tags for record in memory.records if isinstance(record, Tags)]


def test_a_folder_that_cannot_be_is_refused():
    with pytest.raises(ConfigurationError, match="dir must not contain a NUL character"):
        tracelet.start_logging(dir="a\0b")


def test_a_run_is_not_resumed_twice_at_once():
    """In one process the second start ends the first, and goes on where that was."""
    memory = MemoryBackend()
    tracelet.start_logging(run_id="here").log_metric("loss", 1)
    second = tracelet.start_logging(run_id="here", backend=memory, resume=True)
    second.log_metric("loss", 2)
    assert second.flush(10)
    assert [1.0, 2.0] == [one.value for one in memory.records]
