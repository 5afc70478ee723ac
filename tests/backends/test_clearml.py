"""ClearML's own quirks: what was handed to the adapter, read back from real offline sessions and from a stand-in of
its server that the real SDK talks to."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy
import pytest
from backends import clearml_store as store
from backends.clearml_server import ClearmlServer
from backends.store_content import StoreContent
from backends.writing import attempt, write_whole
from hypothesis import given
from hypothesis import strategies as st
from programs import run_program, started, the_run
from support import BUSY, REPOSITORY, TESTS, until

from tracelet.backends import secrets_of
from tracelet.backends.base import Batch
from tracelet.backends.clearml import ClearmlBackend, ClearmlConfig
from tracelet.backends.clearml.values import title_series
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.journal.store import JournalReader
from tracelet.records import Artifact, Histogram, Params, Record, Scalar, Table, Text
from tracelet.testing import BackendContract, Stored, deliver, run_info, sample_records
from tracelet.testing.samples import AWKWARD_TAGS, WALL_TIME, artifacts, image, png, stored


def cache() -> Path:
    return Path(os.environ["CLEARML_CACHE_DIR"])


def session() -> Path:
    """The one offline session."""
    (found,) = store.sessions(cache())
    return found


def scalar(tag: str, value: float, step: int | None, second: float = 0) -> Scalar:
    return Scalar(tag, value, step, WALL_TIME + second)


def points(count: int, start: int = 0) -> list[Scalar]:
    return [scalar("loss", at / 4, at, at) for at in range(start, start + count)]


def series(found: Stored, tag: str = "loss") -> list[tuple[int, float]]:
    return [(step, value) for name, step, value, _ in found.scalars or [] if name == tag]


def opened(tmp_path: Path, **config: Any) -> ClearmlBackend:
    return reopened(tmp_path, **config)[0]


def reopened(tmp_path: Path, **config: Any) -> tuple[ClearmlBackend, int | None]:
    """A backend, and the last number that need not be written again."""
    backend = ClearmlBackend(ClearmlConfig(**config))
    return backend, backend.open(run_info(tmp_path))


def written(tmp_path: Path, records: list[Any], **config: Any) -> Stored:
    """What the offline session holds once the records were given and the run was closed."""
    backend = opened(tmp_path, **config)
    assert [] == deliver(backend, records).rejected
    backend.close("finished", 0)
    return store.read(cache())


@pytest.fixture(autouse=True)
def _no_task_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test that failed left open is not the next one's; ClearML's temporary files lie in its folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield
    import clearml

    from tracelet.backends.clearml.run import abandon

    if clearml.Task._Task__main_task is not None:
        abandon(clearml.Task._Task__main_task)
    for name in ("CLEARML_PROC_MASTER_ID", "TRAINS_PROC_MASTER_ID"):  # ClearML's own `close` leaves them
        os.environ.pop(name, None)


class TestClearml(BackendContract):
    """The contract tests, read back from the session's folder."""

    knows_its_store = True
    wall_time_error = 0.0005  # an event's time is in whole milliseconds

    def make_backend(self, tmp_path: Path) -> ClearmlBackend:
        return ClearmlBackend()

    def read_back(self, tmp_path: Path) -> Stored:
        return store.read(cache())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ClearmlServer]:
    """The stand-in for a server, which the environment leads to."""
    from clearml.backend_api import Session
    from clearml.backend_interface.base import InterfaceBase

    monkeypatch.delenv("CLEARML_OFFLINE_MODE")
    for holder in (InterfaceBase, Session):  # ClearML reads the variable once, when it is imported
        monkeypatch.setattr(holder, "_offline_mode", False)
    monkeypatch.setattr(InterfaceBase, "_default_session", None)  # an earlier test's, which never signed in
    server = ClearmlServer().start()
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    yield server
    server.stop()


def told(server: ClearmlServer) -> Stored:
    """Everything that the server was given."""
    found = StoreContent()
    for task in server.tasks.values():
        store.add([one for one in server.events if one["task"] == task["id"]], task, server.load, found)
    return found


class TestClearmlServer(BackendContract):
    """The contract tests, against the stand-in for a server."""

    wall_time_error = 0.0005

    @pytest.fixture(autouse=True)
    def _server(self, server: ClearmlServer) -> None:
        self.server = server

    def make_backend(self, tmp_path: Path) -> ClearmlBackend:
        return ClearmlBackend()

    def read_back(self, tmp_path: Path) -> Stored:
        return told(self.server)


# -- names and values


@given(st.one_of(st.text(max_size=8), st.text(alphabet="~/a% A2.\n\ud800", max_size=10)))
def test_any_tag_can_be_told_from_its_title_and_series(tag: str) -> None:
    title, series = title_series(tag)

    assert tag == store.tag({"metric": title, "variant": series})
    assert title
    assert series


def test_tags_look_as_clearml_users_expect() -> None:
    """As ClearML's own TensorBoard capture splits them; awkward ones stay distinct."""
    assert [("loss", "train"), ("loss", "loss"), ("a/b", "c"), ("loss", "~loss"), ("%", "%"), ("%", "lead")] == [
        title_series(tag) for tag in ("loss/train", "loss", "a/b/c", "loss/loss", "", "/lead")
    ]
    assert len(AWKWARD_TAGS) == len({title_series(tag) for tag in AWKWARD_TAGS})


def test_what_no_chart_can_hold_is_a_line_of_the_console(tmp_path: Path) -> None:
    """NaN and the infinities are never 0 and never in the JSON that a server refuses; nor are steps beyond 64 bits."""
    values = [0.5, math.nan, math.inf, -math.inf, -0.0]
    records = [scalar("a/b", value, step) for step, value in enumerate(values)]
    records += [scalar("a/b", 1.5, 2**63), scalar("a/b", 2.5, 2**63 - 1), scalar("a/b", 3.5, -(2**63) - 1)]
    found = written(tmp_path, records)

    kinds = [event["type"] for event in store.events(session()) if "tracelet" in str(event) or "value" in event]
    assert ["training_stats_scalar", *["log"] * 3, *["training_stats_scalar"]] == kinds[:5]
    assert repr([(one.tag, one.step, one.value) for one in records]) == repr([one[:3] for one in found.scalars or []])
    assert "NaN" not in (session() / "metrics.jsonl").read_text().replace('\\"', "")


def test_steps_and_times_are_as_given(tmp_path: Path) -> None:
    """Backwards, repeated, huge and negative; the wall time of the call to the millisecond, also that of the epoch."""
    steps = [7, 3, 3, 0, None, 2**53 + 1, -3]
    records = [Scalar("loss", 0.1, step, second) for second, step in enumerate(steps)]

    assert [("loss", step or 0, 0.1, second) for second, step in enumerate(steps)] == written(tmp_path, records).scalars


