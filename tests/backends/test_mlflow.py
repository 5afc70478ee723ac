"""MLflow's own quirks: what was handed to the adapter, read back from the tables and folders of real SQLite stores."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import math
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import msgspec
import pytest
from backends import mlflow_store as store
from backends.writing import attempt, write_whole
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name
from PIL import Image as Pillow
from support import TESTS

import tracelet
from tracelet.backends.base import Batch
from tracelet.backends.mlflow import MlflowBackend, MlflowConfig
from tracelet.backends.mlflow.values import TimestampDeduplicator, artifact_path, file_key, key_of, name_tags
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.records import (
    Artifact,
    File,
    Graph,
    Histogram,
    Image,
    Params,
    PRCurve,
    Record,
    RunInfo,
    Scalar,
    Table,
    Text,
)
from tracelet.testing import BackendContract, Stored
from tracelet.testing.samples import AWKWARD_TAGS, histogram, png

WALL = 1_700_000_000.25
LARGEST = sys.float_info.max


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store: making one takes MLflow seconds."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{path}", str(path.parent / "mlruns")).engine.dispose()
    return path


@pytest.fixture(autouse=True)
def database(tmp_path: Path, template: Path) -> Iterator[Path]:
    """The store that MLflow and we find by default: in the working directory. Nothing of MLflow's stays behind."""
    path = tmp_path / "mlflow.db"
    shutil.copyfile(template, path)
    before = surroundings()
    yield path
    tracelet.stop_logging()
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)
    mlflow.tracking.fluent._active_experiment_id = None
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    assert before == surroundings()


def surroundings() -> tuple[Any, ...]:
    """What the program can see of MLflow's state."""
    fluent, utils = mlflow.tracking.fluent, mlflow.tracking._tracking_service.utils
    calls = mlflow.start_run, fluent.start_run, mlflow.end_run, fluent.end_run
    return *calls, mlflow.active_run(), utils._tracking_uri, fluent._active_experiment_id


