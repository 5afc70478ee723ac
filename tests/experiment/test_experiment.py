"""The log_* methods: what goes in comes back from the backend and the journal; mistakes are raised on their line."""

import io
import json
import math
import random
import threading
import time
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from backends.faults import journalled, values
from matplotlib.figure import Figure
from PIL import Image as Picture
from support import our_threads

import tracelet
from tracelet.backends.memory import MemoryBackend
from tracelet.errors import ConfigurationError, TraceletError
from tracelet.records import Audio, Histogram, Image, Scalar, Table, Text, Video


def data(record):
    return Path(record.data.path).read_bytes()


# Scalars.

NUMBERS = {
    "float": (0.1, 0.1),
    "int": (7, 7.0),
    "bool": (True, 1.0),
    "2**53": (2**53, 2.0**53),
    "nan": (math.nan, math.nan),
    "inf": (-math.inf, -math.inf),
    "minus zero": (-0.0, -0.0),
    "subnormal": (5e-324, 5e-324),
    "float64": (np.float64(0.1), 0.1),
    "float32": (np.float32(0.1), float(np.float32(0.1))),
    "float16": (np.float16(0.1), float(np.float16(0.1))),
    "int64": (np.int64(2**40), 2.0**40),
    "0-d array": (np.array(0.1), 0.1),
    "array of one": (np.array([[0.1]]), 0.1),
    "tensor": (torch.tensor(0.1, dtype=torch.float64), 0.1),
    "tensor of one": (torch.tensor([3]), 3.0),
    "tensor with grad": (torch.tensor(0.5, requires_grad=True), 0.5),
    "bfloat16": (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_a_number_keeps_its_float64(case, experiment, records):
    """To the bit, whatever kind of number it is."""
    given, expected = NUMBERS[case]
    experiment.log_metric("loss", given, 1)
    (record,) = records()
    assert repr(expected) == repr(record.value)
    assert repr(expected) == repr(journalled(experiment.folder)[0].value)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "0.5",
        b"1",
        "abc",
        [1.0],
        {},
        object(),
        1j,
        10**400,
        np.array([1, 2]),
        torch.tensor([1.0, 2.0]),
        np.array([]),
    ],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:9]}" if type(value) is not object else "object",
)
def test_what_is_no_number_is_refused(bad, experiment, records):
    """At once, as a TraceletError that names the metric; what was said before and after arrives."""
    experiment.log_metric("before", 1)
    with pytest.raises(tracelet.TraceletError, match=r"metric 'loss' must be a number, got"):
        experiment.log_metric("loss", bad)
    experiment.log_metric("after", 2)
    assert ["before", "after"] == [record.tag for record in records()]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (None, None),
        (0, 0),
        (-5, -5),
        (10**12, 10**12),
        (2**63 - 1, 2**63 - 1),
        (3.0, 3),
        (np.float32(3), 3),
        (torch.tensor(3.0), 3),
        (np.array([3]), 3),
        (True, 1),
        (np.int64(4), 4),
        (torch.tensor(4), 4),
    ],
)
def test_a_step_is_a_whole_number(step, expected, experiment, records):
    experiment.log_metric("loss", 1, step)
    assert [expected] == [record.step for record in records()]


@pytest.mark.parametrize("step", ["x", 2**63, -(2**63) - 1, math.nan, math.inf, [1, 2], object(), 1.7, np.float32(1.5),
                                  torch.tensor(1.5), torch.tensor([1, 2])])  # fmt: skip
def test_what_is_no_step_is_refused(step, experiment):
    with pytest.raises(tracelet.TraceletError, match="step"):
        experiment.log_metric("loss", 1, step)
    assert 0 == experiment.stats().submitted


def test_steps_stay_as_they_come(experiment, records):
    """Backwards, repeated, missing: every point, in the order of the calls."""
    steps = [0, 10**12, 5, 5, 4, None, 7]
    for number, step in enumerate(steps):
        experiment.log_metric("loss", number, step)
    assert steps == [record.step for record in records()]