def test_a_step_that_no_server_takes_rejects_a_medium_alone(tmp_path: Path) -> None:
    backend = opened(tmp_path)
    outcome = deliver(backend, [scalar("a", 1, 1), Text("t", "x", 2**63, WALL_TIME), scalar("a", 2, 2)])
    backend.close("finished", 0)

    assert ["clearml: step 9223372036854775808 does not fit 64 bits, which a server requires"] == [
        reason for _, reason in outcome.rejected
    ]
    assert [(1, 1.0), (2, 2.0)] == series(store.read(cache()), "a")


def test_no_generator_of_the_program_is_touched(tmp_path: Path) -> None:
    """`Task.init` would seed random, numpy and torch with 1337; histograms would draw from numpy's."""
    import torch

    def states() -> list[Any]:
        return [random.getstate(), repr(numpy.random.get_state()), torch.get_rng_state().tolist()]

    random.seed(5)
    before = states()
    written(tmp_path, sample_records(tmp_path))

    assert before == states()
    assert 1337 == __import__("clearml").Task._random_seed


# -- other kinds


def test_pictures_of_one_tag_never_push_each_other_out(tmp_path: Path) -> None:
    """More than ClearML's history of files, two in one step, and from two processes of one run."""
    first = [image(tmp_path, "im", step, (step, 0, 0)) for step in range(120)]
    second = [image(tmp_path, "im", step, (0, step, 7)) for step in range(3)]
    for records in (first, second):
        written(tmp_path, records)
    events = [event for event in store.events(session()) if event["type"] == "training_debug_image"]

    expected = [png((step, 0, 0)) for step in range(120)] + [png((0, step, 7)) for step in range(3)]
    assert expected == [Path(event["url"]).read_bytes() for event in events]


@pytest.mark.parametrize("tag", ["..", "../../x", "", ".", "/", "a\0b", "x" * 300, "日" * 120, "a\\b"])
def test_media_stay_in_the_sessions_folder(tmp_path: Path, tag: str) -> None:
    found = written(tmp_path, [image(tmp_path, tag, 1, (1, 2, 3)), Text(tag, "text", 1, WALL_TIME)])

    assert {(tag, 1): png((1, 2, 3))} == found.images
    assert [(tag, 1, "text")] == found.texts
    (event, _) = [event for event in store.events(session()) if event["type"] == "training_debug_image"]
    assert session().resolve() in Path(event["url"]).resolve().parents


def test_a_large_histogram_is_drawn_and_kept(tmp_path: Path) -> None:
    """1548 buckets: bars with edges at their places, no NaN or Infinity for the browser, the exact ones beside."""
    limits = (*(1e-12 * 1.1**at for at in range(1547)), math.inf)
    counts = (0.0, *(float(at % 7) for at in range(1546)), 3.0)
    record = Histogram("h", limits, counts, 1e-12, 1e51, sum(counts), 0.5, 0.25, 3, WALL_TIME)

    assert [("h", 3, limits, counts)] == written(tmp_path, [record]).histograms
    (event,) = [event for event in store.events(session()) if event["type"] == "plot"]
    (trace,) = json.loads(event["plot_str"])["data"]
    assert sum(counts) == sum(trace["y"])
    assert len(trace["x"]) == len(trace["y"]) == len(trace["width"])


def test_an_unbounded_empty_bucket_is_not_drawn(tmp_path: Path) -> None:
    """TensorFlow 1 ends each histogram with one. The bars have positive widths, and the exact copy has the bucket."""
    limits, counts = (-2.1, -1.9, 1.1, sys.float_info.max), (0.0, 1.0, 2.0, 0.0)
    record = Histogram("h", limits, counts, -2.0, 1.0, 3.0, 0.0, 6.0, 3, WALL_TIME)

    assert [("h", 3, limits, counts)] == written(tmp_path, [record]).histograms
    (event,) = [event for event in store.events(session()) if event["type"] == "plot"]
    (trace,) = json.loads(event["plot_str"])["data"]
    assert ([1.0, 2.0], [-2.0, -0.4]) == (trace["y"], pytest.approx(trace["x"]))
    assert [0.2, 3.0] == pytest.approx(trace["width"])


def test_a_large_table_is_kept_whole(tmp_path: Path) -> None:
    """A thousand rows are drawn; the exact JSON of all is a file beside the plot."""
    data = json.dumps({"columns": ["a", "b"], "rows": [[at, "x" * 100] for at in range(20_000)]}).encode()
    written(tmp_path, [Table("big", stored(tmp_path, data, "t.json"), 2, WALL_TIME)])
    plot, file = (event for event in store.events(session()) if event["type"] != "log")

    assert 1000 == len(json.loads(plot["plot_str"])["data"][0]["cells"]["values"][0])
    assert data == Path(file["url"]).read_bytes()


def test_params_merge_and_keep_their_types(tmp_path: Path) -> None:
    """As hyper-parameters for the page, exactly as JSON; a later value wins, an earlier name stays, also in a later
    process of the run."""
    values = {
        "lr": 0.1,
        "none": None,
        "nan": math.nan,
        "list": [1, "a"],
        "big": "x" * 20_000,
        "a/b": 1,
        "": 2,
        " c ": 3,
    }
    written(tmp_path, [Params(values, WALL_TIME), Params({"lr": 0.2}, WALL_TIME)])
    found = written(tmp_path, [Params({"more": True}, WALL_TIME)])

    assert repr(values | {"lr": 0.2, "more": True}) == repr(found.params)
    shown = store.description(session())["hyperparams"]["General"]
    assert ("0.2", "", "x" * 20_000, "1") == tuple(shown[name]["value"] for name in ("lr", "none", "big", "a/b"))
    assert {*values} - {"", " c "} | {"%", "%20c%20", "more"} == shown.keys()


def test_artifacts_have_their_path_as_name_and_their_own_file_name(tmp_path: Path) -> None:
    """`models/` with two files is two artifacts; the metadata is beside them; a later one of a name takes its place."""
    written(tmp_path, [*artifacts(tmp_path), Artifact("plots/a.png", (stored(tmp_path, b"new", "x"),), WALL_TIME)])
    kept = {one["key"]: one for one in store.description(session())["execution"]["artifacts"]}

    assert ["models/m.pth", "models/sub/empty.txt", "plots/a.png"] == sorted(kept)
    assert ["m.pth", "empty.txt", "a.png"] == [
        Path(kept[name]["uri"]).name for name in ("models/m.pth", "models/sub/empty.txt", "plots/a.png")
    ]
    assert b"new" == Path(kept["plots/a.png"]["uri"]).read_bytes()
    assert [["type", "model"]] == kept["models/m.pth"]["display_data"]


# -- configuration


def test_config_knows_its_keys() -> None:
    """A misspelt key is an error, and the repr hides what is secret."""
    with pytest.raises(msgspec.ValidationError, match="nmae"):
        msgspec.convert({"nmae": "x"}, ClearmlConfig)
    with pytest.raises(msgspec.ValidationError, match=r"tensorboard.*twice"):
        msgspec.convert({"auto_connect_frameworks": {"tensorboard": True}}, ClearmlConfig)
    with pytest.raises(msgspec.ValidationError, match="access key"):
        msgspec.convert({"api_key": "only-one"}, ClearmlConfig)

    config = msgspec.convert({"api_key": "one:two", "secret_key": "three", "mode": "offline"}, ClearmlConfig)
    assert not {"one", "two", "three"} & set(repr(config).replace("'", " ").split())


