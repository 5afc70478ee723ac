"""Values are those of the call, whatever the program changes afterwards; and its random numbers stay its own."""

import random
import threading

import numpy as np
import pytest
from calls import CALLS, figure, make, public_methods

import tracelet
from tracelet.backends.memory import MemoryBackend
from tracelet.records import Audio, Histogram, Image, Params, Scalar, Text


class Held(MemoryBackend):
    """A backend that takes nothing until it is let go."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()

    def write(self, batch):
        assert self.go.wait(60)
        super().write(batch)


@pytest.fixture
def held():
    backend = Held()
    tracelet.start_logging(backend=backend)
    yield backend
    backend.go.set()


@pytest.fixture
def arrived(held):
    """`arrived()`: lets the backend go and gives what it then took."""

    def arrive():
        held.go.set()
        tracelet.stop_logging()
        return held.records

    return arrive


def test_a_tensor_that_the_optimizer_steps_on(writer, arrived):
    """add_histogram and add_scalar of parameters that change in place right after."""
    import torch

    weights, loss = torch.zeros(3), torch.zeros((), dtype=torch.float64)
    writer.add_histogram("h", weights, 1)
    writer.add_scalar("loss", loss, 1)
    writer.add_scalars("both", {"a": loss}, 1)
    weights.fill_(7)
    loss.fill_(7)
    histogram, *scalars = arrived()
    assert isinstance(histogram, Histogram)
    assert (0.0, 0.0, 3.0) == (histogram.minimum, histogram.maximum, histogram.count)
    assert [0.0, 0.0] == [one.value for one in scalars]


def test_arrays_that_are_used_again(writer, held, arrived):
    """Pictures, sound, tensors and boxes from buffers that the program fills anew."""
    import io

    from PIL import Image as Picture

    pixels, sound, batch = np.zeros((3, 4, 4), np.uint8), np.zeros(50), np.zeros((2, 3, 4, 4), np.uint8)
    writer.add_image("image", pixels)
    writer.add_images("images", batch)
    writer.add_audio("audio", sound)
    for buffer in (pixels, sound, batch):
        buffer.fill(1)
    found = arrived()
    pictures = [Picture.open(io.BytesIO(held.data(one.data))) for one in found if isinstance(one, Image)]
    assert [(0, 0)] * 6 == [extreme for one in pictures for extreme in one.getextrema()]
    (audio,) = [one for one in found if isinstance(one, Audio)]
    assert not any(held.data(audio.data)[44:])


def test_a_tensor_record_of_a_tensor_that_changes(tmp_path, held, arrived):
    import torch
    from torch.utils.tensorboard import SummaryWriter

    tensor = torch.zeros(3)
    with SummaryWriter(tmp_path / "logs") as writer:
        writer.add_tensor("t", tensor)
        tensor.fill_(7)
    (record,) = arrived()
    assert bytes(12) == held.data(record.data)


def test_lists_and_dicts_that_are_used_again(writer, arrived):
    """The dicts of add_scalars and add_hparams, steps and single values."""
    curves, hparams, metrics, value = {"a": 0.1}, {"lr": 0.1}, {"acc": 0.2}, np.array([0.3])
    writer.add_scalars("m", curves, 1)
    writer.add_hparams(hparams, metrics)
    step = np.array(4)
    writer.add_scalar("value", value, step)
    curves["a"] = hparams["lr"] = metrics["acc"] = value[0] = 7
    step[...] = 9
    found = arrived()
    assert [0.1, 0.2, 0.3] == [one.value for one in found if isinstance(one, Scalar)]
    assert [{"lr": 0.1}] == [one.values for one in found if isinstance(one, Params)]
    assert 4 == found[-1].step


def test_an_event_that_is_filled_anew(lib, writer, arrived):
    """A program that keeps one Event and writes it again and again."""
    event = lib.module.Event()
    value = event.summary.value.add(tag="a", simple_value=0.5)
    text = lib.module.Event()
    told = text.summary.value.add(tag="b/text_summary")
    told.metadata.plugin_data.plugin_name = "text"
    told.tensor.string_val.append(b"before")
    writer.file_writer.add_event(event, 1)
    writer.file_writer.add_event(text, 1)
    found_by_the_file = event.step
    value.simple_value, event.step = 7.0, 9
    told.tensor.string_val[0] = b"after"
    scalar, words = arrived()
    assert (0.5, found_by_the_file) == (scalar.value, scalar.step)
    assert [Text("b", "before", 1, words.wall_time)] == [words]


def test_a_figure_that_is_drawn_on_and_closed(writer, held, arrived):
    """It arrives as it looked at the call, closed or not."""
    import io

    from matplotlib import pyplot
    from PIL import Image as Picture

    drawn = pyplot.figure(figsize=(1, 1), dpi=20)
    axes = drawn.add_axes((0, 0, 1, 1))
    axes.set_facecolor("red")
    axes.set_axis_on()
    writer.add_figure("kept", drawn, close=False)
    assert pyplot.fignum_exists(drawn.number)
    axes.set_facecolor("blue")
    writer.add_figure("closed", drawn)
    assert not pyplot.fignum_exists(drawn.number)
    drawn.clear()
    centres = [Picture.open(io.BytesIO(held.data(one.data))).convert("RGB").getpixel((10, 10)) for one in arrived()]
    assert [(255, 0, 0), (0, 0, 255)] == centres


def test_several_figures_stay_open_where_asked(writer, experiment):
    from matplotlib import pyplot

    figures = [pyplot.figure(figsize=(1, 1), dpi=20) for _ in range(2)]
    writer.add_figure("two", figures, close=False)
    assert [True, True] == [pyplot.fignum_exists(one.number) for one in figures]
    pyplot.close("all")


def states():
    import torch

    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def same(before, after):
    return (
        before[0] == after[0],
        all(np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True)),
        bool((before[2] == after[2]).all()),
    )


@pytest.mark.parametrize("name", CALLS)
def test_no_random_number_is_drawn(name, lib, tmp_path, memory):
    """The generators of random, numpy and torch are after a call where TensorBoard alone leaves them."""
    import torch

    if name not in public_methods(lib):
        pytest.skip(f"{lib.name} has no {name}")

    def after(folder):
        (tmp_path / folder).mkdir()
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        with lib.SummaryWriter(str(tmp_path / folder / "logs")) as writer:
            make(name, writer, tmp_path / folder)
        return states()

    plain = after("plain")
    with tracelet.start_logging(backend=memory):
        carried = after("carried")
    assert (True, True, True) == same(plain, carried)


def test_starting_and_stopping_draws_no_random_number(tmp_path, memory):
    """A seeded program is the same program with a run around it: also retries and run ids draw from elsewhere."""
    import torch

    torch.manual_seed(1)
    before = states()
    with tracelet.start_logging(backend=memory) as experiment:
        experiment.log_metric("loss", 0.1)
        experiment.log_histogram("h", np.arange(5))
        experiment.log_image("i", np.zeros((3, 4, 4)))
        experiment.log_figure("f", figure())
    assert (True, True, True) == same(before, states())


def test_a_meta_tensor_is_not_read_again(tmp_path, memory):
    """torch writes a random number for it: the one that it wrote is carried, and no second one is drawn."""
    import torch
    from torch.utils.tensorboard import SummaryWriter

    def number():
        np.random.seed(3)
        with SummaryWriter(tmp_path / "logs") as writer:
            writer.add_scalar("meta", torch.ones((), device="meta"), 1)
        return np.random.get_state()[2]

    plain = number()
    with tracelet.start_logging(backend=memory):
        assert plain == number()
    np.random.seed(3)
    assert [float(np.float32(np.random.randn(1)[0]))] == [one.value for one in memory.records]
