"""`show`: the run's curves below a notebook's cell, while it runs, and without a part in the training."""

from __future__ import annotations

import threading
import time

import pytest
from programs import run_program
from support import BUSY, until

import tracelet
from tracelet.experiment import live
from tracelet.experiment.live import Curves, LiveView
from tracelet.guard import Guard

NOTEBOOK = """
    import time
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance(display_pub_class=CapturingDisplayPublisher)
    shell.history_manager.enabled = False
    shell.kernel = object()  # as in Jupyter, VS Code and Colab
    outputs = shell.display_pub.outputs

    def run(cell):
        shell.run_cell(cell).raise_error()

    def ids():
        return [one["transient"]["display_id"] for one in outputs]

    def html():
        return outputs[-1]["data"]["text/html"]

    def until(reached):
        deadline = time.monotonic() + 60
        while not reached():
            assert time.monotonic() < deadline, outputs
            time.sleep(0.01)

    run("import threading, tracelet\\nexp = tracelet.start_logging('night <b>', backend='memory')\\nexp.show(0.5)")
    first = outputs[0]
    assert not first["update"] and "running" in first["data"]["text/html"] and "<svg" not in first["data"]["text/html"]
    assert "night &lt;b&gt;" in first["data"]["text/html"]
    run("for step in range(5): exp.log_metrics({'train/loss': 1 / (step + 1), 'val/loss': 2.0, '<b>': 1.0}, step)")
    until(lambda: "val/loss: " in html())
    assert "train/loss: " in html() and "&lt;b&gt;" in html() and "<b>" not in html() and "<script" not in html()
    assert {ids()[0]} == set(ids()) and all(one["update"] for one in outputs[1:])
    assert "val/loss" in outputs[-1]["data"]["text/plain"] and "▄" in outputs[-1]["data"]["text/plain"]

    run("exp.show(0.5)")  # moves to this cell
    moved = len(outputs)
    run("exp.log_metric('later', 1.0, 1)")
    until(lambda: "later" in html())
    assert 2 == len(set(ids())) and {ids()[-1]} == set(ids()[moved:])

    run("exp.log_metric('last', 0.5, 9)\\nexp.stop()")
    assert "last" in html() and "stopped" in html(), html()
    assert not [one.name for one in __import__("threading").enumerate() if one.name.startswith("tracelet")]
    ended = len(outputs)
    run("exp.show()")
    assert (ended + 1, False) == (len(outputs), outputs[-1]["update"]) and "last" in html()

    del shell.kernel  # a terminal prints; it has nothing to update
    run("exp = tracelet.start_logging()\\nexp.log_metric('loss', 1.0)\\nexp.flush()\\nexp.show()")
    assert (ended + 2, False) == (len(outputs), outputs[-1]["update"]), outputs[-1]
    run("exp.stop()")
    assert ended + 2 == len(outputs)
    print("whole")
"""


def test_one_display_follows_the_run(tmp_path):
    """IPython's shell with the display of a notebook: updates, a second call, the end, and a terminal."""
    pytest.importorskip("IPython")
    done = run_program(NOTEBOOK, IPYTHONDIR=str(tmp_path / "ipython"))
    assert (0, "whole") == (done.returncode, (done.out.splitlines() or [""])[-1]), done.err


def test_without_a_notebook_it_says_what_to_run(experiment):
    with pytest.raises(tracelet.TraceletError, match=f"tracelet show {experiment.run_id} --html run.html"):
        experiment.show()
    for every in (0.1, float("nan")):
        with pytest.raises(tracelet.TraceletError, match="every must be"):
            experiment.show(every)
    tracelet.start_logging(mode="disabled").show()


def test_the_last_line_of_a_cell_has_the_curves(experiment, monkeypatch):
    for step in range(10):
        experiment.log_metrics({"train/loss": 1 / (step + 1), "val/loss": 1.0}, step)
    assert experiment.flush(30)
    assert 1 == experiment._repr_html_().count("<svg")
    monkeypatch.setattr(live, "_REPR_SLICE", 0.0)
    assert "Curves of the first 0 of 20 records." in experiment._repr_html_()
    experiment.stop()


def test_later_series_are_left_out(experiment, monkeypatch):
    monkeypatch.setattr(live, "_MAX_SERIES", 3)
    experiment.log_metrics({f"m{number}": 1.0 for number in range(5)}, 0)
    assert experiment.flush(30)
    curves = Curves(experiment.folder)
    curves.read(60)
    assert (["m0", "m1", "m2"], "Curves of the first 3 series.") == (list(curves.series), curves.note)


def viewed(experiment, update):
    """The view of a run, as `show` starts it."""
    view = LiveView(
        Curves(experiment.folder), lambda curves: {"text/plain": str(len(curves.series))}, update, 0.5, Guard()
    )
    experiment._before_end.append(view.pause)
    experiment._live = view
    return view


def test_the_journal_is_one_file_at_the_end(experiment):
    """A reader that has it open at the end would keep the writer from merging its log."""
    shown = []
    viewed(experiment, shown.append)
    for step in range(100):
        experiment.log_metric("loss", step, step)
    experiment.stop()
    assert {"text/plain": "1"} == shown[-1]
    assert ["journal.db"] == [path.name for path in experiment.folder.glob("journal.db*")]


def test_a_frontend_that_hangs_holds_nothing_up(experiment, memory):
    """Logging goes on, and the end waits a second for it."""
    reached, opened = threading.Event(), threading.Event()

    def hang(formats):
        reached.set()
        opened.wait(60)

    view = viewed(experiment, hang)
    assert reached.wait(30)
    experiment.log_metric("loss", 1.0)
    began = time.monotonic()
    experiment.stop()
    assert time.monotonic() - began < 1 + BUSY
    assert 1 == len(memory.records)
    opened.set()
    until(lambda: not view._thread.is_alive())


def test_a_frontend_that_fails_is_told_once(experiment, swallowed, caplog):
    def fail(formats):
        raise OSError("closed")

    viewed(experiment, fail)
    until(lambda: swallowed)
    experiment.log_metric("loss", 1.0)
    experiment.stop()
    assert {OSError} == {type(error) for error in swallowed}
    assert 1 == caplog.text.count("OSError: closed (")
    swallowed.clear()