@pytest.mark.parametrize("end", ["close", "abandon"])
def test_a_late_thread_of_an_ended_session_never_retries(
    tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the process is no longer offline, its session could send, but was never signed in."""
    from clearml.backend_api import Session
    from clearml.backend_interface.base import InterfaceBase

    from tracelet.backends.clearml.run import abandon

    backend = opened(tmp_path)
    task = backend.native
    if end == "close":
        backend.close("finished", 0)
    else:
        abandon(task)
    for holder in (InterfaceBase, Session):
        monkeypatch.setattr(holder, "_offline_mode", False)
    late = threading.Thread(target=task.reload, daemon=True)
    late.start()
    late.join(BUSY)
    assert not late.is_alive()


def test_what_is_given_reaches_the_task(tmp_path: Path) -> None:
    """Name, project, tags, type; a name that a server would refuse is made longer."""
    written(tmp_path, [], task_name="better", project="of mine", tags=["a", "b"], task_type="testing")
    task = store.description(session())
    assert ("better", "of mine", "testing") == tuple(task[name] for name in ("name", "project_name", "type"))
    assert ["a", "b"] == sorted(task["tags"])


def test_short_names_are_made_long_enough(tmp_path: Path) -> None:
    written(tmp_path, [], task_name="a", project="b")
    task = store.description(session())

    assert ("a (contract-run)", "b (contract-run)") == (task["name"], task["project_name"])


def test_not_configured_is_said_and_never_asked_for(tmp_path: Path) -> None:
    """No clearml.conf, no keys: unavailable at once, with what to do."""
    with pytest.raises(BackendUnavailable, match=r"clearml-init.*offline"):
        opened(tmp_path, mode="online")
    assert __import__("clearml").Task.current_task() is None


def test_probe_answers_without_asking(server: ClearmlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ClearmlBackend.probe().ok
    server.stop()
    assert not ClearmlBackend.probe().ok
    monkeypatch.setenv("CLEARML_OFFLINE_MODE", "1")
    assert ClearmlBackend.probe().ok


# -- what is left of it in the process


def facts_of_the_process() -> dict[str, Any]:
    parser = argparse.ArgumentParser
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGABRT, signal.SIGQUIT)]
    return {
        "hooks": (sys.exit, sys.excepthook, *handlers),
        "parser": (parser.parse_args, parser.parse_known_args, parser.add_subparsers),
        "streams": (sys.stdout, sys.stderr),
        "environment": {name for name in os.environ if name.startswith(("CLEARML", "TRAINS"))},
        "logging": (logging.root.handlers[:], logging.root.level),
    }


def test_the_process_is_as_before(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Signal handlers, exit, hooks, streams, environment, ClearML's own switches; nothing on standard output."""
    import clearml

    def switches() -> list[Any]:
        task = clearml.Task
        return [task._report_subprocess_enabled, task.is_offline(), vars(task)["init"], task.current_task()]

    before, own = facts_of_the_process(), switches()
    backend = opened(tmp_path)
    backend.attach()
    deliver(backend, sample_records(tmp_path))
    backend.detach()
    backend.close("finished", 0)

    assert before == facts_of_the_process()
    assert [bool(own[0]), *own[1:]] == [bool(switches()[0]), *switches()[1:]]
    assert "" == capfd.readouterr().out


def test_argparse_is_as_before_where_nobody_else_imported_clearml() -> None:
    """The import patches argparse: also that is undone, from the first line of the program to its last."""
    done = run_program("""
        import argparse, os, signal, sys, tracelet
        def facts():
            parser = argparse.ArgumentParser
            ours = {name for name in os.environ if name.startswith(("CLEARML", "TRAINS"))}
            return [parser.parse_args, parser.add_subparsers, sys.exit, sys.excepthook, sys.stdout.write,
                    signal.getsignal(2), signal.getsignal(15), ours]
        before = facts()
        run = tracelet.start_logging(backend="clearml")
        run.log_metric("loss", 1.0, 1)
        assert run.get_backend("clearml").native is not None
        run.stop()
        assert before == facts(), (before, facts())
        print("as before")
    """)
    assert ("as before\n", 0) == (done.out, done.returncode), done.err


def test_what_came_after_us_stays(tmp_path: Path) -> None:
    """A hook and an exit that somebody set while the run was open are not taken away, and pass on."""
    before = sys.excepthook, sys.exit
    backend = opened(tmp_path)
    inner = sys.exit

    def mine(*_: Any) -> None: ...

    def exit(code: Any = None) -> Any:
        inner(code)

    sys.excepthook, sys.exit = mine, exit  # type: ignore[assignment]
    backend.close("finished", 0)
    try:
        assert (mine, exit) == (sys.excepthook, sys.exit)
        with pytest.raises(SystemExit, match="3"):
            sys.exit(3)
    finally:
        sys.excepthook, sys.exit = before


# -- living with the program's own ClearML


def test_the_programs_own_calls_land_in_our_task(tmp_path: Path) -> None:
    """report_scalar, connect, upload_artifact, and a Task.init of any name, which gives our task and seeds nothing."""
    from clearml import Logger, Task

    backend = opened(tmp_path)
    backend.attach()
    task = Task.init("another project", "another name", task_type="testing", tags=["own"])
    assert task is backend.native is Task.current_task() is Task.init()
    state = random.getstate()
    Task.init(project_name="x", task_name="y")
    assert state == random.getstate()
    deliver(backend, points(5))
    Logger.current_logger().report_scalar("own", "one", 0.5, 7)
    task.connect({"theirs": 1})
    task.upload_artifact("own.bin", {"a": 1}, wait_on_upload=True)
    deliver(backend, [Params({"ours": 2}, WALL_TIME), *points(5, 5)], after=5)
    backend.detach()
    backend.close("finished", 0)

    found = store.read(cache())
    assert series(found) == [(at, at / 4) for at in range(10)]
    assert [(7, 0.5)] == series(found, "own/one")
    kept = store.description(session())
    assert {"theirs", "ours"} == kept["hyperparams"]["General"].keys()
    assert {"own.bin"} == {one["key"] for one in kept["execution"]["artifacts"]}
    assert ["contract", "own"] == sorted(kept["tags"])
    assert "classmethod" == type(vars(Task)["init"]).__name__


def test_init_looks_as_before_while_it_is_wrapped(tmp_path: Path) -> None:
    import inspect

    from clearml import Task

    before = vars(Task)["init"], inspect.signature(Task.init)
    backend = opened(tmp_path)
    backend.attach()
    assert before[1] == inspect.signature(Task.init)
    assert "init" == Task.init.__name__
    backend.close("finished", 0)
    assert before[0] is vars(Task)["init"]


def test_many_writers_never_tear_a_line(tmp_path: Path) -> None:
    """The program reports thousands of its own while ours are written: every line of the session is whole."""
    backend = opened(tmp_path)
    logger = backend.native.get_logger()

    def report() -> None:
        for at in range(3000):
            logger.report_scalar("own title that is long", "x" * 200, at, at)

    thread = threading.Thread(target=report)
    thread.start()
    for at in range(100):
        deliver(backend, points(100, at * 100), after=at * 100)
    thread.join(60)
    backend.close("finished", 0)

    found = store.read(cache())
    assert [(at, at / 4) for at in range(10_000)] == series(found)
    assert [(at, float(at)) for at in range(3000)] == sorted(series(found, "own title that is long/" + "x" * 200))


def test_a_task_closed_by_the_program_goes_on() -> None:
    """After `Task.current_task().close()` the rest goes to the same task; the program's next one is its own."""
    done = run_program(
        """
        from pathlib import Path
        from clearml import Task
        from backends.test_clearml import deliver, opened, points

        backend = opened(Path.cwd())
        backend.attach()
        ours = backend.native
        deliver(backend, points(3))
        Task.current_task().close()
        deliver(backend, points(3, 3), after=3)
        second = Task.init("second", "another", reuse_last_task_id=False, auto_connect_frameworks=False)
        assert second.id != ours.id
        backend.detach()
        backend.close("finished", 0)
        assert second is Task.current_task()
        second.close()
        print(ours.id)
        """,
        PYTHONPATH=os.pathsep.join(map(str, (TESTS, REPOSITORY))),
    )
    assert 0 == done.returncode, done.err

    ours = done.out.split()[-1]
    events = store.events(cache() / "offline" / ours)
    assert [0, 1, 2, 3, 4, 5] == [event["iter"] for event in events if event["type"] == "training_stats_scalar"]
    with zipfile.ZipFile(cache() / "offline" / f"{ours}.zip") as archive:
        assert 6 == archive.read("metrics.jsonl").count(b"training_stats_scalar")


OWN_TASK = """
    import os, sys, tempfile
    from clearml import Task
    task = Task.init("mine", "my task", reuse_last_task_id=False)
    import torch
    from torch.utils.tensorboard import SummaryWriter
    import tracelet
    logs = tempfile.mkdtemp()
    writer = SummaryWriter(logs)
    writer.add_scalar("before", 1.0, 1)
    run = tracelet.start_logging(backend="clearml")
    assert run.get_backend("clearml").native is task
    for step in range(20):
        writer.add_scalar("loss", step / 4, step)
    with SummaryWriter(logs + "/second") as second:
        for step in range(20):
            second.add_scalar("other", step / 4, step)
    task.get_logger().report_scalar("own", "own", 0.5, 3)
    tracelet.stop_logging()
    assert Task.current_task() is task
    writer.add_scalar("after", 1.0, 1)
    task.get_logger().report_scalar("own", "own", 0.5, 4)
    print(task.get_offline_mode_folder())
    sys.stdout.flush()
    task.close()
"""


def test_a_task_of_the_program_is_used_and_each_record_arrives_once() -> None:
    """With ClearML's own TensorBoard capture on: it is silent while our run is live, and speaks before and after."""
    done = run_program(OWN_TASK, deadline=100)
    assert 0 == done.returncode, done.err

    found = store.read(cache())
    assert 1 == len(store.sessions(cache()))
    assert [(step, step / 4) for step in range(20)] == series(found)
    assert [(step, step / 4) for step in range(20)] == series(found, "second/other")
    assert [(3, 0.5), (4, 0.5)] == series(found, "own")
    assert [[(1, 1.0)], [(1, 1.0)]] == [series(found, "before"), series(found, "after")]


# -- what is held


def test_nothing_is_lost_or_doubled_by_a_kill(tmp_path: Path) -> None:
    """kill -9 in the middle of a run, then the same run again: each point once, params and pictures kept."""
    program = """
        import os, sys, tracelet
        run = tracelet.start_logging("killed", backend="clearml", run_id="run1")
        run.log_params({"lr": 0.5})
        for step in range(3000):
            run.log_metric("loss", step / 4, step)
            if step == 2000:
                run.flush(20)
        if sys.argv[1] == "kill":
            print("there", flush=True)
            for step in range(3000, 10**9):
                run.log_metric("loss", step / 4, step)
    """
    with started(program, "kill") as killed:
        assert killed.stdout.readline()
        killed.kill()
        killed.wait(20)
    with JournalReader(the_run()) as reader:
        journalled = [record.value for record in reader.records() if isinstance(record, Scalar)]
    again = run_program("import tracelet; tracelet.start_logging(backend='clearml', run_id='run1').stop()")
    assert 0 == again.returncode, again.err

    found = store.read(cache())
    assert journalled == [value for _, value in series(found)]
    assert {"lr": 0.5} == found.params


def test_the_store_says_how_far_it_is(tmp_path: Path) -> None:
    """Right after `open`: what an earlier process had written, though the journal's cursor never heard of it."""
    backend, position = reopened(tmp_path)
    assert 0 == position
    write_whole(backend, points(4), 4)  # and killed before the cursor was stored
    later, position = opened_elsewhere(tmp_path, backend)

    assert 4 == position
    deliver(later, points(5, 4), after=4)
    later.close("finished", 0)
    assert [(at, at / 4) for at in range(9)] == series(store.read(cache()))


def opened_elsewhere(tmp_path: Path, dead: ClearmlBackend) -> tuple[ClearmlBackend, int | None]:
    """The run opened again as by another process, after the first one was killed."""
    silence(dead)
    dead._undo.close()
    return reopened(tmp_path)


def silence(dead: ClearmlBackend) -> None:
    """A killed process writes no more: ClearML's look at the repository edits the description when it is done."""
    dead.native._wait_for_repo_detection(timeout=20)


TORN = """
    import os, sys
    from pathlib import Path
    from backends.test_clearml import deliver, opened, points, session, silence, write_whole

    backend = opened(Path(sys.argv[1]))
    deliver(backend, points(4))
    write_whole(backend, points(4, 4), 8)
    silence(backend)
    path = session() / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    (session() / "task.json").write_text('{"half')
    os._exit(9)
"""


def test_a_half_written_line_is_cut_and_written_again(tmp_path: Path) -> None:
    """A kill in the middle of a write: what is there of the line is no use, and the batch counts as not held."""

    torn = run_program(TORN, tmp_path, PYTHONPATH=os.pathsep.join(map(str, (TESTS, REPOSITORY))))
    assert 9 == torn.returncode, torn.err
    later, position = reopened(tmp_path)

    assert 4 == position
    deliver(later, points(4, 4), after=4)
    later.close("finished", 0)
    assert [(at, at / 4) for at in range(8)] == series(store.read(cache()))
    assert "a run" == store.description(session())["name"]


def test_a_rejected_record_in_the_middle_counts_what_came_before(tmp_path: Path) -> None:
    """The count is exact, and the store knows of the part as well."""
    gone = image(tmp_path, "gone", 3, (0, 0, 0))
    Path(gone.data.path).unlink()  # type: ignore[union-attr]
    backend = opened(tmp_path)
    result = attempt(backend, [*points(3), gone, *points(2, 3)], 6)

    assert result is not None
    assert (3, RecordRejected) == (result.count, type(result.error))
    assert "missing" in str(result.error)
    backend.close("finished", 0)
    assert [0, 1, 2] == [step for step, _ in series(store.read(cache()))]
    again, position = reopened(tmp_path)
    again.close("finished", 0)
    assert 3 == position


def test_an_offline_session_is_found_wherever_the_cache_is_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, points(3))
    monkeypatch.setenv("CLEARML_CACHE_DIR", str(tmp_path / "elsewhere"))
    written(tmp_path, points(3, 3))
    monkeypatch.undo()

    assert [] == store.sessions(tmp_path / "elsewhere")


