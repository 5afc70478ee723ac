"""The csv backend sits the exam; besides: the forms of its files, and what a kill or a full disk costs."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest
from backends import csv_store
from backends.csv_store import lines, rows
from support import REPOSITORY

import tracelet
from tracelet import sync
from tracelet.backends.base import Batch
from tracelet.backends.csvfile import CsvBackend, CsvConfig
from tracelet.backends.csvfile.pivot import write_wide
from tracelet.backends.file_names import safe_path
from tracelet.errors import BackendUnavailable
from tracelet.records import KINDS, Artifact, Params, Scalar, Table, Text, kind
from tracelet.testing import BackendContract, deliver, run_info, sample_records
from tracelet.testing.samples import AWKWARD_TAGS, artifacts, image, stored


def scalars(*points):
    return [Scalar(tag, value, step, 1000.0 + number) for number, (tag, step, value) in enumerate(points)]


def opened(tmp_path, **config):
    backend = CsvBackend(CsvConfig(**config))
    backend.open(run_info(tmp_path))
    return backend


def written(tmp_path, records, size=None, **config):
    """The folder of a closed run that holds `records`."""
    backend = opened(tmp_path, **config)
    deliver(backend, records, size=size)
    backend.close("finished", 0)
    return backend.folder


def contents(folder):
    """Every file of a csv folder but the run's description, by its path."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if name not in ("run.json", ".state.json")}


class TestCsv(BackendContract):
    knows_its_store = True

    def make_backend(self, tmp_path):
        return CsvBackend()

    def read_back(self, tmp_path):
        return csv_store.stored(tmp_path / "run" / "csv")


# The forms.


def test_a_late_column_takes_its_place_in_the_wide_form(tmp_path):
    """A tag that comes late is a column in first-seen order, and earlier rows have an empty cell."""
    folder = written(tmp_path, scalars(("a", 0, 1.0), ("b", 0, 2.0), ("a", 1, 3.0), ("late", 1, 4.0), ("b", 2, 5.0)))
    expected = [["step", "a", "b", "late"], ["0", "1.0", "2.0", ""], ["1", "3.0", "", "4.0"], ["2", "", "5.0", ""]]
    assert expected == rows(folder / "metrics.csv")


def test_a_repeated_point_gets_a_further_row(tmp_path):
    """The k-th point of a tag at a step is in the k-th row of that step; steps are sorted, None is 0."""
    points = scalars(("a", 5, 1.0), ("a", 5, 2.0), ("b", 5, 3.0), ("a", None, 4.0), ("a", 5, 5.0), ("b", -1, 6.0))
    folder = written(tmp_path, points)
    expected = [["step", "a", "b"], ["-1", "", "6.0"], ["0", "4.0", ""], ["5", "1.0", "3.0"], ["5", "2.0", ""]]
    assert [*expected, ["5", "5.0", ""]] == rows(folder / "metrics.csv")


def test_steps_beyond_64_bits_and_a_tag_called_step(tmp_path):
    """Whatever an integer is, its row is in its place; a tag `step` does not hide the steps."""
    folder = written(tmp_path, scalars(("step", 2**64 + 1, 1.0), ("step", 2**64, 2.0), ("step", 3, 3.0)))
    expected = [["step", "step~2"], ["3", "3.0"], [str(2**64), "2.0"], [str(2**64 + 1), "1.0"]]
    assert expected == rows(folder / "metrics.csv")


def test_awkward_tags_survive_both_forms(tmp_path):
    """Commas, quotes, line ends and any alphabet in a tag: read back by the csv module as they were."""
    folder = written(tmp_path, scalars(*((tag, 1, 0.5) for tag in AWKWARD_TAGS if tag != "step")))
    expected = [tag for tag in AWKWARD_TAGS if tag != "step"]
    assert expected == [row[0] for row in rows(folder / "scalars.csv")[1:]]
    assert expected == rows(folder / "metrics.csv")[0][1:]