def outside() -> tuple[Any, ...]:
    """And what it shares with everybody."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    return mlflow.get_tracking_uri(), variables, sys.exit, sys.excepthook, signal.getsignal(signal.SIGINT)


def info(where: Path, **more: Any) -> RunInfo:
    place = where / "run"
    place.mkdir(exist_ok=True)
    given: dict[str, Any] = {"run_id": "run1", "project": "proj", "name": "first", "folder": str(place)}
    return RunInfo(**(given | more))


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[MlflowBackend]:
    backend = MlflowBackend()
    backend.open(info(tmp_path))
    yield backend
    backend.close("finished", 0)


def give(backend: MlflowBackend, *records: Record, last: int | None = None) -> None:
    write_whole(backend, records, len(records) if last is None else last)


def written(backend: MlflowBackend, *records: Record) -> store.StoredRun:
    """What the store holds once the records were given and the run was closed."""
    give(backend, *records)
    backend.close("finished", 0)
    return store.only(Path("mlflow.db"))


def scalar(tag: str, value: float, step: int | None, wall_time: float = WALL) -> Scalar:
    return Scalar(tag, value, step, wall_time)


def spooled(name: str, data: bytes) -> File:
    """A file as the spool keeps it: called by its digest, without a suffix."""
    digest = hashlib.sha256(data).hexdigest()
    path = Path("run") / digest
    path.write_bytes(data)
    return File(name, digest, len(data), str(path.absolute()))


def run_program(source: str, folder: Path, *arguments: object, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    return subprocess.run(
        command, cwd=folder, env=environment, timeout=timeout, capture_output=True, text=True, check=False
    )


class TestMlflowContract(BackendContract):
    """The exam, on SQLite."""

    knows_its_store = True

    def make_backend(self, tmp_path: Path) -> MlflowBackend:
        return MlflowBackend()

    def read_back(self, tmp_path: Path) -> Stored:
        return store.stored(tmp_path)

    def shown_value(self, value: float) -> float:
        """The SQL stores clamp the infinities, and SQLite knows no -0.0; the truth is in an artifact."""
        return min(max(value, -LARGEST), LARGEST) + 0.0 if value == value else value


# -- names


@given(st.one_of(st.text(max_size=300), st.text(alphabet="ab@_-/. :0", max_size=8), st.sampled_from(AWKWARD_TAGS)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_mlflow_takes_every_key(tag: str) -> None:
    """For metrics, parameters and tags; a plain name stays as it is, and the tags that tell of a made one fit too."""
    key = key_of(tag)
    _validate_metric_name(key)
    _validate_param_name(key)
    _validate_tag_name(key)
    told = dict(name_tags(key, tag))
    assert tag == json.loads("".join(told.values()))
    for name, value in told.items():
        _validate_tag_name(name)
        assert len(value) <= 4000
    assert len(key) <= 250
    assert all(len(name) <= 250 for name in told)


@given(st.lists(st.text(alphabet="ab@#_-/. ", max_size=5), unique=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_two_tags_share_a_key(tags: list[str]) -> None:
    tags += [made for tag in tags if (made := key_of(tag)) not in tags]  # a tag may be what another is made into
    for made in (key_of, file_key):
        assert len(set(tags)) == len({made(tag) for tag in set(tags)})


def test_a_plain_name_stays_as_it_is() -> None:
    plain = ["loss", "val/loss", "lr-Adam/pg1", "Größe", "a b", "x" * 250, "model.layers.0", "a:b"]
    assert plain == [key_of(tag) for tag in plain]


def test_every_tag_arrives_and_can_be_told(backend: MlflowBackend) -> None:
    """Awkward tags stay distinct, and the run says what each was."""
    run = written(backend, *[scalar(tag, float(at), at) for at, tag in enumerate(AWKWARD_TAGS)])

    assert {tag: [(at, float(at), WALL)] for at, tag in enumerate(AWKWARD_TAGS)} == {
        tag: run.series(tag) for tag in AWKWARD_TAGS
    }


def test_a_lone_surrogate_and_a_very_long_name_are_kept(backend: MlflowBackend) -> None:
    tags = ["\ud800", "\ud801", "@" * 20_000, "nul\0"]
    run = written(backend, *[scalar(tag, 1.0, 1) for tag in tags])

    assert set(tags) == {run.tag_of(key) for key, *_ in run.metrics}


# -- scalars


def test_values_are_exact_where_sqlite_is(backend: MlflowBackend) -> None:
    """float64 and NaN as they are; the infinities and -0.0 beside it in an artifact, in full."""
    values = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1, 2.0**53 + 2, LARGEST]
    run = written(backend, *[scalar("v@", value, at) for at, value in enumerate(values)])

    shown = [math.nan, LARGEST, -LARGEST, 0.0, *values[4:]]
    assert [repr(value) for value in shown] == [repr(value) for _, value, _ in run.series("v@")]
    assert [("v@", repr(value), at, WALL) for at, value in enumerate(values) if at in (1, 2, 3)] == [
        (tag, repr(value), step, wall) for tag, value, step, wall in run.exact_points()
    ]


def test_what_no_integer_holds_is_clamped_and_kept_beside(backend: MlflowBackend) -> None:
    """Steps beyond 64 bits, times before 1970 or after 9999 or none at all: the point arrives all the same."""
    odd = [(2**63, WALL), (-(2**70), WALL), (1, -5.0), (2, 1e18), (3, math.nan), (4, 0.0)]
    run = written(backend, *[scalar("loss", 0.5, step, wall) for step, wall in odd])

    held = [(2**63 - 1, WALL), (-(2**63), WALL), (1, 0.0), (2, 253402300799.0), (3, 0.0), (4, 0.0)]
    assert held == [(step, seconds) for step, _, seconds in run.series("loss")]
    assert [(step, repr(wall)) for step, wall in odd[:5]] == [
        (step, repr(wall)) for _, _, step, wall in run.exact_points()
    ]


def test_the_same_point_said_again_is_kept(backend: MlflowBackend) -> None:
    """MLflow stores one (name, step, time, value) once: the repetition moves to the next free millisecond."""
    give(backend, *[scalar("loss", 0.5, None) for _ in range(3)], scalar("loss", 0.5, None, WALL + 0.001))
    run = written(backend, scalar("loss", 0.5, None), scalar("loss", math.nan, 1), scalar("loss", math.nan, 1))

    assert [0, 1, 2, 3, 4] == [round((wall - WALL) * 1000) for step, _, wall in run.series("loss") if step == 0]
    assert 2 == len([step for step, _, _ in run.series("loss") if step == 1])


def test_what_is_offered_again_is_there_once(backend: MlflowBackend, tmp_path: Path) -> None:
    """An answer that was lost, or a process that was killed: no second copy, however the batches are cut."""
    records = [
        *[scalar(f"m{at % 3}", at / 3, at // 3) for at in range(90)],
        Image("im", spooled("i.png", png((1, 2, 3))), "png", 4, 4, 1, WALL),
        histogram("h", 1),
        Text("t", "x", 1, WALL),
        Params({"lr": 0.1}, WALL),
        scalar("odd", math.inf, 1),
    ]
    give(backend, *records)
    backend.close("finished", 0)
    once = store.only(Path("mlflow.db"))
    later = MlflowBackend()
    later.open(info(tmp_path))
    for at in range(0, len(records), 7):
        give(later, *records[at : at + 7], last=min(at + 7, len(records)))
    later.close("finished", 0)
    again = store.only(Path("mlflow.db"))

    assert sorted(once.metrics) == sorted(again.metrics)
    assert once.artifacts == again.artifacts
    assert (once.params, once.tags) == (again.params, again.tags)


def test_the_memory_for_repetitions_is_bounded() -> None:
    repeats = TimestampDeduplicator()
    for at in range(30_000):
        assert at == repeats.assign(at, "k", at, at, 0.5)
        repeats.commit(at + 1)

    assert len(repeats._taken) <= 8192
    assert not repeats._draft


def test_a_batch_that_was_not_taken_is_placed_as_before() -> None:
    """Only what the store took counts as taken."""
    repeats = TimestampDeduplicator()
    first = [repeats.assign(at, "k", 0, 7, 0.5) for at in range(4)]
    repeats.commit(2)
    second = [repeats.assign(at, "k", 0, 7, 0.5) for at in range(2)]

    assert ([7, 8, 9, 10], [9, 10]) == (first, second)


def test_the_steps_and_rows_of_a_large_batch(backend: MlflowBackend) -> None:
    """2,500 metrics with long names at one step, 250 parameters and a megabyte of them: in pieces, nothing left out."""
    tags = [f"{at:04d}-{'é' * 200}" for at in range(2500)]
    params = {f"p{at:03d}": "w" * 5000 for at in range(250)}
    run = written(backend, *[scalar(tag, 1.0, 1) for tag in tags], Params(params, WALL))

    assert set(tags) == {key for key, *_ in run.metrics}
    assert params == run.params == run.exact_params


# -- parameters


def test_a_parameter_that_changes(backend: MlflowBackend, caplog: pytest.LogCaptureFixture) -> None:
    """No error: MLflow shows the first value, a run tag the latest, the artifact all of them; said once."""
    with caplog.at_level(logging.WARNING, "tracelet"):
        logging.getLogger("tracelet").propagate = True
        give(backend, Params({"lr": 0.1, "b@": 1}, WALL))
        give(backend, Params({"lr": 0.2, "b@": 2, "same": 1}, WALL))
        run = written(backend, Params({"lr": 0.1, "same": 1}, WALL))

    assert ("0.1", "1") == (run.params["lr"], run.params["same"])
    assert "0.1" == run.tags["tracelet.param.lr"]
    assert "2" == run.tags[f"tracelet.param.{key_of('b@')}"]
    assert "tracelet.param.same" not in run.tags
    assert {"lr": 0.1, "b@": 2, "same": 1} == run.exact_params
    assert 1 == sum("keeps its first value" in record.message for record in caplog.records)


def test_parameters_come_back_as_they_were(backend: MlflowBackend, tmp_path: Path) -> None:
    """None, lists, NaN and long texts: as text where a person looks, typed and in full in the artifact, also later."""
    values = {"none": None, "list": [1, "a", None], "nan": math.nan, "flag": True, "long": "y" * 20_000, "": "\0\ud800"}
    give(backend, Params(values, WALL))
    backend.close("finished", 0)
    later = MlflowBackend()
    later.open(info(tmp_path))
    give(later, Params({"more": 1, "long": "y" * 20_000}, WALL))
    later.close("finished", 0)
    run = store.only(Path("mlflow.db"))

    assert repr(values | {"more": 1}) == repr(run.exact_params)
    shown = {run.tag_of(key): text for key, text in run.params.items()}
    assert ("None", "[1, 'a', None]", "nan", "True") == tuple(shown[name] for name in ("none", "list", "nan", "flag"))
    assert 6000 == len(shown["long"])
    assert "\\x00\\ud800" == shown[""]
    assert not any(name.startswith("tracelet.param.") for name in run.tags)


def test_a_parameter_of_the_programs_own_stays(backend: MlflowBackend) -> None:
    """What the program logged itself, with another value, is no reason to refuse the others."""
    client = mlflow.MlflowClient()
    client.log_param(backend.native.info.run_id, "lr", "mine")
    run = written(backend, Params({"lr": 0.5, "epochs": 3}, WALL))

    assert {"lr": "mine", "epochs": "3"} == run.params
    assert "0.5" == run.tags["tracelet.param.lr"]


# -- other kinds


def test_pictures_are_in_mlflows_view_to_the_byte(backend: MlflowBackend) -> None:
    """Each with the small copy that the view shows, in MLflow's own spelling; the bytes are the spool's."""
    out = io.BytesIO()
    noise = random.Random(0).randbytes(3 * 300 * 300)
    Pillow.frombytes("RGB", (300, 300), noise).save(out, "PNG")
    pictures = {("val/digits", 3): png((1, 2, 3)), ("a@5", 2**70): out.getvalue(), ("histograms/x", 1): png((4, 5, 6))}
    records = [Image(tag, spooled("i.png", data), "png", 4, 4, step, WALL) for (tag, step), data in pictures.items()]
    run = written(backend, *records)

    shown = {(tag, min(step, 2**63 - 1)): data for (tag, step), data in pictures.items()}
    assert shown == {(tag, step): data for tag, step, _, data in run.images()}
    assert {round(WALL * 1000)} == {ms for *_, ms, _ in run.images()}
    full = {path.rpartition(".")[0] for path in run.artifacts if store.IMAGE.fullmatch(path)}
    small = {path.rpartition("+compressed.")[0]: data for path, data in run.artifacts.items() if "+compressed." in path}
    assert full == small.keys()
    assert all(max(Pillow.open(io.BytesIO(data)).size) <= 256 for data in small.values())
    assert "True" == run.tags["mlflow.loggedImages"]


def test_another_picture_format_is_kept_and_shown(backend: MlflowBackend) -> None:
    """The view knows png and webp: a jpeg is there as it was, and as a png."""
    out = io.BytesIO()
    Pillow.new("L", (8, 4), 7).save(out, "JPEG")
    run = written(backend, Image("j", spooled("j.jpeg", out.getvalue()), "jpeg", 8, 4, 2, WALL))

    ((place, facts),) = run.facts("image")
    assert out.getvalue() == run.artifacts[f"{place}.jpeg"]
    assert ("j", 2, "jpeg") == (facts["tag"], facts["step"], facts["format"])
    assert ["j"] == [tag for tag, *_ in run.images()]


def test_histograms_and_curves_are_drawn_and_exact(backend: MlflowBackend) -> None:
    """1,548 buckets in a JSON file and a figure beside it. The image view, which is above the metrics, has neither."""
    limits = (*[1e-12 * 1.1**at for at in range(1547)], math.inf)
    counts = tuple(float(at % 7) for at in range(1548))
    ramp = (0.0, 0.5, 1.0)
    run = written(
        backend,
        Histogram("w/h@", limits, counts, 1e-12, 1e51, sum(counts), 0.5, 0.25, 3, WALL),
        PRCurve("pr", ramp, ramp, ramp, ramp, ramp, ramp, 4, WALL),
    )

    ((place, told),) = run.facts("histogram")
    assert ("w/h@", 3, WALL, limits, counts) == (
        *(told["tag"], told["step"], told["wall_time"], tuple(told["limits"]), tuple(told["counts"])),
    )
    ((curve_place, curve),) = run.facts("pr_curve")
    assert ("pr", 4, list(ramp)) == (curve["tag"], curve["step"], curve["recall"])
    figures = [Pillow.open(io.BytesIO(run.artifacts[f"{path}.png"])).size for path in (place, curve_place)]
    assert [(640, 360), (640, 360)] == figures
    assert [] == [path for path in run.artifacts if path.startswith("images/")]
    assert "mlflow.loggedImages" not in run.tags


def test_a_table_is_readable_by_mlflow(backend: MlflowBackend) -> None:
    """`mlflow.load_table` finds it; a NaN, which its JSON cannot say, is in the facts."""
    rows = [["a", 0.5, 1], ["b", math.nan, 2]]
    data = json.dumps({"columns": ["name", "score", "n"], "rows": rows}).encode()
    experiment_id = backend.native.info.experiment_id
    run = written(backend, Table("val/predictions", spooled("t.json", data), 3, WALL))

    ((place, facts),) = run.facts("table")
    table = mlflow.MlflowClient().load_table(experiment_id, f"{place}.json", [run.id])
    assert [["a", 0.5, 1], ["b", None, 2]] == table.astype(object).where(table.notna(), None).values.tolist()
    assert repr(rows) == repr(facts["rows"])


def test_many_tables_do_not_outgrow_their_tag(backend: MlflowBackend) -> None:
    data = json.dumps({"columns": ["a"], "rows": [[1]]}).encode()
    file = spooled("t.json", data)
    for at in range(0, 100, 10):
        give(backend, *[Table("t", file, step, WALL) for step in range(at, at + 10)])
    run = written(backend)

    assert 100 == len(run.facts("table"))
    assert 3000 < len(run.tags["mlflow.loggedArtifacts"]) <= 4500


def test_files_of_one_record_lie_together(backend: MlflowBackend) -> None:
    run = written(backend, Graph("g", (spooled("a", b"first"), spooled("b", b"second")), None, WALL))

    ((place, facts),) = run.facts("graph")
    folder = place.rpartition("/")[2]
    held = {name: run.artifacts[f"{place}/{path}"] for path, name in facts["files"].items()}
    assert {"a": b"first", "b": b"second"} == held
    assert folder.startswith("step_0_")


def test_artifacts_whose_paths_would_do_harm(backend: MlflowBackend) -> None:
    """Bytes and original path are kept; our own folder and MLflow's image view stay in order."""
    names = ["tracelet/params.json", "images/a.png", "images/deep/a.png", "a#b?.txt", "50%.txt", "ü/ä b.txt", "n" * 250]
    run = written(backend, *[Artifact(name, (spooled("f", name.encode()),), WALL) for name in names])

    assert {name: name.encode() for name in names} == run.own_artifacts()
    assert {"images/deep/a.png", "ü/ä b.txt"} <= run.artifacts.keys()
    assert not any(path.startswith("images/") and path.count("/") == 1 for path in run.artifacts)


