"""Aim's own quirks: what was handed to the adapter, read back from the repository."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from backends import aim_store as store
from backends.aim_server import Server
from backends.writing import attempt, write_whole
from hypothesis import example, given
from hypothesis import strategies as st
from programs import run_program, started
from support import BUSY

import tracelet
from tracelet import sync
from tracelet.backends import configured
from tracelet.backends.aim import AimBackend, AimConfig, values
from tracelet.errors import BackendUnavailable, ConfigurationError
from tracelet.journal.store import JournalReader
from tracelet.records import (
    Artifact,
    Audio,
    Histogram,
    Image,
    Params,
    PRCurve,
    Record,
    RunInfo,
    Scalar,
    Table,
    Tensor,
    Text,
    Video,
)
from tracelet.testing import BackendContract, Stored
from tracelet.testing.samples import AWKWARD_TAGS, image, png, sample_records, stored, wav

WALL = 1_700_000_000.25
QUIET = {"system_tracking_interval": None, "capture_terminal_logs": False}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty repository: Aim takes more than a second to make one."""
    from aim.sdk.repo import Repo

    folder = tmp_path_factory.mktemp("template")
    Repo(str(folder), init=True).close()
    return folder / ".aim"


@pytest.fixture(autouse=True)
def repo(template: Path, tmp_path: Path) -> Path:
    """A repository of the test's own, in its folder."""
    shutil.copytree(template, tmp_path / ".aim")
    return tmp_path


def info(folder: Path, **more: Any) -> RunInfo:
    place = folder / more.pop("place", "run")
    place.mkdir(exist_ok=True)
    given = {"run_id": "run1", "project": "proj", "name": "first", "folder": str(place)} | more
    return RunInfo(**given)


def opened(folder: Path, config: dict[str, Any] | None = None, **more: Any) -> AimBackend:
    return reopened(folder, config, **more)[0]


def reopened(folder: Path, config: dict[str, Any] | None = None, **more: Any) -> tuple[AimBackend, int]:
    """A backend, and the last number that its store has."""
    backend = AimBackend(AimConfig(**{"repo": str(folder), **QUIET, **(config or {})}))
    return backend, backend.open(info(folder, **more))


@pytest.fixture
def backend(repo: Path) -> Iterator[AimBackend]:
    backend = opened(repo)
    yield backend
    backend.close("finished", 0)


def give(backend: AimBackend, *records: Record, after: int = 0) -> int:
    """Write one batch, and return its last sequence number."""
    write_whole(backend, records, after + len(records))
    return after + len(records)


def written(backend: AimBackend, folder: Path, *records: Record) -> store.StoredRun:
    """What the repository holds once the records were given and the run was closed."""
    give(backend, *records)
    backend.close("finished", 0)
    return store.only(folder)


def scalar(tag: str, value: float, step: int | None, wall_time: float = WALL, writer: str = "") -> Scalar:
    return Scalar(tag, value, step, wall_time, writer)


def steps(run: store.StoredRun, tag: str) -> list[tuple[int, float, float]]:
    """All points of a tag, whatever line they are in, as they were said: by wall time."""
    own = [(one.true_step, one.value, one.wall_time) for one in run.points if one.tag == tag]
    return sorted(own, key=lambda point: point[2])


class TestAimContract(BackendContract):
    """The exam, in a local repository."""

    ordered = False  # Aim keeps the points of a series by their steps
    knows_its_store = True

    def make_backend(self, tmp_path: Path) -> AimBackend:
        return AimBackend(AimConfig(repo=str(tmp_path)))

    def read_back(self, tmp_path: Path) -> Stored:
        return store.stored(tmp_path)


# -- names


def test_a_writer_is_the_subset_of_its_metrics(backend: AimBackend, repo: Path) -> None:
    """`val/loss` of the writer `val` is `loss` of {"subset": "val"}; a tag of the root is its own name."""
    records = [scalar("loss", 1, 1), scalar("val/loss", 2, 1, writer="val"), scalar("test/loss", 3, 1)]
    run = written(backend, repo, *records, scalar("a/b/x/y", 4, 1, writer="a/b"), scalar("odd", 5, 1, writer="val"))

    assert {
        ("loss", ""): 1.0,
        ("loss", "val"): 2.0,
        ("test/loss", ""): 3.0,
        ("x/y", "a/b"): 4.0,
        ("odd", ""): 5.0,
    } == {(one.name, one.context.get("subset", "")): one.value for one in run.points}
    assert {"loss", "val/loss", "test/loss", "a/b/x/y", "odd"} == {one.tag for one in run.points}


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_tag_can_be_told_from_its_place(tag: str, writer: str) -> None:
    """Name and context together are the tag again, also for lone surrogates; and Aim can encode the name."""
    for one in (tag, f"{writer}/{tag}"):
        name, context = values.name_and_context(one, writer)
        assert name
        name.encode()
        inner = values.unescaped(name)
        assert one == (f"{values.unescaped(context['subset'])}/{inner}" if context else inner)


NAMES = (*AWKWARD_TAGS, "logs", "__log_records", "__system__cpu", "~", "~a", "a\0b", "\ud800", "5")


def test_no_name_breaks_the_run(backend: AimBackend, repo: Path) -> None:
    """A metric called "" or `logs` makes Aim unable to read any metric of the run: here Aim reads them all."""
    give(backend, *[scalar(tag, at, at) for at, tag in enumerate(NAMES)])
    seen = {sequence.name for sequence in backend.native.metrics()}
    backend.close("finished", 0)

    assert len(set(NAMES)) == len(seen)
    assert {tag: float(at) for at, tag in enumerate(NAMES)} == {one.tag: one.value for one in store.only(repo).points}


