"""`events="async"`: pictures, sounds and histograms are written by a thread, as they were at the call."""

import functools
import gc
import io
import itertools
import os
import re
import sys
import threading
import time
import types
import weakref

import numpy as np
import pytest
from calls import CALLS, STEP, figure, make, public_methods, timeless
from programs import run_program
from support import our_threads

import tracelet
from tracelet.backends.memory import MemoryBackend
from tracelet.records import Audio, Histogram, Image, Scalar, kind

MAKERS = ("image", "histogram", "audio", "video")


def gradient(*shape):
    return np.linspace(0.0, 1.0, int(np.prod(shape)), dtype=np.float32).reshape(shape)


DEFERRED = {
    "add_image": lambda w, tag: w.add_image(tag, gradient(3, 4, 5), STEP),
    "add_images": lambda w, tag: w.add_images(tag, gradient(2, 3, 4, 5), STEP),
    "add_figure": lambda w, tag: w.add_figure(tag, figure(), STEP),
    "add_video": lambda w, tag: w.add_video(tag, gradient(1, 3, 3, 8, 8), STEP),
    "add_audio": lambda w, tag: w.add_audio(tag, gradient(50), STEP),
    "add_histogram": lambda w, tag: w.add_histogram(tag, gradient(100), STEP),
}


@pytest.fixture
def later(memory):
    """A run whose event files are written by a thread, which delivers to `memory`."""
    return tracelet.start_logging(backend=memory, events="async")


class Gate:
    """Holds the library's own making of summaries until it is opened; `reached` once somebody stands before it."""

    def __init__(self):
        self.reached, self.way, self.threads = threading.Event(), threading.Event(), []

    def before(self, original):
        @functools.wraps(original)
        def held(*args, **kwargs):
            self.threads.append(threading.current_thread().name)
            self.reached.set()
            assert self.way.wait(60)
            return original(*args, **kwargs)

        return held


@pytest.fixture
def gate(lib, monkeypatch):
    """Shut: nothing is encoded before it is opened."""
    made = Gate()
    for name in MAKERS:
        monkeypatch.setattr(lib.module, name, made.before(getattr(lib.module, name)))
    yield made
    made.way.set()


def tags(records):
    return [(kind(one), one.tag) for one in records]


# The same records, the same events.


@pytest.mark.parametrize("name", CALLS)
def test_each_public_method_gives_the_records_and_events_of_sync(name, lib, tmp_path, read_events, monkeypatch):
    if name not in public_methods(lib):
        pytest.skip(f"{lib.name} has no {name}")
    # tensorboardX names a file by the second and the host: the second add_hparams would replace the file, or not.
    seconds = itertools.count(1_700_000_000)
    monkeypatch.setattr("tensorboardX.event_file_writer.time", types.SimpleNamespace(time=lambda: next(seconds)))

    def told(events):
        folder, memory = tmp_path / events, MemoryBackend()
        folder.mkdir()
        with tracelet.start_logging(backend=memory, events=events):
            with lib.SummaryWriter(str(folder / "logs")) as writer:
                make(name, writer, folder)
                make(name, writer, folder)
        written = {}
        for inner in [folder / "logs", *(folder / "logs").rglob("*/")]:
            found = read_events(inner)
            for event in found:
                event.wall_time = 0.0
            written[str(inner.relative_to(folder))] = [one.SerializeToString() for one in found]
        return timeless(memory.records), written

    assert told("sync") == told("async")


@pytest.mark.parametrize("name", DEFERRED)
def test_these_return_before_the_host_is_done(name, lib, writer, later, memory, gate):
    """The host stands still on our thread; the call has returned. Nothing is lost, and the order is the program's."""
    gate.way.set()
    DEFERRED[name](writer, "first")  # what the host must import, it imports here
    assert later.flush(30)
    gate.way.clear()
    gate.threads.clear()
    gate.reached.clear()
    for number in range(3):
        DEFERRED[name](writer, f"t{number}")
    assert gate.reached.wait(30)
    writer.add_scalar("overtakes", 0.5, 1)
    gate.way.set()
    later.stop()
    assert {"tracelet-events"} == set(gate.threads)
    told = tags(memory.records)
    assert ["first", "t0", "t1", "t2"] == [tag for _, tag in told if tag != "overtakes"]
    assert ("scalar", "overtakes") in told


