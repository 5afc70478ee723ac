"""log_params: whatever people keep settings in, as dotted names and plain values; it never loses one, and never raises
for a value."""

import argparse
import csv
import dataclasses
import enum
import json
import math
import types
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

import tracelet
from tracelet.records import Params


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Optimizer:
    lr: float = 0.1
    betas: tuple = (0.9, 0.999)


@dataclasses.dataclass
class Model:
    dropout: float = 0.5
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)


class Odd:
    def __str__(self):
        return "an odd one"


class Speechless:
    def __str__(self):
        raise ValueError("no words")


@dataclasses.dataclass
class Tree:
    child: object = None


def of_itself(kind):
    """A thing that holds itself."""
    match kind:
        case "dict":
            found = {"a": 1}
            found["me"] = found
        case "list":
            found = [1]
            found.append([found, 2])
        case "dataclass":
            found = Tree()
            found.child = [found]
        case "namespace":
            found = argparse.Namespace()
            found.me = found
    return found


SHARED = [1, 2]
META = torch.empty(2, device="meta")
SPARSE = torch.eye(2).to_sparse()
LONG = "x" * 20_000

CASES = {
    "nested": ({"model": {"encoder": {"layers": 3}}}, {"model.encoder.layers": 3}),
    "dotted keys": ({"git.commit": "abc"}, {"git.commit": "abc"}),
    "lists stay": ({"sizes": [784, 128, 64, 10]}, {"sizes": [784, 128, 64, 10]}),
    "tuples": ({"betas": (0.9, 0.999)}, {"betas": [0.9, 0.999]}),
    "sets": ({"tags": {"b", "a"}}, {"tags": ["a", "b"]}),
    "none": ({"seed": None}, {"seed": None}),
    "bools": ({"debug": True}, {"debug": True}),
    "empty dict": ({"options": {}}, {"options": {}}),
    "keys that are no str": ({1: "one", None: "none", (2, 3): "pair"}, {"1": "one", "None": "none", "(2, 3)": "pair"}),
    "numpy scalars": ({"a": np.float32(0.5), "b": np.int64(7), "c": np.bool_(True)}, {"a": 0.5, "b": 7, "c": True}),
    "numpy array": ({"a": np.arange(3), "b": np.array(2.5)}, {"a": [0, 1, 2], "b": 2.5}),
    "tensors": ({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3)}, {"a": [1.0, 2.0], "b": 3}),
    "path": ({"data": Path("a/b"), "pure": PurePosixPath("/x")}, {"data": "a/b", "pure": "/x"}),
    "dataclass inside": ({"model": Model()}, {"model.dropout": 0.5, "model.optimizer.lr": 0.1,
                                              "model.optimizer.betas": [0.9, 0.999]}),
    "dataclass": (Optimizer(), {"lr": 0.1, "betas": [0.9, 0.999]}),
    "namespace": (argparse.Namespace(lr=0.1, model=argparse.Namespace(depth=2)), {"lr": 0.1, "model.depth": 2}),
    "mapping": (types.MappingProxyType({"lr": 0.1}), {"lr": 0.1}),
    "enum": ({"color": Color.RED, "level": Level.HIGH}, {"color": "red", "level": 3}),
    "long text": ({"prompt": LONG}, {"prompt": LONG}),
    "big ints": ({"seed": 2**63, "small": -(2**63), "huge": 10**30},
                 {"seed": str(2**63), "small": -(2**63), "huge": str(10**30)}),
    "lone surrogate": ({"name \ud800": "value \udfff"}, {"name \\ud800": "value \\udfff"}),
    "bytes": ({"raw": b"abc\xff"}, {"raw": "abc\\xff"}),
    "an object": ({"odd": Odd()}, {"odd": "an odd one"}),
    "a class": ({"loss": Odd}, {"loss": str(Odd)}),
    "classes of numpy and torch": ({"a": np.float32, "b": torch.Tensor, "c": [np.ndarray]},
                                   {"a": str(np.float32), "b": str(torch.Tensor), "c": [str(np.ndarray)]}),
    "a dataclass itself": ({"model": Model}, {"model": str(Model)}),
    "tensors that are no lists": ({"meta": META, "sparse": SPARSE}, {"meta": str(META), "sparse": str(SPARSE)}),
    "no words": ({"it": Speechless(), Odd(): 1}, {"it": "Speechless", "an odd one": 1}),
    "a dict in itself": ({"it": of_itself("dict")}, {"it.a": 1, "it.me": "..."}),
    "a list in itself": ({"it": of_itself("list")}, {"it": [1, ["...", 2]]}),
    "a dataclass in itself": ({"it": of_itself("dataclass")}, {"it.child": ["..."]}),
    "a namespace in itself": (of_itself("namespace"), {"me": "..."}),
    "the same twice": ({"a": SHARED, "b": [SHARED, SHARED]}, {"a": [1, 2], "b": [[1, 2], [1, 2]]}),
    "more digits than Python spells": ({"it": 2**20_000}, {"it": hex(2**20_000)}),
    "device and dtype": ({"device": torch.device("cpu"), "dtype": torch.float32}, {"device": "cpu",
                                                                                   "dtype": "torch.float32"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_people_keep_settings_in(case, experiment, records):
    """The names are dotted, the values plain, and both come back from the journal as they went in."""
    given, expected = CASES[case]
    experiment.log_params(given)
    (record,) = records()
    assert isinstance(record, Params)
    assert expected == dict(record.values)
    assert [type(value) for value in expected.values()] == [type(value) for value in record.values.values()]


def test_floats_that_are_no_numbers(experiment, records):
    """NaN and the infinities stay what they are."""
    experiment.log_params({"nan": float("nan"), "up": float("inf"), "down": -np.inf})
    (record,) = records()
    assert math.isnan(record.values["nan"])
    assert (math.inf, -math.inf) == (record.values["up"], record.values["down"])


@pytest.mark.parametrize("kind", [np.float64, np.longdouble, np.float16, type("Own", (float,), {})])
def test_floats_of_other_classes_are_encoded(kind, experiment, records):
    """A journal can hold floats and texts only; one such value must not cost the other parameters."""
    experiment.log_params({"lr": kind(0.5), "inside": [{"deep": kind(0.5)}], "other": 1})
    experiment.summary["best"] = kind(0.5)
    stored, summary = records()
    assert [0.5, 0.5, 0.5] == [
        float(stored.values["lr"]),
        float(stored.values["inside"][0]["deep"]),
        float(summary.values["best"]),
    ]
    assert 1 == stored.values["other"]


def test_the_later_value_wins():
    """A name may be given again, in another form, in another call, after a resume; csv shows the last."""
    experiment = tracelet.start_logging(backend="csv")
    experiment.log_params({"lr": 0.1, "model": {"depth": 2}})
    experiment.log_params({"lr": 0.2})
    experiment.log_params({"model.depth": 3})
    experiment.stop()
    experiment = tracelet.start_logging(backend="csv", run_id=experiment.run_id)
    experiment.log_params({"final_loss": 0.01, "lr": 0.3})
    experiment.stop()
    config = json.loads((experiment.folder / "csv" / "config.json").read_text())
    assert {"lr": 0.3, "model.depth": 3, "final_loss": 0.01} == config


def test_values_are_copied(experiment, records):
    """What the program changes after the call does not change what was said."""
    sizes, nested = [1, 2], {"a": 1}
    array, tensor = np.zeros(2), torch.zeros(2)
    experiment.log_params({"sizes": sizes, "nested": nested, "array": array, "tensor": tensor})
    sizes.append(3)
    nested["a"] = 2
    array += 7
    tensor += 7
    (record,) = records()
    assert {"sizes": [1, 2], "nested.a": 1, "array": [0, 0], "tensor": [0, 0]} == dict(record.values)


@pytest.mark.parametrize("wrong", [5, "lr=0.1", [("lr", 0.1)], None])
def test_what_holds_no_params_is_refused(wrong, experiment):
    """A thing without names is the caller's mistake, said at once."""
    with pytest.raises(tracelet.TraceletError, match="log_params: parameters must be a dict, dataclass or Namespace"):
        experiment.log_params(wrong)


def test_what_is_too_deep_is_refused(experiment):
    deep = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(tracelet.TraceletError, match="nested too deeply"):
        experiment.log_params({"deep": deep})


def test_many_params(experiment, records):
    """A thousand parameters of a kilobyte each."""
    experiment.log_params({f"p{number}": "v" * 1000 for number in range(1000)})
    (record,) = records()
    assert 1000 == len(record.values)


def test_generators_are_left_alone(experiment):
    """No method draws from the program's random numbers."""
    import random

    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    experiment.log_params({"a": np.arange(3)})
    experiment.log_histogram("h", np.arange(10.0))
    experiment.log_metric("loss", 1)
    assert experiment.flush(10)
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_names_are_the_same_in_the_csv(experiment):
    """`model.dropout` is the name everywhere."""
    experiment.stop()
    running = tracelet.start_logging(backend="csv")
    running.log_params({"model": {"dropout": 0.1}})
    running.log_metrics({"train/loss": 0.5, "lr": 0.1}, 3)
    running.stop()
    assert {"model.dropout": 0.1} == json.loads((running.folder / "csv" / "config.json").read_text())
    with open(running.folder / "csv" / "scalars.csv", newline="") as file:
        assert [("train/loss", "3", "0.5"), ("lr", "3", "0.1")] == [
            (row["tag"], row["step"], row["value"]) for row in csv.DictReader(file)
        ]


# Hostile values.


class Boom(Exception):
    """An error that no list of expected errors contains."""


class Hostile:
    """Each of its methods raises."""

    def __getattr__(self, name):
        raise Boom(name)

    def __str__(self):
        raise Boom("str")

    __repr__ = __str__

    def __float__(self):
        raise Boom("float")

    def __array__(self, *_):
        raise Boom("array")


class HostileMapping(dict):
    def items(self):
        raise Boom("items")


class HostileClass:
    @property
    def __class__(self):
        raise Boom("class")


@pytest.mark.parametrize(
    "make", [Hostile, lambda: HostileMapping(a=1), HostileClass, lambda: {Hostile(): 1}, lambda: [{Hostile()}]]
)
def test_a_hostile_value_costs_only_itself(make, experiment, records):
    """A value whose methods raise becomes some text; the parameters beside it stay."""
    experiment.log_params({"before": 1, "hostile": make(), "after": 2})
    (record,) = records()
    assert (1, 2) == (record.values["before"], record.values["after"])


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda run: run.log_metric("loss", Hostile()), "metric 'loss' must be a number, got <Hostile>: Boom"),
        (lambda run: run.log_metric("loss", 10**5000), "metric 'loss' must be a number, got <int>"),
        (lambda run: run.log_metric("loss", 1, 10**5000), "step must fit into 64 bits"),
        (lambda run: run.log_metric("loss", 1, Hostile()), "step must be a whole number, got <Hostile>"),
        (lambda run: run.log_metric("loss", 1, wall_time="now"), "wall_time must be a number, got 'now'"),
        (lambda run: run.log_metrics(None), "log_metrics: values must be a dict of names and numbers, got None"),
        (lambda run: run.log_metric(Hostile(), 1), "a name must be a str, got <Hostile>"),
        (lambda run: run.log_params(Hostile()), "must be a dict, dataclass or Namespace, got Hostile"),
        (lambda run: run.add_tags(Hostile()), "a tag must be a non-empty str"),
        (lambda run: run.alert("title", level=np.zeros(0)), "alert: level must be one of"),
        (lambda run: run.log_image("image", np.zeros((3, 0, 4))), "an image must have at least one pixel"),
        (lambda run: run.log_image("image", Hostile()), "log_image cannot encode its argument: Boom"),
        (lambda run: run.log_figure("figure", Hostile()), "log_image cannot encode its argument: Boom"),
        (lambda run: run.log_video("video", np.zeros((2, 3, 4, 4)), fps=0), "fps must be a positive number, got 0"),
        (lambda run: run.log_video("video", np.zeros((2, 3, 4, 4)), fps=math.nan), "fps must be a positive number"),
        (lambda run: run.log_video("video", np.zeros((0, 3, 4, 4))), "a video must have at least one frame"),
        (lambda run: run.log_audio("audio", [0.5], sample_rate=0), "sample_rate must be"),
        (lambda run: run.log_audio("audio", Hostile()), "log_audio cannot encode its argument: Boom"),
        (lambda run: run.log_histogram("histogram", Hostile()), "log_histogram cannot encode its argument: Boom"),
        (lambda run: run.log_table("table", Hostile(), columns=["a"]), "log_table cannot encode its argument: Boom"),
        (lambda run: run.log_artifact(Hostile(), "a.bin"), "log_artifact cannot read its argument: Boom"),
    ],
)
def test_what_cannot_be_logged_is_said_on_its_line(call, part, experiment, records):
    """A TraceletError with the reason, whatever the value raises; later records are not affected."""
    with pytest.raises(tracelet.TraceletError) as raised:
        call(experiment)
    assert part in str(raised.value)
    experiment.log_params({"after": 1})
    assert [Params] == [type(record) for record in records()]


def test_a_huge_whole_number_is_a_parameter(experiment, records):
    """Python refuses to print more than 4,300 digits in decimal."""
    experiment.log_params({"modulus": 10**5000})
    assert hex(10**5000) == records()[0].values["modulus"]