def test_the_wall_time_is_the_calls(experiment, records):
    """Given, or the clock of the call, whenever it is delivered."""
    before = time.time()
    experiment.log_metric("a", 1)
    after = time.time()
    for given in (0.0, 12.0, 1e9 + 0.25):
        experiment.log_metric("b", 1, wall_time=given)
    first, *rest = records()
    assert before <= first.wall_time <= after
    assert [0.0, 12.0, 1e9 + 0.25] == [record.wall_time for record in rest]


def test_several_metrics_of_one_step(experiment, records):
    """One step and one wall time for all of them."""
    experiment.log_metrics({"loss": 0.5, "acc": np.float32(0.25)}, 3)
    assert [("loss", 0.5, 3), ("acc", 0.25, 3)] == [(one.tag, one.value, one.step) for one in records()]
    assert 1 == len({one.wall_time for one in records()})


def test_log_counts_its_steps(experiment, records):
    """From 0, and on from an explicit step. Without `commit`, the next call has the same step."""
    experiment.log({"loss": {"train": 0.5, "val": torch.tensor(0.25)}, "note": "first"})
    experiment.log({"loss/train": 0.4}, commit=False)
    experiment.log({"lr": 0.1})
    experiment.log({"lr": 0.01}, step=10, commit=False)
    experiment.log({"loss/train": 0.3})
    experiment.log({"loss/train": 0.2}, 5)
    experiment.log({"loss/train": 0.1})
    found = [(one.tag, getattr(one, "value", None) or one.text, one.step) for one in records()]
    assert [
        ("loss/train", 0.5, 0),
        ("loss/val", 0.25, 0),
        ("note", "first", 0),
        ("loss/train", 0.4, 1),
        ("lr", 0.1, 1),
        ("lr", 0.01, 10),
        ("loss/train", 0.3, 10),
        ("loss/train", 0.2, 5),
        ("loss/train", 0.1, 6),
    ] == found


def test_a_call_of_log_that_fails_logs_nothing(experiment, records):
    circular = {}
    circular["circle"] = circular
    for wrong in ({"loss": 0.5, "bad": object()}, {"loss": 0.5, 3: 1.0}, {"loss": 0.5, "": 1.0}, [1.0], circular):
        with pytest.raises(tracelet.TraceletError):
            experiment.log(wrong)
    experiment.log({"loss": 0.5})
    assert [("loss", 0)] == [(one.tag, one.step) for one in records()]


@pytest.mark.parametrize("name", [" ", "a/b", "loss (train)", "ünïcode 🚀", "x" * 5000, "../up", "a\nb"])
def test_a_name_may_be_any_text(name, experiment, records):
    experiment.log_metric(name, 1)
    assert [name] == [record.tag for record in records()]


def test_a_name_without_an_encoding_is_escaped(experiment, records):
    """A lone surrogate has no bytes: it is spelled, not lost."""
    experiment.log_metric("lone \ud800", 1)
    experiment.log_text("t\udfff", "x \ud800")
    assert ["lone \\ud800", "t\\udfff"] == [record.tag for record in records()]


@pytest.mark.parametrize("name", [None, 5, b"loss"])
def test_a_name_is_text(name, experiment):
    with pytest.raises(tracelet.TraceletError, match="a name must be a str"):
        experiment.log_metric(name, 1)
    with pytest.raises(tracelet.TraceletError, match="a name must be a str"):
        experiment.log_text(name, "x")


# Media.


@pytest.mark.parametrize(
    ("image", "axes", "size"),
    [
        (np.zeros((3, 4, 5)), "CHW", (5, 4)),
        (np.zeros((4, 5, 3), np.uint8), "HWC", (5, 4)),
        (torch.rand(1, 4, 5, requires_grad=True), "CHW", (5, 4)),
        (torch.zeros(4, 5, dtype=torch.bfloat16), "HW", (5, 4)),
        ([[0.0, 1.0, 0.5]], "HW", (3, 1)),
        (np.full((2, 2), np.nan), "HW", (2, 2)),
        (Picture.new("RGBA", (5, 4)), "CHW", (5, 4)),
        (Picture.new("P", (5, 4)), "CHW", (5, 4)),
    ],
    ids=["array-CHW", "array-HWC", "tensor", "bfloat16", "list", "nan", "RGBA", "palette"],
)
def test_an_image(image, axes, size, experiment, records):
    """Arrays, tensors, lists, pictures: a PNG of the right size."""
    experiment.log_image("picture", image, 2, dataformats=axes)
    (record,) = records()
    with Picture.open(io.BytesIO(data(record))) as picture:
        assert size == picture.size == (record.width, record.height)
    assert (Image, "picture", 2, "png") == (type(record), record.tag, record.step, record.format)