def test_an_artifacts_words_are_kept(backend: MlflowBackend) -> None:
    file = spooled("m.pth", b"weights")
    run = written(backend, Artifact("resnet", (file,), WALL, "model", {"f1": 0.5}))

    ((_, facts),) = run.facts("artifact")
    assert ("resnet", "model", {"f1": 0.5}) == (facts["name"], facts["type"], facts["metadata"])
    assert {"resnet/m.pth": b"weights"} == run.own_artifacts()


def test_files_of_two_artifacts_do_not_replace_each_other(backend: MlflowBackend) -> None:
    records = [Artifact(name, (spooled("a.json", name.encode()),), WALL, "dataset") for name in ("train", "val")]
    assert {"train/a.json": b"train", "val/a.json": b"val"} == written(backend, *records).own_artifacts()


@pytest.mark.parametrize("path", ["..", ".", "a/../b", "a//b", "/lead", "\ud800/x", "x" * 900 + ".png", "tracelet"])
def test_every_artifact_path_is_safe(path: str) -> None:
    made = artifact_path(path)
    assert made
    assert not made.startswith("/")
    assert ".." not in made.split("/")
    assert all(len(part.encode()) <= 255 for part in made.split("/"))


def test_a_bad_record_among_good_ones(backend: MlflowBackend) -> None:
    """What stands before it is in the store, and it is told which one it was."""
    gone = File("gone.png", "0" * 64, 3, "/nowhere/gone.png")
    result = attempt(backend, [scalar("a", 1, 1), Image("i", gone, "png", 1, 1, 1, WALL), scalar("b", 1, 1)], 3)

    assert result is not None
    assert (1, RecordRejected) == (result.count, type(result.error))
    assert "gone" in str(result.error)
    run = written(backend, scalar("b", 1, 1))
    assert [("a", 1), ("b", 1)] == [(key, step) for key, step, *_ in run.metrics]
    assert [] == list((Path("run")).glob("mlflow-upload*"))