VALUES = {
    "float": (np.float64, lambda a: a),
    "half": (np.float16, lambda a: a),
    "whole": (np.uint8, lambda a: a * 200),
    "transposed": (np.float32, lambda a: np.asfortranarray(a)),
    "strided": (np.float32, lambda a: np.repeat(a, 2, axis=-1)[..., ::2]),
    "truth": (np.bool_, lambda a: a > 0.5),
    "negative": (np.float32, lambda a: a - 0.5),
    "large": (np.float32, lambda a: a * 100),
}


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("tensor", [False, True])
def test_values_of_every_type_and_layout(values, tensor, lib, tmp_path):
    """Pictures and histograms of the same bytes as in sync mode, from arrays, tensors and parameters."""
    import torch

    dtype, change = VALUES[values]

    def told(events):
        memory = MemoryBackend()
        with tracelet.start_logging(backend=memory, events=events), lib.SummaryWriter(str(tmp_path / events)) as writer:
            for number, axes in enumerate(["CHW", "HWC", "HW", "NCHW", "nhwc", "WH", "cwh"]):
                lengths = {"N": 3, "C": 3, "H": 6, "W": 4}
                array = change(gradient(*(lengths[axis] for axis in axes.upper()))).astype(dtype, order="K")
                given = torch.from_numpy(array.copy()) if tensor else array
                if tensor and given.is_floating_point() and number % 2:
                    given = torch.nn.Parameter(given)
                writer.add_image(f"i{number}", given, number, dataformats=axes)
                writer.add_histogram(f"h{number}", given, number)
        return timeless(memory.records)

    assert told("sync") == told("async")


def test_bfloat16_histograms(lib, tmp_path):
    """torch makes float16 of them, and tensorboardX refuses them: here as there."""
    import torch

    values = torch.linspace(-3, 3, 50, dtype=torch.bfloat16)

    def told(events):
        memory = MemoryBackend()
        with tracelet.start_logging(backend=memory, events=events), lib.SummaryWriter(str(tmp_path / events)) as writer:
            if lib.is_torch:
                writer.add_histogram("h", values, 1)
            else:
                with pytest.raises(TypeError):
                    writer.add_histogram("h", values, 1)
        return timeless(memory.records)

    assert told("sync") == told("async")


def test_the_wall_time_is_that_of_the_call(lib, writer, later, memory, gate, read_events, tmp_path):
    """Of the record and of the event, however late the host gets to it; and one that was given is kept."""
    gate.way.set()
    writer.add_image("warm", gradient(3, 4, 4))
    writer.flush()
    gate.way.clear()
    before = time.time()
    writer.add_histogram("h", gradient(9), 1)
    writer.add_image("i", gradient(3, 4, 4), 1)
    writer.add_audio("given", gradient(9), 1, walltime=12.5)
    after = time.time()
    threading.Timer(0, lambda: (gate.reached.wait(30), gate.way.set())).start()
    writer.close()
    later.stop()
    records = {one.tag: one.wall_time for one in memory.records}
    assert all(before <= records[tag] <= after for tag in "hi")
    assert 12.5 == records["given"]
    events = {event.summary.value[0].tag: event.wall_time for event in read_events(tmp_path / "logs") if event.step}
    assert events == {tag: wall_time for tag, wall_time in records.items() if tag != "warm"}


# Copies.


