"""wandb's own quirks: what was handed to the adapter, read back from the `.wandb` file of a real offline run."""

from __future__ import annotations

import hashlib
import html
import json
import math
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import wandb
from backends import wandb_store as store
from backends.writing import attempt, write_whole
from hypothesis import given
from hypothesis import strategies as st
from programs import run_program, the_run
from support import TESTS
from wandb.sdk.lib.module import unset_globals

from tracelet.backends import secrets_of
from tracelet.backends.wandb import WandbBackend, WandbConfig
from tracelet.backends.wandb.host import active_run
from tracelet.backends.wandb.transaction_log import last_mark
from tracelet.backends.wandb.watermark import Mark
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.journal.store import JournalReader
from tracelet.records import (
    Artifact,
    Audio,
    Definition,
    Embedding,
    File,
    Graph,
    Histogram,
    Image,
    Layout,
    Mesh,
    Params,
    PRCurve,
    RawSummary,
    Record,
    RunInfo,
    Scalar,
    Table,
    Tensor,
    Text,
    Video,
)
from tracelet.testing import BackendContract, Stored

WALL = 1_700_000_000.25
AWKWARD = [
    "loss (train)",
    "acc@1",
    "../x",
    "/a//b/",
    "a:b",
    "",
    "x" * 300,
    "😀",
    ".",
    "trailing ",
    "a*",
    "*",
    "a*b",
    "a.b",
    "\\",
    "a\\.b",
    "~",
    "~a~1",
    "_step",
    "_runtime",
    "_timestamp",
    "_wandb",
    "_wandb.x",
    "_private",
    "global_step",
    "~global_step",
    "line\nbreak",
]


_given: list[Record] = []


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """wandb writes below this test's folder only, and its session begins with this test's environment."""
    yield from surroundings(tmp_path, monkeypatch, {"WANDB_MODE": "offline"})