def test_an_image_with_too_many_pixels_is_refused_alone(backend: MlflowBackend) -> None:
    """A few bytes may declare any size; Pillow refuses to decode it, with an error of its own."""
    chunks = ((b"IHDR", struct.pack(">2I5B", 30_000, 30_000, 8, 2, 0, 0, 0)), (b"IDAT", b""))
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    huge = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    result = attempt(backend, [scalar("a", 1, 1), Image("i", huge, "gif", 30_000, 30_000, 1, WALL)], 2)
    assert result is not None
    assert (1, RecordRejected) == (result.count, type(result.error))
    assert "decompression bomb" in str(result.error)


# -- the run


def test_the_run_says_what_the_user_said(tmp_path: Path) -> None:
    """Names, words, notes and the time of the start are MLflow's; a word may be `key=value`."""
    config = MlflowConfig(run_name="better", tags={"team": "vision", "a@": "x"}, description="why")
    backend = MlflowBackend(config)
    backend.open(info(tmp_path, tags=("baseline", "stage=dev"), notes="n", group="g", created=WALL))
    backend.close("finished", 0)
    run = store.only(tmp_path / "mlflow.db")

    assert ("better", "proj", round(WALL * 1000)) == (run.name, run.experiment, run.start_time)
    assert ("vision", "true", "dev", "why", "g", "x") == tuple(
        run.tags[name] for name in ("team", "baseline", "stage", "mlflow.note.content", "group", key_of("a@"))
    )
    assert {"mlflow.user", "mlflow.source.name"} <= run.tags.keys()