def test_floats_are_written_by_repr(tmp_path):
    """The shortest digits that give the same float64, and nan, inf, -inf."""
    folder = written(tmp_path, scalars(*(("a", 0, value) for value in (0.1, float("nan"), -float("inf"), 5e-324))))
    assert ["0.1", "nan", "-inf", "5e-324"] == [row[3] for row in rows(folder / "scalars.csv")[1:]]


def test_nan_in_params_is_kept(tmp_path):
    """config.json is what Python's json writes: NaN as a literal, two blanks of indent, the later value wins."""
    folder = written(tmp_path, [Params({"a": float("nan"), "b": 1}, 0.0), Params({"b": [1, "ü"]}, 0.0)])
    assert '{\n  "a": NaN,\n  "b": [\n    1,\n    "ü"\n  ]\n}\n' == (folder / "config.json").read_text(encoding="utf-8")


def test_every_kind_has_its_place(tmp_path):
    """Each kind of record is in one of the files that docs/backends/csv.md names."""
    folder = written(tmp_path, sample_records(tmp_path))
    in_index = {row[0] for row in rows(folder / "media.csv")[1:]}
    elsewhere = {"scalar", "histogram", "text", "pr_curve", "params", "artifact", "summary", "tags", "alert"}
    assert {kind(one) for one in KINDS} - {"definition"} == in_index | elsewhere
    assert all((folder / row[4]).exists() for row in rows(folder / "media.csv")[1:])
    assert [["name", "score"], ["a", "0.1"], ["b", "nan"]] == rows(folder / "tables" / "sample" / "table.csv")


def test_what_the_index_says_of_a_tensor_is_enough_to_read_it(tmp_path):
    """dtype and shape stand beside the path."""
    folder = written(tmp_path, sample_records(tmp_path))
    row = next(row for row in rows(folder / "media.csv") if row[0] == "tensor")
    assert {"dtype": "float32", "shape": [2, 3]} == json.loads(row[5])


def test_the_spool_is_copied_not_linked(tmp_path):
    """A person may edit a file of the folder; the run's own copy stays as it was."""
    records = sample_records(tmp_path)
    folder = written(tmp_path, records)
    spool = {path: path.read_bytes() for path in (tmp_path / "spool").iterdir()}
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(b"edited")
    assert spool == {path: path.read_bytes() for path in spool}


# Names.


def test_no_name_leaves_its_folder(tmp_path):
    """Any tag and any artifact name ends up inside the folder, each in a file of its own."""
    names = [*AWKWARD_TAGS, "../../etc/x", "/abs", "a/../../b", "\ud800", "C:\\x", "a\x00b", "/" * 3000, "日" * 300]
    pictures = [image(tmp_path, tag, 1, (1, 2, number)) for number, tag in enumerate(names)]
    tables = [Table(tag, stored(tmp_path, b'{"columns": ["a"], "rows": []}', "t.json"), 1, 0.0) for tag in names]
    files = [Artifact(name + "|", (stored(tmp_path, name.encode("utf-8", "replace"), "a"),), 0.0) for name in names]
    folder = written(tmp_path, [*pictures, *tables, *files])

    paths = [row[4] for row in rows(folder / "media.csv")[1:]]
    paths += [file["path"] for line in lines(folder / "artifacts.jsonl") for file in line["files"]]
    assert 3 * len(names) == len({path.casefold() for path in paths})
    assert all((folder / path).resolve().is_relative_to(folder.resolve()) for path in paths)
    assert all((folder / path).is_file() for path in paths)
    assert {"run", "spool"} == set(os.listdir(tmp_path)) - {"home"}


@pytest.mark.parametrize("name", ["loss", "train/loss", "model.best v2", "é", "Model.PTH", ".gitignore"])
def test_a_safe_name_is_kept(name):
    """A name that every file system takes is not changed."""
    assert name == safe_path(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a:b", "dot.", "blank ", "con", "NUL.txt", "a~1.png", "x" * 300, "a\nb"]
)
def test_an_unsafe_name_carries_a_digest(name):
    """A name that had to change cannot meet the name it was changed into."""
    changed = safe_path(name)
    assert changed != name
    assert changed == safe_path(changed)