def test_the_archive_of_a_session_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a limit it is there for `Task.import_offline_session`; beyond it the folder serves."""
    written(tmp_path, points(3))
    archive = session().with_suffix(".zip")
    assert archive.exists()
    archive.unlink()
    monkeypatch.setattr("tracelet.backends.clearml.host.ZIP_LIMIT", 10)
    written(tmp_path, points(3, 3))

    assert not archive.exists()


FORK = """
    import multiprocessing, os, sys, time, tracelet
    run = tracelet.start_logging(backend="clearml")
    task = run.get_backend("clearml").native
    def silent(): pass
    def leaves(): sys.exit(0)
    def speaks(): task.get_logger().report_scalar("child", "child", 1.0, 1)
    context = multiprocessing.get_context("fork")
    for step in range(1000):
        run.log_metric("loss", step / 4, step)
        task.get_logger().report_scalar("own", "own", step, step)
    began = time.monotonic()
    for target in (silent, leaves, silent, speaks):
        child = context.Process(target=target)
        child.start()
        child.join(20)
        assert child.exitcode == 0, child.exitcode
    with context.Pool(2) as pool:
        assert [0, 1, 4] == pool.map(int(2).__rpow__, range(3))
    print(time.monotonic() - began)
    run.stop()
"""


def test_a_forked_child_doubles_nothing() -> None:
    """Neither our points nor the program's that wait to be sent; what a child reports itself arrives."""
    done = run_program(FORK, deadline=120)
    assert 0 == done.returncode, done.err

    found = store.read(cache())
    assert [(at, at / 4) for at in range(1000)] == series(found)
    assert [(at, float(at)) for at in range(1000)] == sorted(series(found, "own"))
    assert [(1, 1.0)] == series(found, "child")
    assert float(done.out.splitlines()[-1]) < 10


