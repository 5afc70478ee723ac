"""What `wandb.log` is told: names, values and steps, as in wandb's own store."""

import signal
import threading

import numpy as np
import pytest
from backends import wandb_store

import tracelet
from tracelet.records import Params, Scalar, Tensor


def stored(tmp_path, wandb):
    """(key, value, step) of each plain value in the only wandb run."""
    wandb.teardown()
    rows = wandb_store.only(tmp_path).rows
    return [(key, value, row["_step"]) for row in rows for key, value in row.items() if not key.startswith("_")]


def test_steps_are_those_of_wandbs_rows(wandb, points, tmp_path):
    """Counted, explicit, held open, and continued from an explicit one: every point has the step of its row."""
    with wandb.init() as run:
        run.log({"a": 0.0})
        wandb.log({"a": 1.0}, commit=False)
        wandb.log({"b": 1.5})
        run.log({"a": 2.0}, step=7)
        run.log({"b": 2.5}, step=7)
        run.log({"a": 3.0})  # joins the open row 7
        run.log({"a": 4.0})
        run.log({"a": 5.0}, step=np.int64(20), commit=True)
        run.log({"a": 6.0})
        run.log({}, step=30)
        run.log({"a": 7.0}, commit=True)

    found = points()
    # Row 7 has "a" twice: wandb keeps the later one.
    assert ("a", 2.0, 7) in found
    assert sorted(stored(tmp_path, wandb)) == sorted(set(found) - {("a", 2.0, 7)})


def test_a_step_that_goes_back_is_recorded(wandb, points, tmp_path):
    """wandb drops it with a warning; the program said it, so it is kept with its step. The count does not change."""
    with wandb.init() as run:
        run.log({"a": 1.0}, step=5)
        run.log({"a": 2.0}, step=3, commit=True)
        run.log({"b": 3.0})

    assert [("a", 1.0, 5), ("a", 2.0, 3), ("b", 3.0, 5)] == points()
    assert {("a", 1.0, 5), ("b", 3.0, 5)} == set(stored(tmp_path, wandb))


def test_names_of_nested_dicts(wandb, points):
    """`outer.inner`, as on wandb's charts. A key with that name is another series."""
    with wandb.init() as run:
        row = {"val": {"loss": 1.0, "deep": {"acc": 2}}, "val.loss": 3.0, "empty": {}}
        run.log(row)
        run.log(row)

    first = [("val.loss", 1.0, 0), ("val.deep.acc", 2.0, 0), ("wandb/val.loss", 3.0, 0), ("empty", "{}", 0)]
    assert first + [(tag, value, 1) for tag, value, _ in first] == points()
    assert {"val": {"loss": 1.0, "deep": {"acc": 2}}, "val.loss": 3.0, "empty": {}} == row


def test_plain_values(wandb, points, memory):
    """Numbers of every kind as float64, words and None as text, lists as JSON, arrays as they are."""
    import torch

    row = {
        "int": 3,
        "huge": 10**400,
        "numpy": np.float32(0.1),
        "one": np.array([[2.0]]),
        "tensor": torch.tensor(0.25, requires_grad=True),
        "half": torch.tensor(1.5, dtype=torch.bfloat16),
        "flag": True,
        "nan": float("nan"),
        "text": "words \u2028",
        "nothing": None,
        "list": [1, 2.5, "x"],
        "_step": 99,
        "_runtime": 1,
    }
    with wandb.init() as run:
        run.log(row)
        run.log({"array": np.arange(6, dtype=np.int32).reshape(2, 3), "vector": torch.ones(40), "_timestamp": 5.0})

    found = {tag: value for tag, value, _ in points()}
    assert np.isnan(found.pop("nan"))
    assert {
        "int": 3.0,
        "huge": str(10**400),
        "numpy": float(np.float32(0.1)),
        "one": 2.0,
        "tensor": 0.25,
        "half": 1.5,
        "flag": 1.0,
        "text": "words \u2028",
        "nothing": "None",
        "list": '[1, 2.5, "x"]',
    } == found
    array, vector = memory.of(Tensor)
    assert ("int32", (2, 3), 5.0) == (array.dtype, array.shape, array.wall_time)
    assert np.arange(6, dtype="<i4").tobytes() == memory.data(array.data)
    assert np.ones(40, "<f4").tobytes() == memory.data(vector.data)


def test_a_call_that_raises_records_nothing(wandb, points):
    """wandb's own errors come through, before init as well, and what they are about does not arrive."""
    with pytest.raises(wandb.errors.Error, match=r"must call wandb.init"):
        wandb.log({"a": 1.0})
    with wandb.init() as run:
        with pytest.raises(TypeError, match="must be passed a dictionary"):
            run.log([1.0])
        with pytest.raises(TypeError, match="must be strings"):
            run.log({1: 1.0})
        with pytest.raises(TypeError, match="not JSON serializable"):
            run.log({"a": 1.0, "b": object()})
        with pytest.raises(TypeError):
            run.log({"a": 1.0}, unknown=3)
        run.log({"a": 2.0})
    with pytest.raises(wandb.errors.UsageError, match="is finished"):
        run.log({"a": 3.0})

    assert [("a", 2.0, 0)] == points()


