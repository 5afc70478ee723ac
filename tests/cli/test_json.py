"""--json: one strict document on standard output, with the keys of docs/command-line.md, and nothing else there."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from importer.event_files import BEGUN, event, write
from support import REPOSITORY

import tracelet
from tracelet import backends

RUN = {
    "run_id",
    "name",
    "project",
    "group",
    "notes",
    "folder",
    "status",
    "exit_code",
    "started",
    "seen",
    "records",
    "journal_removed",
    "backends",
}
SYNCED = {"run_id", "folder", "skipped", "complete", "backends", "ranks"}
COUNTS = {"delivered", "pending", "rejected", "filtered", "dropped"}
STATUS = COUNTS | {"state", "reason", "filtered_by", "url", "pending_upload"}


def strict(text):
    """What a reader makes of it that knows no NaN."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def told(call):
    """`told("runs")`: the document, of a call that says nothing else."""

    def told(*arguments, code=0):
        result = call(*arguments, "--json")
        assert (code, "") == (result.exit_code, result.stderr)
        return strict(result.stdout)

    return told


def test_runs(told, finished_run, tmp_path):
    """What cannot be read is there as well, with the reason; what is not known is null."""
    run = finished_run({"loss": [1.0, 2.0]}, exp_name="first", project="digits", tags=["a"], mode="offline")
    broken = tmp_path / "default" / "broken"
    broken.mkdir(parents=True)
    (broken / "journal.db").write_bytes(b"no database" * 1000)

    unreadable, first = sorted(told("runs")["runs"], key=lambda one: one["run_id"] != "broken")

    assert RUN | {"tags", "duration", "reason", "disk"} == first.keys() == unreadable.keys()
    assert (run.run_id, "first", "digits", ["a"]) == (first["run_id"], first["name"], first["project"], first["tags"])
    assert ("finished", 0, 2, None) == (first["status"], first["exit_code"], first["records"], first["reason"])
    csv = first["backends"]["csv"]
    assert STATUS == csv.keys()
    assert ("waiting", 0, 2, 0, 0) == (
        csv["state"],
        *(csv[key] for key in ("delivered", "pending", "rejected", "filtered")),
    )
    assert first["disk"] > 0
    assert ("unreadable", None) == (unreadable["status"], unreadable["records"])
    assert unreadable["reason"]


def test_no_runs(told):
    assert {"runs": []} == told("runs")


def test_show(told, finished_run):
    """NaN and the infinities are words that `float` reads."""
    run = finished_run({"loss": [math.nan, 1.0, math.inf, -math.inf], "acc": [0.5]})

    found = told("show", run.run_id)

    assert found.keys() >= RUN
    loss = found["scalars"]["loss"]
    assert ("NaN", "-Infinity", "-Infinity", "Infinity") == (loss["first"], loss["last"], loss["min"], loss["max"])
    assert math.isnan(float(loss["first"]))
    assert (4, 1) == (loss["points"], loss["nans"])
    assert 0.5 == found["scalars"]["acc"]["last"]


def test_compare(told, finished_run):
    for run_id in ("one", "two"):
        finished_run({"loss": [math.nan]}, run_id=run_id)

    found = told("compare", "one", "two")

    assert ["one", "two"] == [run["run_id"] for run in found["runs"]]
    assert ["NaN", "NaN"] == [one["last"] for one in found["scalars"]["loss"]]


def test_sync(told, finished_run):
    finished_run({"loss": [1.0, 2.0]}, mode="offline", run_id="one")

    (run,) = told("sync")["runs"]

    assert SYNCED == run.keys()
    assert ("one", True, None) == (run["run_id"], run["complete"], run["skipped"])
    csv = run["backends"]["csv"]
    assert STATUS | {"new"} == csv.keys()
    assert {"delivered": 2, "new": 2}.items() <= csv.items()
    assert ("closed", None, 2) == (csv["state"], csv["reason"], sum(csv[key] for key in COUNTS))
    assert {"runs": [], "errors": []} == told("sync")


def test_sync_that_leaves_something(told, finished_run, tmp_path, monkeypatch):
    """Exit code 1, and the reason."""
    monkeypatch.setattr("tracelet.delivery.past._CONNECT_TIMEOUT", 0.5)
    (tmp_path / "file").write_bytes(b"no folder")
    finished_run({"loss": [1.0]}, backend=None, run_id="one")

    (run,) = told("sync", "one", "--backend", "csv", "--config", f"dir={tmp_path / 'file'}", code=1)["runs"]

    assert run["complete"] is False
    assert STATUS | {"new"} == run["backends"]["csv"].keys()
    assert ("waiting", 1) == (run["backends"]["csv"]["state"], run["backends"]["csv"]["pending"])
    assert run["backends"]["csv"]["reason"]


