"""From start to stop and back: what is wrapped, what is put back, and who else may wrap."""

import functools
import gc
import importlib
import inspect
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from calls import CALLS, make, public_methods
from support import WRITER_MODULES, our_threads

import tracelet
from tracelet.backends.memory import MemoryBackend
from tracelet.records import Image, Params, Scalar

# Code of ours is known by its file: the repository may be in a folder of any name.
OURS = os.path.dirname(tracelet.__file__) + os.sep


def points(records):
    return [(one.tag, one.value, one.step) for one in records if isinstance(one, Scalar)]


def classes(lib):
    found = [lib.SummaryWriter, lib.FileWriter, getattr(lib.module, "DummyFileWriter", None)]
    return [one for one in found if one is not None]


def attributes(lib):
    """Every attribute of the library's classes, to be compared by identity."""
    return {(owner, name): value for owner in classes(lib) for name, value in vars(owner).items()}


def changed(before, after):
    names = before.keys() | after.keys()
    return sorted(name for owner, name in names if before.get((owner, name)) is not after.get((owner, name)))


@pytest.fixture
def run_program(tmp_path):
    """Run a program in a fresh interpreter; gives what it printed as JSON."""

    def run(text):
        command = [sys.executable, "-W", "ignore", "-c", text, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert 0 == done.returncode, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


# Who was there first.


@pytest.mark.parametrize("made", ["before", "after"])
@pytest.mark.parametrize("order", [("torch",), ("tensorboardX",), ("torch", "tensorboardX"), ("tensorboardX", "torch")])
def test_a_writer_made_before_or_after_the_start(made, order, tmp_path, memory):
    """Each call is carried exactly once, with one library or both."""
    modules = [importlib.import_module(WRITER_MODULES[name]) for name in order]

    def make_writers():
        return [module.SummaryWriter(str(tmp_path / name)) for name, module in zip(order, modules, strict=True)]

    writers = make_writers() if made == "before" else []
    with tracelet.start_logging(backend=memory, root_logdir=tmp_path):
        writers = writers or make_writers()
        for step, writer in enumerate(writers):
            writer.add_scalar("loss", 0.1, step)
            writer.add_text("note", "words", step)
            writer.close()
    assert [(f"{name}/loss", 0.1, step) for step, name in enumerate(order)] == points(memory.records)
    assert 2 * len(order) == len(memory.records)


LATE = """
import json, os, sys
import tracelet
from tracelet.backends.memory import MemoryBackend

OURS = os.path.dirname(tracelet.__file__) + os.sep
memory = MemoryBackend()
experiment = tracelet.start_logging(backend=memory, root_logdir=sys.argv[1])
experiment.log_metric("early", 1.0)
early = [name for name in ("torch", "tensorboardX", "tensorboard") if name in sys.modules]
found = {}
for order in {order}:
    package = __import__(order, fromlist=["SummaryWriter"])
    found[order] = module = sys.modules[package.SummaryWriter.__module__]
    writer = package.SummaryWriter(sys.argv[1] + "/" + order)
    writer.add_scalar("loss", 0.1, 1)
    writer.close()
assert all(module.__spec__.loader is module.__loader__ for module in found.values())
tracelet.stop_logging()
left = [
    name for module in found.values() for owner in (module.SummaryWriter, module.FileWriter)
    for name, value in vars(owner).items() if hasattr(value, "__code__") and value.__code__.co_filename.startswith(OURS)
]
print(json.dumps({"early": early, "left": left, "points": [[one.tag, one.value] for one in memory.records]}))
"""


@pytest.mark.parametrize(
    "order",
    [
        ("torch.utils.tensorboard.writer",),
        ("tensorboardX.writer",),
        ("tensorboardX", "torch.utils.tensorboard"),
    ],
)
def test_a_library_imported_after_the_start(order, run_program):
    """start_logging imports neither library, and captures what is imported later; the explicit API works before."""
    told = run_program(LATE.replace("{order}", repr(order)))
    assert [["early", 1.0]] + [[f"{name}/loss", 0.1] for name in order] == told["points"]
    assert ([], []) == (told["early"], told["left"])


def test_importing_tracelet_imports_nobody_elses_weight(run_program):
    """Neither a writer library nor numpy nor any backend's vendor."""
    told = run_program("import json, sys, tracelet; print(json.dumps(list(sys.modules)))")
    heavy = {"torch", "tensorboard", "tensorboardX", "numpy", "PIL", "matplotlib", "google.protobuf", "pandas"}
    vendors = {"wandb", "mlflow", "clearml", "aim", "rich", "typer"}
    assert set() == (heavy | vendors) & set(told)


def test_a_library_that_is_not_installed(run_program):
    """An import that fails, fails as it does without us, and the run goes on."""
    told = run_program("""
import json, sys, tracelet
from tracelet.backends.memory import MemoryBackend
sys.modules["torch"] = None

def said():
    try:
        import torch.utils.tensorboard.writer
    except ModuleNotFoundError as error:
        return str(error)

plain, memory = said(), MemoryBackend()
with tracelet.start_logging(backend=memory) as experiment:
    carried = said()
    experiment.log_metric("loss", 0.5)
print(json.dumps([plain == carried is not None, len(memory.records)]))
""")
    assert [True, 1] == told


# After stop.


def test_stop_puts_back_the_very_same_objects(lib, tmp_path, memory):
    """`SummaryWriter.add_scalar is before`, and so for every attribute of every class; no thread, no hook stays."""
    before = attributes(lib)
    finders, handler, leave = list(sys.meta_path), signal.getsignal(signal.SIGTERM), sys.exit
    tracelet.start_logging(backend=memory)
    assert set(public_methods(lib)) - {name for name in CALLS if "custom_scalars" in name} <= set(
        changed(before, attributes(lib))
    )
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_scalar("loss", 0.1)
        tracelet.stop_logging()
        writer.add_scalar("loss", 0.2)
    assert [] == changed(before, attributes(lib))
    assert (finders, handler, leave) == (sys.meta_path, signal.getsignal(signal.SIGTERM), sys.exit)
    assert [] == our_threads()
    assert 1 == len(memory.records)


def test_nothing_holds_a_stopped_run(lib, tmp_path):
    """The experiment and its backend are free once the program lets go of them."""
    memory = MemoryBackend()
    experiment = tracelet.start_logging(backend=memory)
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_scalar("loss", 0.1)
        bound = writer.add_scalar  # ours, and kept by the program
        experiment.stop()
        bound("loss", 0.2)
        dead = weakref.ref(experiment), weakref.ref(memory)
        del experiment, memory, bound
        gc.collect()
        assert (None, None) == (dead[0](), dead[1]())


def test_a_method_bound_during_the_run_works_after_it(lib, tmp_path, memory):
    """What the program took while the run was on passes on afterwards."""
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        with tracelet.start_logging(backend=memory):
            bound, summarise = writer.add_scalar, writer.add_text
            bound("loss", 0.1, 1)
        bound("loss", 0.2, 2)
        summarise("note", "words")
        second = MemoryBackend()
        with tracelet.start_logging(backend=second):
            bound("loss", 0.5, 3)
            summarise("note", "words", 4)
    assert [("loss", 0.1, 1)] == points(memory.records)
    assert [("loss", 0.5, 3)] == points(second.records)
    assert 2 == len(second.records)


@pytest.mark.parametrize("cycles", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_many_starts_and_stops_leave_nothing(cycles, tmp_path):
    """Call depth, hooks, threads and objects after many cycles are the same as after one."""
    modules = [importlib.import_module(name) for name in WRITER_MODULES.values()]
    methods = {owner: owner.add_scalar for owner in (module.SummaryWriter for module in modules)}

    def held():
        gc.collect()
        kinds = Counter(type(one).__module__ for one in gc.get_objects())
        ours = sum(number for module, number in kinds.items() if str(module).startswith("tracelet"))
        return ours, len(sys.meta_path), threading.active_count(), signal.getsignal(signal.SIGTERM), sys.exit

    writers = [module.SummaryWriter(str(tmp_path / module.__name__)) for module in modules]
    for cycle in range(cycles):
        with tracelet.start_logging(mode="offline", dir=tmp_path / "cycles"):
            for writer in writers:
                writer.add_scalar("loss", 0.1, cycle)
        if cycle == 0:
            first = held()
    assert first == held()
    assert methods == {owner: owner.add_scalar for owner in methods}
    for writer in writers:
        writer.close()


# Others who wrap.


def counting(calls, original):
    @functools.wraps(original)
    def theirs(*args, **kwargs):
        calls.append(original.__name__)
        return original(*args, **kwargs)

    return theirs


def restore_later(monkeypatch, methods):
    """Let the methods be after the test what they are now, whoever wraps them in between."""
    for owner, name in methods:
        monkeypatch.setattr(owner, name, getattr(owner, name))


@pytest.mark.parametrize("first", ["they", "we"])
def test_others_wrap_the_same_methods(first, lib, tmp_path, memory, monkeypatch):
    """Both get each call once. Who came after us stays when we stop; ours then passes on, also at the next start."""
    calls, theirs, second = [], [], MemoryBackend()
    methods = ((lib.SummaryWriter, "add_scalar"), (lib.FileWriter, "add_event"))
    restore_later(monkeypatch, methods)

    def they_wrap():
        for owner, name in methods:
            theirs.append(counting(calls, getattr(owner, name)))
            monkeypatch.setattr(owner, name, theirs[-1])

    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        if first == "they":
            they_wrap()
        with tracelet.start_logging(backend=memory):
            if first == "we":
                they_wrap()
            writer.add_scalar("loss", 0.1, 1)
        assert ["add_scalar", "add_event"] == calls
        assert theirs == [lib.SummaryWriter.add_scalar, lib.FileWriter.add_event]
        writer.add_scalar("loss", 0.2, 2)
        assert 4 == len(calls)
        with tracelet.start_logging(backend=second):
            writer.add_scalar("loss", 0.3, 3)
        assert 6 == len(calls)
        assert theirs == [lib.SummaryWriter.add_scalar, lib.FileWriter.add_event]
    assert [[("loss", 0.1, 1)], [("loss", 0.3, 3)]] == [points(one.records) for one in (memory, second)]
    monkeypatch.undo()


@pytest.mark.parametrize("theirs", ["original", "wrapped"])
def test_somebody_puts_back_what_was_there_before_us(theirs, lib, tmp_path, memory, monkeypatch):
    """As MLflow's autolog does whenever it is set: from the next public call on, everything is carried again."""
    events, hparams = lib.FileWriter.add_event, lib.SummaryWriter.add_hparams
    restore_later(monkeypatch, ((lib.FileWriter, "add_event"), (lib.SummaryWriter, "add_hparams")))
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer, tracelet.start_logging(backend=memory):
        writer.add_scalar("loss", 0.1, 1)
        monkeypatch.setattr(lib.SummaryWriter, "add_hparams", hparams)
        monkeypatch.setattr(lib.FileWriter, "add_event", events if theirs == "original" else counting([], events))
        writer.add_scalar("loss", 0.2, 2)
        name = "run_name" if lib.is_torch else "name"
        writer.add_hparams({"layers": 3, "bias": True}, {"acc": 0.9}, **{name: "hp"})
        writer.add_image("image", np.ones((3, 2, 2)), 3)
    scalars = [record for record in memory.records if isinstance(record, Scalar)]
    assert [("loss", 0.1, 1), ("loss", 0.2, 2), ("hp/acc", 0.9, None)] == points(scalars)
    assert [{"layers": 3, "bias": True}] == [dict(one.values) for one in memory.of(Params)]
    assert 1 == len(memory.of(Image))
    monkeypatch.undo()


@pytest.mark.parametrize("order", ["before", "after"])
def test_another_patch_that_writes_an_event_of_its_own(order, lib, tmp_path, memory, monkeypatch):
    """What somebody else adds inside a call is a record under its own tag, however often."""
    original = lib.FileWriter.add_summary

    def add_summary(file_writer, summary, global_step=None, walltime=None):
        more = type(summary)()
        more.value.add(tag=f"{summary.value[0].tag}/half", simple_value=summary.value[0].simple_value / 2)
        for one in (summary, more) if order == "after" else (more, summary):
            original(file_writer, one, global_step, walltime)

    monkeypatch.setattr(lib.FileWriter, "add_summary", add_summary)
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer, tracelet.start_logging(backend=memory):
        for step in (1, 2, None):
            writer.add_scalar("loss", 0.5, step)
    both = [("loss", 0.5), ("loss/half", 0.25)][:: 1 if order == "after" else -1]
    assert [(tag, value, step) for step in (1, 2, None) for tag, value in both] == points(memory.records)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("first", ["they", "we"])
def test_beside_the_real_patch_of_wandb(first, lib, tmp_path, memory):
    """wandb.tensorboard.patch replaces the event writer below us: each call is carried once, whoever came first."""
    for module in WRITER_MODULES.values():
        importlib.import_module(module)  # wandb imports them itself, and would wrap what we have wrapped
    theirs = importlib.import_module("wandb.integration.tensorboard")
    before = attributes(lib)
    original = lib.module.EventFileWriter
    try:
        if first == "they":
            theirs.patch()
        with tracelet.start_logging(backend=memory):
            if first == "we":
                theirs.patch()
            assert original is not lib.module.EventFileWriter
            with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
                writer.add_scalar("loss", 0.1, 1)
                writer.add_text("note", "words", 1)
    finally:
        theirs.unpatch()
    assert original is lib.module.EventFileWriter
    assert [] == changed(before, attributes(lib))
    assert ["scalar", "text"] == [type(one).__name__.lower() for one in memory.records]
    assert [("loss", 0.1, 1)] == points(memory.records)


def test_the_module_is_reloaded(lib, tmp_path, memory):
    """A notebook cell that reloads: the old class and the new are carried, and both are put back."""
    saved = dict(vars(lib.module))
    before = attributes(lib)
    old = lib.SummaryWriter
    try:
        with tracelet.start_logging(backend=memory, root_logdir=tmp_path):
            with old(str(tmp_path / "made before")) as writer:
                importlib.reload(lib.module)
                assert lib.SummaryWriter is not old
                writer.add_scalar("loss", 0.1, 1)
            with lib.SummaryWriter(str(tmp_path / "made after")) as writer:
                writer.add_scalar("loss", 0.2, 2)
            with old(str(tmp_path / "old class")) as writer:
                writer.add_scalar("loss", 0.3, 3)
        new = attributes(lib)
    finally:
        vars(lib.module).update(saved)
    expected = [("made before/loss", 0.1, 1), ("made after/loss", 0.2, 2), ("old class/loss", 0.3, 3)]
    assert expected == points(memory.records)
    assert [] == changed(before, attributes(lib))
    codes = {name: getattr(value, "__code__", None) for (_, name), value in new.items()}
    assert [] == [name for name, code in codes.items() if code and code.co_filename.startswith(OURS)]


# What nobody may notice.


def test_a_wrapped_class_looks_like_itself(lib, tmp_path):
    """Signatures, names, documentation, pickling and isinstance are those of the library."""

    def looks():
        functions = {
            (owner.__name__, name): value
            for (owner, name), value in attributes(lib).items()
            if inspect.isfunction(value)
        }
        return {
            key: (inspect.signature(one), one.__name__, one.__qualname__, one.__doc__, one.__module__)
            for key, one in functions.items()
        }

    plain = looks(), inspect.signature(lib.SummaryWriter), dir(lib.SummaryWriter)
    with tracelet.start_logging(), lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        assert plain == (looks(), inspect.signature(lib.SummaryWriter), dir(lib.SummaryWriter))
        assert isinstance(writer, lib.SummaryWriter)
        assert lib.SummaryWriter is type(writer)
        for one in (lib.SummaryWriter, lib.SummaryWriter.add_scalar, lib.SummaryWriter.add_image):
            assert one is pickle.loads(pickle.dumps(one))


def test_a_call_gives_back_what_the_library_does(lib, tmp_path, experiment):
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        results = {writer.add_scalar("a", 0.1), writer.add_text("b", "c"), writer.add_scalars("d", {"e": 1})}
    assert {None} == results


@pytest.mark.parametrize("name", CALLS)
def test_the_event_files_are_the_same_with_and_without(name, lib, tmp_path, read_events, monkeypatch):
    """Same files, same events, byte for byte, but for wall time and host."""
    if name not in public_methods(lib):
        pytest.skip(f"{lib.name} has no {name}")

    def written(folder):
        with lib.SummaryWriter(str(tmp_path / folder / "logs")) as writer:
            make(name, writer, tmp_path / folder)
        found = {}
        for path in sorted(Path(tmp_path / folder / "logs").rglob("*")):
            if path.is_file() and "tfevents" not in path.name:
                found[str(path.relative_to(tmp_path / folder))] = path.read_bytes()
        for inner in [tmp_path / folder / "logs", *(tmp_path / folder / "logs").rglob("*/")]:
            events = read_events(inner)
            for event in events:
                event.wall_time = 0.0
            found[str(inner.relative_to(tmp_path / folder)) + "/events"] = [one.SerializeToString() for one in events]
        return found

    for folder in ("plain", "carried"):
        (tmp_path / folder).mkdir()
    plain = written("plain")
    with tracelet.start_logging():
        assert plain == written("carried")