def test_buffers_that_are_used_again(lib, writer, later, memory, gate):
    """The host reads them only when they hold something else: what is carried is what was there at the call."""
    import torch
    from PIL import Image as Picture

    pixels, batch, sound = np.zeros((3, 4, 4), np.uint8), torch.zeros(2, 3, 4, 4), np.zeros(50, np.float32)
    weights, step = torch.nn.Parameter(torch.zeros(5)), 4
    gate.way.set()
    writer.add_image("warm", pixels)
    writer.add_audio("warm", sound)
    writer.flush()
    gate.way.clear()
    writer.add_histogram("weights", weights, step)
    writer.add_histogram("view", weights.detach()[1:3], step)
    writer.add_image("pixels", pixels, step)
    writer.add_image("turned", pixels.transpose(1, 2, 0), step, dataformats="HWC")
    writer.add_images("batch", batch, step)
    writer.add_audio("sound", sound, step)
    assert gate.reached.wait(30)
    with torch.no_grad():
        for buffer in (weights, batch):
            buffer.fill_(1)
    for buffer in (pixels, sound):
        buffer.fill(1)
    gate.way.set()
    later.stop()
    found = [one for one in memory.records if one.tag != "warm"]
    assert 6 == len(found)
    assert [(0.0, 0.0)] * 2 == [(one.minimum, one.maximum) for one in found if isinstance(one, Histogram)]
    pictures = [Picture.open(io.BytesIO(memory.data(one.data))) for one in found if isinstance(one, Image)]
    assert [(0, 0)] * 9 == [extreme for one in pictures for extreme in one.getextrema()]
    (audio,) = [one for one in found if isinstance(one, Audio)]
    assert not any(memory.data(audio.data)[44:])


def test_a_figure_that_is_drawn_on_and_closed(lib, writer, later, memory, gate):
    """Drawn at once, on the caller's thread; closed or left open as the host does."""
    from matplotlib import pyplot
    from PIL import Image as Picture

    drawn = pyplot.figure(figsize=(1, 1), dpi=20)
    axes = drawn.add_axes((0, 0, 1, 1))
    axes.set_facecolor("red")
    writer.add_figure("kept", drawn, close=False)
    assert pyplot.fignum_exists(drawn.number)
    axes.set_facecolor("blue")
    writer.add_figure("closed", [drawn])
    assert not pyplot.fignum_exists(drawn.number)
    drawn.clear()
    assert gate.reached.wait(30)
    gate.way.set()
    later.stop()
    centres = [Picture.open(io.BytesIO(memory.data(one.data))).getpixel((10, 10)) for one in memory.records]
    assert [(255, 0, 0), (0, 0, 255)] == centres
    assert {"tracelet-events"} == set(gate.threads)


def test_no_graph_is_kept_alive(lib, writer, later, gate):
    """Neither the tensor nor what it was computed from is held while the call waits."""
    import torch

    weights = torch.ones(5, requires_grad=True)
    values = weights * 2
    dead = weakref.ref(values)
    writer.add_histogram("h", values)
    assert gate.reached.wait(30)
    writer.add_histogram("h", values)
    del values
    gc.collect()
    assert dead() is None
    gate.way.set()


def test_what_was_written_is_let_go(lib, writer, later, memory):
    """No copy and no writer stays behind on the idle thread."""
    other = lib.SummaryWriter(writer.file_writer.get_logdir())
    other.add_histogram("h", gradient(9))
    other.close()
    dead = weakref.ref(other)
    del other
    gc.collect()
    assert dead() is None


# Errors.