def test_names_that_differ_in_case_are_two_files(tmp_path):
    """Also on a file system that does not see the difference; and a file may have the name of a folder."""
    names = ("a.txt", "A.txt", "b", "b/c", "d/e", "D")
    folder = written(tmp_path, [Artifact(name, (stored(tmp_path, name.encode(), "x"),), 0.0) for name in names])
    files = {file["name"]: file["path"] for line in lines(folder / "artifacts.jsonl") for file in line["files"]}
    assert {name: name.encode() for name in names} == {
        name: (folder / path).read_bytes() for name, path in files.items()
    }
    assert len(names) == len({path.casefold() for path in files.values()})


def test_an_artifact_logged_again_keeps_the_earlier_one(tmp_path):
    """The later is at the path, the earlier beside it, across reopening too."""
    for number, text in enumerate((b"one", b"two", b"three")):
        backend = opened(tmp_path)
        deliver(backend, [Artifact("plots/a.png", (stored(tmp_path, text, "a.png"),), 0.0)], after=number)
        backend.close("finished", 0)
    plots = backend.folder / "artifacts" / "plots"
    expected = {"a.png": b"three", "a~1.png": b"one", "a~2.png": b"two"}
    assert expected == {path.name: path.read_bytes() for path in plots.iterdir()}


def test_a_folder_artifact_is_unpacked_below_its_name(tmp_path):
    """`models/` with `m.pth` is artifacts/models/m.pth; type and metadata are in the index."""
    folder = written(tmp_path, artifacts(tmp_path))
    assert b"weights" == (folder / "artifacts" / "models" / "m.pth").read_bytes()
    assert [("file", {"dpi": 100}), ("model", {})] == [
        (line["type"], line["metadata"]) for line in lines(folder / "artifacts.jsonl")
    ]


# Folders.


def test_a_chosen_folder_is_used_itself_and_by_one_run_only(tmp_path):
    """`dir` holds the first run; a second run, or one beside a person's own file, gets a folder inside it."""
    chosen = tmp_path / "out"
    for run_id in ("first", "second", "first"):
        backend = CsvBackend(CsvConfig(dir=str(chosen)))
        backend.open(run_info(tmp_path, run_id))
        backend.close("finished", 0)
        assert (chosen if run_id == "first" else chosen / "second") == backend.folder

    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "scalars.csv").write_text("mine")
    written(tmp_path, scalars(("a", 0, 1.0)), dir=str(tmp_path / "own"))
    assert "mine" == (tmp_path / "own" / "scalars.csv").read_text()
    assert (tmp_path / "own" / "contract-run" / "metrics.csv").exists()


def test_two_processes_with_one_chosen_folder_keep_apart(tmp_path):
    """Ranks that share a run id and a `dir`, each with a run folder of its own, do not write one file."""
    backends = []
    for rank in ("0", "1"):
        (tmp_path / rank).mkdir()
        backends.append(CsvBackend(CsvConfig(dir=str(tmp_path / "out"))))
        backends[-1].open(run_info(tmp_path / rank))
        deliver(backends[-1], scalars(("a", 0, float(rank))))
    for rank, backend in enumerate(backends):
        backend.close("finished", 0)
        assert [str(float(rank))] == [row[3] for row in rows(backend.folder / "scalars.csv")[1:]]


def test_a_folder_that_is_deleted_is_noticed(tmp_path):
    """No row goes to a deleted file: the backend holds nothing, and opened again, it takes the whole run."""
    backend = opened(tmp_path)
    records = scalars(*(("a", step, float(step)) for step in range(20)))
    deliver(backend, records[:10])
    shutil.rmtree(backend.folder)
    with pytest.raises(BackendUnavailable, match="was deleted") as caught:
        backend.write(Batch.up_to(records[10:], 20))
    assert (True, 0, False) == (caught.value.reopen, backend.durable(), backend.folder.exists())
    assert (0, 0) == (backend.open(run_info(tmp_path)), backend.durable())
    deliver(backend, records)
    backend.close("finished", 0)
    assert [str(step) for step in range(20)] == [row[1] for row in rows(backend.folder / "scalars.csv")[1:]]


