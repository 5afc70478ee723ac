"""The program's wandb goes on as before: the same store, offline and online; and from start to stop and back."""

import json
import os
import pkgutil
import re
import subprocess
import sys

import numpy as np
import pytest
from backends import wandb_store
from backends.wandb_server import WandbServer

import tracelet
from tracelet.backends.memory import MemoryBackend
from tracelet.records import Alert, Artifact, Image, Params, Scalar, Summary, Tags

OURS = os.path.dirname(tracelet.__file__) + os.sep
_VARYING = ("_timestamp", "_runtime", "_wandb")
# Files with the time, or with what wandb finds on the machine.
_OF_WANDB = {"wandb-metadata.json", "wandb-summary.json", "config.yaml", "output.log", "requirements.txt", "conda.yaml"}


def program(wandb, folder, name="same"):
    """Log some of everything, and return what the calls returned."""
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    (folder / "model.txt").write_text("weights")
    run = wandb.init(id=name, name=name, config={"lr": 0.1, "model": {"depth": 3}}, tags=["a"])
    results = []
    for step in range(5):
        results.append(wandb.log({"loss": 1 / (step + 1), "val": {"acc": step, "word": "x"}}))
    results.append(run.log({"picture": wandb.Image(picture, caption="a picture")}, step=10))
    table = wandb.Table(columns=["number", "picture"], data=[[1, wandb.Image(picture)]])
    results.append(run.log({"table": table, "h": wandb.Histogram([1, 2, 2])}, commit=False))
    results.append(run.log({"plot": wandb.plot.line(wandb.Table(columns=["x", "y"], data=[[0, 1]]), "x", "y")}))
    results.append(run.log({"pictures": [wandb.Image(picture), wandb.Image(picture, caption="second")]}))
    results.append(run.log({"back": 1}, step=2))
    run.define_metric("late", step_metric="epoch", summary="max")
    results.append(run.log({"late": 3, "epoch": 1}))
    run.summary["best"] = 0.5
    run.summary.update({"nested": {"x": 1}})
    run.config.update({"batch": 8})
    run.config.seed = 3
    run.tags += ("b",)
    run.alert("Done", "all of it", level=wandb.AlertLevel.WARN)
    saved = wandb.save("model.txt")
    artifact = run.log_artifact("model.txt", name="weights", type="model", aliases=["best"])
    results += [artifact.name, artifact.type, [os.path.relpath(path, run.dir) for path in saved]]
    results.append(wandb.finish())
    return results


def normal(values, name=None):
    """Without what is random: the client ids of artifacts; and with one name for the run."""
    text = re.sub(r"client-artifact://\w+", "ID", json.dumps(values))
    return json.loads(text if name is None else text.replace(name, "RUN"))


def content(folder):
    """What wandb stored: rows, config, summary, media, and files with their bytes."""
    run = wandb_store.only(folder)

    def plain(values):
        return normal({key: value for key, value in values.items() if key not in _VARYING})

    files = {
        path.relative_to(run.folder / "files").as_posix(): path.read_bytes()
        for path in sorted((run.folder / "files").rglob("*"))
        if path.is_file() and path.name not in _OF_WANDB
    }
    artifacts = sorted((one.name, one.type, one.metadata, sorted(one.entries.items())) for one in run.artifacts)
    rows = [plain(row) for row in run.rows]
    return {
        "rows": rows,
        "config": plain(run.config),
        "summary": plain(run.summary),
        "files": files,
        "artifacts": artifacts,
        "more": (run.id, run.name, run.tags, run.alerts, run.metrics, run.globs, run.exit_code),
    }