def test_kinds_that_share_a_tag_are_kept_apart(backend: AimBackend, repo: Path) -> None:
    """TensorBoard keeps a scalar, a text and a picture under one tag; Aim's sequence has one type only."""
    records = [scalar("x", 1, 1), Text("x", "words", 1, WALL), image(repo, "x", 1, (1, 2, 3)), scalar("x", 2, 2)]
    run = written(backend, repo, *records, Text("y", "first", 1, WALL), scalar("y", 3, 1))

    assert {("x", "scalar"): 2, ("x", "text"): 1, ("x", "image"): 1, ("y", "text"): 1, ("y", "scalar"): 1} == {
        (tag, kind): sum((one.tag, one.kind) == (tag, kind) for one in run.points)
        for tag, kind in {(one.tag, one.kind) for one in run.points}
    }
    assert [(1, 1.0, WALL), (2, 2.0, WALL)] == run.series("x")


# -- points


def test_a_repeated_step_has_a_line_of_its_own(backend: AimBackend, repo: Path) -> None:
    """Aim would replace the point: the second of a step is in {"repeat": 1} at the same step, wall time kept."""
    records = [scalar("loss", at + 0.5, step, WALL + at) for at, step in enumerate((5, 3, 5, 3, 5, 6))]
    run = written(backend, repo, *records)

    assert [(3, 1.5, WALL + 1), (5, 0.5, WALL), (6, 5.5, WALL + 5)] == run.series("loss")
    assert [(3, 3.5, WALL + 3), (5, 2.5, WALL + 2)] == run.series("loss", repeat=1)
    assert [(5, 4.5, WALL + 4)] == run.series("loss", repeat=2)


def test_a_program_without_steps_keeps_every_point(backend: AimBackend, repo: Path) -> None:
    """All its points are at step 0: beyond the eighth repetition one line takes them, counted, with 0 as epoch."""
    give(backend, *[scalar("loss", at, None, WALL + at) for at in range(300)])
    lines = len(backend.native._tracker.sequence_infos)
    backend.close("finished", 0)
    run = store.only(repo)

    assert [(0, float(at), WALL + at) for at in range(300)] == steps(run, "loss")
    assert 10 == lines
    more = [one for one in run.points if one.context.get("repeat") == "more"]
    assert [(at, 0) for at in range(291)] == [(one.step, one.epoch) for one in more]


def test_repetition_goes_on_after_reopening(repo: Path) -> None:
    """The run itself says which steps are taken."""
    said = []
    for _ in range(3):
        backend = opened(repo)
        after = len(said)
        part = [scalar("loss", after + at, step, WALL + after + at) for at, step in enumerate((1, 2, 2, 3))]
        give(backend, *part, after=after)
        said += [(one.step, one.value, one.wall_time) for one in part]
        backend.close("finished", 0)

    assert said == steps(store.only(repo), "loss")


def test_steps_that_aim_cannot_tell_apart_are_two_points(backend: AimBackend, repo: Path) -> None:
    """It finds a point by the hash of the step as a double; and takes no integer beyond 64 bits."""
    given = [2**53, 2**53 + 1, 1, 2**61, -1, -2, -(2**62), 2**63 - 1, 2**63, 10**30, -(10**30), 2**61]
    run = written(backend, repo, *[scalar("loss", at, step, WALL + at) for at, step in enumerate(given)])

    assert [(step, float(at), WALL + at) for at, step in enumerate(given)] == steps(run, "loss")


def test_repeated_texts_and_pictures_are_kept(backend: AimBackend, repo: Path) -> None:
    colors = ((1, 2, 3), (4, 5, 6))
    pictures = [image(repo, "p", 1, color) for color in colors]
    run = written(backend, repo, *pictures, *[Text("t", text, 1, WALL) for text in "abc"])

    assert ["a", "b", "c"] == [one.value.data for one in run.points if one.tag == "t"]
    assert [png(color) for color in colors] == [
        one.value.storage["data"].load() for one in run.points if one.tag == "p"
    ]


def test_values_and_wall_times_are_exact(backend: AimBackend, repo: Path) -> None:
    """float64 in, float64 out; explicit wall times, 0 included."""
    given = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1, 1 / 3, 2.0**53 + 2, 1.7976931348623157e308]
    walls = [0.0, 12.0, 1e9 + 0.25, WALL, WALL - 1000, 1.5, 2.5, 1e9, 3.0]
    records = [scalar("v", value, at, wall) for at, (value, wall) in enumerate(zip(given, walls, strict=True))]
    run = written(backend, repo, *records)

    assert [(at, repr(value), wall) for at, (value, wall) in enumerate(zip(given, walls, strict=True))] == [
        (step, repr(value), wall) for step, value, wall in run.series("v")
    ]


def test_one_bad_record_does_not_cost_the_others(backend: AimBackend, repo: Path) -> None:
    """What Aim cannot take at all is refused alone, and says how much before it is written."""
    from tracelet.errors import RecordRejected

    bad: Any = msgspec.structs.replace(scalar("bad", 0, 1), value="no number")
    result = attempt(backend, [scalar("a", 1, 1), bad, scalar("b", 2, 1)], 3)
    assert result is not None
    assert (1, RecordRejected) == (result.count, type(result.error))
    give(backend, scalar("b", 2, 1), after=2)
    backend.close("finished", 0)

    assert {"a": 1.0, "b": 2.0} == {one.tag: one.value for one in store.only(repo).points}