@pytest.mark.parametrize("harm", ["deleted", "replaced", "shortened"])
@pytest.mark.parametrize("when", ["live", "when opened again"])
def test_a_file_that_is_not_what_it_was_is_noticed(tmp_path, harm, when):
    """Nothing goes to a deleted file; opened again, the backend takes the whole run, each row once."""
    backend = opened(tmp_path)
    records = [*scalars(*(("a", step, float(step)) for step in range(20))), Text("t", "words", 1, 1e9)]
    deliver(backend, records[:10])
    backend.flush()
    if when == "when opened again":
        backend.close("finished", 0)
    path = backend.folder / "scalars.csv"
    content = path.read_bytes()[:100]
    if harm != "shortened":
        path.unlink()
    if harm != "deleted":
        path.write_bytes(content)
    if when == "live":
        with pytest.raises(BackendUnavailable, match=r"scalars\.csv was deleted, replaced or shortened") as caught:
            backend.write(Batch.up_to(records[10:], 21))
        assert (True, 0) == (caught.value.reopen, backend.durable())
    assert (0, 0) == (backend.open(run_info(tmp_path)), backend.durable())
    deliver(backend, records)
    backend.close("finished", 0)
    assert [str(step) for step in range(20)] == [row[1] for row in rows(path)[1:]]
    assert 1 == len(lines(backend.folder / "texts.jsonl"))


def test_a_line_that_somebody_added_ends_nothing(tmp_path):
    """Neither at the end of the run nor when it is opened again."""
    for step in range(2):
        backend = opened(tmp_path)
        deliver(backend, [*scalars(("a", step, 0.5))], after=step)
        for name in ("scalars.csv", "media.csv"):
            with open(backend.folder / name, "a") as file:
                file.write("checked by anna\r\nnot,a,row,0.5\r\n")
        backend.close("finished", 0)
    assert [["step", "a"], ["0", "0.5"], ["1", "0.5"]] == rows(backend.folder / "metrics.csv")


def test_a_folder_that_another_process_made_again_is_left_to_it(tmp_path):
    """Two processes that both believe to own the run do not write one file."""
    first, run = opened(tmp_path), run_info(tmp_path)
    deliver(first, scalars(("a", 0, 1.0)))
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(BackendUnavailable, match="No such file"):  # until the journal is in place again
        first.open(run)
    (tmp_path / "run").mkdir()
    second = opened(tmp_path)
    deliver(second, scalars(("b", 0, 2.0)))
    for write in (lambda: first.open(run), lambda: first.write(Batch.up_to(scalars(("a", 1, 1.0)), 2))):
        with pytest.raises(BackendUnavailable, match=r"another process writes|was deleted"):
            write()
    second.close("finished", 0)
    assert ["b"] == [row[0] for row in rows(second.folder / "scalars.csv")[1:]]


def test_the_folder_is_private(tmp_path):
    """Only the user can look into it."""
    assert 0o700 == written(tmp_path, scalars(("a", 0, 1.0))).stat().st_mode & 0o777


# While the run lives.


def test_the_wide_form_can_be_read_while_the_run_lives(tmp_path):
    """Steps are there once the next one begins, or after a flush; a late column reaches earlier rows."""
    backend = opened(tmp_path)
    path = backend.folder / "metrics.csv"
    deliver(backend, scalars(("a", 0, 1.0), ("b", 0, 2.0), ("a", 1, 3.0)))
    assert [["step", "a", "b"], ["0", "1.0", "2.0"]] == rows(path)
    deliver(backend, scalars(("step", 1, 4.0), ("a", 0, 5.0)), after=3)
    expected = [["step", "a", "b", "step~2"], ["0", "1.0", "2.0", ""], ["1", "3.0", "", "4.0"]]
    assert expected == rows(path)
    backend.flush()
    assert [*expected, ["0", "5.0", "", ""]] == rows(path)
    backend.close("finished", 0)
    assert [*expected[:2], ["0", "5.0", "", ""], expected[2]] == rows(path)  # sorted