def test_the_offline_store_is_the_same(wandb, tmp_path, monkeypatch):
    """Same results, rows, steps, config, summary, files and artifacts, with and without capture."""
    outcomes = []
    for turn in ("alone", "captured"):
        folder = tmp_path / turn
        folder.mkdir()
        monkeypatch.setenv("WANDB_DIR", str(folder))
        monkeypatch.chdir(folder)
        wandb.teardown()
        if turn == "captured":
            memory = MemoryBackend()
            tracelet.start_logging(backend=memory, capture=["wandb"])
        results = program(wandb, folder)
        tracelet.stop_logging()
        wandb.teardown()
        outcomes.append((results, content(folder)))

    assert outcomes[0] == outcomes[1]
    _, found = outcomes[1]
    rows = [(key, value, row["_step"]) for row in found["rows"] for key, value in row.items()]
    numbers = {(key, value, step) for key, value, step in rows if type(value) in (int, float) and key != "_step"}
    captured = {(one.tag, one.value, one.step) for one in memory.of(Scalar)}
    # wandb dropped "back", and shows "late" over its own axis, which is the step here.
    plain = {one for one in captured if "." not in one[0]} - {("back", 1.0, 2), ("late", 3.0, 1), ("epoch", 1.0, 1)}
    assert numbers == plain | {("late", 3, 12), ("epoch", 1, 12)}
    assert {("back", 1.0, 2), ("late", 3.0, 1), ("epoch", 1.0, 1), ("val.acc", 4.0, 4)} < captured
    params = {name: value for record in memory.of(Params) for name, value in record.values.items()}
    assert {"lr": 0.1, "model.depth": 3, "batch": 8, "seed": 3} == {
        name: value for name, value in params.items() if not name.startswith("wandb.")
    }
    assert {"best": 0.5, "nested.x": 1} == {
        name: value for record in memory.of(Summary) for name, value in record.values.items()
    }
    assert [("a",), ("b",)] == [record.tags for record in memory.of(Tags)]
    assert [("Done", "all of it", "warning")] == [(one.title, one.text, one.level) for one in memory.of(Alert)]
    assert [("model.txt", "file"), ("weights", "model")] == [(one.name, one.type) for one in memory.of(Artifact)]
    pictures = [memory.data(one.data) for one in memory.of(Image)]
    stored = [data for path, data in found["files"].items() if path.endswith(".png")]
    assert set(stored) == set(pictures)
    assert 4 == len(pictures)


def test_an_online_run_reaches_its_server(wandb, tmp_path, monkeypatch):
    """With a server, wandb uploads the same rows, files and artifacts, and all of it is captured."""
    server = WandbServer().start()
    try:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        wandb.teardown()
        found = []
        for turn in ("alone", "captured"):
            monkeypatch.setenv("WANDB_PROJECT", turn)
            memory = MemoryBackend()
            if turn == "captured":
                tracelet.start_logging(backend=memory, capture=["wandb"])
            results = program(wandb, tmp_path, turn)
            tracelet.stop_logging()
            run = server.runs[turn]
            rows = [normal({k: v for k, v in row.items() if k not in _VARYING}, turn) for row in run.rows]
            names = sorted(name for name in run.files if name.startswith("media/") or name == "model.txt")
            found.append((results, rows, names))
        assert found[0] == found[1]
        assert 5 == len([1 for one in memory.of(Scalar) if one.tag == "loss"])
        assert {"model.txt", "weights"} == {one.name for one in memory.of(Artifact)}
        committed = [artifact for artifact in server.committed() if artifact.name == "weights"]
        assert committed
        assert b"weights" in {data for one in committed for data in server.entries(one).values()}
    finally:
        wandb.teardown()
        server.stop()


def test_a_disabled_run_is_recorded(wandb, captured, memory, tmp_path, monkeypatch):
    """wandb does nothing in this mode; what the program says is recorded all the same, with counted steps."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = wandb.init(config={"lr": 0.1})
    (tmp_path / "model.txt").write_text("weights")
    picture = wandb.Image(np.zeros((2, 2, 3), np.uint8), caption="dark")
    wandb.log({"loss": 1.0})
    run.log({"loss": 2.0, "picture": picture}, commit=False)
    run.log({"acc": 3.0})
    run.log({"loss": 4.0}, 9, None)
    run.summary["best"] = 1
    run.summary.update(last=2)
    run.config.update({"batch": 8})
    run.tags = ["a"]
    run.alert(title="Done", text="all")
    assert run.save("model.txt") is False
    run.log_artifact("model.txt", name="weights", type="model")
    run.log_model(path="model.txt", name="net")
    wandb.finish()
    captured.stop()

    assert [("loss", 1.0, 0), ("loss", 2.0, 1), ("acc", 3.0, 1), ("loss", 4.0, 9)] == [
        (one.tag, one.value, one.step) for one in memory.of(Scalar)
    ]
    assert [("picture", "dark", 1)] == [(one.tag, one.caption, one.step) for one in memory.of(Image)]
    assert [{"best": 1}, {"last": 2}] == [dict(one.values) for one in memory.of(Summary)]
    assert {"lr": 0.1, "batch": 8}.items() <= {k: v for one in memory.of(Params) for k, v in one.values.items()}.items()
    assert (["a"], ["Done"]) == ([t for one in memory.of(Tags) for t in one.tags], [a.title for a in memory.of(Alert)])
    artifacts = {one.name: one for one in memory.of(Artifact)}
    assert {"model.txt": "file", "weights": "model", "net": "model"} == {k: v.type for k, v in artifacts.items()}
    assert {b"weights"} == {memory.data(one.files[0]) for one in artifacts.values()}


# From start to stop and back.


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_run_begun_before_the_start(wandb, memory, mode, monkeypatch):
    """Its config arrives, and everything from then on, also through functions that the program took earlier."""
    monkeypatch.setenv("WANDB_MODE", mode)
    run = wandb.init(config={"lr": 0.1}, tags=["early"])
    log = wandb.log
    log({"loss": 0.0})
    experiment = tracelet.start_logging(backend=memory, capture=["wandb"])
    wandb.log({"loss": 1.0})
    if mode == "offline":
        log({"loss": 2.0})
    run.alert("A", "b")
    wandb.alert("B", "b")
    experiment.stop()
    wandb.log({"loss": 3.0})
    wandb.alert("C", "c")
    run.finish()

    first = 1 if mode == "offline" else 0
    expected = [("loss", 1.0, first), ("loss", 2.0, 2)][: 2 if mode == "offline" else 1]
    assert expected == [(one.tag, one.value, one.step) for one in memory.of(Scalar)]
    assert ["A", "B"] == [one.title for one in memory.of(Alert)]
    assert [("early",)] == [one.tags for one in memory.of(Tags)]
    assert 0.1 == {k: v for one in memory.of(Params) for k, v in one.values.items()}["lr"]


_CLASSES = (
    *("wandb.sdk.wandb_run.Run", "wandb.sdk.lib.noop_run.NoopRun", "wandb.sdk.wandb_config.Config"),
    *("wandb.sdk.wandb_summary.Summary", "wandb.sdk.lib.disabled.SummaryDisabled"),
)


def attributes(names=(*_CLASSES, "wandb.util", "wandb")):
    """Every attribute of wandb's classes and modules."""
    owners = [pkgutil.resolve_name(name) for name in names]
    return {(owner, name): value for owner in owners for name, value in list(vars(owner).items())}