TERMINATED = """
    import multiprocessing, os, signal, time, tracelet
    from clearml.utilities.process.mp import BackgroundMonitor

    run = tracelet.start_logging(backend="clearml", flush_timeout=5)
    BackgroundMonitor.start_all = lambda **options: os.kill(os.getpid(), signal.SIGTERM)
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,))
    child.start()
    child.join()
    print(child.exitcode)
"""


def test_a_forked_child_that_is_terminated_as_it_begins_dies() -> None:
    """Also while ClearML's fork hook has its own signal handler in place, which would swallow the signal."""
    assert f"{-signal.SIGTERM}\n" == run_program(TERMINATED).out


# -- a server


def test_everything_arrives_at_a_server(tmp_path: Path, server: ClearmlServer) -> None:
    """Events, params, artifacts, status; the steps are not moved, the keys are in no file of the run."""
    backend = opened(tmp_path)
    records = [*points(2500), Params({"lr": 0.1}, WALL_TIME), *sample_records(tmp_path)]
    last = len(records)
    deliver(backend, records)
    assert backend.durable() in (None, last)
    assert str(backend.url).startswith(server.url)
    backend.close("finished", 0)

    found = told(server)
    assert [(at, at / 4) for at in range(2500)] == series(found)
    assert 0.001 == (found.params or {})["lr"]
    assert {"plots/a.png", "models/m.pth", "models/sub/empty.txt"} == (found.artifacts or {}).keys()
    task = server.the_task()
    assert ("completed", "a run", ["contract", "sample", "two words"]) == (task["status"], task["name"], task["tags"])
    kept = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not any(b"SECRET" in data for data in kept)