BAD = [
    ("add_image", ()),
    ("add_image", ("t",)),
    ("add_image", ("t", np.zeros((2, 2)))),
    ("add_image", ("t", np.zeros((3, 4, 4)), 1, None, "CHW", "too many")),
    ("add_image", ("t", np.zeros((3, 4, 4)), 1, None, "CH")),
    ("add_image", ("t", np.zeros((3, 4, 4)), 1, None, "CHH")),
    ("add_image", ("t", np.zeros((3, 4, 4)), 1, None, "XYZ")),
    ("add_image", ("t", np.zeros((3, 4, 4)), 1, None, None)),
    ("add_image", ("t", np.zeros((3, 4, 4)), "four")),
    ("add_image", ("t", np.zeros((3, 4, 4)), 2**64)),
    ("add_image", ("t", np.zeros((3, 4, 4)), 1, "now")),
    ("add_image", ("t", np.zeros((3, 0, 4)))),
    ("add_image", ("t", np.zeros((5, 4, 4)))),
    ("add_image", ("t", np.full((3, 4, 4), "x"))),
    ("add_image", ("t", np.full((3, 4, 4), None))),
    ("add_image", ("t", np.full((3, 4, 4), np.nan))),
    ("add_image", ("t", np.zeros((3, 4, 4), complex))),
    ("add_image", ("t", "a path")),
    ("add_image", ("t", None)),
    ("add_image", ("t", object())),
    ("add_image", (5, np.zeros((3, 4, 4)))),
    ("add_image", (None, np.zeros((3, 4, 4)))),
    ("add_images", ("t", np.zeros((3, 4, 4)))),
    ("add_images", ("t", np.zeros((0, 3, 4, 4)))),
    ("add_images", ("t", np.zeros((2, 4, 4, 4)))),
    ("add_images", ("t", np.zeros((2, 2, 4, 4)))),
    ("add_images", ("t", [np.zeros((3, 4, 4))])),
    ("add_figure", ("t", "no figure")),
    ("add_figure", ("t", [])),
    ("add_figure", ("t",)),
    ("add_video", ("t", np.zeros((3, 4, 4)))),
    ("add_video", ("t", np.zeros((1, 2, 3, 4, 4)), 1, 0)),
    ("add_video", ("t", np.zeros((1, 2, 5, 4, 4)))),
    ("add_video", ("t", np.zeros((1, 0, 3, 4, 4)))),
    ("add_video", ("t", "a path")),
    ("add_audio", ("t", np.zeros((5, 5)))),
    ("add_audio", ("t", np.zeros((2, 3, 4)))),
    ("add_audio", ("t", np.zeros(0))),
    ("add_audio", ("t", np.zeros(1))),
    ("add_audio", ("t", np.zeros((1, 1)))),
    ("add_audio", ("t", np.zeros(5, np.int8))),
    ("add_audio", ("t", np.zeros(5), 1, 0)),
    ("add_audio", ("t", np.zeros(5), 1, -3)),
    ("add_audio", ("t", np.zeros(5), 1, "rate")),
    ("add_audio", ("t", np.full(5, np.nan))),
    ("add_audio", ("t", None)),
    ("add_histogram", ("t", np.array([]))),
    ("add_histogram", ("t", [])),
    ("add_histogram", ("t", np.full(3, np.nan))),
    ("add_histogram", ("t", np.full(3, np.inf))),
    ("add_histogram", ("t", np.full(3, 1e30))),
    ("add_histogram", ("t", np.ones(3), 1, "no such bins")),
    ("add_histogram", ("t", np.ones(3), 1, 0)),
    ("add_histogram", ("t", np.ones(3), 1, [3, 2, 1])),
    ("add_histogram", ("t", np.array([1.0, 1.0 + 2e-16]), 1, 1000)),
    ("add_histogram", ("t", np.array([0.0, np.nan]), 1, "auto")),
    ("add_histogram", ("t", np.ones(3), 1, "tensorflow", None, 0)),
    ("add_histogram", ("t", np.array(["x"]))),
    ("add_histogram", ("t", None)),
    ("add_histogram", ("t", np.ones(3), [1])),
]


def shown(call):
    name, arguments = call
    told = [f"{one.dtype}{list(one.shape)}" if isinstance(one, np.ndarray) else repr(one)[:20] for one in arguments]
    return f"{name}-{'-'.join(told)}"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("call", BAD, ids=shown)
def test_what_the_host_says_it_says_on_the_callers_line(call, lib, tmp_path, memory, gate):
    """Same exception as of TensorBoard alone, or none where it has none; same events and records as in sync mode."""
    gate.way.set()
    name, arguments = call

    def outcome(folder):
        with lib.SummaryWriter(str(tmp_path / folder)) as writer:
            try:
                return getattr(writer, name)(*arguments)
            except Exception as error:  # noqa: BLE001
                return type(error), re.sub(r"0x\w+", "", str(error))

    plain, synchronous = outcome("plain"), MemoryBackend()
    with tracelet.start_logging(backend=synchronous):
        assert plain == outcome("sync")
    with tracelet.start_logging(backend=memory, events="async"):
        assert plain == outcome("async")
    assert timeless(synchronous.records) == timeless(memory.records)
    if plain is not None:
        assert "tracelet-events" not in gate.threads


