"""tracelet import"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from importer.event_files import BEGUN, event, records, session, steps, write

from tracelet.journal.store import Journal

DEADLINE = 60.0


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Two experiments, one of them with a validation folder."""
    write(tmp_path / "logs" / "first" / "train", event(0, 0.5), event(1, 0.25))
    write(tmp_path / "logs" / "first" / "val", event(1, 0.75))
    write(tmp_path / "logs" / "second", event(0, 0.125), begun=BEGUN + 5)
    return tmp_path / "logs"


def the_runs(base: Path) -> list[Path]:
    return sorted(path.parent for path in base.glob("*/*/journal.db"))


def csv_rows(run: Path) -> int:
    return (run / "csv" / "scalars.csv").read_text(encoding="utf-8").count("\n") - 1


def test_each_experiment_is_a_run(call, logs, tmp_path):
    """A line for each: its id, how many records of how many series, and where from."""
    result = call("import", logs)

    assert (0, "") == (result.exit_code, result.stderr)
    first, second = the_runs(tmp_path)
    assert [
        f"{first.name}: 3 records of 2 series from first",
        f"{second.name}: 1 records of 1 series from second",
    ] == result.stdout.splitlines()
    listed = call("runs").stdout
    assert [True, True] == [run.name in listed and "finished" in listed for run in (first, second)]
    assert "train/loss" in call("show", first.name).stdout


def test_importing_again_says_that_nothing_is_new(call, logs, tmp_path):
    call("import", logs)

    assert ["nothing new in first", "nothing new in second"] == [
        line.partition(": ")[2] for line in call("import", logs).stdout.splitlines()
    ]


@pytest.mark.parametrize("options", [("--backend", "csv,memory"), ("--backend", "csv", "--backend", "memory")])
def test_runs_go_to_backends(call, logs, tmp_path, options):
    """By the same delivery as a live run; importing again delivers nothing twice."""
    result = call("import", logs, *options)

    assert (0, "") == (result.exit_code, result.stderr)
    assert [3, 1] == [csv_rows(run) for run in the_runs(tmp_path)]
    assert 2 == result.stdout.count("csv: ")
    assert 0 == call("import", logs, *options).exit_code
    assert [3, 1] == [csv_rows(run) for run in the_runs(tmp_path)]


def test_what_an_earlier_import_kept_goes_to_a_backend_later(call, logs, tmp_path):
    """Nothing needs to be new in the files."""
    call("import", logs)
    call("import", logs, "--backend", "csv")

    assert [3, 1] == [csv_rows(run) for run in the_runs(tmp_path)]


def test_a_backend_has_a_config(call, logs, tmp_path):
    """As for `tracelet sync`: KEY=VALUE, here the csv backend's folder."""
    call("import", logs / "second", "--backend", "csv", "--config", f"dir={tmp_path / 'tables'}")

    assert [] != list((tmp_path / "tables").rglob("scalars.csv"))


def test_the_project_is_an_option_or_a_setting(call, logs, tmp_path, monkeypatch):
    call("import", logs / "first", "--project", "digits")
    monkeypatch.setenv("TRACELET_PROJECT", "letters")
    call("import", logs / "second")

    assert ["digits", "letters"] == [run.parent.name for run in the_runs(tmp_path)]


def test_as_one(call, logs, tmp_path):
    """All of it is one run, whatever the rule says."""
    call("import", logs, "--as-one", "--dir", tmp_path / "elsewhere")

    (run,) = the_runs(tmp_path / "elsewhere")
    assert {"first/train/loss", "first/val/loss", "second/loss"} == {one.tag for one in records(run)}


def test_damage_is_told_and_is_no_failure(call, logs, tmp_path):
    """Every whole record is imported; the file and the byte are named, once."""
    path = write(logs / "second", event(0), b"junk", event(1), event(2)[:9], begun=BEGUN + 5)

    result = call("import", logs / "second")

    assert 0 == result.exit_code
    assert [0, 1] == [one.step for one in records(the_runs(tmp_path)[0])]
    assert [f"  {path.name}, byte {len(event(0))}: ", f"  {path.name}, byte {len(event(0) + event(1)) + 4}: "] == [
        line[: line.index(": ") + 2] for line in result.stdout.splitlines()[1:]
    ]
    assert path.name not in call("import", logs / "second").stdout


def test_a_folder_without_event_files_is_said(call, logs, tmp_path):
    """With what was looked for, and exit code 1; the other folders are imported."""
    (tmp_path / "empty").mkdir()

    result = call("import", tmp_path / "empty", logs)

    assert (1, 1, 2) == (result.exit_code, result.stderr.count("\n"), result.stdout.count("\n"))
    assert result.stderr.startswith(f"tracelet: no event files under {tmp_path / 'empty'}: ")
    assert "tfevents" in result.stderr


def test_a_file_among_the_folders_is_skipped(call, logs, tmp_path):
    """As `runs/*` has them; said once, and no failure. Files alone are an error."""
    (tmp_path / "logs" / "notes.txt").write_text("words")

    result = call("import", *sorted((tmp_path / "logs").iterdir()))

    assert (0, "", 3) == (result.exit_code, result.stderr, result.stdout.count("\n"))
    assert f"skipped {tmp_path / 'logs' / 'notes.txt'}: it is not a folder\n" in result.stdout
    assert 2 == len(the_runs(tmp_path))
    alone = call("import", tmp_path / "logs" / "notes.txt")
    assert 1 == alone.exit_code
    assert "is not a folder. Pass a folder with event files" in alone.stderr