def test_a_task_has_one_lock(tmp_path: Path, server: ClearmlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads never create it at the same time: each would wait for the other's file, for ever."""
    from clearml.backend_interface.task import task as module

    created: list[str] = []
    lock = module.FileRLock

    def slow_lock(filename: str) -> Any:
        created.append(filename)
        time.sleep(0.2)
        return lock(filename=filename)

    monkeypatch.setattr(module, "FileRLock", slow_lock)
    opened(tmp_path, auto_resource_monitoring=True).close("finished", 0)
    task = server.the_task()
    assert 1 == sum(task["id"] in filename for filename in created)
    assert "completed" == task["status"]


@pytest.mark.parametrize(
    ("status", "code", "expected"), [("finished", 0, "completed"), ("failed", 3, "failed"), ("killed", 143, "stopped")]
)
def test_the_status_tells_how_it_ended(
    tmp_path: Path, server: ClearmlServer, status: Any, code: int, expected: str
) -> None:
    backend = opened(tmp_path)
    backend.close(status, code)

    assert expected == server.the_task()["status"]


def test_a_later_process_goes_on_with_the_same_task(tmp_path: Path, server: ClearmlServer) -> None:
    for start in (0, 3):
        backend = opened(tmp_path)
        deliver(backend, [*points(3, start), Params({f"p{start}": start}, WALL_TIME)], after=start)
        backend.close("failed", 1)
        server.the_task()["last_iteration"] = 2

    assert [(at, at / 4) for at in range(6)] == series(told(server))
    assert {"p0": 0, "p3": 3} == told(server).params


def test_keys_and_addresses_from_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without clearml.conf or variables; and nothing of them is left in the environment."""
    server = ClearmlServer().start()
    config = dict.fromkeys(("backend_url", "web_url", "files_url"), server.url)
    before = dict(os.environ)
    try:
        backend = opened(tmp_path, mode="online", api_key="ACCESS:SECRET", **config)
        assert not [value for value in os.environ.values() if "SECRET" in value]
        deliver(backend, [*points(3), image(tmp_path, "im", 1, (1, 2, 3))])
        backend.close("finished", 0)
    finally:
        server.stop()

    assert before == dict(os.environ)
    assert [(at, at / 4) for at in range(3)] == series(told(server))


def test_a_point_that_is_no_number_takes_no_other_with_it(tmp_path: Path, server: ClearmlServer) -> None:
    backend = opened(tmp_path)
    records = [scalar("loss", math.nan if at % 3 == 0 else at, at) for at in range(10)]
    assert [] == deliver(backend, records).rejected
    backend.close("finished", 0)

    assert repr([(one.step, one.value) for one in records]) == repr(series(told(server)))


def test_a_bad_event_among_good_ones_is_rejected_alone(tmp_path: Path, server: ClearmlServer) -> None:
    """The server tells no more than their number: the batch is halved until it is found; the others are there once."""
    server.refuse = lambda event: event.get("iter") == 6
    backend = opened(tmp_path)
    outcome = deliver(backend, points(20))
    backend.close("finished", 0)

    assert [6] == [record.step for record, _ in outcome.rejected if isinstance(record, Scalar)]
    # The real server's events have an identity: the same one again takes the place of the first.
    assert [at for at in range(20) if at != 6] == sorted({step for step, _ in series(told(server))})


def test_no_server_is_said_in_time(tmp_path: Path, server: ClearmlServer) -> None:
    """A closed port at once, a silent one within seconds; hooks are as before; once the server is there, it works."""
    before = facts_of_the_process()
    server.stop()
    with pytest.raises(BackendUnavailable, match="cannot sign in") as caught:
        opened(tmp_path)
    assert "SECRET" not in str(caught.value)
    server.start()
    began = time.monotonic()
    with server.fault(server.hang), pytest.raises(BackendUnavailable):
        opened(tmp_path)
    assert time.monotonic() - began < 12
    assert before == facts_of_the_process()

    backend = opened(tmp_path)
    deliver(backend, points(3))
    backend.close("finished", 0)
    assert 3 == len(series(told(server)))


def test_wrong_keys_are_said(tmp_path: Path, server: ClearmlServer) -> None:
    with server.fault(lambda action: (401, {"error": "invalid credentials"})):
        with pytest.raises(BackendUnavailable, match="invalid credentials"):
            opened(tmp_path)


@pytest.mark.parametrize("kind", ["scalar", "params", "image", "artifact"])
def test_a_server_that_goes_away_in_the_middle(tmp_path: Path, server: ClearmlServer, kind: str) -> None:
    """Unavailable within seconds whatever is sent, and once it is back the same batch arrives, each record once."""
    file = stored(tmp_path, b"x", "x.bin")
    records: dict[str, Record] = {
        "scalar": scalar("more", 1.0, 1),
        "params": Params({"lr": 0.1}, WALL_TIME),
        "image": image(tmp_path, "im", 1, (1, 2, 3)),
        "artifact": Artifact("x.bin", (file,), WALL_TIME),
    }
    backend = opened(tmp_path)
    deliver(backend, points(3))
    server.stop()
    backend._connection._alive_at = -10.0  # type: ignore[union-attr]  # a moment ago it answered
    began = time.monotonic()
    result = attempt(backend, [records[kind]], 4)
    assert result is not None
    assert (0, BackendUnavailable) == (result.count, type(result.error))
    assert time.monotonic() - began < 8
    server.start()
    # On a busy machine, a first request may still meet a connection to the server of before.
    until(lambda: attempt(backend, [records[kind]], 4) is None)
    backend.close("finished", 0)

    found = told(server)
    assert 3 == len(series(found))
    assert 1 == len(series(found, "more")) + len(found.params or {}) + len(found.images or {}) + len(
        found.artifacts or {}
    )


def test_errors_of_the_server_are_an_outage(tmp_path: Path, server: ClearmlServer) -> None:
    """500 and 503 for a while: the same batch later."""
    backend = opened(tmp_path)
    for code in (500, 503):
        with server.fault(lambda action, code=code: (code, {"error": "maintenance"})):  # type: ignore[misc]
            with pytest.raises(BackendUnavailable):
                write_whole(backend, points(3), 3)
    deliver(backend, points(3))
    backend.close("finished", 0)

    assert 3 == len(series(told(server)))


def test_a_server_that_hangs_in_the_middle(
    tmp_path: Path, server: ClearmlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer has a deadline; what was sent meanwhile is sent again."""
    monkeypatch.setattr("tracelet.backends.clearml.connection._ANSWER", 0.5)
    backend = opened(tmp_path)
    for record in (scalar("loss", 1.0, 1), Params({"lr": 1}, WALL_TIME)):
        began = time.monotonic()
        with server.fault(server.hang), pytest.raises(BackendUnavailable):
            write_whole(backend, [record], 1)
        assert time.monotonic() - began < 8
    deliver(backend, points(3))
    began = time.monotonic()
    backend.close("failed", 1)
    assert time.monotonic() - began < 8

    assert [(at, at / 4) for at in range(3)] == series(told(server))
    assert "failed" == server.the_task()["status"]


def test_a_server_that_answers_a_byte_at_a_time(
    tmp_path: Path, server: ClearmlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte restarts ClearML's own timeout; a request and an upload end all the same, and are sent again."""
    monkeypatch.setattr("tracelet.backends.clearml.connection._ANSWER", 0.5)
    monkeypatch.setattr("tracelet.backends.clearml.connection._CONNECT", 1.0)
    backend = opened(tmp_path)
    server.drips = True
    for record in (scalar("loss", 1.0, 1), Text("note", "x", 1, WALL_TIME)):
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match=r"not complete|does not respond"):
            write_whole(backend, [record], 1)
        assert time.monotonic() - began < 8
    server.drips = False
    deliver(backend, points(3))
    backend.close("finished", 0)

    assert [(at, at / 4) for at in range(3)] == [point for point in series(told(server)) if point != (1, 1.0)]


def test_a_dead_server_at_the_end_is_told_in_time(tmp_path: Path, server: ClearmlServer) -> None:
    before = facts_of_the_process()
    backend = opened(tmp_path)
    session = backend.native.session
    backend.native.get_logger().report_scalar("own", "own", 1.0, 1)
    server.stop()
    backend._connection._alive_at = -10.0  # type: ignore[union-attr]
    began = time.monotonic()
    with pytest.raises(BackendUnavailable):
        backend.close("finished", 0)

    assert time.monotonic() - began < 8
    assert before == facts_of_the_process()
    assert __import__("clearml").Task.current_task() is None
    # ClearML's threads that are still at it get this for an answer, and end; also where the next run is offline.
    assert 500 == session.send(None).meta.result_code


def test_the_programs_own_task_on_a_server(server: ClearmlServer) -> None:
    """Used, not ended; its own calls are as patient as before."""
    done = run_program("""
        import tracelet
        from clearml import Task
        Task._report_subprocess_enabled = False
        task = Task.init("mine", "my task", reuse_last_task_id=False, auto_connect_frameworks=False)
        send = task.session.send
        run = tracelet.start_logging(backend="clearml")
        assert run.get_backend("clearml").native is task
        for step in range(3):
            run.log_metric("loss", step / 4, step)
        run.log_params({"lr": 1})
        run.stop()
        assert send == task.session.send
        assert "in_progress" == task.get_status()
        task.close()
    """)
    assert 0 == done.returncode, done.err

    assert [(at, at / 4) for at in range(3)] == series(told(server))
    assert ("completed", "my task") == (server.the_task()["status"], server.the_task()["name"])


def test_an_offline_session_imported_to_a_server_is_the_same(tmp_path: Path, server: ClearmlServer) -> None:
    """By ClearML's own `Task.import_offline_session`, as its users do it."""
    records = [*points(20), scalar("loss", math.nan, 99), *sample_records(tmp_path)]
    offline = written(tmp_path, records, mode="offline")
    done = run_program(
        "import sys; from clearml import Task; Task.import_offline_session(sys.argv[1])", session().with_suffix(".zip")
    )
    assert 0 == done.returncode, done.err

    online = told(server)
    assert repr(offline.scalars) == repr(online.scalars)
    assert (offline.images, offline.texts, offline.histograms) == (online.images, online.texts, online.histograms)
    assert (offline.artifacts, offline.params) == (online.artifacts, online.params)
    assert dict(offline.counts) == dict(online.counts)


# -- handing an offline session over


def offline_run(tmp_path: Path, records: list[Any], after: int = 0) -> None:
    """One process that recorded offline, and ended."""
    backend = opened(tmp_path, mode="offline")
    assert [] == deliver(backend, records, after=after).rejected
    backend.close("finished", 0)


def handed_over(tmp_path: Path, seconds: float = 60.0) -> None:
    ClearmlBackend().upload_offline(run_info(tmp_path), time.monotonic() + seconds)


def waits(tmp_path: Path) -> bool:
    return ClearmlBackend.pending_upload(Path(run_info(tmp_path).folder)) is not None


@pytest.mark.parametrize("variable", ["", "1"])
def test_an_offline_session_is_handed_over_once(
    tmp_path: Path, server: ClearmlServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Everything arrives in one task, also where the process is told to be offline; to repeat it changes nothing, and
    what the session got since is added to it."""
    file = stored(tmp_path, b"x", "x.bin")
    more = [Artifact("a (b)/x y@z.bin", (file,), WALL_TIME)]  # ClearML's own import looks for it by its quoted name
    records = [*points(20), scalar("loss", math.nan, 99), *sample_records(tmp_path), *more]
    assert not waits(tmp_path)
    offline_run(tmp_path, records)
    offline = store.read(cache())
    monkeypatch.setenv("CLEARML_OFFLINE_MODE", variable)
    before = facts_of_the_process()
    assert waits(tmp_path)
    handed_over(tmp_path)
    assert before == facts_of_the_process()
    assert not waits(tmp_path)
    online, sent = told(server), len(server.events)
    handed_over(tmp_path)
    assert (1, sent) == (len(server.tasks), len(server.events))
    assert repr(offline.scalars) == repr(online.scalars)
    assert (offline.images, offline.texts, offline.histograms) == (online.images, online.texts, online.histograms)
    assert (offline.artifacts, offline.params) == (online.artifacts, online.params)

    offline_run(tmp_path, [scalar("more", at, at) for at in range(3)], after=len(records))
    assert waits(tmp_path)
    handed_over(tmp_path)
    assert (1, [(0, 0.0), (1, 1.0), (2, 2.0)]) == (len(server.tasks), series(told(server), "more"))
    assert [(at, at / 4) for at in range(20)] == series(told(server))[:20]


@pytest.mark.parametrize("action", ["events.add_batch", "files.upload", "tasks.edit", "tasks.completed"])
def test_a_hand_over_that_breaks_off_is_repeated(tmp_path: Path, server: ClearmlServer, action: str) -> None:
    """It says so within seconds, goes on in the same task, and nothing is missing; points sent again are the same."""
    offline_run(tmp_path, [*points(5), Params({"lr": 0.1}, WALL_TIME), image(tmp_path, "im", 1, (1, 2, 3))])
    began = time.monotonic()
    with server.fault(lambda asked: (500, {"error": "no"}) if asked == action else None):
        with pytest.raises(BackendUnavailable, match="clearml: "):
            handed_over(tmp_path)
    assert time.monotonic() - began < 15
    assert waits(tmp_path)
    handed_over(tmp_path)

    found = told(server)
    assert (1, False) == (len(server.tasks), waits(tmp_path))
    assert {(at, at / 4) for at in range(5)} == set(series(found))
    assert ({"lr": 0.1}, 1) == (found.params, len(found.images or {}))
    assert "completed" == server.the_task()["status"]


def test_a_hand_over_without_a_server_is_told_in_time(tmp_path: Path, server: ClearmlServer) -> None:
    offline_run(tmp_path, points(5))
    server.stop()
    began = time.monotonic()
    with pytest.raises(BackendUnavailable):
        handed_over(tmp_path)
    assert time.monotonic() - began < 12
    assert waits(tmp_path)


def test_the_handed_over_task_is_gone_on_with_online(tmp_path: Path, server: ClearmlServer) -> None:
    """A later process that reaches the server begins no second task, and is asked for nothing that is there."""
    offline_run(tmp_path, points(5))
    handed_over(tmp_path)
    backend, position = reopened(tmp_path)
    assert 5 == position
    deliver(backend, points(3, 5), after=5)
    backend.close("finished", 0)

    assert (1, [(at, at / 4) for at in range(8)]) == (len(server.tasks), series(told(server)))


def test_a_store_that_was_deleted_is_given_everything(tmp_path: Path, server: ClearmlServer) -> None:
    """A task on a server and an offline session: what begins anew holds nothing, and says so."""
    for mode in ("online", "offline"):
        backend = opened(tmp_path, mode=mode)
        deliver(backend, points(5))
        backend.close("finished", 0)
        if mode == "online":
            server.tasks.clear()
        else:
            shutil.rmtree(session())
        backend, position = reopened(tmp_path, mode=mode)
        assert 0 == position
        backend.close("finished", 0)


def test_a_full_file_server_rejects_nothing(tmp_path: Path, server: ClearmlServer) -> None:
    """What goes wrong on the way of a file is an outage; once it is over, the file is there."""
    backend = opened(tmp_path)
    records: list[Record] = [
        image(tmp_path, "im", 1, (1, 2, 3)),
        Artifact("x.bin", (stored(tmp_path, b"x", "x.bin"),), WALL_TIME),
    ]
    for at, record in enumerate(records, 1):
        with server.fault(lambda asked: (507, {"error": "full"}) if asked == "files.upload" else None):
            with pytest.raises(BackendUnavailable, match="507"):
                write_whole(backend, [record], at)
        write_whole(backend, [record], at)
    backend.close("finished", 0)

    found = told(server)
    assert (1, {"x.bin": b"x"}) == (len(found.images or {}), found.artifacts)


def test_credentials_are_known_by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the config, the environment and clearml.conf; none of them is among the keys that a journal may hold."""
    conf = tmp_path / "clearml.conf"
    conf.write_text(
        'api { credentials {"access_key" = "FROMFILEKEY"\n  "secret_key" = "from file"}\n'
        "api_server: http://me:inconf@host }\nsdk.aws.s3.secret: s3"
    )
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(conf))
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "from-env")
    backend = ClearmlBackend(ClearmlConfig(api_key="given-key:given-secret", backend_url="http://me:pass%20word@host"))

    monkeypatch.setenv("CLEARML_API_HOST", "http://me:hosted@host")

    known = {"given-key", "given-secret", "from-env", "FROMFILEKEY", "s3", "pass%20word", "pass word"}
    known |= {"hosted", "inconf"}
    assert known <= secrets_of(backend)
    assert not {"api_key", "access_key", "secret_key"} & set(ClearmlConfig.persistent_keys())
    assert "pass%20word" not in repr(backend.config)