def test_sync_goes_on_after_a_run_that_cannot_be_read(call, finished_run, tmp_path):
    """Which is told on standard error, and in the document; exit code 1."""
    for run_id in ("a", "c"):
        finished_run({"loss": [1.0]}, run_id=run_id, mode="offline")
    (tmp_path / "default" / "b").mkdir()
    (tmp_path / "default" / "b" / "journal.db").write_bytes(b"no database" * 1000)

    result = call("sync", "--all", "--json")

    found = strict(result.stdout)
    assert (1, ["a", "c"]) == (result.exit_code, [run["run_id"] for run in found["runs"]])
    assert [True, True] == [run["complete"] for run in found["runs"]]
    assert [line.removeprefix("tracelet: ") for line in result.stderr.splitlines()] == found["errors"]
    assert 1 == len(found["errors"])


def test_sync_of_a_live_run(told, tmp_path):
    with tracelet.start_logging(dir=tmp_path, run_id="alive", mode="offline", backend="csv"):
        (run,) = told("sync", "alive")["runs"]

    assert (False, {}) == (run["complete"], run["backends"])
    assert "the run is still active" == run["skipped"]


class Talkative(tracelet.Backend):
    """A vendor that prints, and whose own processes do."""

    name = "talkative"

    def open(self, run):
        print("hello")

    def write(self, batch):
        os.write(1, b"from below\n")


def test_what_a_vendor_prints_is_not_in_the_document(call, finished_run, monkeypatch, capfd):
    monkeypatch.setattr(backends, "_registered", {"talkative": Talkative})
    finished_run({"loss": [1.0]}, backend=None, run_id="one")

    result = call("sync", "one", "--backend", "talkative", "--json")

    assert strict(result.stdout)["runs"][0]["complete"]
    assert "hello\n" == result.stderr
    printed = capfd.readouterr()
    assert ("", "from below\n") == (printed.out, printed.err)


NOISY = """
import atexit, os
import tracelet
print("imported")
os.write(1, b"imported from below\\n")
atexit.register(print, "the end")

class Noisy(tracelet.Backend):
    name = "noisy"
    def open(self, run): print("open")
    def write(self, batch): pass
"""


@pytest.mark.parametrize("command", ["sync", "runs"])
def test_what_a_package_prints_when_it_comes_and_goes_is_not_in_the_document(command, finished_run, tmp_path):
    """A backend of another package may print at its import, and when the interpreter ends."""
    finished_run({"loss": [1.0]}, backend=None, run_id="one")
    site = tmp_path / "site"
    facts = site / "noisy-1.dist-info"
    facts.mkdir(parents=True)
    (site / "noisy.py").write_text(NOISY, encoding="utf-8")
    (facts / "entry_points.txt").write_text("[tracelet.backends]\nnoisy = noisy:Noisy\n", encoding="utf-8")
    paths = [str(site), str(Path(tracelet.__file__).parent.parent)]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TRACELET_DIR": str(tmp_path)}

    def told(*words):
        line = [sys.executable, "-m", "tracelet", *words, "--json"]
        return subprocess.run(line, env=environ, capture_output=True, text=True, timeout=120, check=True)

    done = told("sync", "one", "--backend", "noisy")
    if command == "runs":
        done = told("runs")

    (run,) = strict(done.stdout)["runs"]
    assert ("one", ["noisy"]) == (run["run_id"], list(run["backends"]))
    assert {"imported", "imported from below", "the end"} <= set(done.stderr.splitlines())