@pytest.mark.parametrize(("status", "shown"), [("finished", "FINISHED"), ("failed", "FAILED"), ("killed", "KILLED")])
def test_how_it_ended_is_the_status(tmp_path: Path, status: Any, shown: str) -> None:
    backend = MlflowBackend()
    backend.open(info(tmp_path))
    assert "RUNNING" == store.only(tmp_path / "mlflow.db").status
    backend.close(status, 3)
    assert shown == store.only(tmp_path / "mlflow.db").status


def test_a_run_whose_note_was_lost_is_found_again(tmp_path: Path) -> None:
    """A kill between MLflow's answer and our note makes no second run."""
    for _ in range(2):
        backend = MlflowBackend()
        backend.open(info(tmp_path))
        give(backend, scalar("loss", 0.5, 1))
        backend.close("finished", 0)
        (tmp_path / "run" / "mlflow.json").unlink()

    assert 1 == len(store.only(tmp_path / "mlflow.db").metrics)


def test_a_kill_costs_nothing_that_was_handed_over(tmp_path: Path) -> None:
    """kill -9 right after `write`: all of it is there, and the next start goes on with the same run."""
    program = """
        import os, sys
        from pathlib import Path
        from backends.test_mlflow import give, info, scalar
        from tracelet.backends.mlflow import MlflowBackend

        backend = MlflowBackend()
        backend.open(info(Path.cwd()))
        give(backend, *[scalar("loss", at, at) for at in range(3000)])
        os.kill(os.getpid(), 9)
    """
    ended = run_program(program, tmp_path)
    assert -signal.SIGKILL == ended.returncode, ended.stderr
    assert ("RUNNING", 3000) == ((run := store.only(tmp_path / "mlflow.db")).status, len(run.metrics))
    backend = MlflowBackend()
    backend.open(info(tmp_path))
    give(backend, *[scalar("loss", at, at) for at in range(2990, 3010)])
    backend.close("failed", 1)
    run = store.only(tmp_path / "mlflow.db")

    assert [(at, at, WALL) for at in range(3010)] == run.series("loss")
    assert "FAILED" == run.status


def test_a_deleted_run_or_experiment_says_so(backend: MlflowBackend, tmp_path: Path) -> None:
    """Records wait, with what to do, instead of being refused one by one."""
    client = mlflow.MlflowClient()
    client.delete_run(backend.native.info.run_id)
    with pytest.raises(BackendUnavailable, match="restore_run"):
        give(backend, scalar("loss", 1, 1), scalar("loss", 2, 2))
    client.restore_run(backend.native.info.run_id)
    give(backend, scalar("loss", 1, 1))
    client.delete_experiment(backend.native.info.experiment_id)
    with pytest.raises(BackendUnavailable, match="restore_experiment"):
        MlflowBackend().open(info(tmp_path, run_id="other", folder=str(tmp_path / "nowhere")))
    client.restore_experiment(backend.native.info.experiment_id)


# -- where


