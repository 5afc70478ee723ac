"""console: what is printed is kept, and printed as before, whatever the streams are."""

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from programs import DEADLINE, run_program, started, the_run
from repositories import until

from tracelet.collectors import console as console_module
from tracelet.collectors.console import Console
from tracelet.guard import Guard


@pytest.fixture
def streams():
    """Two streams of our own."""
    return io.StringIO(), io.StringIO()


@pytest.fixture
def make(tmp_path, streams, monkeypatch):
    """`make(...)`: puts `streams` in the place of stdout and stderr, and a console on them."""
    made = []

    def make(hide=lambda text: text, **more):
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        made.append(Console(tmp_path / "console.log", Guard(), hide, **more))
        return made[-1]

    yield make
    for one in made:
        one.remove()


def kept(console):
    console.finish()
    return console.path.read_text(encoding="utf-8")


def test_both_streams_in_the_order_of_their_lines(make, streams):
    console = make()
    console.install()
    print("one")
    print("two", file=sys.stderr)
    sys.stdout.writelines(["three\n", "four\n"])
    assert 4 == sys.stdout.write("five")
    console.remove()
    print("after")
    assert "one\ntwo\nthree\nfour\nfive\n" == kept(console)
    assert ("one\nthree\nfour\nfiveafter\n", "two\n") == (streams[0].getvalue(), streams[1].getvalue())


def test_who_holds_a_stream_already_is_heard(make, streams):
    """A handler of logging keeps the stream that it was made with."""
    console = make()
    handler = logging.StreamHandler(sys.stderr)
    console.install()
    handler.emit(logging.LogRecord("x", logging.INFO, "f", 1, "said by a handler", (), None))
    assert "said by a handler\n" == kept(console)


def test_a_progress_bar_is_one_line(make):
    """What was written over is gone, as on a screen; so is a line's end of two letters."""
    console = make()
    console.install()
    for done in range(0, 101, 10):
        sys.stderr.write(f"\r{done}%")
        console.write()
    sys.stderr.write("\n")
    sys.stdout.write("windows\r\nhalf\r")
    console.write()
    sys.stdout.write("\nwhole\rnext\n")
    assert "100%\nwindows\nhalf\nnext\n" == kept(console)


def test_the_streams_are_as_before(make, streams):
    """Nothing is left on a stream that is still ours."""
    console = make()
    before = [dict(vars(one)) for one in streams]
    console.install()
    assert before != [dict(vars(one)) for one in streams]
    console.remove()
    assert before == [dict(vars(one)) for one in streams]


def test_somebody_elses_write_comes_back(make, streams):
    """It was on the stream before us, so it is after us; and it is called meanwhile."""
    console = make()
    seen = []
    original = streams[0].write
    streams[0].write = theirs = lambda text: seen.append(text) or original(text)
    console.install()
    print("x")
    console.remove()
    assert theirs is streams[0].write
    assert ["x", "\n"] == seen
    assert "x\n" == kept(console)


def test_who_wrapped_after_us_stays(make, streams):
    """Ours passes on, and keeps nothing more."""
    console = make()
    console.install()
    ours = streams[0].write
    streams[0].write = theirs = lambda text: ours(text.upper())
    console.remove()
    print("loud")
    assert theirs is streams[0].write
    assert "LOUD\n" == streams[0].getvalue()
    assert not console.finish()


def test_output_that_is_sent_elsewhere_is_not_the_consoles(make):
    console = make()
    console.install()
    with contextlib.redirect_stdout(io.StringIO()) as elsewhere:
        print("hidden")
    print("shown")
    assert ("hidden\n", "shown\n") == (elsewhere.getvalue(), kept(console))


def test_one_object_for_both(make, monkeypatch):
    console = make()
    monkeypatch.setattr(sys, "stderr", sys.stdout)
    console.install()
    print("once", file=sys.stderr)
    assert "once\n" == kept(console)


class Slotted:
    """A stream that takes no other method."""

    __slots__ = ("said",)

    def __init__(self):
        self.said = ""

    def write(self, text):
        self.said += text


def test_streams_that_cannot_be_read(make, monkeypatch, caplog):
    """None, as in a program without a terminal, and one with slots: said once, and printed to as ever."""
    console = make()
    monkeypatch.setattr(sys, "stdout", slotted := Slotted())
    monkeypatch.setattr(sys, "stderr", None)
    console.install()
    print("x")
    console.remove()
    assert "x\n" == slotted.said
    assert 1 == caplog.text.count("cannot capture sys.stdout: a Slotted does not allow replacing `write`")


def test_what_a_stream_refuses_is_the_programs(make, streams):
    """Its error, as without us; nothing was printed, so nothing is kept."""
    console = make()
    console.install()
    with pytest.raises(TypeError, match="bytes"):
        sys.stdout.write(b"bytes")
    assert not console.finish()


def test_it_is_bounded(tmp_path, make):
    """The beginning and the end are kept."""
    console = make(max_bytes=4000)
    console.install()
    for number in range(2000):
        print(f"line {number}")
        if number % 50 == 0:
            console.write()
    console.remove()
    lines = kept(console).splitlines()
    assert console.path.stat().st_size <= 4000 + 50 * len("line 1999\n")
    assert ("line 0", "line 1", "line 1999") == (lines[0], lines[1], lines[-1])
    assert 1 == lines.count("[tracelet: the middle of the output was removed]")
    assert [console.path] == list(tmp_path.glob("console*"))