def test_watching_is_a_line_for_each_delivery(finished_run, tmp_path):
    """Each line is a document."""
    finished_run({"loss": [1.0]}, mode="offline", run_id="one")
    command = [sys.executable, "-m", "tracelet", "sync", "--watch", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    watcher = subprocess.Popen(command, env={**os.environ, "TRACELET_DIR": str(tmp_path)}, **pipes)
    try:
        line = watcher.stdout.readline()
        watcher.send_signal(signal.SIGINT)
        rest, err = watcher.communicate(timeout=60)
    finally:
        watcher.kill()
        watcher.wait()

    assert ("", "") == (rest, err)
    assert ("one", True) == (strict(line)["run_id"], strict(line)["complete"])


@pytest.mark.parametrize("how", ["--dry-run", "--yes"])
def test_gc(told, finished_run, how):
    finished_run({"loss": [1.0]}, run_id="full")
    finished_run({"loss": [1.0]}, run_id="lacks", mode="offline")

    found = told("gc", how)

    assert {"dry_run", "freed", "runs"} == found.keys()
    assert (how == "--dry-run", how == "--yes") == (found["dry_run"], found["freed"] > 0)
    full, lacks = found["runs"]
    assert {"run_id", "folder", "removable", "removed", "freed", "reason"} == full.keys() == lacks.keys()
    assert (True, how == "--yes", None) == (full["removable"], full["removed"], full["reason"])
    assert (False, False, "csv lacks 1 records (pending)") == (lacks["removable"], lacks["removed"], lacks["reason"])


def test_rm(told, finished_run, tmp_path):
    """What could not go is told, and keeps the others not."""
    finished_run({"loss": [1.0]}, run_id="one", mode="offline")
    with tracelet.start_logging(dir=tmp_path, run_id="alive"):
        alive, one = told("rm", "alive", "one", "--yes", code=1)["runs"]

    assert {"run_id", "folder", "disk", "lost", "removed", "reason"} == one.keys() == alive.keys()
    assert (True, None, "csv lacks 1 records (pending)") == (one["removed"], one["reason"], one["lost"])
    assert (False, True) == (alive["removed"], "another process writes the run" in alive["reason"])
    assert not (tmp_path / "default" / "one").exists()
    assert (tmp_path / "default" / "alive" / "journal.db").exists()


@pytest.mark.parametrize("command", [("gc",), ("rm", "one")])
def test_a_document_asks_nothing(call, finished_run, command):
    """A question has no place beside it: the answer is to be given before."""
    run = finished_run({"loss": [1.0]}, run_id="one")

    result = call(*command, "--json")

    assert (1, "") == (result.exit_code, result.stdout)
    assert "--yes" in result.stderr
    assert (run.folder / "journal.db").exists()


def test_import(told, tmp_path):
    write(tmp_path / "logs" / "first", event(0, math.nan), event(1, 0.25), b"junk")
    write(tmp_path / "logs" / "second", event(0, 0.125), begun=BEGUN + 5)

    found = told("import", tmp_path / "logs", "--backend", "csv")

    assert {"runs", "delivered", "errors"} == found.keys()
    first, second = found["runs"]
    assert {"run_id", "folder", "source", "name", "records", "series", "damage"} == first.keys()
    assert (("first", 2, 1), ("second", 1, 1)) == tuple(
        (one["name"], one["records"], one["series"]) for one in (first, second)
    )
    assert (1, []) == (len(first["damage"]), second["damage"])
    assert str(tmp_path / "logs" / "first") == first["source"]
    assert [SYNCED, SYNCED] == [one.keys() for one in found["delivered"]]
    assert {2, 1} == {one["backends"]["csv"]["new"] for one in found["delivered"]}
    assert ([0, 0], []) == ([one["records"] for one in told("import", tmp_path / "logs")["runs"]], found["errors"])


def test_what_cannot_begin_prints_no_document(call, tmp_path):
    """The error is one line on standard error; nothing was done."""
    write(tmp_path / "good" / "first", event(0, 0.5))
    missing = ("import", tmp_path / "good", tmp_path / "logs")
    for arguments in (missing, missing[::2], ("show", "nobody"), ("sync", "nobody")):
        result = call(*arguments, "--json")

        assert (1, "", 1) == (result.exit_code, result.stdout, len(result.stderr.splitlines()))
    assert [] == list(tmp_path.glob("*/*/journal.db"))


def test_what_goes_wrong_with_one_import_is_in_the_document(call, tmp_path):
    """And on standard error: here, another process is at the run."""
    write(tmp_path / "logs" / "first", event(0, 0.5))
    (run,) = strict(call("import", tmp_path / "logs", "--json").stdout)["runs"]
    write(tmp_path / "logs" / "first", event(0, 0.5), event(1, 0.25))
    with tracelet.start_logging(dir=tmp_path, run_id=run["run_id"]):
        result = call("import", tmp_path / "logs", "--json")

    found = strict(result.stdout)
    assert (1, []) == (result.exit_code, found["runs"])
    assert [line.removeprefix("tracelet: ") for line in result.stderr.splitlines()] == found["errors"]


def test_every_listing_command_has_it():
    """And the page says so."""
    page = (REPOSITORY / "docs" / "command-line.md").read_text(encoding="utf-8")

    for command in ("runs", "show", "compare", "export", "tag", "sync", "import", "gc", "rm", "doctor"):
        assert f"## `tracelet {command}" in page


def test_names_of_any_kind_survive(told, finished_run):
    """Also where the terminal is not UTF-8: the document is ASCII."""
    finished_run({"loss": [1.0]}, exp_name="Größe 数\x1b[31m", run_id="one")

    (run,) = told("runs")["runs"]

    assert "Größe 数" == run["name"][:7]
