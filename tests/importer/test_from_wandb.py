"""Runs of wandb, recorded by the real wandb offline: what a program logged is what an import has."""

import json
import math
import shutil
from pathlib import Path

import pytest
from backends import wandb_store
from past_stores import Journal, imports, only, tree
from programs import run_program

from tracelet.backends.wandb.transaction_log import FILE_HEADER, TransactionLog, write_log
from tracelet.errors import ConfigurationError
from tracelet.importer import import_past_run, past_runs
from tracelet.records import (
    Alert,
    Artifact,
    Audio,
    Definition,
    Histogram,
    Image,
    Params,
    Scalar,
    Summary,
    Table,
    Tags,
    Text,
)
from tracelet.sync import deliver

_VALUES = [0.1, 1e-320, math.nan, math.inf, -math.inf, -0.0, 2.0, True]
_STEPS = [0, 1, 2, 3, 5, 8, 2**40, 2**53 + 1]
_PROGRAM = """
import math, sys
import numpy as np
import wandb

settings = wandb.Settings(x_disable_stats=False, x_stats_sampling_interval=0.1, x_save_requirements=False)
config = {"lr": 0.1, "net": {"layers": 2, "sizes": [1, 2]}}
run = wandb.init(project="digits", name="first", config=config, tags=["a"], notes="note", group="g", settings=settings)
run.define_metric("val/*", step_metric="epoch", summary="min")
VALUES, STEPS = %r, %r
""".replace("%r, %r", f"{_VALUES!r}, {_STEPS!r}".replace("nan", "math.nan").replace("inf", "math.inf"))
_LOGS = """
for value, step in zip(VALUES, STEPS):
    run.log({"value": value, "_timestamp": 1.7e9 + step % 1000, "outer": {"inner": step % 7}}, step=step)
pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
run.log({
    "image": wandb.Image(pixels, caption="cap", masks={"m": {"mask_data": np.ones((4, 5), np.uint8)}}),
    "images": [wandb.Image(pixels, caption="one"), wandb.Image(pixels)],
    "table": wandb.Table(columns=["a", "b"], data=[[1.5, wandb.Image(pixels)]]),
    "histogram": wandb.Histogram(np_histogram=([1, 2], [0.0, 0.5, 3.0])),
    "html": wandb.Html("<b>bold</b>", inject=False),
    "sound": wandb.Audio(np.zeros(100), sample_rate=8000, caption="silence"),
    "text": "words", "val/loss": 0.5, "epoch": 1,
}, step=2**53 + 2)
run.config.update({"lr": 0.2, "late": "x"}, allow_val_change=True)
run.tags += ("b",)
run.summary["best"] = 0.75
run.alert("Title", "text", level=wandb.AlertLevel.WARN)
open("weights.bin", "wb").write(b"weights")
artifact = wandb.Artifact("model", "network", description="d", metadata={"k": 1})
artifact.add_file("weights.bin", "sub/weights.bin")
run.log_artifact(artifact)
open("saved.txt", "w").write("saved")
run.save("saved.txt")
print("printed")
run.finish(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
"""


def _record(folder: Path, source: str, *arguments: object) -> Path:
    """Run a program that uses wandb offline in `folder`."""
    names = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "HOME")
    variables = dict.fromkeys(names, str(folder)) | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    program = run_program(f"import os\nos.chdir({str(folder)!r})\n{source}", *arguments, **variables)
    assert 0 == program.returncode, program.err
    return folder


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The working directory of a program that logged one run."""
    return _record(tmp_path_factory.mktemp("wandb"), _PROGRAM + _LOGS)


@pytest.fixture(scope="module")
def journal(recorded, tmp_path_factory):
    return only(imports("wandb", recorded, tmp_path_factory.mktemp("runs")))


def test_scalars_are_exact(recorded, journal):
    """Value, step and time as logged; the same as in wandb's own file."""
    points = [point for point in journal.points() if point[0] == "value"]
    expected = [
        ("value", step, repr(float(value)), 1.7e9 + step % 1000) for value, step in zip(_VALUES, _STEPS, strict=True)
    ]
    assert expected == points
    rows = wandb_store.only(recorded).rows
    stored = [(row["_step"], repr(float(row["value"])), row["_timestamp"]) for row in rows if "value" in row]
    assert [point[1:] for point in points] == stored
    assert [step % 7 for step in _STEPS] == [
        record.value for record in journal.of(Scalar) if record.tag == "outer.inner"
    ]