def test_a_tensor_that_cannot_be_read(lib, tmp_path, memory):
    """Sparse, complex, on no device: the host's own exception, or its own way with it."""
    import torch

    strange = torch.eye(3).to_sparse(), torch.zeros(3, dtype=torch.complex64), torch.zeros(3, device="meta")

    def said(folder):
        np.random.seed(1)  # of a meta tensor, torch writes a random number
        outcomes = []
        with lib.SummaryWriter(str(tmp_path / folder)) as writer:
            for values in strange:
                try:
                    outcomes.append(writer.add_histogram("h", values, 1))
                except Exception as error:  # noqa: BLE001
                    outcomes.append((type(error), str(error)))
        return outcomes

    plain, synchronous = said("plain"), MemoryBackend()
    with tracelet.start_logging(backend=synchronous):
        said("sync")
    with tracelet.start_logging(backend=memory, events="async"):
        assert plain == said("async")
    assert timeless(synchronous.records) == timeless(memory.records)


def test_one_tag_keeps_its_order(lib, writer, later, memory, gate):
    """A call that is made at once waits for those before it."""
    writer.add_histogram("h", gradient(9), 1)
    assert gate.reached.wait(30)
    threading.Timer(0.05, gate.way.set).start()
    writer.add_histogram("h", gradient(9), 2, bins="auto")
    writer.add_histogram("h", gradient(9), 3)
    later.stop()
    assert [1, 2, 3] == [one.step for one in memory.records]
    assert ["tracelet-events", "MainThread", "tracelet-events"] == gate.threads


def test_a_deferred_call_that_fails(lib, writer, later, memory, monkeypatch, swallowed, caplog):
    """It is counted and said once; those after it are made."""
    original = lib.module.histogram

    def failing(name, *args, **kwargs):
        if name == "bad":
            raise OSError("no space left")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(lib.module, "histogram", failing)
    for tag in ("a", "bad", "bad", "b"):
        writer.add_histogram(tag, gradient(9))
    writer.flush()
    later.stop()
    assert ["a", "b"] == [one.tag for one in memory.records]
    assert ["no space left"] * 2 == [str(error) for error in swallowed]
    swallowed.clear()
    assert 2 == later.stats().causes["error in SummaryWriter.add_histogram: OSError"]
    assert 1 == caplog.text.count("tracelet: error in SummaryWriter.add_histogram")


# Waiting.


@pytest.mark.parametrize("how", ["flush", "close", "with", "file writer"])
def test_a_file_is_complete_after(how, lib, later, gate, tmp_path, read_values):
    """flush and close of a writer wait for its calls, and for no other writer's."""
    other = lib.SummaryWriter(str(tmp_path / "other"))
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_histogram("h", gradient(9), 1)
        assert gate.reached.wait(30)
        other.flush()  # does not wait: the gate is shut
        threading.Timer(0.05, gate.way.set).start()
        match how:
            case "flush":
                writer.flush()
            case "close":
                writer.close()
            case "file writer":
                writer.file_writer.flush()
    assert ["h"] == [value.tag for _, value in read_values(tmp_path / "logs")]
    other.close()


def test_flush_of_the_run_waits(lib, writer, later, memory, gate):
    """True once all is confirmed, False where the time is up before."""
    writer.add_histogram("h", gradient(9), 1)
    assert not later.flush(0.05)
    assert [] == memory.records
    gate.way.set()
    assert later.flush(30)
    assert 1 == len(memory.records)


def test_stop_drains(lib, writer, later, memory, tmp_path, read_values):
    for step in range(50):
        writer.add_histogram("h", gradient(100), step)
        writer.add_image("i", gradient(3, 8, 8), step)
    later.stop()
    writer.flush()
    for wanted in ("h", "i"):
        assert list(range(50)) == [one.step for one in memory.records if one.tag == wanted]
        assert list(range(50)) == [event.step for event, value in read_values(tmp_path / "logs") if value.tag == wanted]


