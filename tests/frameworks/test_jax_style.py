"""A training loop as it is written for JAX: tensorboardX, pure functions, arrays of no dimension for losses."""

import importlib

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


def train(writer, steps=5):
    """Descends to a few numbers; everything that it logs is an array."""
    place, goal = np.zeros(3), np.asarray([1.0, 2.0, 3.0])
    for step in range(steps):
        gradient = 2 * (place - goal)
        place = place - 0.1 * gradient
        loss = ((place - goal) ** 2).mean()
        writer.add_scalar("loss", loss, step)
        writer.add_scalars("norms", {"gradient": (gradient**2).sum(), "place": (place**2).sum()}, step)
        writer.add_histogram("gradient", gradient, step)
        writer.add_scalar("rate", np.float32(0.1), np.asarray(step))
    writer.add_text("words", "done", steps)


MEMBERS = {"norms/gradient": "norms/gradient", "norms/place": "norms/place"}


def test_a_loop_is_carried_whole(tmp_path, carried):
    """The event file rounds what the backend gets in full."""
    writer = importlib.import_module("tensorboardX").SummaryWriter(str(tmp_path / "logs"))
    train(writer)
    writer.close()

    series = carried(tmp_path / "logs", tmp_path / "logs", MEMBERS)
    assert {"loss", "norms/gradient", "norms/place", "gradient", "rate", "words"} == set(series)
    assert [0, 1, 2, 3, 4] == [step for step, *_ in series["loss"]]


class Loss:
    """A number of a library that nobody has heard of: it has what arrays share, and no more."""

    def __init__(self, value):
        self.value = value

    def item(self):
        return self.value

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.value, dtype)

    def __float__(self):
        return self.value


# tensorboardX takes an array by the name of its type's library.
Loss.__module__ = "jax.look_alike"


def test_an_array_of_another_library_is_carried_in_full(tmp_path, memory, carried):
    """As far as tensorboardX takes it, with the digits that `item()` has."""
    writer = importlib.import_module("tensorboardX").SummaryWriter(str(tmp_path / "logs"))
    for step in range(3):
        writer.add_scalar("loss", Loss(0.1 * step), step)
    writer.close()

    carried(tmp_path / "logs", tmp_path / "logs")
    assert [0.0, 0.1, 0.2] == [one.value for one in memory.records]
