"""In a notebook: what a run looks like as a cell's last line, and cells that are run again."""

from __future__ import annotations

import code
import gc
import html.parser
import weakref

import pytest
from backends.faults import Faulty, raises
from programs import run_program
from support import our_threads

import tracelet
from tracelet.testing import MemoryBackend


class Page(html.parser.HTMLParser):
    """The words of a page, its links, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.words, self.links, self.open = [], [], []
        self.feed(text)
        assert [] == self.open

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self.links.append(dict(attrs)["href"])
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag == self.open.pop()

    def handle_data(self, data):
        self.words.append(data)


class Linked(MemoryBackend):
    """A backend with a page of its own."""

    def __init__(self, url):
        super().__init__()
        self.address = url

    @property
    def url(self):
        return self.address


def shown(experiment):
    return Page(experiment._repr_html_())


# What it shows.


def test_a_run_shows_what_it_is_and_where_its_records_are():
    backend = Linked("https://example.org/runs/1?a=1&b=2")
    experiment = tracelet.start_logging("resnet", "vision", backend)
    for step in range(3):
        experiment.log_metric("loss", 0.5, step)
    assert experiment.flush(30)
    page = shown(experiment)
    for word in (
        "resnet",
        experiment.run_id,
        "vision",
        "running",
        str(experiment.folder),
        "memory",
        "3",
        "3 delivered",
    ):
        assert word in page.words
    assert ["https://example.org/runs/1?a=1&b=2"] == page.links
    experiment.stop()
    assert {"stopped", "3 delivered, closed"} <= set(shown(experiment).words)


def test_nothing_that_is_said_is_markup():
    """Names and addresses from anywhere; only a page on the web is a link."""
    evil = "<script>alert(1)</script>\"'&"
    experiment = tracelet.start_logging(evil, "<b>", Linked('javascript:alert("x")'))
    page = shown(experiment)
    assert {evil, "<b>", 'javascript:alert("x")'} <= set(page.words)
    assert [] == page.links
    assert "<script" not in experiment._repr_html_()


def test_runs_without_a_name_or_a_backend():
    experiment = tracelet.start_logging()
    assert experiment.run_id in shown(experiment).words
    assert "running" in shown(experiment).words
    experiment = tracelet.start_logging(mode="disabled")
    assert {"stopped", "0"} <= set(shown(experiment).words)


def test_a_backend_that_waits_says_why():
    backend = Faulty(open=raises(tracelet.BackendUnavailable("faulty: <no> server")))
    experiment = tracelet.start_logging(backend=backend, connect_timeout=0.1)
    experiment.log_metric("loss", 1)
    assert experiment.flush(0.1) in (True, False)
    assert any("waiting: <no> server" in word for word in shown(experiment).words)


def test_an_address_that_fails_hides_nothing(swallowed):
    class Broken(MemoryBackend):
        @property
        def url(self):
            raise KeyError("url")

    experiment = tracelet.start_logging("name", backend=Broken())
    assert "name" in shown(experiment).words
    experiment.stop()
    assert {KeyError} == {type(error) for error in swallowed}
    swallowed.clear()


# Cells that are run again.

FIRST = """
import tracelet
from tracelet.testing import MemoryBackend
memory = MemoryBackend()
experiment = tracelet.start_logging("cell", backend=memory)
"""
SECOND = """
from torch.utils.tensorboard import SummaryWriter
writer = SummaryWriter("logs")
for step in range(3):
    writer.add_scalar("loss", step / 2, step)
writer.close()
"""


class Notebook(code.InteractiveInterpreter):
    """Python's own interactive interpreter; a cell that raises fails the test."""

    def run(self, cell):
        self.runsource(cell, "<cell>", "exec")

    def showtraceback(self):
        raise


def test_a_cell_that_is_run_again_begins_a_new_run():
    """The former run is ended and complete; each point is in one run, once; threads and wrappers do not pile up."""
    notebook, runs, threads = Notebook({}), [], []
    for _ in range(3):
        notebook.run(FIRST)
        notebook.run(SECOND)
        runs.append((notebook.locals["experiment"], notebook.locals["memory"]))
        threads.append(len(our_threads()))
    assert 1 == len(set(threads))
    tracelet.stop_logging()
    for experiment, memory in runs:
        assert ([(0, 0.0), (1, 0.5), (2, 1.0)], "finished") == (
            [(one.step, one.value) for one in memory.records],
            memory.status,
        )
        assert "stopped" in shown(experiment).words
    assert 3 == len({experiment.run_id for experiment, _ in runs})


def test_a_cell_of_the_same_run_goes_on_with_it():
    """With a run id of its own, the cell that is run again goes on where it was."""
    notebook = Notebook({})
    for _ in range(2):
        notebook.run(FIRST.replace('"cell"', '"cell", run_id="mine"'))
        notebook.run(SECOND)
    folder = notebook.locals["experiment"].folder
    tracelet.stop_logging()
    from backends.faults import journalled

    assert [0.0, 0.5, 1.0] * 2 == [one.value for one in journalled(folder)]


def test_a_run_that_nobody_holds_is_gone():
    """Once it was replaced and forgotten, nothing of ours keeps it, or its models, alive."""
    notebook = Notebook({})
    notebook.run(FIRST)
    notebook.run(
        "from torch import nn\nmodel = nn.Linear(2, 1)\nexperiment.watch(model)\nmodel.weight.sum().backward()"
    )
    gone = weakref.ref(notebook.locals["experiment"])
    assert notebook.locals["experiment"]._repr_html_()
    notebook.run(FIRST)
    assert "running" in shown(notebook.locals["experiment"]).words
    gc.collect()
    assert gone() is None
    assert {} == dict(notebook.locals["model"].weight._backward_hooks)


IPYTHON = """
    import sys
    from IPython.core.interactiveshell import InteractiveShell
    import tracelet
    from tracelet.backends.memory import MemoryBackend

    first, second = sys.argv[1:]
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False

    def run(cell):
        done = shell.run_cell(cell, store_history=True)
        done.raise_error()
        return done.result

    stores, names = [], []
    for _ in range(3):
        names.append(run(first + "\\nexperiment").run_id)
        run(second)
        stores.append(shell.user_ns["memory"])
    tracelet.stop_logging()
    assert 3 == len(set(names)), names
    found = [[one.value for one in store.records if getattr(one, "tag", "") == "loss"] for store in stores]
    assert [[0.0, 0.5, 1.0]] * 3 == found
    formats, _ = shell.display_formatter.format(shell.user_ns["experiment"], include={"text/html", "text/plain"})
    assert {"text/html", "text/plain"} == set(formats)
    assert names[-1] in formats["text/html"]
    print("whole")
"""


def test_cells_of_ipython(tmp_path):
    """A real shell: its display formatter finds the page, cells are run again, its end ends the run."""
    pytest.importorskip("IPython")
    done = run_program(IPYTHON, FIRST, SECOND, IPYTHONDIR=str(tmp_path / "ipython"))
    assert (0, "whole") == (done.returncode, done.out.splitlines()[-1]), done.err