def test_relative_places_are_those_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program changes its directory before the run is opened: store and artifacts are where it began."""
    shutil.copyfile("mlflow.db", "mine.db")
    backend = MlflowBackend(MlflowConfig(backend_url="sqlite:///mine.db"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    backend.open(info(tmp_path))
    give(backend, scalar("loss", 1, 1), Text("t", "x", 1, WALL))
    backend.close("finished", 0)
    run = store.only(tmp_path / "mine.db")

    assert tmp_path / "mlruns" / "proj" in run.folder.parents
    assert [] == list(elsewhere.iterdir())


def test_a_new_store_is_made_quietly(tmp_path: Path) -> None:
    """No line of MLflow's on the terminal, the logging as it was, and the default experiment's files beside it."""
    program = """
        import logging, sys, time
        before = None
        began = time.monotonic()
        import mlflow
        before = {name: list(logging.getLogger(name).handlers[0].filters) for name in ("mlflow", "alembic")}
        import tracelet
        run = tracelet.start_logging(backend="mlflow", connect_timeout=80)
        assert run.stats().backends["mlflow"].state == "connected"
        assert mlflow.active_run() is not None
        run.log_text("t", "x")
        run.stop()
        assert before == {name: logging.getLogger(name).handlers[0].filters for name in ("mlflow", "alembic")}
    """
    folder = tmp_path / "new"
    folder.mkdir()
    ended = run_program(program, folder)

    assert 0 == ended.returncode, ended.stderr
    assert "" == ended.stdout
    assert [True] * len(ended.stderr.splitlines()) == [
        line.startswith("tracelet: ") for line in ended.stderr.splitlines()
    ]
    run = store.only(folder / "mlflow.db")
    assert ("Default", folder / "mlruns" / "0") == (run.experiment, run.folder.parents[1])
    assert [] == [path for path in folder.iterdir() if path.name.startswith(".mlflow.db")]


def test_the_file_store_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match=r"file store; use sqlite:///mlflow.db"):
        MlflowBackend(MlflowConfig(tracking_uri="mlruns")).open(info(tmp_path))


def test_mlflow_without_sql_says_what_to_install(tmp_path: Path) -> None:
    """mlflow-skinny: `sqlalchemy` is not there."""
    program = """
        import sys
        sys.modules["sqlalchemy"] = None
        from pathlib import Path
        from tracelet.backends.mlflow import MlflowBackend
        from tracelet.errors import BackendUnavailable
        from tracelet.records import RunInfo
        try:
            MlflowBackend().open(RunInfo(run_id="r", project=None, name=None, folder=str(Path.cwd())))
        except BackendUnavailable as error:
            print(error)
        print(MlflowBackend.probe())
    """
    ended = run_program(program, tmp_path)

    assert 2 == ended.stdout.count("pip install mlflow"), ended.stdout + ended.stderr


def test_the_environment_says_where_and_under_which_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME mean what they mean to MLflow."""
    shutil.copyfile("mlflow.db", "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    backend = MlflowBackend()
    backend.open(info(tmp_path, project=None))
    backend.close("finished", 0)

    assert "theirs" == store.only(tmp_path / "other.db").experiment


def test_config_knows_its_keys() -> None:
    """A misspelt key is an error, and the repr hides what is secret."""
    with pytest.raises(msgspec.ValidationError, match="nmae"):
        msgspec.convert({"nmae": "x"}, MlflowConfig)

    config = MlflowConfig(
        backend_url="http://me:hush@host", api_key="hush", password="hush", headers={"X-API-Key": "hush"}, run_name="r"
    )
    assert "hush" not in f"{config}{config!r}{list(config.__rich_repr__())}"
    assert "run_name='r'" in repr(config)


# -- the program's own MLflow


@pytest.fixture
def experiment(tmp_path: Path) -> tracelet.Experiment:
    return tracelet.start_logging("ours", "proj", "mlflow", connect_timeout=60)


def ours(experiment: tracelet.Experiment) -> str:
    run = experiment.mlflow_run
    assert run is not None
    return str(run.info.run_id)


def by_name() -> dict[str, store.StoredRun]:
    return {run.name: run for run in store.runs(Path("mlflow.db"))}


def test_the_programs_fluent_calls_land_in_our_run() -> None:
    """Without a word more, as after `mlflow.start_run()`; at the end everything is as before."""
    before = surroundings(), outside()
    experiment = tracelet.start_logging("ours", "proj", "mlflow", connect_timeout=60)
    assert ours(experiment) == mlflow.active_run().info.run_id
    mlflow.log_metric("own", 1.5, step=3)
    mlflow.log_dict({"a": 1}, "own.json")
    experiment.log_metric("ours", 2.5, 4)
    experiment.stop()
    (run,) = store.runs(Path("mlflow.db"))

    assert [("own", 3, 1.5), ("ours", 4, 2.5)] == [(key, step, value) for key, step, value, _ in run.metrics]
    assert {"own.json"} == run.own_artifacts().keys()
    assert "FINISHED" == run.status
    assert before == (surroundings(), outside())


def test_the_first_bare_start_run_is_given_ours(experiment: tracelet.Experiment) -> None:
    """With its name, tags and description; its end lets it go for the program, and for nobody else."""
    mlflow.set_experiment("chosen later")
    with mlflow.start_run(run_name="theirs", tags={"a": "b"}, description="why") as run:
        assert ours(experiment) == run.info.run_id
        mlflow.log_param("p", 1)
        with pytest.raises(Exception, match="already active"):
            mlflow.start_run()
        with mlflow.start_run(nested=True, run_name="child"):
            mlflow.log_metric("c", 1)
    assert mlflow.active_run() is None
    with mlflow.start_run(run_name="second"):
        mlflow.log_metric("s", 1)
    experiment.log_metric("late", 1.0, 1)
    experiment.stop(status="failed", exit_code=1)
    found = by_name()

    assert {"theirs", "child", "second"} == found.keys()
    assert ("b", "why") == (found["theirs"].tags["a"], found["theirs"].tags["mlflow.note.content"])
    assert ["late"] == [key for key, *_ in found["theirs"].metrics]
    assert found["theirs"].id == found["child"].tags["mlflow.parentRunId"]
    assert ["FAILED", "FINISHED", "FINISHED"] == [found[name].status for name in ("theirs", "child", "second")]
    assert "chosen later" == found["second"].experiment


def test_a_run_that_the_program_names_is_its_own(experiment: tracelet.Experiment) -> None:
    """`run_id=` and another experiment: beside ours, which is active again afterwards."""
    client = mlflow.MlflowClient()
    other = client.create_run("0", run_name="other").info.run_id
    with mlflow.start_run(run_id=other):
        mlflow.log_metric("o", 1)
    assert ours(experiment) == mlflow.active_run().info.run_id
    with mlflow.start_run(experiment_id="0", run_name="elsewhere"):
        mlflow.log_metric("e", 1)
    assert ours(experiment) == mlflow.active_run().info.run_id
    experiment.stop()
    found = by_name()

    assert [["o"], ["e"], []] == [[key for key, *_ in found[name].metrics] for name in ("other", "elsewhere", "ours")]
    assert "mlflow.parentRunId" not in found["elsewhere"].tags


def test_a_start_run_that_fails_leaves_ours_active(experiment: tracelet.Experiment) -> None:
    with pytest.raises(mlflow.MlflowException):
        mlflow.start_run(run_id="f" * 32)
    with pytest.raises(TypeError):
        mlflow.start_run(nonsense=1)
    assert ours(experiment) == mlflow.active_run().info.run_id


def test_stopped_in_another_thread(experiment: tracelet.Experiment) -> None:
    """The state of the thread that began is put back from wherever the run is stopped."""
    thread = threading.Thread(target=experiment.stop)
    thread.start()
    thread.join(30)

    assert mlflow.active_run() is None
    with mlflow.start_run(run_name="own"):
        pass
    assert {"ours": "FINISHED", "own": "FINISHED"} == {name: run.status for name, run in by_name().items()}


def test_a_run_that_the_program_had_is_used_and_never_ended() -> None:
    """Our records are in it, its status is the program's, and nothing of the fluent state is touched."""
    mlflow.set_experiment("before")
    with mlflow.start_run(run_name="had") as run:
        before = surroundings()
        experiment = tracelet.start_logging("ours", "proj", "mlflow", connect_timeout=60)
        assert run.info.run_id == ours(experiment)
        assert before == surroundings()
        experiment.log_metric("loss", 0.5, 1)
        experiment.stop(status="failed", exit_code=1)
        assert before == surroundings()
        assert "RUNNING" == by_name()["had"].status
    (found,) = by_name().values()

    assert ("had", "before", "FINISHED") == (found.name, found.experiment, found.status)
    assert [("loss", 1)] == [(key, step) for key, step, *_ in found.metrics]


def test_below_the_programs_run_if_asked() -> None:
    with mlflow.start_run(run_name="had") as run:
        config = {"nested": True}
        tracelet.start_logging("ours", None, "mlflow", config=config, connect_timeout=60).stop()
    found = by_name()

    assert run.info.run_id == found["ours"].tags["mlflow.parentRunId"]
    assert ("FINISHED", "FINISHED") == (found["had"].status, found["ours"].status)


def test_another_store_than_the_programs(tmp_path: Path) -> None:
    """While the run is open the fluent calls go to its store; then the program's URI and experiment are back."""
    shutil.copyfile("mlflow.db", "theirs.db")
    theirs = f"sqlite:///{tmp_path / 'theirs.db'}"
    mlflow.set_tracking_uri(theirs)
    mlflow.set_experiment("chosen")
    before = surroundings(), outside()
    config = {"tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    experiment = tracelet.start_logging("ours", "proj", "mlflow", config=config, connect_timeout=60)
    mlflow.log_metric("own", 1)
    assert os.environ["MLFLOW_TRACKING_URI"] == mlflow.get_tracking_uri() == experiment.url
    experiment.stop()

    assert before == (surroundings(), outside())
    assert ["own"] == [key for key, *_ in by_name()["ours"].metrics]
    assert [] == store.runs(tmp_path / "theirs.db")


def test_what_the_program_chose_later_stays(experiment: tracelet.Experiment, template: Path, tmp_path: Path) -> None:
    shutil.copyfile(template, "later.db")
    later = f"sqlite:///{tmp_path / 'later.db'}"
    mlflow.set_tracking_uri(later)
    with mlflow.start_run(run_name="elsewhere", experiment_id="0"):
        pass
    experiment.stop()

    assert later == mlflow.get_tracking_uri() == os.environ["MLFLOW_TRACKING_URI"]
    assert ["elsewhere"] == [run.name for run in store.runs(tmp_path / "later.db")]
    mlflow.set_tracking_uri(None)


def test_a_run_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLFLOW_RUN_ID, as `mlflow run` sets it: that run is ours to fill, and whoever began it ends it."""
    run_id = mlflow.MlflowClient().create_run("0", run_name="from outside").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    experiment = tracelet.start_logging("ours", "proj", "mlflow", connect_timeout=60)
    experiment.log_metric("loss", 0.5, 1)
    experiment.stop()
    run = by_name()["from outside"]

    assert (["loss"], "RUNNING") == ([key for key, *_ in run.metrics], run.status)
    assert run_id == os.environ["MLFLOW_RUN_ID"]


def test_a_crash_is_not_called_finished(tmp_path: Path) -> None:
    """MLflow's exit hook writes FINISHED whatever happened; ours comes first and says the truth."""
    program = """
        import mlflow, tracelet
        tracelet.start_logging("ours", "proj", "mlflow", connect_timeout=60)
        mlflow.log_metric("own", 1)
        mlflow.start_run()
        raise ValueError("training went wrong")
    """
    ended = run_program(program, tmp_path)

    assert 1 == ended.returncode
    assert "FAILED" == by_name()["ours"].status


def test_a_forked_child_leaves_the_run_alone(experiment: tracelet.Experiment) -> None:
    """A child inherits the stack of active runs and the exit hooks: it ends nothing."""
    child = os.fork()
    if not child:
        mlflow.tracking.fluent._safe_end_run()
        os._exit(0)
    os.waitpid(child, 0)
    experiment.log_metric("loss", 1.0, 1)
    assert experiment.flush(30)

    assert ("RUNNING", 1) == ((run := by_name()["ours"]).status, len(run.metrics))


AUTOLOG = """
    import mlflow, tracelet

    def train(name):
        from torch.utils.tensorboard import SummaryWriter
        with SummaryWriter(f"logs/{name}") as writer:
            for step in range(20):
                writer.add_scalar("loss", step * 0.1, step)
            writer.add_hparams({"lr": 0.1}, {"acc": 0.9}, run_name=".")

    for name in ("autolog second", "autolog first"):
        experiment = tracelet.start_logging(name, "proj", "mlflow", connect_timeout=60)
        if name == "autolog second":
            mlflow.pytorch.autolog(log_every_n_step=1)
        train(name)
        experiment.stop()
    with mlflow.start_run(run_name="after"):
        train("after")
        from mlflow.utils.autologging_utils.metrics_queue import flush_metrics_queue
        flush_metrics_queue()
"""


def test_mlflows_own_listening_makes_no_second_copy(tmp_path: Path) -> None:
    """`mlflow.pytorch.autolog` after the start and before it: each point is there once; afterwards it works again."""
    ended = run_program(AUTOLOG, tmp_path, timeout=240)
    assert 0 == ended.returncode, ended.stderr
    found = by_name()

    for name in ("autolog second", "autolog first"):
        assert [(step, step * 0.1) for step in range(20)] == [
            (at, value) for at, value, _ in found[name].series("loss")
        ]
        assert [0.9] == [value for key, _, value, _ in found[name].metrics if key == "acc"]
        assert ({"lr": 0.1}, {"lr": "0.1"}) == (found[name].exact_params, found[name].params)
    assert 20 == len(found["after"].series("loss"))


@pytest.mark.parametrize("own", ["own.db", "ours.db"])
def test_a_run_of_the_program_may_begin_while_ours_connects(own: str, tmp_path: Path) -> None:
    """Both create the tables of a new store, of which only one thread at a time is capable."""
    source = f"""
        import mlflow, tracelet
        mlflow.set_tracking_uri("sqlite:///{tmp_path}/{own}")
        store = {{"tracking_uri": "sqlite:///{tmp_path}/ours.db"}}
        experiment = tracelet.start_logging(backend="mlflow", wait=False, config=store)
        with mlflow.start_run():
            mlflow.log_metric("mine", 1)
        experiment.log_metric("loss", 1, 1)
        assert experiment.flush(60)
    """
    done = run_program(source, tmp_path)
    assert 0 == done.returncode, done.stderr
    keys = [key for place in {own, "ours.db"} for run in store.runs(tmp_path / place) for key, *_ in run.metrics]
    assert {"mine": 1, "loss": 1} == {key: keys.count(key) for key in ("mine", "loss")}


# -- how far the run is


def held_tags(run: store.StoredRun) -> list[str]:
    return sorted(value for name, value in run.tags.items() if name.startswith("tracelet.held."))


def test_the_run_itself_tells_how_far_it_is(tmp_path: Path) -> None:
    """Of each journal: another one with the same run id, from another host, has delivered nothing yet."""
    first, second = info(tmp_path, created=WALL), info(tmp_path, created=WALL + 1)
    for described, number, before in ((first, 7, 0), (first, 9, 7), (second, 3, 0), (first, 9, 9), (second, 3, 3)):
        backend = MlflowBackend()
        assert before == backend.open(described)
        give(backend, scalar("loss", number, number), last=number)
        assert number == backend.durable()
        backend.close("finished", 0)
        assert number == backend.durable()

    assert ["3", "9"] == held_tags(store.only(tmp_path / "mlflow.db"))


@pytest.mark.parametrize(
    "records",
    [(scalar("a", 1, 1),), (Text("t", "x", 1, WALL),), (Params({"lr": 1}, WALL),), (scalar("a", math.inf, 1),)],
    ids=["scalar", "file", "parameters", "inexact"],
)
def test_a_batch_of_any_kind_moves_it(records: tuple[Record, ...], backend: MlflowBackend, tmp_path: Path) -> None:
    give(backend, *records, last=5)
    backend.close("finished", 0)

    assert 5 == MlflowBackend().open(info(tmp_path))


def test_it_stops_before_a_rejected_record(backend: MlflowBackend, tmp_path: Path) -> None:
    """The records before it are stored and counted; it and those after it are not."""
    gone = Image("i", File("gone.png", "0" * 64, 3, "/nowhere/gone.png"), "png", 1, 1, 1, WALL)
    result = backend.write(Batch([scalar("a", 1, 1), Text("t", "x", 1, WALL), gone, scalar("b", 1, 1)], [2, 4, 6, 8]))
    assert result is not None
    assert (2, RecordRejected) == (result.count, type(result.error))
    assert 4 == backend.durable()
    backend.close("finished", 0)

    assert 4 == MlflowBackend().open(info(tmp_path))
    run = store.only(tmp_path / "mlflow.db")
    assert (["a"], ["t"]) == ([key for key, *_ in run.metrics], [facts["tag"] for _, facts in run.facts("text")])


def test_a_run_without_the_tag_gets_its_records_again(backend: MlflowBackend, tmp_path: Path) -> None:
    """As from a release that did not write it, or one that somebody removed: each record is there once."""
    records = [scalar("loss", 0.5, None), scalar("loss", 0.5, None), Text("t", "x", 1, WALL), Params({"a": 1}, WALL)]
    give(backend, *records)
    run_id = backend.native.info.run_id
    backend.close("finished", 0)
    before = store.only(tmp_path / "mlflow.db")
    (tag,) = [name for name in before.tags if name.startswith("tracelet.held.")]
    mlflow.MlflowClient().delete_tag(run_id, tag)
    later = MlflowBackend()
    assert 0 == later.open(info(tmp_path))
    give(later, *records)
    later.close("finished", 0)

    after = store.only(tmp_path / "mlflow.db")
    assert before == dataclasses.replace(after, end_time=before.end_time)


def test_a_new_experiment_opens_with_its_charts(backend: MlflowBackend) -> None:
    """MLflow's page would ask for GenAI or model training, and shows no charts of metrics in the first."""
    experiment = mlflow.MlflowClient().get_experiment_by_name("proj")
    assert "custom_model_development" == experiment.tags["mlflow.experimentKind"]