@pytest.mark.parametrize("axes", ["CHW", "XYZ", "", "HWCN"])
def test_an_image_of_other_axes_is_refused(axes, experiment):
    with pytest.raises(tracelet.TraceletError, match="shape"):
        experiment.log_image("picture", np.zeros((4, 5)), dataformats=axes)


def test_an_image_with_its_channels_last_is_told_how(experiment):
    """Its shape, and what to write."""
    with pytest.raises(tracelet.TraceletError, match=r'got 32 \(shape \(32, 48, 3\),.*dataformats="HWC"'):
        experiment.log_image("picture", np.zeros((32, 48, 3)))
    with pytest.raises(
        tracelet.TraceletError, match=r"1 to 4 channels, got 32 \(shape \(32, 48, 9\), dataformats CHW\)$"
    ):
        experiment.log_image("picture", np.zeros((32, 48, 9)))
    with pytest.raises(tracelet.TraceletError, match=r"\[T, C, H, W\].* \(2, 32, 48, 3\)"):
        experiment.log_video("film", np.zeros((2, 32, 48, 3)))


@pytest.mark.parametrize("value", ["loss.png", Path("loss.png"), b"png"])
@pytest.mark.parametrize("method", ["log_image", "log_figure", "log_video", "log_audio", "log_histogram"])
def test_a_file_is_no_array(method, value, experiment):
    """The path or the bytes of a file are refused with the next step, since numpy would say something else."""
    name = "a bytes" if isinstance(value, bytes) else "'loss.png'"
    with pytest.raises(TraceletError, match=rf"must be an array or a tensor, got {name}.*log_artifact"):
        getattr(experiment, method)("x", value)


@pytest.mark.parametrize("value", ["table.csv", Path("table.csv"), b"a,b"])
def test_a_file_is_no_table(value, experiment):
    with pytest.raises(TraceletError, match=r"must be a DataFrame or rows, got .*Load the file first"):
        experiment.log_table("x", value, columns=["a"])


@pytest.mark.parametrize("step", ["3", b"3", "three", np.str_("3")])
def test_a_step_is_no_text(step, experiment):
    """It is not converted in silence: a text is often a name or a path in the wrong place."""
    for log in (experiment.log_metric, experiment.log_text, experiment.log_histogram):
        with pytest.raises(TraceletError, match=r"step must be a whole number, got the text .*Pass int\(step\)"):
            log("x", 1.0, step=step)


def test_a_figure_is_drawn_and_left_open(experiment, records):
    """The picture of the moment; what is drawn afterwards is not in it, and the figure can still be drawn on."""
    figure = Figure(figsize=(2, 1), dpi=50)
    axes = figure.subplots()
    axes.plot([1, 2])
    experiment.log_figure("curve", figure, 1)
    axes.plot([2, 1])
    experiment.log_figure("curve", figure, 2)
    first, second = records()
    assert (100, 50) == (first.width, first.height)
    assert data(first) != data(second)


def test_a_histogram_of_values(experiment, records):
    """Counts and edges are numpy's; values that are not finite are in no bucket."""
    values = np.array([0.0, 1.0, 1.0, 4.0, np.nan, np.inf])
    experiment.log_histogram("weights", values, 3, bins=4)
    (record,) = records()
    counts, edges = np.histogram(values[:4], bins=4)
    assert (Histogram, 3) == (type(record), record.step)
    assert (tuple(edges), (0.0, *counts)) == (record.limits, record.counts)
    assert (0.0, 4.0, 4.0, 6.0, 18.0) == (
        record.minimum,
        record.maximum,
        record.count,
        record.total,
        record.sum_squares,
    )