# -- other kinds


def test_a_histogram_is_drawn_and_kept(backend: AimBackend, repo: Path) -> None:
    """Aim draws buckets of one width; range and total are as they were, and the exact buckets are in the object."""
    limits = (-1e12, *[-(1.1**-at) for at in range(100)], 0.0, *[1.1**at for at in range(774)], 1.7976931348623157e308)
    counts = tuple(float(at % 7) for at in range(len(limits)))
    exact = Histogram("w", limits, counts, -1.0, 5e30, sum(counts), 0.5, 0.25, 3, WALL)
    run = written(backend, repo, exact)

    (point,) = run.points
    weights, edges = point.value.to_np_histogram()
    assert sum(counts) == pytest.approx(weights.sum())
    assert (-1e12, 5e30) == (edges[0], edges[-1])
    assert 512 == len(weights)
    assert (list(limits), list(counts)) == (point.facts["limits"], point.facts["counts"])


def test_histograms_of_tensorflow_1_have_ascending_finite_buckets(backend: AimBackend, repo: Path) -> None:
    """An empty bucket up to the largest double, or no value at all, never becomes a range that runs backwards."""
    most = sys.float_info.max
    ends = Histogram("ends", (-most, -2.1, -1.9, 1.1, most), (0, 0, 1, 2, 0), -2.0, 1.0, 3, 0.0, 6.0, 1, WALL)
    empty = Histogram("empty", (most,), (0,), most, -most, 0, 0.0, 0.0, 1, WALL)
    run = written(backend, repo, ends, empty)

    for point in run.points:
        weights, edges = point.value.to_np_histogram()
        assert {"ends": 3, "empty": 0}[point.tag] == pytest.approx(weights.sum())
        assert np.isfinite(edges).all()
        assert (np.diff(edges) > 0).all()
    assert {"ends": list(ends.limits), "empty": [most]} == {one.tag: one.facts["limits"] for one in run.points}


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=700),
    st.floats(-1e300, 1e300),
    st.floats(0, 1e300),
)
@example([1.0], 0.0, 2.2250738585e-313)
@example([1.0, 0.0, 2.0], 0.0, 5e-324)
def test_uniform_buckets_keep_the_total(counts: list[float], low: float, width: float) -> None:
    edges = [low + width * at for at in range(len(counts) + 1)]
    if not math.isfinite(edges[-1]):
        return
    shares, first, last = values.uniform_bins(counts, edges)
    assert sum(counts) == pytest.approx(sum(shares), abs=1e-6)
    assert first < last
    assert 64 <= len(shares) <= 512


def test_pictures_and_sound_keep_their_bytes(backend: AimBackend, repo: Path) -> None:
    """And Aim itself can open them; what is no picture is kept as it is."""
    broken = Image("broken", stored(repo, b"no picture", "b.png"), "png", 1, 1, 1, WALL)
    sound = Audio("a", stored(repo, wav(), "s.wav"), "wav", 8000.0, 1, WALL)
    odd = Audio("odd", stored(repo, b"opus bytes", "s.opus"), "opus", 8000.0, 1, WALL)
    film = Video("film", stored(repo, b"mp4 bytes", "v.mp4"), "mp4", 0, 0, 1, WALL)
    run = written(backend, repo, image(repo, "p", 1, (9, 8, 7)), broken, sound, odd, film)

    found = {one.tag: one for one in run.points}
    assert (9, 8, 7) == found["p"].value.to_pil_image().convert("RGB").getpixel((0, 0))
    assert b"no picture" == found["broken"].value.storage["data"].load()
    assert wav() == found["a"].value.get().read()
    for tag, data in (("odd", b"opus bytes"), ("film", b"mp4 bytes")):
        (place,) = found[tag].facts["files"].values()
        assert data == run.artifacts[place]
        assert place in found[tag].value.data


def test_a_curve_is_drawn_and_kept(backend: AimBackend, repo: Path) -> None:
    ramp = tuple(at / 7 for at in range(8))
    run = written(backend, repo, PRCurve("pr", ramp, ramp, ramp, ramp, ramp, ramp[::-1], 3, WALL))

    (point,) = run.points
    assert ("pr", "pr_curve", 3) == (point.tag, point.kind, point.step)
    assert point.value.size == point.value.to_pil_image().size
    assert list(ramp[::-1]) == point.facts["recall"]


def test_what_aim_has_no_object_for_is_told_and_kept(backend: AimBackend, repo: Path) -> None:
    """A text says what it is and where its files are; the files are artifacts, byte for byte, without one of two."""
    numbers = Tensor("t", stored(repo, b"\1\0\0\0", "t.bin"), "int32", (1,), 3, WALL)
    rows = {"columns": ["name", "score"], "rows": [["a", 0.5], ["b", None]]}
    table = Table("scores", stored(repo, json.dumps(rows).encode(), "t.json"), 2, WALL)
    run = written(backend, repo, numbers, table, msgspec.structs.replace(numbers, step=4))

    texts = {(one.tag, one.step): one for one in run.points}
    assert "dtype: int32" in texts["t", 3].value.data
    assert "| a | 0.5 |" in texts["scores", 2].value.data
    assert [1] == texts["t", 4].facts["shape"]
    (place,) = texts["scores", 2].facts["files"].values()
    assert rows == json.loads(run.artifacts[place])
    assert 2 == len(run.artifacts)