def test_the_run_is_described(journal):
    info = journal.info
    assert ("digits", "first", "note", "g", ("a",)) == (info.project, info.name, info.notes, info.group, info.tags)
    assert ("finished", 0) == (journal.facts["status"], journal.facts["exit_code"])
    assert ["b"] == [tag for record in journal.of(Tags) for tag in record.tags]
    assert [("Title", "text", "warning")] == [(one.title, one.text, one.level) for one in journal.of(Alert)]


def test_parameters_and_summary(journal):
    """The config and its updates; of the summary, what does not follow from the rows."""
    params = [record.values for record in journal.of(Params)]
    assert {"lr": 0.1, "net.layers": 2, "net.sizes": [1, 2]} == params[0]
    merged = {key: value for values in params for key, value in values.items()}
    assert {"lr": 0.2, "net.layers": 2, "net.sizes": [1, 2], "late": "x"} == merged
    assert [{"best": 0.75}] == [record.values for record in journal.of(Summary)]
    (definition,) = journal.of(Definition)
    assert ("val/*", "epoch", ("min",)) == (definition.tag, definition.step_metric, definition.summary)


def test_media_have_the_bytes_of_the_files(recorded, journal):
    stored = wandb_store.only(recorded)
    images = {record.tag: Path(record.data.path).read_bytes() for record in journal.of(Image)}
    assert ["image", "image/masks/m", "images/0", "images/1", "table/b/0"] == sorted(images)
    assert stored.media("image") == [images["image"]] == [images["images/0"]]
    captions = {record.tag: (record.caption, record.width, record.height) for record in journal.of(Image)}
    assert (("cap", 5, 4), ("one", 5, 4)) == (captions["image"], captions["images/0"])
    (table,) = journal.of(Table)
    content = json.loads(Path(table.data.path).read_bytes())
    assert {"columns": ["a", "b"], "rows": [[1.5, "table/b/0"]]} == content
    (sound,) = journal.of(Audio)
    assert ("wav", 8000.0, "silence") == (sound.format, sound.sample_rate, sound.caption)
    (histogram,) = journal.of(Histogram)
    assert ((0.0, 0.5, 3.0), (0.0, 1.0, 2.0)) == (histogram.limits, histogram.counts)
    texts = {record.tag: record.text for record in journal.of(Text)}
    assert ("<b>bold</b>", "words") == (texts["html"], texts["text"])
    assert {2**53 + 2} == {
        record.step for kind in (Image, Table, Audio, Histogram, Text) for record in journal.of(kind)
    }


def test_artifacts_console_and_system_metrics(journal):
    """A link that `save` made is not followed, and reported."""
    assert {"model: sub/weights.bin": b"weights", "console.log: console.log": b"printed\n"} == journal.files()
    assert {"k": 1, "description": "d"} == journal.of(Artifact)[0].metadata
    assert ["saved.txt: skipped, because it is a link"] == [text.partition(";")[0] for text in journal.damage]
    system = {record.tag for record in journal.records if isinstance(record, Scalar) and record.writer == "system"}
    assert {"system/memory_percent", "system/process_memory_bytes", "system/disk_percent"} <= system


def test_an_import_writes_nothing_to_the_store_and_adds_nothing_twice(recorded, tmp_path):
    before = tree(recorded)
    first, again = (imports("wandb", recorded / "wandb", tmp_path) for _ in range(2))
    assert ([1, 0], before) == ([min(done.records, 1) for done in (*first, *again)], tree(recorded))