def test_a_histogram_that_numpy_made(experiment, records):
    counts, edges = np.histogram(np.arange(100), bins=10)
    experiment.log_histogram("h", np_histogram=(counts, edges))
    (record,) = records()
    assert ((0.0, *counts), tuple(edges), 100.0) == (record.counts, record.limits, record.count)


@pytest.mark.parametrize(
    "arguments",
    [
        {"values": []},
        {"values": [math.nan]},
        {"np_histogram": ([1, 2], [0, 1])},
        {"np_histogram": 5},
        {"values": ["a"]},
        {"values": [1 + 2j]},
        {"values": np.array([1 + 2j])},
        {"values": torch.tensor([1 + 2j])},
        {"values": [[1], [2, 3]]},
        {"values": torch.empty(2, device="meta")},
        {"values": [1.0], "bins": 0},
    ],
    ids=str,
)
def test_a_histogram_of_nothing_is_refused(arguments, experiment):
    with pytest.raises(tracelet.TraceletError):
        experiment.log_histogram("h", **arguments)


def test_audio(experiment, records):
    """Mono and stereo, floats and int16: the samples of the WAV are those that went in."""
    whole = np.array([0, 1000, -32768, 32767], np.int16)
    experiment.log_audio("beep", whole, 1, sample_rate=8000)
    experiment.log_audio("beep", torch.tensor([[0.0, 1.0], [-1.0, 0.5]]), 2, sample_rate=8000)
    experiment.log_audio("beep", [2.0, -2.0], 3)
    found = []
    for record in records():
        with wave.open(io.BytesIO(data(record))) as file:
            frames = np.frombuffer(file.readframes(-1), "<i2").tolist()
            found.append((file.getnchannels(), file.getframerate(), frames))
    assert [
        (1, 8000, whole.tolist()),
        (2, 8000, [0, 32767, -32767, 16384]),
        (1, 44100, [32767, -32767]),
    ] == found
    assert {Audio} == {type(record) for record in records()}


def test_video(experiment, records):
    """Frames as an animated GIF, also with a batch axis of one."""
    frames = (np.arange(3 * 3 * 4 * 6) % 256).astype(np.uint8).reshape(3, 3, 4, 6)
    experiment.log_video("clip", frames, 1, fps=10)
    experiment.log_video("clip", torch.rand(1, 3, 1, 4, 6), 2)
    for record in records():
        assert (Video, "gif", 6, 4) == (type(record), record.format, record.width, record.height)
        with Picture.open(io.BytesIO(data(record))) as picture:
            assert 3 == picture.n_frames


@pytest.mark.parametrize("shape", [(3,), (4, 5), (2, 3, 4)])
def test_media_of_other_axes_are_refused(shape, experiment):
    with pytest.raises(tracelet.TraceletError, match=r"a video must have the shape \[T, C, H, W\]"):
        experiment.log_video("clip", np.zeros(shape))
    with pytest.raises(tracelet.TraceletError, match=r"audio must have the shape \[L\] or \[L, channels\]"):
        experiment.log_audio("beep", np.zeros((2, 1, *shape)))


def test_text(experiment, records):
    texts = ["plain", "", "a,b\n| c |", "🚀", "x" * 100_000]
    for step, text in enumerate(texts):
        experiment.log_text("note", text, step)
    experiment.log_text("note", 5)
    assert [*texts, "5"] == [record.text for record in records()]
    assert {Text} == {type(record) for record in records()}


def test_a_table(experiment, records):
    """Rows with columns, or a DataFrame; numpy's numbers are numbers."""
    experiment.log_table("t", [["a", np.float32(0.5)], ["b", None]], columns=["name", "score"])
    experiment.log_table("t", pd.DataFrame({"name": ["a"], "score": [1]}))
    first, second = records()
    assert {"columns": ["name", "score"], "rows": [["a", 0.5], ["b", None]]} == json.loads(data(first))
    assert {"columns": ["name", "score"], "rows": [["a", 1]]} == json.loads(data(second))
    assert Table is type(first)