def test_each_trial_of_a_sweep_is_a_run(call, tmp_path):
    """If an event file beside them would make them one; `--as-one` still does."""
    write(tmp_path / "logs", event(0))
    for number in range(2):
        write(tmp_path / "logs" / f"run-{number}", session(lr=number + 0.5), event(1), begun=BEGUN + number)

    call("import", tmp_path / "logs")
    call("import", tmp_path / "logs", "--as-one", "--dir", tmp_path / "elsewhere")

    assert [1, 2, 2] == sorted(len(records(run)) for run in the_runs(tmp_path))
    (run,) = the_runs(tmp_path / "elsewhere")
    assert {"loss", "run-0/loss", "run-1/loss", "trials"} == {one.tag for one in records(run) if hasattr(one, "tag")}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bz2.compress(event(0)), "the file is compressed with bzip2; decompress it, or use gzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(50), "the file is compressed with zstd; decompress it, or use gzip"),
        (gzip.compress(b"no events at all"), "no valid record from here to the end"),
        (b"no events at all", "no valid record from here to the end"),
        (b"", ""),
    ],
    ids=["bzip2", "zstd", "gzip of junk", "junk", "empty"],
)
def test_a_folder_of_which_nothing_can_be_read_is_an_error(call, logs, tmp_path, data, reason):
    """The file is named with the reason, and the other folders are imported. An empty file is one that just began."""
    path = write(tmp_path / "logs" / "bad", data)

    result = call("import", logs)

    assert (1 if reason else 0) == result.exit_code
    assert [f"tracelet: nothing could be read in bad: {path.name}, byte 0: {reason}"][: bool(reason)] == (
        result.stderr.splitlines()
    )
    assert 2 == len(the_runs(tmp_path))
    errors = json.loads(call("import", logs / "bad", "--json").stdout)["errors"]
    assert bool(reason) == (len(errors) == 1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["nowhere"], "nowhere does not exist. Pass a folder with event files"), ([".", "--backend", "csw"], "csw")],
)
def test_errors_of_the_users_are_one_line(call, arguments, told):
    """And nothing is imported."""
    result = call("import", *arguments)

    assert (1, "", 1) == (result.exit_code, result.stdout, result.stderr.count("\n"))
    assert told in result.stderr


def test_a_run_in_use_hinders_no_other(call, logs, tmp_path):
    """One line for it; the other experiment is imported."""
    call("import", logs)
    write(logs / "first" / "val", event(7), begun=BEGUN + 7)
    write(logs / "second", event(7), begun=BEGUN + 7)
    first, second = the_runs(tmp_path)
    journal = Journal(first)

    result = call("import", logs)

    journal.close()
    assert (1, 1) == (result.exit_code, result.stderr.count("\n"))
    assert result.stderr.startswith("tracelet: another process writes the run in ")
    assert ([0, 1, 1], [0, 7]) == (steps(records(first)), steps(records(second)))


def test_names_are_text(call, tmp_path):
    """Folders with markup and escape codes are shown, not obeyed."""
    write(tmp_path / "logs" / "[red]\x1b[31m", event(0))

    assert r"from [red]\x1b[31m" in call("import", tmp_path / "logs").stdout


# --watch


@contextlib.contextmanager
def watching(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], str]]]:
    """The program, and `line(word)`: the next line of its output with `word` in it."""
    command = [sys.executable, "-m", "tracelet", "import", *map(str, arguments), "--watch"]
    program = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    timer = threading.Timer(DEADLINE, program.kill)
    timer.start()

    def line(word: str) -> str:
        assert program.stdout is not None
        for text in program.stdout:
            if word in text:
                return text
        raise AssertionError(f"no line with {word!r} came")

    try:
        yield program, line
    finally:
        timer.cancel()
        if program.poll() is None:
            program.kill()
        program.communicate()


def test_what_is_still_written_is_imported_as_it_comes(logs, tmp_path, monkeypatch):
    """New lines of a file, a new experiment; Ctrl-C ends it, and everything is in the backend."""
    monkeypatch.setenv("TRACELET_DIR", str(tmp_path))
    with watching(logs, "--backend", "csv") as (program, line):
        line("from second")
        with open(next((logs / "second").iterdir()), "ab") as file:
            file.write(event(1))
        assert ": 1 records of 1 series from second" in line("from second")
        write(logs / "third", event(0), begun=BEGUN + 9)
        assert "from third" in line("from third")
        program.send_signal(signal.SIGINT)
        program.stdout.read()
        assert 0 == program.wait(DEADLINE), program.stderr.read()

    assert [3, 2, 1] == [csv_rows(run) for run in the_runs(tmp_path)]


def test_a_folder_may_come_later(tmp_path, monkeypatch):
    """Whoever watches may be there before the program."""
    monkeypatch.setenv("TRACELET_DIR", str(tmp_path / "runs"))
    (tmp_path / "logs").mkdir()
    with watching(tmp_path / "logs") as (program, line):
        write(tmp_path / "logs" / "exp", event(0))
        assert "1 records of 1 series from exp" in line("from exp")
        program.send_signal(signal.SIGINT)
        assert 0 == program.wait(DEADLINE)