def test_what_is_left_at_the_deadline_is_counted(lib, writer, later, memory, gate, caplog):
    """Stop ends in time, says what it dropped, and leaves nobody waiting."""
    for step in range(4):
        writer.add_histogram("h", gradient(9), step)
    assert gate.reached.wait(30)
    began = time.monotonic()
    later.stop(timeout=0.1)
    assert time.monotonic() - began < 10
    gate.way.set()
    writer.flush()
    assert 4 == later.stats().causes["dropped: deferred add_histogram was not made before the time limit"]
    assert 1 == caplog.text.count("dropped deferred calls")
    assert [] == memory.records
    for thread in threading.enumerate():
        if thread.name == "tracelet-events":
            thread.join(30)


def test_only_so_many_bytes_wait(lib, memory, gate, tmp_path, monkeypatch):
    """The caller waits for room; what is larger than all room is made at once."""
    monkeypatch.setenv("TRACELET_QUEUE_BYTES", str(100_000))
    with tracelet.start_logging(backend=memory, events="async"), lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        done, two = [], threading.Event()

        def log():
            for step in range(5):
                writer.add_histogram("h", np.zeros(5000, np.float64), step)  # 40 kB
                done.append(step)
                if step == 1:
                    two.set()
            writer.add_histogram("large", np.zeros(20_000, np.float64), 5)

        thread = threading.Thread(target=log)
        thread.start()
        assert two.wait(30)
        thread.join(0.3)
        assert thread.is_alive()
        assert [0, 1] == done
        gate.way.set()
        thread.join(30)
        assert not thread.is_alive()
    assert list(range(6)) == [one.step for one in memory.records]
    assert ["tracelet-events"] * 5 == gate.threads[:5]
    assert "tracelet-events" != gate.threads[5]


def test_only_so_many_calls_wait(lib, writer, later, memory, gate):
    """Empty hands fill the memory as well."""

    def log():
        for step in range(1200):
            writer.add_histogram("h", np.zeros(1), step)

    thread = threading.Thread(target=log)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    gate.way.set()
    thread.join(60)
    later.stop()
    assert list(range(1200)) == [one.step for one in memory.records]


