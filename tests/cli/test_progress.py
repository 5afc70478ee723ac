"""Bars and colours: on a terminal alone, on standard error, and where something takes long."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import threading

import pytest
from importer.event_files import event, write

ESCAPE = "\x1b"
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]")
PROGRAM = "import sys; from tracelet.cli import _progress, app; _progress.AFTER = float(sys.argv.pop(1)); app()"
AT_ONCE, NEVER = 0.0, 1e9


def on_terminal(tmp_path, *arguments, after=AT_ONCE, out=True, err=True, **environment):
    """(code, standard output, standard error) of a call; each is a terminal or a pipe."""
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    told = {**plain, "TERM": "xterm-256color", "TRACELET_DIR": str(tmp_path), **environment}
    heard = ["", ""]
    with contextlib.ExitStack() as undo:
        ends = [pty.openpty() if terminal else os.pipe() for terminal in (out, err)]
        writing = [end[1] for end in ends]
        for reading, _ in ends:
            undo.callback(os.close, reading)
        command = [sys.executable, "-c", PROGRAM, str(after), *map(str, arguments)]
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writing[0], stderr=writing[1], env=told)
        for end in writing:
            os.close(end)
        readers = [threading.Thread(target=_read, args=(ends[at][0], heard, at)) for at in (0, 1)]
        for reader in readers:
            reader.start()
        try:
            code = program.wait(90)
        finally:
            program.kill()
            program.wait()
        for reader in readers:
            reader.join(30)
    return code, *heard


def _read(descriptor, heard, at):
    with contextlib.suppress(OSError):  # how a terminal says that its other side is closed
        while data := os.read(descriptor, 65536):
            heard[at] += data.decode("utf-8", "replace").replace("\r\n", "\n")


@pytest.fixture
def works(finished_run, tmp_path):
    """Calls that have something to do, and what their bars are called."""
    finished_run({"loss": [1.0, 2.0]}, run_id="one", mode="offline")
    write(tmp_path / "logs" / "first", *(event(step) for step in range(9000)))  # more than one batch
    return {"sync": (("sync", "one"), "one csv"), "import": (("import", tmp_path / "logs"), "first")}


@pytest.mark.parametrize("what", ["sync", "import"])
def test_a_bar_on_a_terminal(works, tmp_path, what):
    """On standard error; a pipe beside it gets the lines alone."""
    arguments, label = works[what]

    code, out, err = on_terminal(tmp_path, *arguments, out=False)

    assert 0 == code
    assert label in err
    assert ESCAPE in err
    assert ESCAPE not in out
    assert 1 == len(out.splitlines())


def test_a_bar_of_gc(finished_run, tmp_path):
    finished_run({"loss": [1.0]}, run_id="one")

    code, out, err = on_terminal(tmp_path, "gc", "--yes", out=False)

    assert 0 == code
    assert "checking" in err
    assert "removing" in err
    assert out.splitlines()[-1].endswith("freed.")


def test_what_is_quick_has_none(works, tmp_path):
    arguments, _ = works["sync"]

    assert (0, "") == on_terminal(tmp_path, *arguments, after=NEVER, out=False)[::2]


@pytest.mark.parametrize(
    ("more", "environment"),
    [
        ((), {"out": False, "err": False}),
        ((), {"out": False, "err": False, "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1"}),
        ((), {"out": True, "err": False}),
        ((), {"out": False, "err": True, "TERM": "dumb"}),
        (("--json",), {"out": True, "err": True}),
    ],
    ids=["pipes", "pipes in spite of FORCE_COLOR", "standard error is a file", "a dumb terminal", "--json"],
)
@pytest.mark.parametrize("what", ["sync", "import"])
def test_no_bar_elsewhere(works, tmp_path, what, more, environment):
    arguments, label = works[what]

    code, out, err = on_terminal(tmp_path, *arguments, *more, **environment)

    assert (0, "") == (code, err)
    assert f"{label} " not in out
    assert environment["out"] or ESCAPE not in out


def test_colours_are_for_terminals(finished_run, tmp_path):
    """And for those who did not say NO_COLOR."""
    finished_run({"loss": [1.0]}, run_id="one")

    assert COLOUR.search(on_terminal(tmp_path, "runs")[1])
    assert not COLOUR.search(on_terminal(tmp_path, "runs", NO_COLOR="1")[1])
    assert ESCAPE not in on_terminal(tmp_path, "runs", out=False)[1]
    assert ESCAPE not in on_terminal(tmp_path, "runs", out=False, FORCE_COLOR="1")[1]
    assert ESCAPE not in on_terminal(tmp_path, "runs", "--json")[1]


def test_a_bar_without_colours(works, tmp_path):
    arguments, label = works["import"]

    err = on_terminal(tmp_path, *arguments, NO_COLOR="1")[2]

    assert label in err
    assert not COLOUR.search(err)