# -- params and artifacts


def test_params_are_a_tree(backend: AimBackend, repo: Path) -> None:
    """`run.hparams.model.layers` is what Aim's queries ask for; a name that no tree can hold keeps its dots."""
    first = {
        "model.layers": [1, 2],
        "model.name": "net",
        "lr": 0.1,
        "nan": math.nan,
        "none": None,
        "long": "x" * 20_000,
    }
    second = {"lr": 0.2, "lr.decay": 3, "a..b": 1, "": 2, "~": 4, "big": 10**30, "end.": 5, "empty": [], "\ud800": 6}
    give(backend, Params(first, WALL), Params(second, WALL))
    assert 0.2 == backend.native["hparams", "lr"]
    assert "net" == backend.native["hparams", "model", "name"]
    backend.close("finished", 0)

    expected = {**first, **second, "big": str(10**30)}
    assert repr(sorted(expected.items())) == repr(sorted(store.stored(repo).params.items()))


@given(st.dictionaries(st.text("ab.~\ud800", max_size=6), st.integers(0, 9)))
def test_any_param_names_survive_the_tree(params: dict[str, int]) -> None:
    assert params == values.flat(values.nested(params))


def test_params_join_those_of_the_program(backend: AimBackend, repo: Path) -> None:
    """Also after reopening."""
    backend.native["hparams"] = {"own": 1, "model": {"depth": 2}}
    give(backend, Params({"model.width": 3}, WALL))
    backend.close("finished", 0)
    backend = opened(repo)
    give(backend, Params({"own": 4}, WALL), after=1)
    backend.close("finished", 0)

    assert {"own": 4, "model.depth": 2, "model.width": 3} == store.stored(repo).params


def test_an_artifact_logged_again_keeps_the_earlier_one(backend: AimBackend, repo: Path) -> None:
    """The later is at the path, the earlier beside it; the same bytes again change nothing."""
    for number, text in enumerate((b"one", b"two", b"two", b"three")):
        file = stored(repo, text, "a.png")
        give(backend, Artifact("plots/a.png", (file,), WALL + number, metadata={"dpi": 100}), after=number)
    artifacts = backend.native.artifacts
    assert b"three" == Path(artifacts["plots/a.png"].uri.removeprefix("file://")).read_bytes()
    backend.close("finished", 0)

    run = store.only(repo)
    assert {"plots/a.png": b"three", "plots/a~1.png": b"one", "plots/a~2.png": b"two"} == run.artifacts
    assert {"dpi": 100} == run.artifact_facts["plots/a.png"]["metadata"]


def test_an_earlier_version_takes_no_name_of_another_file(backend: AimBackend, repo: Path) -> None:
    for number, (name, text) in enumerate([("b~1.txt", b"mine"), ("b.txt", b"one"), ("b.txt", b"two")]):
        give(backend, Artifact(name, (stored(repo, text, name),), WALL + number), after=number)
    backend.close("finished", 0)
    assert {"b~1.txt": b"mine", "b~2.txt": b"one", "b.txt": b"two"} == store.only(repo).artifacts


def test_no_artifact_leaves_its_folder(backend: AimBackend, repo: Path) -> None:
    files = tuple(stored(repo, b"x", name) for name in ("../../../out.txt", "a//b", "/root.txt"))
    run = written(backend, repo, Artifact("odd", files, WALL, "model"))

    assert not (repo / "out.txt").exists()
    assert 3 == len(run.artifacts)


def test_a_path_that_aim_cannot_read_in_a_url(repo: Path) -> None:
    """Aim cuts the folder of its artifacts at a "#": the bytes go into the run itself."""
    place = repo / "run #3"
    place.mkdir()
    shutil.copytree(repo / ".aim", place / ".aim")
    backend = opened(place)
    large = os.urandom(5 * 1024 * 1024)
    give(backend, Artifact("a.bin", (stored(repo, large, "a.bin"),), WALL))
    backend.close("finished", 0)

    assert {"a.bin": large} == store.only(place).artifacts


def test_artifacts_can_go_elsewhere(repo: Path) -> None:
    backend = opened(repo, {"artifacts_uri": "elsewhere"})
    give(backend, Artifact("m/a.bin", (stored(repo, b"x", "a.bin"),), WALL))
    hash = backend.native.hash
    backend.close("finished", 0)

    assert b"x" == (repo / "elsewhere" / hash / "m" / "a.bin").read_bytes()


# -- the run


def test_config_says_who_the_run_is(repo: Path) -> None:
    """Keys win over what the run is called here; how it ended is in `run["tracelet"]`."""
    backend = opened(repo, {"experiment": "e", "run_name": "n", "tags": ["a", "b"], "description": "d"}, notes="no")
    backend.close("failed", 3)
    run = store.only(repo)

    assert {"experiment": "e", "name": "n", "tags": ["a", "b"], "description": "d"} == run.props
    assert {"run_id": "run1", "status": "failed", "exit_code": 3} == run.attributes["tracelet"]
    assert run.ended


def test_without_config_the_run_is_called_as_here(repo: Path) -> None:
    for _ in range(2):  # a tag is not added twice
        opened(repo, tags=("x",), notes="words", group="g").close("finished", 0)
    run = store.only(repo)

    assert {"experiment": "proj", "name": "first", "tags": ["x"], "description": "words"} == run.props
    assert "g" == run.attributes["tracelet"]["group"]