def test_several_threads_and_writers(lib, later, memory, tmp_path):
    """2 x 200 calls beside each other: each tag has its own in order."""
    writers = [lib.SummaryWriter(str(tmp_path / "logs" / name)) for name in ("", "sub")]

    def log(number):
        for step in range(200):
            writers[number].add_histogram(f"t{number}", gradient(9), step)
            if step % 50 == 0:
                writers[number].flush()

    threads = [threading.Thread(target=log, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.close()
    later.stop()
    for tag in ("t0", "sub/t1"):
        assert list(range(200)) == [one.step for one in memory.records if one.tag == tag]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_child_makes_its_calls_at_once(lib, later, memory, gate, tmp_path):
    """It has no such thread: nothing waits there for ever, and the parent's calls stay the parent's."""
    writer = lib.SummaryWriter(str(tmp_path / "logs"))
    writer.add_histogram("h", gradient(9), 1)
    assert gate.reached.wait(30)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            gate.threads.clear()
            gate.way = threading.Event()
            gate.way.set()
            writer.add_histogram("h", gradient(9), 2)
            if not lib.is_torch:  # its queue is shared: the parent's close waits for this event, which must be sent
                writer.flush()
            os.write(write, ",".join(gate.threads).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as told:
        assert "MainThread" == told.read()
    os.waitpid(child, 0)
    gate.way.set()
    writer.close()
    later.stop()
    assert [1] == [one.step for one in memory.records]


PROGRAM = """
import importlib, sys
import numpy as np
import tracelet
from tracelet.backends.memory import MemoryBackend

module = importlib.import_module(sys.argv[1])
tracelet.start_logging(backend="csv", events="async", dir=sys.argv[2] + "/runs")
writer = module.SummaryWriter(sys.argv[2] + "/logs")
for step in range(20):
    writer.add_histogram("h", np.arange(100.0), step)
    writer.add_image("i", np.zeros((3, 64, 64)), step)
{end}
"""


@pytest.mark.parametrize("end", ["writer.flush()", "", "sys.exit(3)"])
def test_a_program_that_just_ends(end, lib, tmp_path, read_values):
    """Every call is in the run, and with tensorboardX, which closes its files at the end, in the event file."""
    ended = run_program(PROGRAM.replace("{end}", end), lib.module.__name__, tmp_path)
    assert (3 if "exit" in end else 0) == ended.returncode, ended.err
    assert "40 records" in ended.err
    if "flush" in end or not lib.is_torch:
        steps = [event.step for event, value in read_values(tmp_path / "logs") if value.tag == "i"]
        assert list(range(20)) == steps


# Calls inside calls, and other people's.


def test_a_subclass_that_overrides_what_is_deferred(lib, later, memory, tmp_path):
    """What it adds is recorded, and nothing twice, directly and through the base's add_figure."""

    class Noting(lib.SummaryWriter):
        def add_image(self, tag, *args, **kwargs):
            self.add_scalar(f"{tag}/mean", 0.1)
            self.add_histogram(f"{tag}/values", gradient(9))
            super().add_image(tag, *args, **kwargs)

    with Noting(str(tmp_path / "logs")) as writer:
        writer.add_image("direct", np.zeros((3, 4, 4), np.uint8))
        writer.add_figure("drawn", figure())
    later.stop()
    expected = [(sort, tag + end) for tag in ("direct", "drawn") for sort, end in SORTS]
    assert sorted(expected) == sorted(tags(memory.records))
    deferred = [one for one in expected if one[0] != "scalar"]
    assert deferred == [one for one in tags(memory.records) if one[0] != "scalar"]


SORTS = [("scalar", "/mean"), ("histogram", "/values"), ("image", "")]


def test_a_subclass_whose_image_raises(lib, later, memory, tmp_path):
    class Failing(lib.SummaryWriter):
        def add_image(self, tag, *args, **kwargs):
            self.add_scalar(f"{tag}/mean", 0.1)
            raise KeyError(tag)

    with Failing(str(tmp_path / "logs")) as writer, pytest.raises(KeyError, match="drawn"):
        writer.add_figure("drawn", figure())
    later.stop()
    assert [("scalar", "drawn/mean")] == tags(memory.records)


def test_a_writer_with_a_way_of_its_own_to_its_file(lib, later, memory, gate, tmp_path):
    """The program's code runs on the program's thread."""
    gate.way.set()
    threads = []

    class Own(lib.SummaryWriter):
        def _get_file_writer(self):
            threads.append(threading.current_thread().name)
            return super()._get_file_writer()

    with Own(str(tmp_path / "logs")) as writer:
        writer.add_histogram("h", gradient(9), 1)
    assert {"MainThread"} == set(threads) == set(gate.threads)


@pytest.mark.parametrize("name", ["add_event", "add_summary", "add_histogram"])
@pytest.mark.parametrize("first", ["they", "we"])
def test_who_wraps_a_method_is_called_on_the_programs_thread(name, first, lib, memory, tmp_path, monkeypatch):
    """As MLflow's autolog does, whose run is one thread's."""
    seen, owner = [], lib.SummaryWriter if name == "add_histogram" else lib.FileWriter

    def they_wrap():
        original = getattr(owner, name)

        @functools.wraps(original)
        def theirs(*args, **kwargs):
            seen.append(threading.current_thread().name)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, theirs)

    if first == "they":
        they_wrap()
    with tracelet.start_logging(backend=memory, events="async"), lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        if first == "we":
            they_wrap()
        writer.add_histogram("h", gradient(9), 1)
        monkeypatch.undo()
    assert ["MainThread"] == seen
    assert [1] == [one.step for one in memory.records]


def test_values_for_a_block(later, memory, tmp_path):
    """tensorboardX's use_metadata: calls made before it are not of it, calls in it are."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(tmp_path / "logs")) as writer:
        for _ in range(5):
            writer.add_histogram("before", gradient(1000))
        with writer.use_metadata(global_step=7, walltime=12.0):
            writer.add_histogram("in", gradient(9))
        writer.add_histogram("after", gradient(9))
    later.stop()
    assert [("before", None)] * 5 + [("in", 7), ("after", None)] == [(one.tag, one.step) for one in memory.records]
    assert [12.0] == [one.wall_time for one in memory.records if one.tag == "in"]


def test_a_program_that_changes_the_default_bins(lib, writer, later, memory):
    """They are read at the call."""
    writer.add_histogram("own", gradient(9), 1)
    writer.default_bins = [0.0, 0.5, 1.0]
    writer.add_histogram("two", gradient(9), 2)
    writer.default_bins.append(2.0)
    later.stop()
    assert [True, False] == [len(one.limits) > 4 for one in memory.records]


# The life cycle.


def test_everything_is_put_back(lib, tmp_path, memory):
    """Classes, also the event writer's, and no thread."""
    owners = [lib.module, lib.SummaryWriter, lib.FileWriter, lib.module.EventFileWriter]
    before = [dict(vars(owner)) for owner in owners]
    with tracelet.start_logging(backend=memory, events="async"):
        assert "tracelet-events" in our_threads()
        with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
            for name in DEFERRED:
                DEFERRED[name](writer, name)
    for was, owner in zip(before, owners, strict=True):
        assert [] == [name for name, value in vars(owner).items() if was.get(name) is not value]
        assert was.keys() == vars(owner).keys()
    assert [] == our_threads()


def test_a_writer_made_before_and_used_after(lib, tmp_path, memory, read_values):
    second = MemoryBackend()
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        with tracelet.start_logging(backend=memory, events="async"):
            bound = writer.add_histogram
            bound("h", gradient(9), 1)
            writer.add_image("i", gradient(3, 4, 4), 1)
        bound("h", gradient(9), 2)
        writer.add_image("i", gradient(3, 4, 4), 2)
        with tracelet.start_logging(backend=second, events="async"):
            bound("h", gradient(9), 3)
            writer.add_image("i", gradient(3, 4, 4), 3)
    assert [1, 1] == [one.step for one in memory.records]
    assert [("h", 3), ("i", 3)] == [(one.tag, one.step) for one in second.records]
    written = [(value.tag, event.step) for event, value in read_values(tmp_path / "logs")]
    assert [(tag, step) for step in (1, 2, 3) for tag in "hi"] == written


def test_nothing_holds_a_stopped_run(lib, tmp_path):
    memory = MemoryBackend()
    experiment = tracelet.start_logging(backend=memory, events="async")
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_histogram("h", gradient(9), 1)
        experiment.stop()
        writer.add_histogram("h", gradient(9), 2)
        dead = weakref.ref(experiment), weakref.ref(memory)
        del experiment, memory
        gc.collect()
        assert (None, None) == (dead[0](), dead[1]())


def test_tensorboardx_without_a_file(later, memory, tmp_path):
    """`write_to_disk=False`: nothing to defer; everything is carried."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(tmp_path / "logs"), write_to_disk=False) as writer:
        for step in range(3):
            writer.add_histogram("h", gradient(9), step)
    later.stop()
    assert [0, 1, 2] == [one.step for one in memory.records]


def test_add_scalar_does_not_wait(lib, writer, later, memory, gate):
    """It and the other methods are what they were."""
    writer.add_histogram("h", gradient(9), 1)
    assert gate.reached.wait(30)
    writer.add_scalar("loss", 0.5, 1)
    writer.add_text("note", "words", 1)
    gate.way.set()
    later.stop()
    assert [("scalar", "loss"), ("text", "note"), ("histogram", "h")] == tags(memory.records)
    assert [Scalar("loss", 0.5, 1, memory.records[0].wall_time)] == memory.records[:1]


def test_a_run_without_moviepy(lib, writer, later, memory, monkeypatch):
    """The frames are carried, from the thread as well."""
    for name in list(sys.modules):
        if name.partition(".")[0] == "moviepy":
            monkeypatch.delitem(sys.modules, name)
    for name in ("moviepy", "moviepy.editor", "moviepy.video.io.ImageSequenceClip"):
        monkeypatch.setitem(sys.modules, name, None)
    frames = np.zeros((1, 3, 3, 8, 10), np.uint8)
    writer.add_video("video", frames, 2)
    frames.fill(255)
    later.stop()
    (video,) = memory.records
    assert ("video", "gif", 10, 8, 2) == (video.tag, video.format, video.width, video.height, video.step)
    assert memory.data(video.data).startswith(b"GIF8")