# -- the end of a program


PROGRAM = """
    import os, signal, sys, time, tracelet
    run = tracelet.start_logging("program", backend="clearml", flush_timeout=5)
    for step in range(500):
        run.log_metric("loss", step / 4, step)
    print("last", time.time(), flush=True)
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("sys.exit(3)", 3), ("raise RuntimeError('no')", 1), ("os.kill(os.getpid(), signal.SIGTERM)", -15)],
)
def test_all_arrives_however_the_program_ends(end: str, code: int) -> None:
    done = run_program(PROGRAM + f"    {end}\n")

    assert code == done.returncode, done.err
    assert time.time() - float(done.out.partition("last ")[2].split()[0]) < 5 + 2 + BUSY
    assert [(at, at / 4) for at in range(500)] == series(store.read(cache()))


def test_a_server_that_dies_does_not_hold_the_end_of_the_program(server: ClearmlServer) -> None:
    """Not our wait, nor ClearML's exit hooks: at most the deadline and two seconds."""
    program = """
        import sys, tracelet
        run = tracelet.start_logging("program", backend="clearml", flush_timeout=3)
        run.log_metric("loss", 1.0, 1)
        assert run.flush(20)
        run.get_backend("clearml").native.get_logger().report_scalar("own", "own", 1.0, 1)
        print("there", flush=True)
        sys.stdin.readline()
        import time
        began = time.monotonic()
        import atexit
        for step in range(500):
            run.log_metric("loss", step / 4, step)
    """
    with started(program) as running:
        assert running.stdout.readline(), running.stderr.read()
        server.stop()
        began = time.monotonic()
        running.terminate()
        _, errors = running.communicate(timeout=30)

    assert time.monotonic() - began < 3 + 2 + BUSY, errors