def test_a_run_that_grew_is_continued(recorded, tmp_path):
    """A file that ends within a record, as while wandb writes it, and later the whole one."""
    (path,) = recorded.glob("wandb/offline-run-*/*.wandb")
    copy = shutil.copytree(path.parent, tmp_path / path.parent.name, symlinks=True) / path.name
    data = path.read_bytes()
    *_, last = _ends(data)
    for end in (len(data) // 3, len(data) // 2, last + 3, len(data) - 3):
        copy.write_bytes(data[:end])
        journal = only(imports("wandb", tmp_path, tmp_path / "runs"))
        assert 1 == sum("cut off" in text for text in journal.damage), end
        assert "killed" == journal.facts["status"]
    copy.write_bytes(data)
    grown, whole = (
        only(imports("wandb", tmp_path, tmp_path / "runs")),
        only(imports("wandb", recorded, tmp_path / "new")),
    )
    assert whole.points() == grown.points()
    assert "finished" == grown.facts["status"]


def _ends(data):
    """The offsets of the records in one block."""
    offset = FILE_HEADER
    while offset < len(data):
        yield offset
        offset += 7 + int.from_bytes(data[offset + 4 : offset + 6], "little")


def test_damage_costs_its_block(recorded, tmp_path):
    """A wrong byte hides the rest of its 32 KiB, and nothing behind."""
    (path,) = recorded.glob("wandb/offline-run-*/*.wandb")
    payloads = list(TransactionLog(path).payloads())
    copy = tmp_path / "run-damaged.wandb"
    write_log(copy, path.read_bytes()[:FILE_HEADER], [payload for _ in range(8) for payload in payloads])
    whole = only(imports("wandb", copy, tmp_path / "runs"))
    data = bytearray(copy.read_bytes())
    assert len(data) > 3 * 2**15
    data[2**15 + 5000] ^= 1
    copy.write_bytes(data)
    journal = only(imports("wandb", copy, tmp_path / "damaged"))
    assert 0 < len(whole.points()) - len(journal.points()) < len(whole.points()) / 2
    assert whole.points()[-1] == journal.points()[-1]
    assert 1 == sum("damaged record" in text for text in journal.damage)


def test_a_resumed_run_is_one_run(tmp_path):
    """Its files are read in the order of their starts; steps may start again."""
    program = "import wandb, sys\nrun = wandb.init(project='p', id='one', resume='allow')\n"
    program += "run.log({'loss': float(sys.argv[1])}, step=4)\nsys.exit(run.finish(int(sys.argv[2])))"
    _record(tmp_path, program, 0.5, 3)
    failed = only(imports("wandb", tmp_path, tmp_path / "runs"))
    assert ("failed", 3) == (failed.facts["status"], failed.facts["exit_code"])
    _record(tmp_path, program, 0.25, 0)
    journal = only(imports("wandb", tmp_path, tmp_path / "runs"))
    assert [("loss", 4, "0.5"), ("loss", 4, "0.25")] == [point[:3] for point in journal.points()]
    assert ("finished", failed.info.run_id) == (journal.facts["status"], journal.info.run_id)


def test_a_run_of_tracelet_has_its_names_and_steps(tmp_path):
    """In wandb they are other keys and an axis."""
    program = f"""
        import tracelet
        with tracelet.start_logging("one", backend="wandb", dir={str(tmp_path / "own")!r}) as experiment:
            for step, value in ((5, 0.5), (3, 0.25), (3, 0.125)):
                experiment.log_metric("a*b", value, step)
    """
    import textwrap

    _record(tmp_path, textwrap.dedent(program))
    journal = only(imports("wandb", tmp_path, tmp_path / "runs"))
    assert [("a*b", 5, "0.5"), ("a*b", 3, "0.25"), ("a*b", 3, "0.125")] == [point[:3] for point in journal.points()]


def test_a_hostile_file_names_no_other_file(recorded, tmp_path):
    """Not by a path, a link, or the place of an artifact's file, whose digest must be the logged one."""
    from wandb.proto.wandb_internal_pb2 import Record

    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (path,) = recorded.glob("wandb/offline-run-*/*.wandb")
    records = []
    values = {
        "up": {"_type": "image-file", "path": "../../secret", "format": "png/../../x"},
        "absolute": {"_type": "html-file", "path": str(secret)},
        "link": {"_type": "molecule", "path": "link"},
        "text": "\ud800",
        "deep": 1,
    }
    for number, (key, value) in enumerate(values.items()):
        record = Record(num=number)
        record.history.item.add(nested_key=[key], value_json=json.dumps(value))
        records.append(record)
    records[-1].history.item[0].value_json = "[" * 100_000
    artifact = Record(num=9)
    artifact.artifact.name, artifact.artifact.type = "stolen", "x"
    artifact.artifact.manifest.contents.add(path="a", digest="AAAA", local_path=str(secret))
    folder = tmp_path / "offline-run-1-bad"
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "link").symlink_to(secret)
    payloads = [record.SerializeToString() for record in [*records, artifact]]
    write_log(folder / "run-bad.wandb", path.read_bytes()[:FILE_HEADER], payloads)
    (run,) = past_runs("wandb", str(tmp_path))
    done = import_past_run(run, base=tmp_path / "runs")
    assert 1 == done.records  # the text
    assert 5 == len(done.damage), done.damage
    assert b"secret" not in tree(tmp_path / "runs").values()


def test_a_folder_without_runs_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="offline-run"):
        imports("wandb", tmp_path, tmp_path)


def test_a_program_that_ran_and_an_import_can_be_compared(recorded, tmp_path):
    """The import is a run like any other: `sync` delivers it."""
    (done,) = imports("wandb", recorded, tmp_path / "runs")
    synced = deliver(done.folder, ["csv"])
    assert synced.complete
    assert Journal(done).of(Scalar)