def test_rows_that_the_disk_refuses_are_there_at_the_end(tmp_path):
    """The records themselves are written."""
    backend = opened(tmp_path)
    path = backend.folder / "metrics.csv"
    deliver(backend, scalars(*(("a", step, 0.5) for step in range(3))))
    path.unlink()
    path.mkdir()
    deliver(backend, scalars(*(("a", step, 0.5) for step in range(3, 6))), after=3)
    path.rmdir()
    backend.close("finished", 0)
    assert [str(step) for step in range(6)] == [row[0] for row in rows(path)[1:]]


# Cost.


def test_a_row_costs_the_same_however_many_there_are(tmp_path):
    """The bytes that the files grow by, and the state beside them, do not depend on what is there already."""
    backend = opened(tmp_path)
    sizes = []
    for number in range(50):
        batch = [Scalar("loss", 0.5, 100, 1e9) for _ in range(2000)]
        backend.write(Batch.up_to(batch, (number + 1) * 2000))
        sizes.append((backend.folder / "scalars.csv").stat().st_size)
    growth = {later - earlier for earlier, later in itertools.pairwise(sizes)}
    assert {len("loss,100,1000000000.0,0.5\r\n") * 2000} == growth
    assert (backend.folder / ".state.json").stat().st_size < 1000
    backend.close("finished", 0)