def test_config_knows_its_keys() -> None:
    with pytest.raises(ConfigurationError, match="repo_url"):
        configured(AimBackend, {"repo_url": "x"})
    assert "secret" not in repr(AimConfig(repo="aim://me:secret@host:1", artifacts_uri="x"))


def test_the_repository_is_the_nearest_and_made_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As Aim chooses it, from where the program was when it chose the backend; nothing is printed or asked."""
    shutil.rmtree(tmp_path / ".aim")
    start = tmp_path / "a"
    start.mkdir()
    monkeypatch.chdir(start)
    backends = [AimBackend(AimConfig(**QUIET)), AimBackend(AimConfig(repo="b", **QUIET))]
    monkeypatch.chdir("/")
    for number, one in enumerate(backends):
        one.open(info(tmp_path, place=f"run{number}"))
        assert str(start / ("b" if number else "")) == str(Path(str(one.url)))
        one.close("finished", 0)
    below = start / "deep" / "down"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    nearest = AimBackend(AimConfig(**QUIET))
    nearest.open(info(tmp_path, place="run2"))
    nearest.close("finished", 0)

    assert 2 == len(store.runs(start))
    assert 1 == len(store.runs(start / "b"))
    assert ("", "") == capfd.readouterr()


def test_a_run_that_is_named_is_used(repo: Path) -> None:
    """`run_hash` goes on with a run of the program's; an unknown one is said, and nothing is begun."""
    import aim

    own = aim.Run(repo=str(repo), **QUIET)
    own.track(5, name="loss", step=0)  # an int makes another type of series
    own.close()
    backend = opened(repo, {"run_hash": own.hash})
    give(backend, scalar("loss", 0.5, 1))
    backend.close("finished", 0)
    with pytest.raises(BackendUnavailable, match="run_hash"):
        opened(repo, {"run_hash": "0" * 24}, place="other")

    assert [0, 1] == [step for step, _, _ in store.only(repo).series("loss")]


def test_the_programs_own_calls_land_beside_ours(backend: AimBackend, repo: Path) -> None:
    """`native` is the `aim.Run`; what the program tracks at a step of ours replaces nothing of ours, nor we of it."""
    give(backend, scalar("loss", 0.5, 1))
    backend.native.track(7.0, name="own", step=1, context={"mine": True})
    backend.native.track(0.25, name="loss", step=5)
    backend.native["mine"] = {"x": 1}
    give(backend, scalar("loss", 0.75, 5), after=1)
    run = written_after(backend, repo)

    assert [(1, 0.5), (5, 0.25)] == [(step, value) for step, value, _ in run.series("loss")]
    assert [(5, 0.75, WALL)] == run.series("loss", repeat=1)
    assert [7.0] == [value for _, value, _ in run.series("own", mine=True)]
    assert {"x": 1} == run.attributes["mine"]


def written_after(backend: AimBackend, folder: Path) -> store.StoredRun:
    backend.close("finished", 0)
    return store.only(folder)


def test_a_run_of_the_program_is_left_alone(backend: AimBackend, repo: Path) -> None:
    """Our end does not end it; it can write and close after us."""
    import aim

    own = aim.Run(repo=str(repo), **QUIET)
    give(backend, scalar("loss", 0.5, 1))
    own.track(1.0, name="own", step=1)
    backend.close("finished", 0)
    own.track(2.0, name="own", step=2)
    hash = own.hash
    own.close()

    assert [1.0, 2.0] == [value for _, value, _ in store.read(repo, hash).series("own")]


def test_a_run_closed_by_the_program_goes_on(backend: AimBackend, repo: Path) -> None:
    give(backend, scalar("loss", 0.5, 1))
    backend.native.close()
    give(backend, scalar("loss", 0.25, 2), scalar("loss", 0.1, 1), after=1)
    run = written_after(backend, repo)

    assert [(1, 0.5), (2, 0.25), (1, 0.1)] == [
        (step, value)
        for step, value, _ in sorted(run.series("loss") + run.series("loss", repeat=1), key=lambda p: -p[1])
    ]
    assert run.ended


def test_after_the_end_another_process_can_write(backend: AimBackend, repo: Path) -> None:
    """Also while the program keeps the run object: its files are closed."""
    kept = backend.native
    give(backend, scalar("loss", 0.5, 1))
    backend.close("finished", 0)
    program = run_program(
        "import sys, aim; aim.Run(sys.argv[2], repo=sys.argv[1], system_tracking_interval=None,"
        " capture_terminal_logs=False).track(0.25, name='loss', step=2)",
        repo,
        kept.hash,
    )

    assert 0 == program.returncode, program.err
    assert 2 == len(store.only(repo).series("loss"))


HOLDER = """
    import sys, threading, aim
    run = aim.Run(repo=sys.argv[1], system_tracking_interval=None, capture_terminal_logs=False)
    run.track(1.0, name="x", step=1)
    print(run.hash, flush=True)
    threading.Event().wait(60)
"""


def test_a_run_that_another_process_writes_is_said(repo: Path) -> None:
    """Within seconds, with what to do; when that process is gone, it opens."""
    with started(HOLDER, repo) as holder:
        hash = holder.stdout.readline().strip()
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match=r"another process writes this run.*aim server"):
            opened(repo, {"run_hash": hash})
        assert time.monotonic() - began < 15
        holder.kill()
        holder.wait()
    opened(repo, {"run_hash": hash}).close("finished", 0)