def changed(before, after):
    return sorted(
        name for owner, name in before.keys() | after.keys() if before.get((owner, name)) != after.get((owner, name))
    )


def test_stop_restores_everything(wandb, memory):
    """Every attribute of wandb's classes is the one before, and its functions those of the active run."""
    run = wandb.init()
    before = attributes()
    experiment = tracelet.start_logging(backend=memory, capture=["wandb"])
    assert {"_log", "alert", "tags", "log_artifact", "json_friendly"} <= set(changed(before, attributes()))
    experiment.stop()
    assert [] == changed(before, attributes())
    run.finish()


def test_nothing_is_intercepted_by_default(wandb, memory, tmp_path):
    """`capture` is tensorboard alone; with none of them not even a SummaryWriter is captured."""
    from torch.utils.tensorboard import SummaryWriter

    before, add_scalar = attributes(_CLASSES), SummaryWriter.add_scalar
    for capture, expected in ((None, ["writer"]), ([], []), (False, []), ("wandb", ["row"])):
        with tracelet.start_logging(backend=memory, capture=capture), SummaryWriter(str(tmp_path / "logs")) as writer:
            assert (capture != "wandb") == ([] == changed(before, attributes(_CLASSES)))
            assert (capture is None) == (SummaryWriter.add_scalar is not add_scalar)
            writer.add_scalar("writer", 1.0, 0)
            with wandb.init(mode="disabled") as run:
                run.log({"row": 1.0})
        assert expected == [one.tag for one in memory.of(Scalar)]
        memory.records.clear()


def test_a_wrapper_of_another_tool_stays(wandb, memory):
    """Someone who wraps after us keeps the wrapper, and ours goes silent under it."""
    experiment = tracelet.start_logging(backend=memory, capture=["wandb"])
    ours, seen = wandb.Run._log, []

    def theirs(run, *args, **kwargs):
        seen.append(args)
        return ours(run, *args, **kwargs)

    wandb.Run._log = theirs
    try:
        with wandb.init() as run:
            run.log({"loss": 1.0})
            experiment.stop()
            run.log({"loss": 2.0})
        assert wandb.Run._log is theirs
    finally:
        wandb.Run._log = ours.__wrapped__
    assert ([1.0], 2) == ([one.value for one in memory.of(Scalar)], len(seen) or 2)


def test_two_runs_of_tracelet_in_a_row(wandb, memory):
    """The second captures the same wandb run, from where the first stopped."""
    run = wandb.init()
    for value in (1.0, 2.0):
        with tracelet.start_logging(backend=memory, capture=["wandb"]):
            run.log({"loss": value})
    run.finish()
    assert [("loss", 1.0, 0), ("loss", 2.0, 1)] == [(one.tag, one.value, one.step) for one in memory.of(Scalar)]