@pytest.mark.parametrize(
    ("index", "columns", "row"),
    [
        (pd.Index([7]), ["x"], [1]),
        (pd.Index(["mean"]), ["index", "x"], ["mean", 1]),
        (pd.Index([7], name="epoch"), ["epoch", "x"], [7, 1]),
        (pd.MultiIndex.from_tuples([("a", 2)], names=["fold", "epoch"]), ["fold", "epoch", "x"], ["a", 2, 1]),
        (pd.Index([7], name="x"), ["x", "x"], [7, 1]),
    ],
)
def test_a_table_of_a_data_frame_has_its_index(experiment, records, index, columns, row):
    """Except one without a name that numbers the rows."""
    experiment.log_table("t", pd.DataFrame({"x": [1]}, index=index))
    (table,) = records()
    assert {"columns": columns, "rows": [row]} == json.loads(data(table))


def test_a_table_without_columns_is_refused(experiment):
    with pytest.raises(tracelet.TraceletError, match="columns"):
        experiment.log_table("t", [[1, 2]])
    with pytest.raises(tracelet.TraceletError, match="1 cells, but there are 2 columns"):
        experiment.log_table("t", [[1, 2], [1]], columns=["a", "b"])


def test_values_are_copied(experiment, records):
    """What the program overwrites after the call is not what is delivered."""
    array, tensor, samples = np.zeros((2, 2), np.uint8), torch.zeros(3), np.zeros(4, np.int16)
    experiment.log_image("i", array, dataformats="HW")
    experiment.log_histogram("h", tensor, bins=1)
    experiment.log_audio("a", samples)
    array += 255
    tensor += 7
    samples += 99
    image, histogram, audio = records()
    with Picture.open(io.BytesIO(data(image))) as picture:
        assert 0 == np.asarray(picture).max()
    assert (0.0, 0.0) == (histogram.minimum, histogram.maximum)
    with wave.open(io.BytesIO(data(audio))) as file:
        assert bytes(8) == file.readframes(4)


# The experiment itself.

CALLS = [
    lambda experiment: experiment.log_metric("loss", 1),
    lambda experiment: experiment.log_metrics({"loss": 1}),
    lambda experiment: experiment.log({"loss": {"train": 1}}),
    lambda experiment: experiment.log_params({"lr": 1}),
    lambda experiment: experiment.log_image("i", np.zeros((3, 2, 2))),
    lambda experiment: experiment.log_figure("f", Figure()),
    lambda experiment: experiment.log_text("t", "x"),
    lambda experiment: experiment.log_table("t", [[1]], columns=["a"]),
    lambda experiment: experiment.log_histogram("h", [1.0]),
    lambda experiment: experiment.log_audio("a", [0.0]),
    lambda experiment: experiment.log_video("v", np.zeros((1, 3, 2, 2))),
    lambda experiment: experiment.log_artifact(b"x", "x.bin"),
    lambda experiment: experiment.summary.update(best=1),
    lambda experiment: experiment.add_tags("a"),
    lambda experiment: experiment.alert("title", "text"),
]


def test_after_the_end_everything_is_silent(memory, experiment):
    """No method raises, records or starts anything, also with arguments that would have been refused."""
    experiment.stop()
    stats = experiment.stats()
    for call in CALLS:
        call(experiment)
    experiment.log_artifact("/no/such/file")
    assert experiment.flush(1)
    assert stats == experiment.stats()
    assert ([], []) == (memory.records, our_threads())
    assert [] == journalled(experiment.folder)


def test_every_method_from_many_threads(memory, experiment):
    """Eight threads, each calling every method: nothing is lost, nothing is torn."""
    failures = []

    def work():
        try:
            for _ in range(5):
                for call in CALLS:
                    call(experiment)
        except BaseException as error:  # noqa: BLE001 - told on the main thread
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert experiment.flush(30)
    assert [] == failures
    assert 8 * 5 * len(CALLS) == len(memory.records) == len(journalled(experiment.folder))
    assert 8 * 5 * 3 == len(memory.of(Scalar))