def test_axes_of_define_metric_are_the_steps(wandb, points):
    """The last whole value of `step_metric` is the step, also its own; a fraction leaves the row's."""
    with wandb.init() as run:
        run.define_metric("own")
        run.define_metric("*", step_metric="global", step_sync=True)
        run.define_metric("late", step_metric=run.define_metric("epoch"))
        run.log({"loss": 1.0, "global": 100})
        run.log({"loss": 2.0, "own": 2.0})
        run.log({"late": 3.0, "epoch": np.int64(4), "global": 200, "part": {"x": 5.0}})
        run.log({"late": 4.0, "epoch": 4.5})

    assert [
        ("loss", 1.0, 100),
        ("global", 100.0, 100),
        ("loss", 2.0, 100),
        ("own", 2.0, 1),
        ("late", 3.0, 4),
        ("epoch", 4.0, 4),
        ("global", 200.0, 200),
        ("part.x", 5.0, 200),
        ("late", 4.0, 3),
        ("epoch", 4.5, 3),
    ] == points()


def test_a_value_on_a_device_is_read_once(wandb, points, monkeypatch):
    """The number that wandb read is the number that is recorded: no second wait for the device."""

    class Tensor:
        """Quacks like a tensor on a GPU."""

        device = type("device", (), {"type": "cuda"})
        dtype, requires_grad, reads = "float32", False, 0

        @property
        def data(self):
            return self

        def size(self):
            return ()

        def item(self):
            Tensor.reads += 1
            return 0.5

    Tensor.__module__ = "torch"
    with wandb.init() as run:
        run.log({"loss": Tensor(), "nested": {"loss": Tensor()}, "cpu": 1.0})

    assert [("loss", 0.5, 0), ("nested.loss", 0.5, 0), ("cpu", 1.0, 0)] == points()
    assert 2 == Tensor.reads


def test_random_generators_are_left_alone(wandb, points):
    """The state of each is the one that wandb alone leaves: untouched."""
    import random

    import torch

    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    with wandb.init() as run:
        run.log({"loss": 0.5, "picture": wandb.Image(np.zeros((2, 2, 3), np.uint8))})
        before = states()
        run.log({"loss": 1.5, "table": wandb.Table(columns=["x"], data=[[1]]), "h": wandb.Histogram([1, 2])})
        run.config.update({"lr": 1})
        assert before == states()
    assert ("loss", 1.5, 1) in points()


def test_several_runs_share_one(wandb, captured, points, memory):
    """The first has bare names, each later one its name or id before them, also with runs side by side."""
    with wandb.init(name="first", config={"lr": 1}) as run:
        run.log({"loss": 1.0})
    with wandb.init(id="abc", config={"lr": 2}) as run:
        run.log({"loss": 2.0})
        with wandb.init(name="first", id="xyz", reinit="create_new") as other:
            other.log({"loss": 3.0})
            run.log({"loss": 4.0})
    with wandb.init(id="abc", resume="allow") as run:
        run.log({"loss": 5.0})

    later = [(tag, value) for tag, value, _ in points()]
    assert [("loss", 1.0), ("abc/loss", 2.0), ("first/loss", 3.0), ("abc/loss", 4.0), ("abc/loss", 5.0)] == later
    params = {name: value for record in memory.of(Params) for name, value in record.values.items()}
    assert (1, 2, "xyz") == (params["lr"], params["abc/lr"], params["first/wandb.id"])


def test_a_tag_of_a_writer_is_another_series(wandb, captured, points, tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "logs")) as writer, wandb.init() as run:
        writer.add_scalar("loss", 1.0, 0)
        run.log({"loss": 2.0})
        writer.add_scalar("loss", 3.0, 1)

    assert [("loss", 1.0, 0), ("wandb/loss", 2.0, 0), ("loss", 3.0, 1)] == points()


@pytest.mark.parametrize("threads", [4])
def test_threads(wandb, points, threads):
    """Every point of every thread arrives once."""
    with wandb.init() as run:

        def work(number):
            for step in range(50):
                run.log({f"t{number}": float(step)})

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    expected = sorted((f"t{number}", float(step)) for number in range(threads) for step in range(50))
    assert expected == sorted((tag, value) for tag, value, _ in points())


def test_a_signal_handler_may_log(wandb, points):
    """A handler that logs while the program logs cannot deadlock on a lock of ours."""
    with wandb.init() as run:
        recorder_calls = []

        def handler(number, frame):
            tracelet.get_active_experiment()._interceptor._interceptors[-1]._recorder.after(run, {"s": 1.0}, None, None)
            recorder_calls.append(number)

        before = signal.signal(signal.SIGUSR1, handler)
        try:
            for step in range(20):
                run.log({"loss": float(step)})
                signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)

    assert 20 == len(recorder_calls) == len([1 for tag, *_ in points() if tag == "s"])


def test_what_the_program_logs_to_the_run_itself_stays_apart(wandb, captured, memory):
    """`experiment.log_metric` and `wandb.log` of the same name are two series."""
    with wandb.init() as run:
        captured.log_metric("loss", 1.0, 0)
        run.log({"loss": 2.0})
    captured.stop()
    assert [("loss", 1.0), ("wandb/loss", 2.0)] == [(record.tag, record.value) for record in memory.of(Scalar)]