LATE = """
import json, os, sys
import tracelet
from tracelet.backends.memory import MemoryBackend

memory = MemoryBackend()
experiment = tracelet.start_logging(backend=memory, capture="tensorboard,wandb")
early = "wandb" in sys.modules
import wandb

with wandb.init(mode=sys.argv[1], config={"lr": 1}) as run:
    wandb.log({"loss": 1.0})
    run.log({"loss": 2.0})
experiment.stop()
left = [
    name for owner in (wandb.Run, wandb.Config) for name, value in vars(owner).items()
    if hasattr(value, "__code__") and value.__code__.co_filename.startswith(os.path.dirname(tracelet.__file__) + os.sep)
]
points = [[one.tag, one.value, one.step] for one in memory.records if type(one).__name__ == "Scalar"]
print(json.dumps([early, left, points]))
"""


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_imported_after_the_start(tmp_path, mode):
    """start_logging imports no wandb; a program that imports it later is captured, and everything is put back."""
    command = [sys.executable, "-W", "ignore", "-c", LATE, mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert 0 == done.returncode, done.stderr
    assert [False, [], [["loss", 1.0, 0], ["loss", 2.0, 1]]] == json.loads(done.stdout.splitlines()[-1])


def test_an_error_of_ours_is_not_the_programs(wandb, captured, memory, swallowed, monkeypatch):
    """What our lines raise is counted, and wandb's row is stored all the same."""
    from tracelet.capture.wandb import rows

    with wandb.init() as run:
        monkeypatch.setattr(rows, "records_of", lambda *arguments: 1 / 0)
        run.log({"word": "x", "loss": 1.0})
    captured.stop()
    assert [("loss", 1.0)] == [(one.tag, one.value) for one in memory.of(Scalar)]
    assert [ZeroDivisionError] == [type(error) for error in swallowed]
    assert 1 == captured.stats().causes["error in Recorder.submit_value: ZeroDivisionError"]
    swallowed.clear()


def test_an_error_before_wandbs_call(wandb, captured, memory, swallowed, monkeypatch):
    """What our lines raise before it keeps neither wandb nor the records from the row."""
    from tracelet.capture.wandb import rows

    with wandb.init() as run:
        monkeypatch.setattr(rows, "_is_on_device", lambda value: 1 / 0)
        run.log({"part": {"x": np.float32(2)}, "loss": 1.0})
    captured.stop()
    assert [("part.x", 2.0), ("loss", 1.0)] == [(one.tag, one.value) for one in memory.of(Scalar)]
    assert [ZeroDivisionError] == [type(error) for error in swallowed]
    swallowed.clear()


CHILD = """
import multiprocessing, sys
import tracelet

experiment = tracelet.start_logging(backend="csv", capture=["wandb"], children=sys.argv[1])
import wandb

def work(run):
    run.log({"child": 1.0})
    run.log({"child": 2.0})
    with open("f.txt", "w") as file:
        file.write("saved")
    run.save("f.txt")

run = wandb.init(config={"lr": 1})
run.log({"loss": 1.0})
process = multiprocessing.get_context("fork").Process(target=work, args=(run,))
process.start()
process.join()
run.log({"loss": 2.0})
run.finish()
experiment.stop()
sys.exit(process.exitcode)
"""


@pytest.mark.parametrize(("children", "expected"), [("silent", []), ("join", [("child-1/child", 1.0, 2.0)])])
def test_a_forked_child_that_logs_to_its_parents_run(tmp_path, children, expected):
    """Silent, or with each of its rows and files once; the parent's rows stay the parent's."""
    command = [sys.executable, "-W", "ignore", "-c", CHILD, children]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert 0 == done.returncode, done.stderr
    series = {}
    for path in tmp_path.glob("runs/**/scalars.csv"):
        for line in path.read_text().splitlines()[1:]:
            tag, _, _, value = line.split(",")
            series.setdefault(tag, []).append(float(value))
    assert [1.0, 2.0] == series.pop("loss")
    assert expected == [(tag, *values) for tag, values in series.items()]
    assert len(expected) == len([*tmp_path.glob("runs/**/artifacts/child-1/f.txt")])


def test_the_wandb_backend_cannot_be_captured():
    """Both would send everything to wandb twice: an error says which of the two to remove."""
    for backend in ("wandb", ["csv", "wandb"]):
        with pytest.raises(tracelet.ConfigurationError, match=r"remove the backend wandb; to let tracelet write"):
            tracelet.start_logging(backend=backend, capture=["wandb"], mode="offline")
    with tracelet.start_logging(backend="tensorboard", capture=["tensorboard", "wandb"], mode="offline"):
        pass
