"""What arrives is what the program said: numbers in full, pictures and sounds to the byte, times and steps."""

import decimal
import fractions
import io
import math
import struct
import time

import numpy as np
import pytest

import tracelet
from tracelet.records import Audio, Histogram, Image, Scalar, Video

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")


def bits(value):
    """A float by its bits: NaN equals itself, -0.0 is not 0.0."""
    return struct.pack("<d", value)


def scalars(records):
    return [one for one in records if isinstance(one, Scalar)]


def attempt(call):
    """The exception that a call ends with, as type and text; None where it ends well."""
    try:
        call()
    except (AssertionError, NotImplementedError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        return type(error), str(error)
    return None


# Values. Each is made afresh, so that nothing one library does to it reaches the other.


def _torch(value, dtype, **more):
    import torch

    return torch.tensor(value, dtype=getattr(torch, dtype), **more)


VALUES = {
    "int": lambda: 7,
    "float": lambda: 0.1,
    "bool": lambda: True,
    "past float32": lambda: 2**24 + 1,
    "past float64": lambda: 2**53 + 1,
    "past any float": lambda: 10**400,
    "past any float32": lambda: 1e300,
    "numpy float16": lambda: np.float16(0.1),
    "numpy float32": lambda: np.float32(0.1),
    "numpy float64": lambda: np.float64(0.1),
    "numpy longdouble": lambda: np.longdouble("0.1"),
    "numpy int64": lambda: np.int64(2**62 + 1),
    "numpy uint8": lambda: np.uint8(200),
    "numpy bool": lambda: np.bool_(True),
    "numpy complex": lambda: np.complex128(1 + 2j),
    "numpy 0-d": lambda: np.array(0.1),
    "numpy 1 element": lambda: np.array([[0.1]]),
    "numpy 2 elements": lambda: np.array([0.1, 0.2]),
    "numpy no element": lambda: np.array([]),
    "torch float16": lambda: _torch(0.1, "float16"),
    "torch bfloat16": lambda: _torch(0.1, "bfloat16"),
    "torch bfloat16 past float16": lambda: _torch(1e30, "bfloat16"),
    "torch float32": lambda: _torch(0.1, "float32"),
    "torch float64": lambda: _torch(0.1, "float64"),
    "torch int64": lambda: _torch(2**62 + 1, "int64"),
    "torch bool": lambda: _torch(True, "bool"),
    "torch 1 element": lambda: _torch([[0.1]], "float64"),
    "torch 2 elements": lambda: _torch([0.1, 0.2], "float64"),
    "torch requires_grad": lambda: _torch(0.1, "float64", requires_grad=True),
    "torch graph": lambda: _torch(0.1, "float64", requires_grad=True) * 3,
    "decimal": lambda: decimal.Decimal("0.1"),
    "fraction": lambda: fractions.Fraction(1, 3),
    "text": lambda: "0.1",
    "text with spaces": lambda: " 1e3\n",
    "no number": lambda: "loss",
    "bytes": lambda: b"0.1",
    "list of one": lambda: [0.1],
    "list in a list": lambda: [[0.1]],
    "list of a tensor": lambda: [_torch(0.1, "float64")],
    "list of two": lambda: [0.1, 0.2],
    "tuple": lambda: (0.1,),
    "None": lambda: None,
    "object": object,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "-0.0": lambda: -0.0,
    "subnormal": lambda: 5e-324,
    "torch nan": lambda: _torch(math.nan, "float32"),
    "numpy -0.0": lambda: np.float32(-0.0),
}


def told(value):
    """The float64 of an argument, worked out apart from the code under test."""
    while isinstance(value, list):
        (value,) = value
    if hasattr(value, "detach"):
        return float(value.detach().double()) if value.is_floating_point() else float(int(value))
    return float(value.reshape(())) if isinstance(value, np.ndarray) else float(value)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_the_float64_of_the_argument(name, lib, tmp_path, memory, read_values):
    """The library takes and refuses what it does without tracelet; what it takes arrives with all its digits."""
    make = VALUES[name]

    def logged(folder):
        with lib.SummaryWriter(str(tmp_path / folder)) as writer:
            outcome = attempt(lambda: writer.add_scalar("v", make(), 1))
        return outcome, [bits(value.simple_value) for _, value in read_values(tmp_path / folder)]

    plain = logged("plain")
    tracelet.start_logging(backend=memory)
    assert plain == logged("carried")
    tracelet.stop_logging()
    expected = [] if plain[0] else [bits(told(make()))]
    assert expected == [bits(one.value) for one in memory.records]


@pytest.mark.parametrize("name", VALUES)
def test_a_value_of_a_dict_is_the_float64_of_the_argument(name, lib, tmp_path, memory):
    """add_scalars and the metrics of add_hparams are as exact as add_scalar."""
    make = VALUES[name]
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer, tracelet.start_logging(backend=memory):
        refused = attempt(lambda: writer.add_scalars("m", {"v": make()}, 1))
        refused_metric = attempt(lambda: writer.add_hparams({}, {"v": make()}))
    expected = ([] if refused else [bits(told(make()))]) + ([] if refused_metric else [bits(told(make()))])
    assert expected == [bits(one.value) for one in scalars(memory.records)]


@pytest.mark.parametrize("more", [{"new_style": True}, {"new_style": True, "double_precision": True}])
def test_the_new_style_of_torch_is_as_exact(more, tmp_path, records):
    """A scalar in a tensor field is a scalar all the same."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path / "logs") as writer:
        writer.add_scalar("a", 0.1, 1, 9.0, **more)
        writer.add_scalar("b", np.float64(0.1), 1, 9.0, **more)
        writer.add_scalar(scalar_value=0.1, tag="c", global_step=None, walltime=9.0, **more)
    assert [Scalar("a", 0.1, 1, 9.0), Scalar("b", 0.1, 1, 9.0), Scalar("c", 0.1, None, 9.0)] == records()


def test_a_display_name_of_tensorboardx_changes_nothing(tmp_path, records):
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_scalar("a", 0.1, 1, 9.0, "shown", "described")
        writer.add_scalar("b", 0.1, 1, 9.0, summary_description="described")
    assert [Scalar("a", 0.1, 1, 9.0), Scalar("b", 0.1, 1, 9.0)] == records()


def test_a_tensor_is_not_kept_alive(lib, writer, experiment):
    """Nothing of a loss is held once its call is over: neither the tensor nor its graph."""
    import gc
    import weakref

    loss = _torch(0.1, "float64", requires_grad=True) * 3
    writer.add_scalar("loss", loss, 1)
    experiment.flush()
    dead = weakref.ref(loss)
    del loss
    gc.collect()
    assert None is dead()


# Steps and times.


STEPS = {
    "tensor": (lambda: _torch(4, "int64"), 4),
    "tensor of one": (lambda: _torch([4], "int64"), 4),
    "numpy int64": (lambda: np.int64(4), 4),
    "numpy int32 zero": (lambda: np.int32(0), 0),
    "float": (lambda: 1.5, 1),
    "negative float": (lambda: -1.5, -1),
    "bool": (lambda: True, 1),
    "text": (lambda: "12", 12),
    "zero": (lambda: 0, 0),
    "minus": (lambda: -3, -3),
    "big": (lambda: 2**40, 2**40),
    "biggest": (lambda: 2**63 - 1, 2**63 - 1),
    "smallest": (lambda: -(2**63), -(2**63)),
    "none": (lambda: None, None),
    "too big": (lambda: 2**64, ValueError),
    "too small": (lambda: -(2**63) - 1, ValueError),
    "nan": (lambda: math.nan, ValueError),
    "inf": (lambda: math.inf, OverflowError),
    "no number": (lambda: "five", ValueError),
}


@pytest.mark.parametrize("method", ["add_scalar", "add_text"])
@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_that_of_the_event_file(name, method, writer, tmp_path, records, read_values):
    """What TensorBoard makes of a step is the step; None stays None; where it refuses, nothing is carried."""
    make, expected = STEPS[name]
    value = 0.5 if method == "add_scalar" else "words"
    if isinstance(expected, type):
        with pytest.raises(expected):
            getattr(writer, method)("t", value, make())
        assert [] == records()
        return
    getattr(writer, method)("t", value, make())
    writer.close()
    assert [expected] == [one.step for one in records()]
    assert [expected or 0] == [event.step for event, _ in read_values(tmp_path / "logs")]


def test_steps_that_go_back_repeat_and_are_huge(writer, records):
    """Every point arrives, in the order of the calls, on its own step."""
    steps = [0, 10**12, 5, 5, 4, None, 7]
    for step in steps:
        writer.add_scalar("loss", 0.1, step)
        writer.add_scalar("acc", 0.2, None if step is None else -step)
    found = scalars(records())
    assert steps == [one.step for one in found if one.tag == "loss"]
    assert [None if step is None else -step for step in steps] == [one.step for one in found if one.tag == "acc"]
    assert ["loss", "acc"] * len(steps) == [one.tag for one in found]


@pytest.mark.parametrize("walltime", [0.0, 12.0, 1e9 + 0.25, -1.0, 5, np.float64(7.5)])
def test_an_explicit_wall_time_is_kept(walltime, writer, records):
    """To the bit, 0.0 included."""
    writer.add_scalar("a", 0.5, 1, walltime)
    writer.add_scalar("b", 0.5, None, walltime=walltime)
    writer.add_scalars("c", {"d": 0.5}, 1, walltime)
    writer.add_text("e", "words", 1, walltime)
    assert [float(walltime)] * 4 == [one.wall_time for one in records()]


def test_the_wall_time_is_that_of_the_call(writer, tmp_path, records, read_values):
    """The event file's own time, not that of the delivery."""
    before = time.time()
    for step in range(20):
        writer.add_scalar("loss", 0.5, step)
        writer.add_text("text", "words", step)
    after = time.time()
    writer.close()
    found = [one.wall_time for one in records()]
    assert [event.wall_time for event, _ in read_values(tmp_path / "logs")] == found
    assert before <= min(found) <= max(found) <= after


# Histograms.


HISTOGRAMS = {
    "default": lambda: ((np.linspace(-3, 5, 1000),), {}),
    "auto": lambda: ((np.linspace(-3, 5, 1000) ** 3,), {"bins": "auto"}),
    "number of bins": lambda: ((np.arange(100),), {"bins": 7}),
    "edges": lambda: ((np.arange(100),), {"bins": [0, 10, 50, 99]}),
    "fewer bins": lambda: ((np.linspace(-3, 5, 1000),), {"bins": 50, "max_bins": 12}),
    "all equal": lambda: ((np.full(10, 2.5),), {}),
    "all zero": lambda: ((_torch([0.0] * 10, "float32"),), {}),
    "one value": lambda: ((np.array([1.0]),), {"bins": "auto"}),
    "whole numbers": lambda: ((_torch([1, 2, 2, 9], "int64"),), {}),
    "bools": lambda: ((_torch([True, False, True], "bool"),), {}),
    "bfloat16": lambda: ((_torch([0.5, 1.5], "bfloat16"),), {}),
    "requires_grad": lambda: ((_torch([0.5, 1.5], "float64", requires_grad=True),), {}),
    "nan inside": lambda: ((np.array([1.0, math.nan, 2.0]),), {"bins": [0, 1, 2]}),
    "nan and auto": lambda: ((np.array([1.0, math.nan, 2.0]),), {"bins": "auto"}),
    "inf inside": lambda: ((np.array([1.0, math.inf, 2.0]),), {}),
    "empty": lambda: ((np.array([]),), {}),
    "outside of the edges": lambda: ((np.array([5.0]),), {"bins": [0, 1]}),
}


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_a_histogram_is_that_of_the_event_file(name, lib, tmp_path, memory, read_values):
    """Edges, counts and sums are the proto's; what TensorBoard refuses is no record."""

    def logged(folder):
        args, kwargs = HISTOGRAMS[name]()
        with lib.SummaryWriter(str(tmp_path / folder)) as writer:
            outcome = attempt(lambda: writer.add_histogram("h", *args, 4, walltime=9.0, **kwargs))
        return outcome, [value.SerializeToString() for _, value in read_values(tmp_path / folder)]

    plain = logged("plain")
    tracelet.start_logging(backend=memory)
    assert plain == logged("carried")
    tracelet.stop_logging()
    expected = [
        Histogram("h", tuple(h.bucket_limit), tuple(h.bucket), h.min, h.max, h.num, h.sum, h.sum_squares, 4, 9.0)
        for h in (value.histo for _, value in read_values(tmp_path / "carried"))
    ]
    assert list(map(repr, expected)) == list(map(repr, memory.records))
    assert plain[0] is None or [] == memory.records


def test_a_raw_histogram_is_as_given(writer, records):
    writer.add_histogram_raw("h", 0.1, 2.5, 3, 4.5, 8.1, [1.0, 2.0, 3.0], np.array([1, 0, 2]), 4, walltime=9.0)
    assert [Histogram("h", (1.0, 2.0, 3.0), (1.0, 0.0, 2.0), 0.1, 2.5, 3.0, 4.5, 8.1, 4, 9.0)] == records()


# Pictures, sound, moving pictures.


def _pixels(channels, dtype):
    whole = np.arange(channels * 4 * 6, dtype=np.uint8).reshape(channels, 4, 6) * 3
    return whole if dtype == "uint8" else (whole / 255).astype(dtype)


def _as(array, dataformats):
    return array[0] if dataformats == "HW" else array.transpose(["CHW".index(axis) for axis in dataformats])


def decoded(data):
    from PIL import Image as Picture

    return np.asarray(Picture.open(io.BytesIO(data)))


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize(
    ("dataformats", "channels"), [*((axes, number) for axes in ("CHW", "HWC") for number in (1, 3, 4)), ("HW", 1)]
)
def test_an_image_is_that_of_the_event_file(
    dataformats, channels, dtype, writer, tmp_path, memory, records, read_values
):
    """The PNG byte for byte, whatever the axes, channels and type were."""
    writer.add_image("i", _as(_pixels(channels, dtype), dataformats), 2, 9.0, dataformats)
    writer.close()
    (image,) = records()
    ((_, value),) = read_values(tmp_path / "logs")
    assert isinstance(image, Image)
    assert ("i", "png", 6, 4, 2, 9.0) == (
        image.tag,
        image.format,
        image.width,
        image.height,
        image.step,
        image.wall_time,
    )
    assert value.image.encoded_image_string == memory.data(image.data)
    if dtype == "uint8":
        seen = decoded(memory.data(image.data)).reshape(4, 6, -1).transpose(2, 0, 1)[:channels]
        assert _pixels(channels, dtype).tolist() == seen.tolist()


@pytest.mark.parametrize("dataformats", ["NCHW", "NHWC"])
def test_several_images_are_one_tiled_picture(dataformats, writer, tmp_path, memory, records, read_values):
    """As TensorBoard shows them."""
    batch = np.stack([_pixels(3, "uint8")] * 3)
    writer.add_images("i", batch.transpose(["NCHW".index(axis) for axis in dataformats]), 2, 9.0, dataformats)
    writer.close()
    (image,) = records()
    ((_, value),) = read_values(tmp_path / "logs")
    assert (18, 4) == (image.width, image.height)
    assert value.image.encoded_image_string == memory.data(image.data)


def test_an_image_with_boxes_is_that_of_the_event_file(writer, tmp_path, memory, records, read_values):
    writer.add_image_with_boxes("i", np.zeros((3, 20, 30), np.uint8), np.array([[1, 1, 9, 9]]), 2, labels=["cat"])
    writer.close()
    (image,) = records()
    ((_, value),) = read_values(tmp_path / "logs")
    assert value.image.encoded_image_string == memory.data(image.data)


def test_an_image_in_another_format_says_so(lib, writer, memory, records):
    """A summary may hold a JPEG: its bytes and their format arrive."""
    from PIL import Image as Picture

    out = io.BytesIO()
    Picture.new("RGB", (5, 4), "red").save(out, format="JPEG")
    event = lib.module.Event()
    value = event.summary.value.add(tag="photo")
    value.image.encoded_image_string = out.getvalue()
    value.image.width, value.image.height = 5, 4
    writer.file_writer.add_event(event, 1)
    (image,) = records()
    assert ("jpeg", 5, 4, out.getvalue()) == (image.format, image.width, image.height, memory.data(image.data))


@pytest.mark.parametrize("samples", [np.sin(np.arange(400) / 7), np.linspace(-1, 1, 100, dtype=np.float32)])
def test_sound_is_that_of_the_event_file(samples, writer, tmp_path, memory, records, read_values):
    """The WAV byte for byte, with its rate."""
    writer.add_audio("a", samples, 2, 8000, 9.0)
    writer.close()
    (audio,) = records()
    ((_, value),) = read_values(tmp_path / "logs")
    assert isinstance(audio, Audio)
    assert ("a", "wav", 8000.0, 2, 9.0) == (audio.tag, audio.format, audio.sample_rate, audio.step, audio.wall_time)
    assert value.audio.encoded_audio_string == memory.data(audio.data)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_video_is_that_of_the_event_file(dtype, writer, tmp_path, memory, records, read_values):
    """The GIF byte for byte, and known to be moving."""
    frames = np.zeros((1, 3, 3, 8, 10), dtype)
    frames[:, 1] = 255 if dtype == "uint8" else 1.0
    writer.add_video("v", frames, 2, fps=10, walltime=9.0)
    writer.close()
    (video,) = records()
    ((_, value),) = read_values(tmp_path / "logs")
    assert isinstance(video, Video)
    assert ("v", "gif", 10, 8, 2, 9.0) == (
        video.tag,
        video.format,
        video.width,
        video.height,
        video.step,
        video.wall_time,
    )
    assert value.image.encoded_image_string == memory.data(video.data)


def test_the_names_of_tensorboardx_are_the_programs(tmp_path, records, read_values):
    """tensorboardX replaces what it does not like in a tag; the record has the tag as the program wrote it."""
    from tensorboardX import SummaryWriter

    tags = ["acc@5", "/x y:z?", "ünï/cödé", "plain"]
    with SummaryWriter(str(tmp_path / "logs")) as writer:
        for tag in tags:
            writer.add_scalar(tag, 0.1)
            writer.add_histogram(tag + " h", np.arange(3))
            writer.add_image(tag + " i", np.zeros((3, 2, 2), np.uint8))
    assert [tag + more for tag in tags for more in ("", " h", " i")] == [one.tag for one in records()]
    assert "acc_5" in {value.tag for _, value in read_values(tmp_path / "logs")}