def test_memory_does_not_grow_with_the_rows(tmp_path):
    """10^5 points are written and brought into the wide form with a few megabytes."""
    backend, size = opened(tmp_path), 2000
    tracemalloc.start()
    try:
        for number in range(50):
            batch = [Scalar(f"m{i % 7}", i / 3, i // 7 % 50, 1e9) for i in range(number * size, (number + 1) * size)]
            backend.write(Batch.up_to(batch, (number + 1) * size))
        backend.close("finished", 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    assert 100_000 == sum(cell != "" for row in rows(backend.folder / "metrics.csv")[1:] for cell in row[1:])


def test_the_wide_form_leaves_nothing_beside_it(tmp_path):
    """The files that it sorts in are gone, also those of a process that was killed at it."""
    folder = written(tmp_path, scalars(("a", 0, 1.0)))
    for name in (".metrics.csv.db", ".metrics.csv.new"):
        (folder / name).write_bytes(b"half")
    write_wide(folder / "scalars.csv", folder / "metrics.csv")
    assert {"scalars.csv", "metrics.csv"} == set(contents(folder))


def test_a_table_of_empty_cells_is_not_written(tmp_path, caplog):
    """Its size is bounded by the number of points: with a tag and a step for each point, it would be their square."""
    few = [Scalar(f"m{number}", 0.5, number, 1e9) for number in range(100)]
    folder = written(tmp_path, few)
    assert 100 + 1 == len(rows(folder / "metrics.csv"))

    backend = opened(tmp_path)
    deliver(backend, [Scalar(f"n{number}", 0.5, number, 1e9) for number in range(10_000)], after=100)
    began = time.process_time()
    backend.close("finished", 0)
    assert time.process_time() - began < 10
    assert {"scalars.csv"} == set(contents(folder))
    assert 10_100 + 1 == len(rows(folder / "scalars.csv"))
    assert f"Read {folder / 'scalars.csv'}" in caplog.text


# Kill and full disk.

PROGRAM = """
import os, signal, sys
from pathlib import Path
from tracelet.backends.commit_log import CommitLog
from tracelet.backends.csvfile import CsvBackend
from tracelet.testing import deliver, run_info
from tests_csv_records import story
tmp_path, where, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

class Csv(CsvBackend):
    def write(self, batch):
        self.last = batch.last
        super().write(batch)

class Killed(CommitLog):
    def append(self, name, data, *, header=b""):
        inside = where == "inside" and backend.last > at
        super().append(name, data[:-3] if inside else data, header=header)
        if inside:
            die()

    def commit(self, last):
        if last > at and where == "before":
            die()
        super().commit(last)
        if last > at and where == "after":
            die()

import tracelet.backends.folder as folder
folder.CommitLog = Killed
backend = Csv()
backend.open(run_info(tmp_path))
records = story(tmp_path)
deliver(backend, records, size=4)
"""

STORY = """
from tracelet.records import Artifact, Params, Scalar, Table, Text
from tracelet.testing.samples import image, stored

def story(tmp_path):
    out = []
    for i in range(12):
        out += [
            Scalar("loss", i / 3, i, 1000.0 + i), Text("note", f"text {i}", i, 1000.0),
            Params({"lr": i, f"p{i}": 1}, 0.0), image(tmp_path, "digits", i, (i, 0, 0)),
            Artifact("plots/a.bin", (stored(tmp_path, b"v%d" % i, "a.bin"),), 0.0),
            Table("t", stored(tmp_path, b'{"columns": ["a"], "rows": [[%d]]}' % i, "t.json"), i, 0.0),
        ]
    return out

def points(number):
    return [Scalar("loss", i / 3, i, 1000.0 + i) for i in range(number)]
"""


@pytest.fixture
def story(tmp_path, monkeypatch):
    """The records that the killed program writes, and the environment that lets it import them."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "tests_csv_records.py").write_text(STORY)
    root = str(REPOSITORY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, str(tmp_path / "lib"), os.environ.get("PYTHONPATH", "")]))
    namespace = {}
    exec(STORY, namespace)
    return namespace["story"]


@pytest.mark.parametrize("where", ["before", "inside", "after"])
@pytest.mark.parametrize("at", [0, 20, 33])
def test_a_kill_costs_nothing_and_doubles_nothing(tmp_path, story, where, at):
    """Killed before, in the middle of, or after a batch: resent after the number of `open`, the run is whole."""
    (tmp_path / "killed").mkdir()
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "killed"), where, str(at)], timeout=60)
    assert -signal.SIGKILL == done.returncode

    backend = CsvBackend()
    held = backend.open(run_info(tmp_path / "killed"))
    assert held == backend.durable()
    first_bad = at // 4 * 4 + 4
    assert (first_bad if where == "after" else first_bad - 4) == held
    deliver(backend, story(tmp_path / "killed")[held:], after=held, size=5)
    backend.close("finished", 0)

    (tmp_path / "whole").mkdir()
    whole = written(tmp_path / "whole", story(tmp_path / "whole"))
    assert contents(whole) == contents(backend.folder)


FULL = """
import resource, sys
from pathlib import Path
from tracelet.backends.csvfile import CsvBackend
from tracelet.errors import BackendUnavailable
from tracelet.testing import deliver, run_info
from tests_csv_records import points, story
tmp_path = Path(sys.argv[1])
before, after = points(500), {"rows": points, "all kinds": lambda n: story(tmp_path) * 20}[sys.argv[2]](500)
backend = CsvBackend()
backend.open(run_info(tmp_path))
deliver(backend, before)
scalars = backend.folder / "scalars.csv"
size = scalars.stat().st_size
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for room in (10, 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
    try:
        deliver(backend, after, after=500)
    except BackendUnavailable as error:
        assert str(error).startswith("csv: "), error
    else:
        raise SystemExit("the disk was not full")
    assert scalars.stat().st_size == size + room, "no half row was tried"
    assert backend.durable() == 500, backend.durable()
if sys.argv[3] == "end":  # it is full to the end: what a person finds has no half row either
    try:
        backend.close("finished", 0)
    except BackendUnavailable:
        pass
    raise SystemExit(0 if scalars.stat().st_size == size else "a half row stayed")
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
deliver(backend, after, after=500)
backend.close("finished", 0)
"""


@pytest.mark.parametrize("what", ["rows", "all kinds"])
def test_a_full_disk_leaves_no_half_row(tmp_path, story, what):
    """BackendUnavailable while it is full; offered again when there is room, the batch is there once and whole."""
    for end in ("room", "end"):
        (tmp_path / end).mkdir()
        command = [sys.executable, "-c", FULL, str(tmp_path / end), what, end]
        done = subprocess.run(command, timeout=60, capture_output=True, text=True)
        assert (0, "") == (done.returncode, done.stderr)
    (tmp_path / "whole").mkdir()
    namespace = {}
    exec(STORY, namespace)
    points = namespace["points"](500)
    whole = written(tmp_path / "whole", points + (points if what == "rows" else story(tmp_path / "whole") * 20))
    assert contents(whole) == contents(tmp_path / "room" / "run" / "csv")


def test_a_lost_state_file_loses_no_rows(tmp_path):
    """After a power failure: whole lines stay, a half one goes, and new ones are appended."""
    folder = written(tmp_path, scalars(("a", 0, 1.0), ("a", 1, 2.0)))
    (folder / ".state.json").write_bytes(b"")
    with open(folder / "scalars.csv", "ab") as file:
        file.write(b"a,2,10")
    backend = opened(tmp_path)
    deliver(backend, scalars(("a", 3, 3.0)), after=2)
    backend.close("finished", 0)
    assert ["0", "1", "3"] == [row[1] for row in rows(folder / "scalars.csv")[1:]]


def test_a_config_that_a_person_broke_is_not_overwritten(tmp_path):
    """BackendUnavailable says which file; once it is mended the run goes on."""
    folder = written(tmp_path, [Params({"a": 1}, 0.0)])
    (folder / "config.json").write_text("{broken")
    with pytest.raises(BackendUnavailable, match=r"config\.json"):
        opened(tmp_path)
    assert "{broken" == (folder / "config.json").read_text()


def test_a_lone_surrogate_is_written_as_its_escape(tmp_path):
    """Text that no encoding has a place for does not stop the run."""
    folder = written(tmp_path, [Text("note", "a\ud800b", 1, 0.0), *scalars(("x\ud800", 1, 1.0))])
    assert ["a\ud800b"] == [line["text"] for line in lines(folder / "texts.jsonl")]
    assert "x\\ud800" == rows(folder / "scalars.csv")[1][0]


@pytest.mark.parametrize("name", ["run.json.new", ".state.json.new", ".new", ".metrics.csv.new", "scalars.csv"])
def test_a_link_in_its_folder_is_not_written_through(name, tmp_path):
    """A run folder from elsewhere may hold links to files of this user, under the names that the backend writes."""
    target = tmp_path / "target"
    target.write_text("mine")
    folder = tmp_path / "run" / "csv"
    folder.mkdir(parents=True)
    (folder / name).symlink_to(target)
    records = [record for record in sample_records(tmp_path) if isinstance(record, Artifact | Table | Scalar)]

    if name == "scalars.csv":  # appended to: a file of this name must not be removed
        with pytest.raises(BackendUnavailable):
            written(tmp_path, records)
    else:
        written(tmp_path, records)

    assert "mine" == target.read_text()


@pytest.mark.parametrize("config", [{}, {"dir": "out"}])
def test_a_run_that_has_an_id_again_is_another_run(config, tmp_path):
    """The files of the earlier one, whose journal is gone, are no proof of what the later one has."""
    for first, mode in ((100, "online"), (500, "offline")):
        with tracelet.start_logging(backend="csv", config=config, run_id="night", mode=mode) as experiment:
            for step in range(5):
                experiment.log_metric("loss", first + step, step)
        if mode == "online":
            for path in experiment.folder.glob("journal.db*"):
                path.unlink()
    assert sync.deliver(experiment.folder).complete
    files = sorted(tmp_path.rglob("scalars.csv"), key=lambda path: len(path.parts))
    values = [float(row[3]) for path in files for row in rows(path)[1:]]
    assert [100, 101, 102, 103, 104, 500, 501, 502, 503, 504] == values