# -- the number of the last record, in the session's own file


def lines_of(folder: Path) -> list[list[dict[str, Any]]]:
    """Return the lines with events of tracelet."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if any("tracelet" in str(event) or "value" in event for event in line)]


def test_a_number_follows_each_batch_in_the_same_line(tmp_path: Path) -> None:
    """Also if the batch has no event, and if a record in its middle is rejected."""
    backend = opened(tmp_path, auto_resource_monitoring=False)
    write_whole(backend, points(2), 2)
    write_whole(backend, [Params({"lr": 0.1}, WALL_TIME)], 3)
    backend.write(Batch([*points(2, 2), Text("t", "x", 2**63, WALL_TIME), *points(1, 4)], [5, 7, 8, 11]))
    backend.close("finished", 0)

    assert [(2, 2), (0, 3), (2, 7)] == [(len(line) - 1, line[-1]["last"]) for line in lines_of(session())]
    assert 7 == reopened(tmp_path)[1]


def test_the_number_is_in_no_task_of_a_server(tmp_path: Path, server: ClearmlServer) -> None:
    offline_run(tmp_path, [*points(3), Params({"lr": 0.1}, WALL_TIME)])
    handed_over(tmp_path)

    assert 3 == len(series(told(server)))
    assert {server.the_task()["id"]} == {event["task"] for event in server.events}
    assert not [event for event in server.events if "last" in event]


def test_a_line_that_is_cut_anywhere_counts_for_nothing(tmp_path: Path) -> None:
    """A task of the program is not repaired, since the program may be writing the file."""
    from tracelet.backends.clearml.offline import Note, SessionFile

    file, path = SessionFile(tmp_path, "run"), tmp_path / "metrics.jsonl"
    file.append([{"task": "x", "msg": '"run": "run", "last": 9}]'}], 4)
    size = path.stat().st_size
    file.append([{"task": "x"}], 123)
    whole, note = path.read_bytes(), Note(id="x", folder=str(tmp_path))
    assert 123 == note.last_record("run")
    for end in range(size, len(whole)):
        path.write_bytes(whole[:end])
        assert 4 == note.last_record("run")
    assert 0 == note.last_record("another")


def test_two_runs_in_one_session_have_their_own_numbers() -> None:
    """A task of the program, in which one run follows another."""
    done = run_program(
        """
        from pathlib import Path
        from clearml import Task
        from backends.test_clearml import ClearmlBackend, deliver, points, run_info

        def position(run, start, end):
            backend = ClearmlBackend()
            found = backend.open(run_info(Path.cwd(), run))
            deliver(backend, points(end - start, start), after=start)
            backend.close("finished", 0)
            return found

        Task._report_subprocess_enabled = False
        task = Task.init("mine", "my task", reuse_last_task_id=False, auto_connect_frameworks=False)
        assert [0, 0, 4, 3] == [position(*run) for run in [("a", 0, 4), ("b", 0, 3), ("a", 4, 6), ("b", 3, 4)]]
        task.close()
        """,
        PYTHONPATH=os.pathsep.join(map(str, (TESTS, REPOSITORY))),
    )
    assert 0 == done.returncode, done.err


@pytest.mark.parametrize(("lines", "position"), [(2, 4), (1, 2)])
def test_a_session_of_an_earlier_release_is_resumed(tmp_path: Path, lines: int, position: int) -> None:
    """Its note has the digest of the last line, which may be missing after a kill; its file has no numbers."""
    backend = opened(tmp_path, auto_resource_monitoring=False)
    deliver(backend, points(4), size=2)
    silence(backend)
    backend._undo.close()
    path, folder = session() / "metrics.jsonl", Path(run_info(tmp_path).folder)
    first, second = (json.dumps(line[:-1]).encode() + b"\n" for line in lines_of(session()))
    path.write_bytes(first + second if lines == 2 else first)
    facts = {"held": 2, "last": 4, "offset": len(first), "digest": hashlib.sha256(second[:-1]).hexdigest()}
    note = json.loads((folder / "clearml.json").read_bytes())
    (folder / "clearml.json").write_text(json.dumps(note | facts))
    for _ in range(2):  # also after a kill right after the first start
        later, found = reopened(tmp_path, auto_resource_monitoring=False)
        assert position == found
        silence(later)
        later._undo.close()
    later = opened(tmp_path)
    deliver(later, points(6 - position, position), after=position)
    later.close("finished", 0)

    assert [(at, at / 4) for at in range(6)] == series(store.read(cache()))
    assert not facts.keys() & json.loads((folder / "clearml.json").read_bytes()).keys()