def surroundings(folder: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Iterator[Path]:
    """An environment of `folder`'s own, and a wandb that has not looked at another one."""
    for name in [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB__SAVE_REQUIREMENTS"]:
        monkeypatch.delenv(name)
    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(folder))
    for name, value in {"HOME": str(folder), "WANDB_SILENT": "true", **environment}.items():
        monkeypatch.setenv(name, value)
    wandb.teardown()
    _given.clear()
    yield folder
    run = active_run(wandb)
    if run is not None:
        run.finish()
    wandb.teardown()
    unset_globals()


def info(folder: Path, **more: Any) -> RunInfo:
    place = folder / "run"
    place.mkdir(exist_ok=True)
    given = {"run_id": "run1", "project": "proj", "name": "first", "folder": str(place)} | more
    return RunInfo(**given)


@pytest.fixture
def backend(folder: Path) -> Iterator[WandbBackend]:
    backend = WandbBackend()
    backend.open(info(folder))
    yield backend
    backend.close("finished", 0)


def give(backend: WandbBackend, *records: Record) -> int:
    """Write one batch, and return its last sequence number. A lost run is opened again, as by the delivery."""
    _given.extend(records)
    result = attempt(backend, records, len(_given))
    if result is not None and is_lost(result.error):
        give_rest(backend)
    elif result is not None:
        raise result.error
    return len(_given)


def is_lost(error: Exception) -> bool:
    return isinstance(error, BackendUnavailable) and error.reopen


def give_rest(backend: WandbBackend) -> None:
    """Open the run again, and write what it does not hold."""
    position = backend.open(info(backend._folder.parent)) or 0
    write_whole(backend, _given[position:], len(_given))


def close(backend: WandbBackend, status: Any = "finished") -> None:
    """End the run, as the delivery does."""
    try:
        backend.close(status, 0)
    except BackendUnavailable as error:
        if not error.reopen:
            raise
        give_rest(backend)
        backend.close(status, 0)


def written(backend: WandbBackend, folder: Path, *records: Record) -> store.StoredRun:
    """What the file holds once the records were given and the run was closed."""
    give(backend, *records)
    backend.close("finished", 0)
    return store.only(folder)


def scalar(tag: str, value: float, step: int | None, wall_time: float = WALL, writer: str = "") -> Scalar:
    return Scalar(tag, value, step, wall_time, writer)


def spooled(folder: Path, name: str, data: bytes) -> File:
    """A file as the spool keeps it: called by its digest, without a suffix."""
    digest = hashlib.sha256(data).hexdigest()
    path = folder / "run" / digest
    path.write_bytes(data)
    return File(name, digest, len(data), str(path))


def png(width: int = 3, height: int = 2, colour: int = 7) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    lines = b"".join(b"\0" + bytes([colour]) * width for _ in range(height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
WAV = (
    b"RIFF"
    + struct.pack("<I", 40)
    + b"WAVEfmt "
    + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    + (b"data" + struct.pack("<I", 4) + b"\1\0\2\0")
)


def histogram(tag: str, limits: Sequence[float], counts: Sequence[float], minimum: float, maximum: float) -> Histogram:
    return Histogram(tag, tuple(limits), tuple(counts), minimum, maximum, sum(counts), 0.5, 0.25, 3, WALL)


class TestWandbContract(BackendContract):
    """The exam, read back from the run folders."""

    wall_time_error = 1.0  # scalars that share a row share its time

    def make_backend(self, tmp_path: Path) -> WandbBackend:
        return WandbBackend()

    def read_back(self, tmp_path: Path) -> Stored:
        return store.stored(tmp_path)


# -- scalars


def test_steps_keep_their_order_and_value(backend: WandbBackend, folder: Path) -> None:
    """Backwards, repeated and huge steps arrive in call order; no step is shown as 0."""
    steps = [0, 10**12, 5, 5, 4, None, 7, 2**63 - 1, -3]
    run = written(backend, folder, *[scalar("loss", at + 0.5, step) for at, step in enumerate(steps)])

    assert [(step or 0, at + 0.5, WALL) for at, step in enumerate(steps)] == run.series("loss")


def test_scalars_of_a_writer_and_step_share_a_row(backend: WandbBackend, folder: Path) -> None:
    """Also from different batches; another step, a repeated tag, a second's distance or another writer end the row."""
    give(backend, scalar("a", 1, 1))
    give(backend, scalar("b", 2, 1), scalar("c", 3, 2))
    give(backend, scalar("c", 4, 2), scalar("d", 5, 2, WALL + 1), scalar("e", 6, 2, WALL + 1.5))
    give(backend, scalar("v", 7, 2, writer="val"), scalar("f", 8, 2), scalar("w", 9, 2, writer="val"))
    backend.close("finished", 0)
    rows = [{key for key in row if key in "abcdefvw"} for row in store.only(folder).rows]

    assert [{"a", "b"}, {"c"}, {"c", "d"}, {"e"}, {"f"}, {"v", "w"}] == sorted(rows, key=sorted)


def test_the_summary_ends_at_the_programs_step(backend: WandbBackend, folder: Path) -> None:
    """And not at the seconds that the machine's own figures count."""
    give(backend, scalar("loss", 1.0, 9))
    give(backend, Scalar("system/cpu", 50.0, 2, WALL + 5, "system"))
    backend.close("finished", 0)

    assert 9 == store.only(folder).summary["global_step"]


def test_another_kind_ends_the_row(backend: WandbBackend, folder: Path) -> None:
    """What a program says after a text is not in the row before it."""
    run = written(
        backend, folder, scalar("a", 1, 1), Text("t", "x", 1, WALL), scalar("b", 2, 1), scalar("c", 3, 1, writer="v")
    )

    assert [["a"], ["t"], ["b"], ["c"]] == [[key for key in row if key in "abct"] for row in run.rows]


def test_a_programs_definitions(backend: WandbBackend, folder: Path) -> None:
    """The axis and the summary that it defined, also after the first row. Media and the machine's figures keep ours."""
    definitions = [
        Definition("val/*", "epoch", False, ("min", "max"), WALL),
        Definition("val/hidden", None, True, ("none",), WALL),
        Definition("*", "epoch", False, (), WALL),
    ][::-1]  # the order makes no difference
    early = scalar("val/early", 1.0, 0)
    rows = [
        scalar(tag, value, step)
        for step, value in enumerate((3.0, 1.0, 2.0), 1)
        for tag in ("epoch", "val/loss", "val/hidden", "val/early", "plain")
    ]
    system = Scalar("system/cpu", 50.0, 2, WALL, "system")
    run = written(backend, folder, early, *definitions, *rows, system, Text("val/note", "x", 1, WALL))

    assert ("epoch", False) == run.metrics["val/loss"] == run.metrics["val/early"] == run.metrics["plain"]
    assert ("global_step", True) == run.metrics["val/hidden"]
    assert ("global_step", False) == run.metrics["epoch"] == run.metrics["system/cpu"] == run.metrics["val/note"]
    assert {"min": 1.0, "max": 3.0} == run.summary["val/loss"]
    assert "val/hidden" not in run.summary
    assert 2.0 == run.summary["plain"]


def test_definitions_hold_after_an_outage(backend: WandbBackend, folder: Path) -> None:
    """A run that is opened again defines its series as the program did."""
    give(backend, Definition("loss", "epoch", False, ("min",), WALL), scalar("loss", 2.0, 1))
    backend.flush()
    backend.native.finish()
    give(backend, scalar("loss", 1.0, 2))
    close(backend)

    assert ["epoch", "epoch"] == [run.metrics["loss"][0] for run in store.runs(folder)]


def test_every_key_has_one_exact_definition(backend: WandbBackend, folder: Path) -> None:
    """The axis of each metric is the hidden `global_step`, stands in each row, and nothing is defined by a glob."""
    records = [scalar(tag, 1, step) for step in (1, 2) for tag in ("loss", "val/loss", "a*")]
    run = written(backend, folder, *records, Text("note", "x", 1, WALL))

    keys = {"loss", "val/loss", "~a~1", "note"}
    hidden = {"global_step": ("", True), "_tracelet": ("", True)}
    assert hidden | dict.fromkeys(keys, ("global_step", False)) == run.metrics
    assert len(run.metrics) == len(run.definitions)
    assert {} == run.globs
    assert all("global_step" in row for row in run.rows)


def test_every_tag_arrives_and_can_be_told(backend: WandbBackend, folder: Path) -> None:
    """Awkward tags stay distinct; those that wandb drops or takes for itself are renamed, and the run says how."""
    run = written(backend, folder, *[scalar(tag, at, at) for at, tag in enumerate(AWKWARD)])

    names = {tag: key for key, tag in run.config["tracelet_names"].items()}
    own = {"_step", "_runtime", "_timestamp", "global_step"}
    assert [{names.get(tag, tag): at} for at, tag in enumerate(AWKWARD)] == [
        {key: value for key, value in row.items() if key not in own} for row in run.rows
    ]
    assert len(AWKWARD) == len({names.get(tag, tag) for tag in AWKWARD})
    assert {"", "_step", "_runtime", "_timestamp", "_wandb", "global_step", "\\"} < names.keys()
    assert {} == run.globs
    assert all(("global_step", False) == run.metrics[names.get(tag, tag)] for tag in AWKWARD)


def test_nothing_is_said_about_names_that_are_as_they_were(backend: WandbBackend, folder: Path) -> None:
    """No mapping in the run's config where no tag was renamed."""
    assert "tracelet_names" not in written(backend, folder, scalar("loss", 1, 1)).config


def test_values_and_wall_times_are_exact(backend: WandbBackend, folder: Path) -> None:
    """float64 in, float64 out: NaN, the infinities, -0.0 and subnormals too; explicit wall times are kept."""
    values = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1, 1 / 3, 2.0**53 + 2, 1.7976931348623157e308]
    walls = [0.0, 12.0, 1e9 + 0.25, WALL, WALL - 1000, 1.5, 2.5, 1e9, 3.0]
    run = written(backend, folder, *[scalar("v", v, 1, w) for v, w in zip(values, walls, strict=True)])

    series = run.series("v")
    assert [repr(value) for value in values] == [repr(float(value)) for _, value, _ in series]
    assert walls == [wall for _, _, wall in series]


def test_a_tag_that_is_no_text_is_rejected_alone(backend: WandbBackend, folder: Path) -> None:
    """A lone surrogate cannot be written; what stood before it in the batch counts as taken."""
    result = attempt(backend, [scalar("ok", 1, 1), scalar("\ud800", 1, 1)], 2)

    assert result is not None
    assert (1, RecordRejected) == (result.count, type(result.error))
    backend.close("finished", 0)
    assert [(1, 1, WALL)] == store.only(folder).series("ok")


# -- other kinds


@pytest.mark.parametrize("tag", ["pictures/one", "../x", "y" * 300, "a\0b", "_step"])
def test_pictures_keep_their_bytes(backend: WandbBackend, folder: Path, tag: str) -> None:
    """The file in the run is the file of the spool, byte for byte, whatever the tag."""
    data = [png(), png(5, 5)]
    images = [
        Image(tag, spooled(folder, "i.png", d), "png", 3, 2, step, WALL) for step, d in zip((4, 2), data, strict=True)
    ]
    run = written(backend, folder, *images)

    names = {tag: key for key, tag in run.config.get("tracelet_names", {}).items()}
    key = names.get(tag, tag)
    assert data == run.media(key)
    assert [4, 2] == [step for step, _, _ in run.series(key)]
    assert "image-file" == run.rows[0][key]["_type"]
    assert ("global_step", False) == run.metrics[key]


def test_sound_and_film_keep_their_bytes(backend: WandbBackend, folder: Path) -> None:
    """Audio and video are native media made from their files."""
    run = written(
        backend,
        folder,
        Audio("sound", spooled(folder, "s.wav", WAV), "wav", 8000.0, 1, WALL),
        Video("film", spooled(folder, "f.gif", GIF), "gif", 1, 1, 1, WALL),
    )

    assert [[WAV], [GIF]] == [run.media("sound"), run.media("film")]
    assert ["audio-file", "video-file"] == [run.rows[0]["sound"]["_type"], run.rows[1]["film"]["_type"]]


def test_a_picture_nobody_can_read_is_kept(backend: WandbBackend, folder: Path) -> None:
    """Bytes that Pillow refuses go as an artifact."""
    run = written(backend, folder, Image("odd", spooled(folder, "o.png", b"no picture"), "png", 0, 0, 3, WALL))

    kept = run.artifact("image-odd")
    assert {"o.png": b"no picture"} == kept.entries
    assert ("odd", 3) == (kept.metadata["tag"], kept.metadata["step"])


def test_text_is_shown_and_comes_back_exactly(backend: WandbBackend, folder: Path) -> None:
    """Markup is text, not markup; line breaks of every kind survive."""
    text = "\n# title\r\n<b>not bold</b> & \"quotes\" 'x' &amp; 😀\t |a|b|\n"
    (page,) = written(backend, folder, Text("note", text, 1, WALL)).media("note")

    shown = page.decode().partition('<pre style="white-space: pre-wrap">\n')[2].removesuffix("</pre>")
    assert text == html.unescape(shown)
    assert "<b>" not in shown


def test_a_large_histogram_is_drawn_and_kept(backend: WandbBackend, folder: Path) -> None:
    """1548 buckets: at most 512 to draw, same total and range; the exact ones are in a file of the run."""
    limits = [1e-12 * 1.1**at for at in range(1547)]
    limits = [*limits, math.inf]
    counts = [0.0, *[float(at % 7) for at in range(1546)], 3.0]
    record = histogram("h", limits, counts, 1e-12, 1e51)
    run = written(backend, folder, record)

    drawn = run.rows[0]["h"]
    assert len(drawn["values"]) <= 512
    assert len(drawn["bins"]) == len(drawn["values"]) + 1
    assert sum(counts) == sum(drawn["values"])
    assert (limits[0], 1e51) == (drawn["bins"][0], drawn["bins"][-1])
    (path,) = (run.folder / "files" / "tracelet").iterdir()
    kept = json.loads(path.read_text())
    assert (limits, counts) == (kept["limits"], kept["counts"])
    assert ("h", 3, WALL, 1e-12, 1e51, sum(counts), 0.5, 0.25) == tuple(
        kept[name] for name in ("tag", "step", "wall_time", "min", "max", "num", "sum", "sum_squares")
    )


def test_histogram_edges_follow_tensorboard(backend: WandbBackend, folder: Path) -> None:
    """Limits are right edges: an empty first bucket tells the left edge, otherwise the minimum does."""
    run = written(
        backend,
        folder,
        histogram("left", [0.0, 1.0, 2.0], [0, 3, 4], 0.5, 2.0),
        histogram("no_left", [1.0, 2.0], [3, 4], 0.5, 2.0),
        histogram("huge", [-1.0, 1.7976931348623157e308], [1, 2], -5.0, 9.0),
        histogram("one", [2.0], [3], 2.0, 2.0),
        histogram("tf1", [2.9, 3.17, sys.float_info.max], [0, 7, 0], 3.0, 3.0),
        histogram("empty", [sys.float_info.max], [0], sys.float_info.max, -sys.float_info.max),
    )

    tags = ("left", "no_left", "huge", "one", "tf1", "empty")
    drawn = [next(row[key] for key in tags if key in row) for row in run.rows]
    assert [
        ([3, 4], [0, 1, 2]),
        ([3, 4], [0.5, 1, 2]),
        ([1, 2], [-5, -1, 9]),
        ([3], [2, 2]),
        ([7], [2.9, 3.17]),
        ([0], [0, 0]),
    ] == [(value["values"], value["bins"]) for value in drawn]


def test_table_and_curve_are_native(backend: WandbBackend, folder: Path) -> None:
    """A table is a wandb table, mixed columns included; a PR curve is drawn by wandb's own preset."""
    data = json.dumps({"columns": ["a", "b"], "rows": [[1, "x"], [math.nan, None], ["t", [1, 2]]]}).encode()
    curve = PRCurve("pr", (4, 2), (1, 0), (3, 4), (0, 2), (0.8, 1.0), (1.0, 0.5), 6, WALL)
    run = written(backend, folder, Table("tab", spooled(folder, "t.json", data), 2, WALL), curve)

    table = json.loads(run.media("tab")[0])
    assert [["a", "b"], [1, "x"], ["t", [1, 2]]] == [table["columns"], table["data"][0], table["data"][2]]
    key = "Custom Chart Tables/pr_table"
    points = json.loads(run.media(key)[0])
    named = [dict(zip(points["columns"], row, strict=True)) for row in points["data"]]
    assert [(0.5, 1.0, 1.0, 2), (1.0, 0.8, 0.0, 4)] == [
        (point["recall"], point["precision"], point["threshold"], point["true_positives"]) for point in named
    ]
    assert 6 == run.series(key)[0][0]
    panel = run.config["_wandb"]["visualize"]["pr"]["panel_config"]
    assert "wandb/area-under-curve/v0" == panel["panelDefId"]


def test_a_table_beyond_the_limit_of_wandb_is_kept_whole(backend: WandbBackend, folder: Path) -> None:
    """wandb would cut it to 10 000 rows; it goes as a file instead."""
    data = json.dumps({"columns": ["a"], "rows": [[at] for at in range(10_001)]}).encode()
    run = written(backend, folder, Table("big", spooled(folder, "big.json", data), 2, WALL))

    assert {"big.json": data} == run.artifact("table-big").entries


def test_params_go_to_the_config(backend: WandbBackend, folder: Path) -> None:
    """Dotted names stay flat, a changed value wins, and NaN is not made null."""
    give(backend, Params({"lr": 0.1, "model.dropout": 0.5, "layers": [1, 2], "none": None}, WALL))
    run = written(
        backend, folder, Params({"lr": math.nan, "inf": math.inf, "nested": [math.nan, True], "_wandb": 1}, WALL)
    )

    assert {
        "lr": "NaN",
        "model.dropout": 0.5,
        "layers": [1, 2],
        "none": None,
        "inf": math.inf,
        "nested": ["NaN", True],
        "~_wandb": 1,
    } == {key: value for key, value in run.config.items() if key != "_wandb"}


def test_kinds_without_a_chart_are_artifacts(backend: WandbBackend, folder: Path) -> None:
    """Their files, their tag and their step are in the run."""
    a, b = spooled(folder, "a.bin", b"first"), spooled(folder, "b.bin", b"second")
    run = written(
        backend,
        folder,
        Graph("graph", (a, b), None, WALL),
        Mesh("me/sh", (a, b), "{}", 1, WALL),
        Embedding("emb", ("tensors.tsv", "metadata.tsv"), (a, b), 2, WALL),
        Layout("layout", '{"category": []}', None, WALL),
        Tensor("t", a, "<f4", (1, 2), 5, WALL),
        RawSummary("raw:1", b, "plugin", 6, WALL),
    )

    both = {"a.bin": b"first", "b.bin": b"second"}
    assert [
        ("graph", "graph", 0, both),
        ("mesh", "me/sh", 1, both),
        ("embedding", "emb", 2, {"tensors.tsv": b"first", "metadata.tsv": b"second"}),
        ("layout", "layout", 0, {"layout.json": b'{"category": []}'}),
        ("tensor", "t", 5, {"a.bin": b"first"}),
        ("raw", "raw:1", 6, {"b.bin": b"second"}),
    ] == [(kept.type, kept.metadata["tag"], kept.metadata["step"], kept.entries) for kept in run.artifacts]
    assert ["<f4", [1, 2]] == [run.artifact("tensor-t").metadata[name] for name in ("dtype", "shape")]


def test_artifacts_keep_paths_words_and_bytes(backend: WandbBackend, folder: Path) -> None:
    """A folder's file goes below it, a file's target is its path; reserved types and bad names are made good."""
    file = spooled(folder, "model.pth", b"weights")
    run = written(
        backend,
        folder,
        Artifact("models/", (file,), WALL),
        Artifact("plots/a.png", (file,), WALL),
        Artifact("resnet", (file, spooled(folder, "cfg/c.json", b"{}")), WALL, "model", {"f1": 0.5, "x": math.inf}),
        Artifact("n" * 200, (file,), WALL, "job"),
        Artifact("ä/ö", (file,), WALL, "wandb-x"),
        Artifact("ä:ö", (file,), WALL),
    )

    kept = run.artifacts
    assert ["models/model.pth"] == list(kept[0].entries)
    assert {"plots/a.png": b"weights"} == kept[1].entries
    assert {"model.pth": b"weights", "cfg/c.json": b"{}"} == kept[2].entries
    assert ("resnet", "model", 0.5, "Infinity") == (
        kept[2].name,
        kept[2].type,
        kept[2].metadata["f1"],
        kept[2].metadata["x"],
    )
    assert 6 == len({artifact.name for artifact in kept})
    assert all(len(artifact.name) <= 128 for artifact in kept)
    changed = ["models/", "plots/a.png", None, "n" * 200, "ä/ö", "ä:ö"]
    assert changed == [artifact.metadata.get("name") for artifact in kept]
    assert "job" == kept[3].metadata["type"]


def test_an_offline_run_is_complete_in_its_folder(
    backend: WandbBackend, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Artifact files, the program's own too, lie in the run's folder; the environment is as before afterwards."""
    mine = wandb.Artifact("mine", "data")
    (folder / "own.txt").write_text("own")
    mine.add_file(str(folder / "own.txt"))
    wandb.log_artifact(mine)
    run = written(backend, folder, Artifact("a.bin", (spooled(folder, "a.bin", b"x"),), WALL))

    paths = [Path(path) for kept in run.artifacts for path in kept.paths.values()]
    assert 2 == len(paths)
    assert all(run.folder in path.parents for path in paths)
    assert "WANDB_DATA_DIR" not in os.environ


# -- living with the program's own wandb


def test_the_programs_own_steps_become_the_axis(backend: WandbBackend, folder: Path) -> None:
    """Nothing of `wandb.log(..., step=)` is lost beside our rows, and rows of one step stay one row."""
    for step in range(10):
        give(backend, scalar("ours", step, step), scalar("ours", step, step))
        wandb.log({"own": step}, step=step)
        wandb.log({"more": -step}, step=step)
    wandb.log({"late": 1}, step=3)
    wandb.log({"epoch": 1})
    backend.close("finished", 0)
    run = store.only(folder)

    assert [(step, step, -step) for step in range(10)] == [
        (row["global_step"], row["own"], row["more"]) for row in run.rows if "own" in row
    ]
    late = next(row for row in run.rows if "late" in row)
    assert (3, 1) == (late["global_step"], late["epoch"])
    assert 20 == len(run.series("ours"))
    assert ("global_step", False) == run.metrics["own"]


def test_the_programs_rows_without_steps_are_as_before(backend: WandbBackend, folder: Path) -> None:
    """`commit=False` waits for the next call, and none of our columns come in between."""
    wandb.log({"a": 1}, commit=False)
    give(backend, scalar("ours", 1, 1))
    backend.flush()
    wandb.run.log({"b": 2})
    wandb.log({"c": 3})
    with pytest.raises(TypeError):
        wandb.log("no dictionary")
    backend.close("finished", 0)
    rows = [{key for key in row if key in ("a", "b", "c", "ours", "global_step")} for row in store.only(folder).rows]

    assert [{"ours", "global_step"}, {"a", "b"}, {"c"}] == rows


def test_the_programs_own_axis_wins(backend: WandbBackend, folder: Path) -> None:
    """A metric that the program defined itself keeps the axis it was given."""
    wandb.define_metric("val/*", step_metric="epoch")
    wandb.log({"val/acc": 0.5, "epoch": 1}, step=7)
    run = written(backend, folder)

    assert {"val/*": "epoch"} == run.globs
    assert [7] == [row["global_step"] for row in run.rows]
    assert "val/acc" not in run.metrics


def test_a_run_finished_by_the_program_goes_on(backend: WandbBackend, folder: Path) -> None:
    """After `wandb.finish()` the rest goes to the same run id; the program's next run is its own."""
    give(backend, scalar("loss", 1, 1))
    backend.flush()
    wandb.log({"own": 1}, step=1)
    wandb.finish()
    give(backend, scalar("loss", 2, 2), scalar("loss", 3, 3))
    second = wandb.init(id="second")
    assert ("second", False) == (second.id, second is backend.native)
    give(backend, scalar("loss", 4, 4))
    backend.close("failed", 0)
    assert not second._is_finished
    second.finish()
    wandb.teardown()  # its `finish` returns before the file is complete
    found = store.runs(folder)

    ours = [run for run in found if run.id == "run1"]
    assert [(1, 1), (2, 2), (3, 3), (4, 4)] == [(step, value) for run in ours for step, value, _ in run.series("loss")]
    assert [0, 1] == [run.exit_code for run in ours]
    assert [1] == [row["own"] for row in ours[0].rows if "own" in row]
    assert [[]] == [run.rows for run in found if run.id == "second"]


@pytest.mark.parametrize("begins", [False, True], ids=["ends", "begins_another"])
@pytest.mark.parametrize("owner", ["tracelet", "program"])
def test_a_program_that_tears_wandb_down_loses_nothing(folder: Path, owner: str, begins: bool) -> None:
    """After `wandb.teardown()` the rest goes to the same run id, and a new run of the program stays its own."""
    if owner == "program":
        wandb.init(id="run1")
    backend = WandbBackend()
    backend.open(info(folder))
    give(backend, *[scalar("loss", at, at) for at in range(50)])
    wandb.teardown()
    second = wandb.init(id="second") if begins else None
    give(backend, *[scalar("loss", at, at) for at in range(50, 60)], Params({"lr": 0.5}, WALL))
    last = give(backend, scalar("loss", 60, 60))
    backend.flush()
    assert last == backend.durable()
    if second is not None:
        assert (second, False) == (wandb.run, second is backend.native)
        second.log({"own": 1})
        assert not second._is_finished
    backend.close("finished", 0)
    if second is not None:
        second.finish()
    wandb.teardown()
    found = store.runs(folder)

    ours = [run for run in found if run.id == "run1"]
    assert [(at, at, WALL) for at in range(61)] == [point for run in ours for point in run.series("loss")]
    assert [[1]] * begins == [[row["own"] for row in run.rows] for run in found if run.id == "second"]


def test_a_run_that_wandb_forgot_is_not_used(folder: Path) -> None:
    """`wandb.run` stays set after `wandb.teardown()`, but a run of tracelet gets a run of its own."""
    old = wandb.init(id="old")
    wandb.teardown()
    backend = WandbBackend()
    backend.open(info(folder))
    give(backend, scalar("loss", 1, 1))
    backend.close("finished", 0)

    assert old is not backend.native
    assert ["run1"] == [run.id for run in store.runs(folder) if run.series("loss")]


@pytest.mark.parametrize(
    "end", ["teardown()", "setup()._connection._proc._process.kill()"], ids=["torn_down", "killed"]
)
def test_a_program_may_end_after_wandb_has_ended(end: str) -> None:
    """The run goes on in another service, and the program ends without stopping it: all arrives before wandb's hook."""
    program = run_program(
        f"""
        import wandb, tracelet

        experiment = tracelet.start_logging(backend="wandb")
        for step in range(100):
            experiment.log_metric("loss", step, step)
        assert experiment.flush(30)
        wandb.{end}
        experiment.log_params({{"lr": 0.5}})
        experiment.flush(3)  # a killed service may have received it
        for step in range(100, 200):
            experiment.log_metric("loss", step, step)
        """
    )
    assert 0 == program.returncode, program.err
    assert "Traceback" not in program.err
    assert 1 == program.err.count("the service process died") + (end == "teardown()"), program.err
    with JournalReader(the_run()) as reader:
        cursor = reader.cursors()["wandb"]
    assert (201, 0) == (cursor.delivered, cursor.rejected)
    runs = store.runs(Path(os.environ["WANDB_DIR"]))
    assert 2 == len(runs)
    assert list(range(200)) == [value for run in runs for _, value, _ in run.series("loss")]


def test_a_flush_after_the_program_finished_the_run() -> None:
    """A scalar that waited for others of its row when `wandb.finish` came is in the run when `flush` says so."""
    program = run_program(
        """
        import wandb, tracelet

        experiment = tracelet.start_logging(backend="wandb")
        experiment.log_metric("loss", 1, 1)
        experiment.log_metric("loss", 2, 2)
        while experiment.stats().backends["wandb"].delivered < 1:
            pass
        wandb.finish()
        assert experiment.flush(60)
        stats = experiment.stats().backends["wandb"]
        assert (2, 0) == (stats.delivered, stats.pending)
        """
    )
    assert 0 == program.returncode, program.err
    runs = store.runs(Path(os.environ["WANDB_DIR"]))
    assert [1, 2] == [value for run in runs for _, value, _ in run.series("loss")]


def test_a_run_begun_by_the_program_is_used_and_not_ended(folder: Path) -> None:
    """Our rows are in it, the program goes on with it, and its `log` is its own again."""
    own = wandb.init(id="own")
    original = wandb.log
    backend = WandbBackend()
    backend.open(info(folder))
    assert backend.native is own
    give(backend, scalar("loss", 1, 1))
    wandb.log({"during": 1}, step=5)
    backend.close("finished", 0)
    assert wandb.run is own
    assert original == wandb.log == own.log
    wandb.log({"after": 1})
    wandb.finish()
    wandb.teardown()
    run = store.only(folder)

    assert "own" == run.id
    assert [{"loss"}, {"during"}, {"after"}] == [
        {key for key in row if key in ("loss", "during", "after")} for row in run.rows
    ]
    assert "own" == json.loads((folder / "run" / "wandb.json").read_text())["id"]


def test_what_wandb_replaces_is_put_back(folder: Path) -> None:
    """`sys.exit`, `sys.excepthook`, the run's and the module's `log`, and the environment are as before."""
    before = (sys.exit, sys.excepthook, {name for name in os.environ if name != "WANDB_SERVICE"})
    backend = WandbBackend()
    backend.open(info(folder))
    assert sys.exit is not before[0]
    backend.close("finished", 0)

    assert before == (sys.exit, sys.excepthook, {name for name in os.environ if name != "WANDB_SERVICE"})
    assert wandb.run is None
    with pytest.raises(wandb.Error):
        wandb.log({"a": 1})


def test_what_came_after_us_stays(folder: Path) -> None:
    """A hook that somebody set while the run was open is not taken away."""
    before = sys.excepthook

    def mine(*_: Any) -> None: ...

    backend = WandbBackend()
    backend.open(info(folder))
    sys.excepthook = mine
    backend.close("finished", 0)
    try:
        assert sys.excepthook is mine
    finally:
        sys.excepthook = before


def test_an_agents_run_is_ours(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WANDB_RUN_ID decides, and a later session of the same journal finds the same run."""
    monkeypatch.setenv("WANDB_RUN_ID", "chosen")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    backend = WandbBackend()
    backend.open(info(folder, project=None))
    give(backend, scalar("loss", 1, 1))
    backend.close("finished", 0)
    monkeypatch.delenv("WANDB_RUN_ID")
    monkeypatch.delenv("WANDB_PROJECT")
    wandb.teardown()
    later = WandbBackend()
    later.open(info(folder, project=None, resumed=True))
    give(later, scalar("loss", 2, 2))
    later.close("finished", 0)

    assert [("chosen", "theirs"), ("chosen", "theirs")] == [(run.id, run.project) for run in store.runs(folder)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # wandb leaves the sweep's file open
def test_a_sweeps_values_are_there_on_return(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under an agent the run is the agent's, its config is readable at once, and a locked value is not changed."""
    (folder / "sweep.yaml").write_text("wandb_version: 1\nlr:\n  value: 0.125\n")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(folder / "sweep.yaml"))
    backend = WandbBackend()
    backend.open(info(folder))
    assert ("agents", 0.125) == (wandb.run.id, wandb.config["lr"])
    last = give(backend, Params({"lr": 1.0, "other": 2}, WALL))
    backend.flush()
    assert last == backend.durable()
    backend.close("finished", 0)
    run = store.only(folder)

    assert ("agents", 0.125, 2) == (run.id, run.config["lr"], run.config["other"])


def test_environment_and_config_say_who_the_run_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not given keeps wandb's own meaning; `config` wins over the run."""
    monkeypatch.setenv("WANDB_PROJECT", "from_env")
    monkeypatch.setenv("WANDB_TAGS", "x,y")
    backend = WandbBackend(WandbConfig(name="better"))
    backend.open(info(folder, project=None))
    backend.close("finished", 0)
    run = store.only(folder)

    assert ("run1", "from_env", "better", ("x", "y")) == (run.id, run.project, run.name, run.tags)


def test_a_disabled_run_takes_everything(folder: Path) -> None:
    """mode="disabled" is wandb's way to say nothing: no file, no error, nothing pending."""
    backend = WandbBackend(WandbConfig(mode="disabled"))
    backend.open(info(folder))
    last = give(backend, scalar("a", 1, 1), Image("i", b"x", "png", 1, 1, 1, WALL), Params({"lr": 1}, WALL))
    backend.flush()

    assert backend.durable() in (None, last)
    backend.close("finished", 0)


def test_a_key_that_is_given_is_kept_secret(folder: Path) -> None:
    """With a server out of reach, too, the key is in no file, no text and no variable of the environment."""
    before = (sys.exit, sys.excepthook)
    key = "k" * 40
    config = WandbConfig(mode="online", api_key=key, backend_url="http://127.0.0.1:9")
    backend = WandbBackend(config)
    backend.open(info(folder))
    offline_reason = backend.offline_reason
    assert "WANDB_API_KEY" not in os.environ
    with pytest.raises(BackendUnavailable) as caught:
        backend.close("finished", 0)

    assert {key} == secrets_of(backend)
    assert key not in f"{caught.value!r}{config!r}{config}{offline_reason}"
    assert [] == [path for path in folder.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert before == (sys.exit, sys.excepthook)


def test_every_key_in_use_is_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given, in the environment, in the file that `wandb login` writes: what must not be shown."""
    (folder / ".netrc").write_text(
        "machine api.wandb.ai login user password filed\nmachine other login u password no\n"
    )
    monkeypatch.setenv("WANDB_API_KEY", "environment")

    monkeypatch.setenv("WANDB_BASE_URL", "http://me:en%20vironed@localhost")
    given = {"base_url": "http://me:based@localhost"}
    config = WandbConfig(api_key="given", backend_url="http://me:addressed@localhost", settings=given)

    known = {"given", "environment", "filed", "addressed", "based", "en%20vironed", "en vironed"}
    assert known == secrets_of(WandbBackend(config))
    assert "addressed" not in repr(config)


def test_a_password_in_the_address_is_in_no_text(folder: Path) -> None:
    """Neither in why the server is not to be had, nor in what the config shows; the request goes without it."""
    backend = WandbBackend(WandbConfig(mode="online", api_key="k" * 40, backend_url="http://me:pw1@127.0.0.1:9"))
    backend.open(info(folder))
    offline_reason = backend.offline_reason
    with pytest.raises(BackendUnavailable) as caught:
        backend.close("finished", 0)

    assert "Connection refused" in str(offline_reason)
    assert "pw1" not in f"{caught.value!r}{backend.config!r}{offline_reason}"


def test_the_journal_keeps_no_credential() -> None:
    """What `tracelet sync` may find of the config has neither the key nor the settings, which may hold one."""
    assert {"api_key", "settings"} == set(WandbConfig.__struct_fields__) - set(WandbConfig.persistent_keys())


def test_config_knows_its_keys() -> None:
    """A misspelt key is an error, tags may be any sequence, and the repr hides what is secret."""
    with pytest.raises(msgspec.ValidationError, match="nmae"):
        msgspec.convert({"nmae": "x"}, WandbConfig)

    config = msgspec.convert({"tags": ("a", "b"), "api_key": "secret", "resume": "auto"}, WandbConfig)
    assert ["a", "b"] == config.tags
    assert "WandbConfig(tags=['a', 'b'], resume='auto', finish_timeout=30.0, api_key='***')" == repr(config)


# -- what is held


def test_confirm_follows_the_file(backend: WandbBackend, folder: Path) -> None:
    """Nothing is confirmed before it stands in the file, everything after `flush`, also beside the program's rows."""
    assert backend.durable() in (None, 0)
    first = give(backend, *[scalar("loss", at, at) for at in range(100)])
    assert backend.durable() in (0, first)
    for at in range(50):
        wandb.log({"own": at}, step=at)
    second = give(
        backend,
        Params({"lr": 1.0}, WALL),
        Text("t", "x", 1, WALL),
        Artifact("a.bin", (spooled(folder, "a.bin", b"x"),), WALL),
        scalar("open", 1, 1),
    )
    backend._read()
    assert backend.durable() <= first
    backend.flush()

    assert second == backend.durable()
    run = store.only(folder)
    assert 100 == len(run.series("loss"))
    assert [1] == [value for _, value, _ in run.series("open")]
    third = give(backend, scalar("loss", 1, 100))
    backend.close("finished", 0)
    assert third == backend.durable()


def test_a_batch_is_not_confirmed_without_its_open_row(backend: WandbBackend) -> None:
    """A scalar that still waits for its row's others holds its batch back, and that batch only."""
    first = give(backend, scalar("a", 1, 1), scalar("a", 2, 2))
    second = give(backend, scalar("a", 3, 3))
    deadline = time.monotonic() + 5
    while not backend._read() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert first == backend.durable()

    third = give(backend, scalar("a", 4, 4))
    backend.flush()
    assert third == backend.durable()
    assert first < second < third


def test_what_was_confirmed_survives_a_kill(folder: Path) -> None:
    """kill -9 of program and service together right after `durable`: every confirmed row is in the file."""
    program = """
        import os, sys
        from pathlib import Path
        from backends.test_wandb import give, info, scalar
        from tracelet.backends.wandb import WandbBackend

        backend = WandbBackend()
        backend.open(info(Path(sys.argv[1])))
        last = give(backend, *[scalar("loss", at, at) for at in range(3000)])
        backend.flush()
        assert last == backend.durable()
        give(backend, *[scalar("late", at, at) for at in range(10)])
        os.killpg(0, 9)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(folder)],
        start_new_session=True,
        cwd=TESTS,
        timeout=60,
        check=False,
    )

    assert -signal.SIGKILL == ended.returncode
    assert [(at, at, WALL) for at in range(3000)] == store.only(folder).series("loss")


def test_a_dead_service_loses_nothing(backend: WandbBackend, folder: Path) -> None:
    """wandb's service process dies (Ctrl-C reaches it first): the run goes on by its id with what its file lacks."""
    give(backend, *[scalar("loss", at, at) for at in range(100)])
    backend.flush()
    give(backend, *[scalar("loss", at, at) for at in range(100, 150)])
    wandb.setup()._connection._proc._process.kill()
    wandb.setup()._connection._proc._process.wait()
    give(backend, *[scalar("loss", at, at) for at in range(150, 200)])
    wandb.log({"own": 1}, step=1)
    close(backend)
    found = store.runs(folder)

    assert {"run1"} == {run.id for run in found}
    assert [(at, at, WALL) for at in range(200)] == [point for run in found for point in run.series("loss")]
    assert [1] == [row["own"] for run in found for row in run.rows if "own" in row]


def test_a_service_that_dies_last_is_replaced_at_close(backend: WandbBackend, folder: Path) -> None:
    """The end of the run finds the service dead: what its file lacks is written by another one."""
    give(backend, *[scalar("loss", at, at) for at in range(50)])
    wandb.setup()._connection._proc._process.kill()
    wandb.setup()._connection._proc._process.wait()
    close(backend, "killed")
    found = store.runs(folder)

    assert [(at, at, WALL) for at in range(50)] == [point for run in found for point in run.series("loss")]
    assert 255 == found[-1].exit_code


@pytest.mark.parametrize(
    ("status", "code", "stored"), [("finished", 0, 0), ("failed", 0, 1), ("failed", 3, 3), ("killed", 0, 255)]
)
def test_the_exit_code_tells_how_it_ended(folder: Path, status: Any, code: int, stored: int) -> None:
    """A failed or killed run is never stored as finished."""
    backend = WandbBackend()
    backend.open(info(folder))
    backend.close(status, code)

    assert stored == store.only(folder).exit_code


# -- artifacts of the program


def test_adopt_reads_a_wandb_artifact(folder: Path) -> None:
    """Files, name, type and words of the program's own artifact object; anything else is not one."""
    (folder / "m.pth").write_bytes(b"weights")
    artifact = wandb.Artifact("resnet", "model", description="deep", metadata={"f1": 0.5})
    artifact.add_file(str(folder / "m.pth"), name="w/m.pth")
    adopted = WandbBackend.adopt(artifact)

    assert adopted is not None
    assert ("resnet", "model", {"f1": 0.5, "description": "deep"}) == (adopted.name, adopted.type, adopted.metadata)
    assert {"w/m.pth": b"weights"} == {name: Path(path).read_bytes() for name, path in adopted.files.items()}
    assert WandbBackend.adopt("m.pth") is None


def test_probe_answers_without_asking() -> None:
    """An offline environment is fine as it is."""
    assert WandbBackend.probe().ok


def test_wandbs_own_capture_is_warned_of(tmp_path: Path) -> None:
    """It feeds whatever run there is, and each point would be there twice; said once, where it is on."""
    program = """
        import sys
        import tracelet, wandb
        if sys.argv[1] == "on":
            wandb.tensorboard.patch(root_logdir="logs", pytorch=True)
        tracelet.start_logging(backend="wandb")
        tracelet.stop_logging()
    """
    told = [run_program(program, "off").err, run_program(program, "on").err]

    assert [0, 1] == [one.count("wandb also captures TensorBoard") for one in told]


# -- what a run says about itself


@given(numbers=st.lists(st.tuples(st.integers(1, 300), st.booleans()), max_size=60), last=st.integers(0, 300))
def test_a_mark_is_read_as_it_was_written(numbers: list[tuple[int, bool]], last: int) -> None:
    """Each number up to the last one is held or missing, in one line that another journal does not take for its own."""
    mark = Mark("abc")
    for number, is_done in numbers:
        mark.begin(number)
        mark.done([number] if is_done else [])
    missing = {number for number, is_done in dict(numbers).items() if not is_done}
    found = Mark.parse(mark.text(), "abc")
    assert found is not None
    assert (mark.seen, missing) == (found.seen, found.missing)
    assert found.low == max((low for low in range(mark.seen + 1) if not missing & set(range(1, low + 1))), default=0)
    assert Mark.parse(mark.text(), "ab") is None
    limited = found.limited(last)
    assert all((number in limited) == (number in found and number <= last) for number in range(1, 302))


def test_the_last_mark_is_found_in_a_large_file(backend: WandbBackend, folder: Path) -> None:
    """Behind rows that have none, and in a file of which the end is read first."""
    last = give(backend, *[scalar(f"metric {at % 50}", at, at) for at in range(3000)])
    backend.flush()
    for at in range(20):
        wandb.log({"own": "x" * 40_000, "at": at})
    backend.close("finished", 0)
    (path,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    journal = json.loads((folder / "run" / "wandb.json").read_text())["journal"]

    assert path.stat().st_size > 1_000_000
    mark = last_mark(path, journal)
    assert mark is not None
    assert (last, set()) == (mark.seen, mark.missing)
    assert last_mark(path, "another") is None