# -- what Aim does to the process


def test_nothing_of_aim_is_left_after_close(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Captured streams, threads and the environment are as before; what was printed meanwhile is in the run."""
    before = dict(os.environ), threading.active_count(), vars(sys.stdout).get("write"), sys.exit, sys.excepthook
    backend = opened(repo, {"system_tracking_interval": 60.0, "capture_terminal_logs": True})
    assert "write" in vars(sys.stdout)
    print("said by the program")
    backend.close("finished", 0)

    assert before == (
        dict(os.environ),
        threading.active_count(),
        vars(sys.stdout).get("write"),
        sys.exit,
        sys.excepthook,
    )
    told = [one.value.storage["data"].load() for one in store.only(repo).points if one.name == "logs"]
    assert any("said by the program" in line for line in told)
    assert "said by the program" in capsys.readouterr().out


def test_a_stream_that_was_exchanged_keeps_its_write(repo: Path) -> None:
    """Aim puts the old stream's `write` on the new one: what is printed later would go to the wrong place."""
    before = vars(sys.stdout).get("write")  # wandb puts one there when it is imported
    backend = opened(repo, {"capture_terminal_logs": True})
    old, new = sys.stdout, io.StringIO()
    with contextlib.redirect_stdout(new):
        backend.close("finished", 0)
        print("to the new one")
    assert "to the new one\n" == new.getvalue()
    assert before is vars(old).get("write")


def test_what_came_after_us_stays(repo: Path) -> None:
    """A wrapper that the program put on `sys.stdout` while the run was open is not taken away."""
    backend = opened(repo, {"capture_terminal_logs": True})
    captured, seen = sys.stdout.write, []

    def write(text: str) -> int:
        seen.append(text)
        return captured(text) or len(text)

    sys.stdout.write = write  # type: ignore[method-assign]
    try:
        backend.close("finished", 0)
        assert sys.stdout.write is write
        print("still seen")
    finally:
        del sys.stdout.write
    assert "still seen" in seen


FORKS = """
    import multiprocessing, os, sys
    import tracelet

    def work(number):
        print("worker", number)
        sys.exit(0)

    experiment = tracelet.start_logging(backend="aim", config={"repo": sys.argv[1]}, connect_timeout=20)
    experiment.log_metric("loss", 0.5, 1)
    experiment.flush(20)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
        assert worker.exitcode == 0, worker
    child = os.fork()
    if not child:
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    experiment.log_metric("loss", 0.25, 2)
    print("done")
"""


def test_a_forked_child_can_end(repo: Path) -> None:
    """Aim's exit hook waits in it for threads that it does not have: DataLoader workers, and whoever forks."""
    program = run_program(FORKS, repo, deadline=120)

    assert 0 == program.returncode, program.err
    assert [(1, 0.5), (2, 0.25)] == [(step, value) for step, value, _ in store.only(repo).series("loss")]


ENDS = """
    import os, signal, sys, threading
    import tracelet

    config = {"repo": sys.argv[1], "capture_terminal_logs": False}
    experiment = tracelet.start_logging(backend="aim", config=config, flush_timeout=20, connect_timeout=20)
    for step in range(500):
        experiment.log_metric("loss", step / 2, step)
"""


@pytest.mark.parametrize(
    ("end", "code", "status"),
    [
        ("sys.exit(0)", 0, "finished"),
        ("raise RuntimeError('broken')", 1, "failed"),
        ("os.kill(os.getpid(), signal.SIGTERM); threading.Event().wait(20)", -signal.SIGTERM, "killed"),
    ],
)
def test_however_a_program_ends_all_arrives(repo: Path, end: str, code: int, status: str) -> None:
    program = run_program(ENDS + f"    {end}\n", repo, deadline=120)
    run = store.only(repo)

    assert code == program.returncode, program.err
    assert [(step, step / 2) for step in range(500)] == [(step, value) for step, value, _ in run.series("loss")]
    assert run.ended
    assert status == run.attributes["tracelet"]["status"]


# -- kills and outages


KILLED = """
    import os, sys, time
    import tracelet

    experiment = tracelet.start_logging(
        run_id="again", backend="aim", config={"repo": sys.argv[1]}, flush_timeout=30, connect_timeout=20
    )
    begin, end = int(sys.argv[2]), int(sys.argv[3])
    for step in range(begin, end):
        experiment.log_metric("loss", step / 2, step // 2, wall_time=step)
        if len(sys.argv) > 4 and step == begin + 200:
            experiment.flush(20)
    if len(sys.argv) > 4:
        while experiment.stats().backends["aim"].pending > 500:
            time.sleep(0.001)
        os.kill(os.getpid(), 9)
"""


def test_a_kill_loses_nothing_and_doubles_nothing(repo: Path) -> None:
    """Killed in the middle of a delivery and begun again: each point is there once, the repeated ones too."""
    killed = run_program(KILLED, repo, 0, 3000, "kill", deadline=120)
    assert -signal.SIGKILL == killed.returncode, killed.err
    again = run_program(KILLED, repo, 3000, 3010, deadline=120)
    assert 0 == again.returncode, again.err

    assert [(step // 2, step / 2, float(step)) for step in range(3010)] == steps(store.only(repo), "loss")


def story(folder: Path) -> list[Record]:
    """Points of every sort: new, repeated, repeated without end, backwards, texts, pictures, params, files."""
    records: list[Record] = [scalar("none", at, None, WALL + at) for at in range(14)]
    records += [scalar("loss", at, step, WALL + at) for at, step in enumerate((5, 5, 3, 9, 3, 3))]
    records += [scalar("nan", math.nan, 1, WALL), scalar("nan", math.nan, 1, WALL + 1)]
    records += [Text("t", text, 1, WALL + at) for at, text in enumerate("ab")]
    return [*records, *(one for one in sample_records(folder) if type(one) in AimBackend.accepts)]


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("cut", [0, 9, 16, 22, 39])
def test_a_batch_that_was_cut_off_is_completed(repo: Path, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    """Wherever a process dies in a batch, the whole batch offered again is there once."""
    records = story(repo)
    backend = opened(repo)
    give(backend, *records[:5])
    put, left = backend._open_run.put, iter(range(cut))

    def until_cut(record: Record, number: int) -> None:
        if next(left, None) is None:
            raise Killed
        put(record, number)

    monkeypatch.setattr(backend._open_run, "put", until_cut)
    with contextlib.suppress(Killed):
        give(backend, *records[5:], after=5)
    backend._end()
    again, position = reopened(repo)
    assert 5 == position or cut >= len(records) - 5
    give(again, *records[5:], after=5)
    again.close("finished", 0)

    run = store.only(repo)
    assert [(0, float(at), WALL + at) for at in range(14)] == steps(run, "none")
    assert [(step, float(at), WALL + at) for at, step in enumerate((5, 5, 3, 9, 3, 3))] == steps(run, "loss")
    assert ["a", "b"] == [one.value.data for one in run.points if one.tag == "t"]
    assert 2 == sum(one.tag == "nan" for one in run.points)
    counts = store.stored(repo).counts
    assert {"text": 3, "image": 1, "mesh": 1, "table": 1, "artifact": 2} == {
        kind: counts[kind] for kind in ("text", "image", "mesh", "table", "artifact")
    }


FULL = """
    import json, resource, sys
    from pathlib import Path
    from tracelet.backends.aim import AimBackend, AimConfig
    from tracelet.backends.base import Batch
    from tracelet.errors import BackendUnavailable
    from tracelet.records import RunInfo, Scalar, Text

    repo, folder = sys.argv[1:]
    backend = AimBackend(AimConfig(repo=repo, system_tracking_interval=None, capture_terminal_logs=False))
    backend.open(RunInfo(run_id="x", project="p", name="n", folder=folder))
    records = [Text("t", "x" * 1000 + str(at), at, 1.0) for at in range(200)]
    assert backend.write(Batch.up_to(records[:10], 10)) is None
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    todo, failed = records[10:], 0
    while todo:
        result = backend.write(Batch.up_to(todo, 200))
        if result is None:
            todo = []
        else:
            assert isinstance(result.error, BackendUnavailable), result
            todo, failed = todo[result.count:], failed + 1
            assert failed < 5, result
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert failed, "the disk was not full"
    backend.close("finished", 0)
"""


def test_a_full_disk_loses_and_doubles_nothing(repo: Path) -> None:
    """RocksDB writes no more after an error until it is opened anew."""
    (repo / "run").mkdir()
    program = run_program(FULL, repo, repo / "run", deadline=120)

    assert 0 == program.returncode, program.err
    run = store.only(repo)
    assert list(range(200)) == [one.step for one in run.points]
    assert all(one.value.data == "x" * 1000 + str(one.step) for one in run.points)


# -- a server


@pytest.fixture(scope="module")
def shared_server(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(template, folder / ".aim")
    server = Server(folder)
    yield server
    server.stop()


@pytest.fixture
def server(repo: Path) -> Iterator[Server]:
    """A server that the test may end."""
    server = Server(repo)
    yield server
    server.process.send_signal(signal.SIGCONT)
    server.stop()


class TestAimServerContract(BackendContract):
    """The exam, over a real server."""

    ordered = False
    knows_its_store = True

    @pytest.fixture(autouse=True)
    def _served(self, shared_server: Server) -> None:
        self.server = shared_server

    def make_backend(self, tmp_path: Path) -> AimBackend:
        return AimBackend(AimConfig(repo=self.server.url, **QUIET))

    def read_back(self, tmp_path: Path) -> Stored:
        (hash,) = json.loads((tmp_path / "run" / "aim.json").read_text())["runs"].values()
        return store.stored(self.server.repo, hash)

    def test_2500_metrics_at_one_step(self, tmp_path: Path) -> None:
        """A tenth of them: a new metric costs Aim's server ten milliseconds."""
        self._compare_scalars(tmp_path, [scalar(f"m{at}", at / 2, 1) for at in range(250)])


def numbers(begin: int, end: int) -> list[Record]:
    return [scalar("loss", at / 2, at // 2, WALL + at) for at in range(begin, end)]


def refused(backend: AimBackend, records: Sequence[Record], after: int) -> float:
    """The seconds after which a batch was refused as unavailable: none of it counts as written."""
    began = time.monotonic()
    result = attempt(backend, records, after + len(records))
    assert result is not None
    assert (0, BackendUnavailable) == (result.count, type(result.error))
    assert "aim: " in str(result.error)
    return time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_comes_back_gets_everything_once(server: Server, repo: Path, number: int) -> None:
    """While it is gone, nothing is said to be held; the same batch again is there once."""
    backend = opened(repo, {"repo": server.url})
    give(backend, *numbers(0, 20))
    server.end(number)
    assert refused(backend, numbers(20, 40), 20) < 5
    assert refused(backend, numbers(20, 40), 20) < 5
    server.start()
    give(backend, *numbers(20, 40), after=20)
    backend.native.track(1.0, name="own", step=1)
    backend.close("finished", 0)
    run = store.only(repo)

    assert [(at // 2, at / 2, WALL + at) for at in range(40)] == steps(run, "loss")
    assert [1.0] == [value for _, value, _ in run.series("own")]
    assert run.ended


def test_a_server_that_hangs_is_said(server: Server, repo: Path) -> None:
    """And once it goes on, everything is there once."""
    backend = opened(repo, {"repo": server.url})
    give(backend, *numbers(0, 20))
    server.process.send_signal(signal.SIGSTOP)
    assert refused(backend, numbers(20, 40), 20) < 8
    server.process.send_signal(signal.SIGCONT)
    give(backend, *numbers(20, 40), after=20)
    backend.close("finished", 0)

    assert [(at // 2, at / 2, WALL + at) for at in range(40)] == steps(store.only(repo), "loss")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_client_that_does_not_recover_is_replaced(server: Server, repo: Path) -> None:
    """Aim's worker thread ends at the first answer that it does not expect: then nothing is sent any more."""
    backend = opened(repo, {"repo": server.url})
    give(backend, *numbers(0, 20))
    first = backend.native
    first.repo._client.get_queue().register_task(first.repo._client, lambda nothing: 1 / 0, [])
    with pytest.raises(BackendUnavailable):
        give(backend, *numbers(20, 40), after=20)
    give(backend, *numbers(20, 40), after=20)
    assert backend.native is not first
    assert first.hash == backend.native.hash
    backend.close("finished", 0)

    assert [(at // 2, at / 2, WALL + at) for at in range(40)] == steps(store.only(repo), "loss")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_close_without_a_server_ends(server: Server, repo: Path, number: int) -> None:
    """Aim's own waits for ever; a later start of the run completes it."""
    before, write = (
        set(threading.enumerate()),
        vars(sys.stdout).get("write"),
    )  # that of another vendor, if it is imported
    backend = opened(repo, {"repo": server.url, "system_tracking_interval": 60.0, "capture_terminal_logs": True})
    give(backend, *numbers(0, 20))
    server.process.send_signal(number)
    began = time.monotonic()
    with pytest.raises(BackendUnavailable):
        backend.close("finished", 0)
    assert time.monotonic() - began < 12
    assert backend.durable() in (None, 20)
    assert write is vars(sys.stdout).get("write")
    server.stop()
    for thread in set(threading.enumerate()) - before:
        thread.join(15)
    assert before == set(threading.enumerate())

    server.start()
    again, position = reopened(repo, {"repo": server.url})
    assert 20 == position
    again.close("finished", 0)
    assert 20 == len(steps(store.only(repo), "loss"))
    assert store.only(repo).ended


def test_no_server_is_said_at_once(repo: Path) -> None:
    """A closed port, and one that accepts and says nothing; the password in the address is not told."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        for listens in (False, True):
            if listens:
                silent.listen()
            began = time.monotonic()
            with pytest.raises(BackendUnavailable, match=f"no Aim server answers at aim://{address}") as told:
                opened(repo, {"repo": f"aim://me:secret@{address}"})
            assert time.monotonic() - began < 6 + BUSY
            assert "secret" not in str(told.value)


SERVED = """
    import sys
    import tracelet

    experiment = tracelet.start_logging(
        run_id="served", backend="aim", backend_url=sys.argv[1], flush_timeout=3, connect_timeout=20
    )
    for step in range(100):
        experiment.log_metric("loss", step / 2, step, wall_time=step)
    experiment.flush(20)
    print("flushed", flush=True)
    if len(sys.argv) > 2:
        open(sys.argv[2]).read()
        for step in range(100, 200):
            experiment.log_metric("loss", step / 2, step, wall_time=step)
"""


def test_a_program_ends_although_its_server_died(server: Server, repo: Path) -> None:
    """Within its flush timeout and two seconds; the next start of the run brings the rest."""
    gate = repo / "gate"
    os.mkfifo(gate)
    with started(SERVED, server.url, gate) as program:
        assert "flushed\n" == program.stdout.readline()
        server.end()
        began = time.monotonic()
        gate.write_text("go on")
        _, errors = program.communicate(timeout=40)
    assert time.monotonic() - began < 3 + 2 + BUSY, errors
    server.start()
    again = run_program(SERVED, server.url, deadline=120)
    assert 0 == again.returncode, again.err

    expected = [*range(200), *range(100)]
    run = store.only(repo)
    assert sorted((step, step / 2, float(step)) for step in expected) == sorted(steps(run, "loss"))


def test_a_past_run_has_its_own_start_and_no_metrics_of_the_process_that_delivers_it(tmp_path):
    with tracelet.start_logging(dir=tmp_path / "runs", backend=None, collect=False) as run:
        run.log_metric("loss", 0.5, 0)
    with JournalReader(run.folder) as reader:
        created = reader.info().created
    (synced,) = sync.deliver(run.folder, ["aim"], config={"aim": {"repo": str(tmp_path)}}).backends
    assert (synced.pending, synced.rejected) == (0, 0)
    stored = store.only(tmp_path)
    assert created == pytest.approx(stored.created, abs=1e-5)
    assert {"loss"} == {point.name for point in stored.points}