def test_what_waits_is_bounded(make, monkeypatch):
    """Where the disk is slower than the program prints."""
    console = make()
    monkeypatch.setattr(console_module, "_MAX_QUEUED", 1000)
    console.install()
    for number in range(1000):
        print(f"line {number}")
    console.write()
    print("later")
    lines = kept(console).splitlines()
    assert "[tracelet: output was dropped here; the buffer was full]" == lines[0]
    assert ["line 998", "line 999", "later"] == lines[-3:]
    assert 100 < len(lines) < 300


def test_one_text_is_kept_however_long(make, monkeypatch):
    """The program has it in memory as a whole."""
    console = make()
    monkeypatch.setattr(console_module, "_MAX_QUEUED", 1000)
    console.install()
    sys.stdout.write("a line\n")
    sys.stdout.write("." * 5000 + "\n")
    assert ["[tracelet: output was dropped here; the buffer was full]", "." * 5000] == kept(console).splitlines()


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_line_of_many_pieces_is_put_together_once(end, make, monkeypatch):
    """Not at each of its pieces, which would take the training's time by their square; both streams by turns."""
    shown = []
    original = console_module._without_overwritten
    monkeypatch.setattr(console_module, "_without_overwritten", lambda text: shown.append(len(text)) or original(text))
    console = make()
    console.install()
    for number in range(2000):
        sys.stdout.write(str(number % 10))
        sys.stderr.write(".")
    sys.stdout.write(end)
    assert sorted(["0123456789" * 200, "." * 2000]) == sorted(kept(console).splitlines())
    assert sum(shown) <= 3 * 4000


def test_a_line_without_an_end_is_cut(make):
    """Dots for hours: memory does not grow with them."""
    console = make()
    console.install()
    for _ in range(100):
        sys.stdout.write("." * 1000)
        console.write()
    assert 100_000 == kept(console).count(".")


def test_credentials_are_hidden(make):
    console = make(lambda text: text.replace("s3cr3t-value", "***"))
    console.install()
    sys.stdout.write("key s3cr3t")
    console.write()
    sys.stdout.write("-value\n")
    console.remove()
    assert "key ***\n" == kept(console)


def test_odd_letters(make):
    """What UTF-8 has no letters for is spelled."""
    console = make()
    console.install()
    print("ünï \ud800 ✓")
    assert "ünï \\ud800 ✓\n" == kept(console)


PROGRAM = """
    import logging, sys, time
    handler = logging.StreamHandler()
    logging.getLogger("mine").addHandler(handler)
    {start}
    logging.getLogger("mine").warning("a handler from before")
    print("a", "b", sep="-", end="!\\n", flush=True)
    for step in range(5):
        sys.stderr.write(f"\\r{{step}}/5")
    sys.stderr.write("\\n")
    sys.stdout.buffer.write(b"raw\\n")
    sys.stdout.flush()
    raise ValueError("the end")
"""
START = """
    import tracelet
    logging.getLogger("tracelet").setLevel(logging.CRITICAL)
    tracelet.start_logging(backend="csv", collect=["console"])
"""


def test_a_program_prints_what_it_would_print(tmp_path):
    """Byte for byte, on both streams; the file has it, with the traceback at its end."""

    def ended(start):
        source = textwrap.dedent(PROGRAM).format(start=textwrap.dedent(start).replace("\n", ";").strip(";"))
        (tmp_path / "train.py").write_text(source)
        return subprocess.run([sys.executable, "train.py"], capture_output=True, timeout=DEADLINE, check=False)

    with_us, without_us = ended(START), ended("")
    assert 1 == with_us.returncode == without_us.returncode
    assert (without_us.stdout, without_us.stderr) == (with_us.stdout, with_us.stderr)
    text = (the_run() / "console.log").read_text()
    assert text.startswith("a handler from before\na-b!\n4/5\nTraceback (most recent call last):\n")
    assert text.endswith("\nValueError: the end\n")
    assert text.encode() == (the_run() / "csv" / "artifacts" / "console.log").read_bytes()


def test_a_killed_program_leaves_what_it_printed():
    source = """
        import sys, time, tracelet
        tracelet.start_logging(backend="csv", collect="console")
        print("the last words", flush=True)
        time.sleep(600)
    """
    with started(source) as program:
        assert "the last words\n" == program.stdout.readline()
        (log,) = until(lambda: list(Path(os.environ["TRACELET_DIR"]).glob("*/*/console.log")), "a file")
        until(lambda: "the last words\n" in log.read_text(), "the line")
        program.send_signal(signal.SIGKILL)
        program.wait(DEADLINE)
    assert "the last words\n" in log.read_text()


def test_a_forked_process_prints_for_itself():
    """What a child prints is on the terminal, and not in its parent's file."""
    source = """
        import os, sys, tracelet
        run = tracelet.start_logging(collect=["console"])
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            print("the child", flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print("the parent")
    """
    ended = run_program(source)
    assert (0, "the child\nthe parent\n") == (ended.returncode, ended.out)
    assert ["the parent"] == [
        line for line in (the_run() / "console.log").read_text().splitlines() if line.startswith("the ")
    ]