def test_a_block_ends_the_run(memory):
    """`with` stops at the end of its block, and lets an exception through with the status failed."""
    with pytest.raises(ZeroDivisionError), tracelet.start_logging(backend=memory) as experiment:
        experiment.log_metric("loss", 1)
        _ = 1 / 0
    assert ("failed", 1, [1.0]) == (memory.status, memory.exit_code, values(memory.records))
    assert None is tracelet.get_active_experiment()


def test_what_a_run_says_of_itself(memory):
    experiment = tracelet.start_logging("name", "project", memory, tags=["a"], notes="n", group="g", run_id="r1")
    assert ("r1", "name", "project", None) == (experiment.run_id, experiment.name, experiment.project, experiment.url)
    assert memory is experiment.get_backend("memory").native
    run = memory.run
    assert ("r1", "name", "project", ("a",), "n", "g", False) == (
        run.run_id,
        run.name,
        run.project,
        run.tags,
        run.notes,
        run.group,
        run.resumed,
    )
    assert str(experiment.folder) == run.folder


def test_a_name_that_writers_use_is_shared(memory, tmp_path):
    """`exp.log_metric("loss")` and the root writer's `add_scalar("loss")` never share a series."""
    from torch.utils.tensorboard import SummaryWriter

    experiment = tracelet.start_logging(backend=memory)
    with SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_scalar("loss", 0.5, 1)
        experiment.log_metric("acc", 0.25, 1)
    assert experiment.flush(10)
    assert [("loss", 0.5), ("acc", 0.25)] == [(one.tag, one.value) for one in memory.records]


def test_no_generator_is_touched(experiment):
    """Every method leaves the three random generators in the state it found them."""
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    for call in CALLS:
        call(experiment)
    assert experiment.flush(10)
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


# What is said at the end.


def test_the_end_tells_of_a_page_that_the_start_did_not(caplog):
    """A backend that connected behind the start has its page by then; one that was told of is not told of again."""

    class Paged(MemoryBackend):
        name = "paged"
        may_open = threading.Event()

        def open(self, run):
            assert self.may_open.wait(30)
            super().open(run)

        @property
        def url(self):
            return "https://example.org/run" if self.may_open.is_set() else None

    caplog.set_level("INFO", "tracelet")
    for _ in range(2):
        caplog.clear()
        experiment = tracelet.start_logging(backend=Paged(), wait=Paged.may_open.is_set())
        Paged.may_open.set()
        experiment.log_metric("loss", 1.0)
        experiment.stop()
        first, last = caplog.messages[0], caplog.messages[-1]
        assert "paged: 1 delivered" in last
        assert 1 == sum("https://example.org/run" in line for line in (first, last))


def test_nothing_is_called_safe_that_is_lost(tmp_path, caplog):
    """Where the folder took nothing, and the backend that needs it neither, no command could deliver anything."""
    (tmp_path / "file").write_bytes(b"")
    with tracelet.start_logging(backend="csv", dir=tmp_path / "file") as experiment:
        experiment.log_metric("loss", 1.0)
    assert (0, 1) == (experiment.stats().backends["csv"].pending, experiment.stats().backends["csv"].dropped)
    assert "1 records are lost" in caplog.text
    assert "safe in the journal" not in caplog.text


def test_a_subclass_of_str_is_a_name(experiment, records):
    """As numpy's strings are, in a name, a level and an id."""
    experiment.log_metric(np.str_("loss"), 0.5, 1)
    experiment.alert("a title", level=np.str_("info"))
    scalar, alert = records()
    assert (str, "loss", "info") == (type(scalar.tag), scalar.tag, alert.level)
    assert "fold-1" == tracelet.start_logging(run_id=np.str_("fold-1")).run_id
    with pytest.raises(ConfigurationError, match="run_id must be text, got 42"):
        tracelet.start_logging(run_id=42)
