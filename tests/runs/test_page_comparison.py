"""The page of many runs side by side."""

from __future__ import annotations

import math
import random

import pytest
from runs.pages import HOSTILE, box, drawn

import tracelet
from tracelet.runs import comparison, page

RUNS = 60
ROWS = "[...document.querySelectorAll('#run-table tbody tr')].filter(r => r.checkVisibility())"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Sixty runs of a search for the best rate."""
    rng = random.Random(0)
    runs = []
    for number in range(RUNS):
        with tracelet.start_logging(
            f"sweep-{number:02}", run_id=f"run-{number:02}", dir=tmp_path_factory.getbasetemp() / "sweep"
        ) as run:
            rate, kind = 10 ** rng.uniform(-4, -1), ("adam", "sgd", "lion")[number % 3]
            run.log_params({"lr": rate, "optimizer": kind, "epochs": 20, "data": "digits"})
            if number == 7:
                run.log_params({"warmup": 100})
            for step in range(500):
                for name in ("train/loss", "val/loss", "val/accuracy", "grad/norm"):
                    run.log_metric(name, math.exp(-step / 150) + abs(math.log10(rate) + 2) + rng.random(), step)
            run.summary["best"] = float(number)
        runs.append(run)
    return runs


@pytest.fixture(scope="module")
def path(sweep, tmp_path_factory):
    """The page of all."""
    path = tmp_path_factory.mktemp("comparison") / "page.html"
    page.write_comparison(comparison.compare([run.folder for run in sweep]), path)
    return path


@pytest.fixture
def tab(browser, path):
    tab = browser.open(path)
    yield tab
    tab.close()


def cells(tab, column):
    return tab.evaluate(f"{ROWS}.map(r => r.cells[{column}].textContent)")


def heading(tab, name):
    return tab.evaluate(
        f"[...document.querySelectorAll('#run-table thead th')].findIndex(h => h.textContent.trim() === '{name}')"
    )


def select(tab, text):
    tab.put("#run-filter", text)


def test_each_run_is_a_row(tab):
    """With its facts, what differs, its summary and the ends of its curves."""
    titles = tab.evaluate("[...document.querySelectorAll('#run-table th[scope=col]')].map(h => h.textContent.trim())")

    assert RUNS == len(cells(tab, 0)) == tab.evaluate("document.querySelectorAll('#run-table tbody tr').length")
    assert ["run", "status", "lr", "optimizer", "warmup", "best"] == titles[:6]
    assert "val/accuracy last" in titles
    assert ["started", "duration", "data", "epochs"] == titles[-4:]
    assert 0 == tab.evaluate("document.querySelectorAll('.chart > ul').length")
    assert [] == tab.complaints()


def test_equal_parameters_can_be_shown(tab):
    column = heading(tab, "epochs")
    visible = f"document.querySelectorAll('#run-table thead th')[{column}].checkVisibility()"
    assert not tab.evaluate(visible)
    tab.evaluate("document.getElementById('equal').click()")

    assert tab.evaluate(visible)
    assert {"20"} == set(cells(tab, column))


def test_runs_are_sorted_by_any_column(tab):
    """By number or text, up and down; runs without a value come last."""
    rate, warmup = heading(tab, "lr"), heading(tab, "warmup")
    click = "document.querySelectorAll('#run-table thead th')[%d].querySelector('button').click()"
    tab.evaluate(click % rate)
    up = [float(text) for text in cells(tab, rate)]
    assert sorted(up) == up
    assert "ascending" == tab.evaluate(f"document.querySelectorAll('#run-table th')[{rate}].getAttribute('aria-sort')")
    tab.evaluate(click % rate)
    assert up[::-1] == [float(text) for text in cells(tab, rate)]
    for _ in range(2):
        tab.evaluate(click % warmup)
        assert ["sweep-07"] == cells(tab, 0)[:1]


def test_the_search_selects_rows_and_curves(tab):
    select(tab, "sweep-0[1-3]")

    assert ["sweep-01", "sweep-02", "sweep-03"] == cells(tab, 0)
    assert "3 of 60 runs" == tab.evaluate("document.getElementById('runs-found').textContent")
    tab.evaluate("document.getElementById('curves').scrollIntoView()")
    assert {"sweep-01", "sweep-02", "sweep-03"} == set(drawn(tab, "line.curve.name"))
    select(tab, "")
    assert RUNS == len(cells(tab, 0))


def test_parallel_coordinates_select_runs(tab):
    """A line for each run over its parameters and its result; dragging on an axis leaves those that pass there."""
    lines = "document.querySelectorAll('#parallel-plot polyline')"
    titles = "[...document.querySelectorAll('#parallel-plot .axis-title')].map(t => t.firstChild.textContent)"
    assert RUNS == tab.evaluate(f"{lines}.length")
    assert ["lr", "optimizer", "warmup", "best"] == tab.evaluate(titles)
    tab.evaluate(
        "(() => { const s = document.getElementById('result'); s.value = [...s.options].findIndex(o =>"
        " o.textContent.startsWith('val/loss')); s.dispatchEvent(new Event('change')); })()"
    )
    assert "val/loss (last)" == tab.evaluate(titles)[-1]

    left, top, width, height = box(tab, ".axis:nth-of-type(2) .brush")
    tab.drag((left + width / 2, top + height - 4), (left + width / 2, top + height * 0.8))
    assert {"adam"} == set(cells(tab, heading(tab, "optimizer")))
    assert RUNS - 20 == tab.evaluate("document.querySelectorAll('.run-line.off').length")
    tab.key("Escape")  # the axis has the focus
    assert RUNS == len(cells(tab, 0))
    for _ in range(2):
        tab.key("ArrowUp")
    assert {"lion", "sgd"} == set(cells(tab, heading(tab, "optimizer")))
    tab.evaluate("document.getElementById('clear').click()")
    assert RUNS == len(cells(tab, 0))
    assert [] == tab.complaints()


def test_the_page_of_sixty_runs_is_small_and_fits_a_phone(tab, path):
    tab.resize(390)

    assert 390 == tab.evaluate("document.documentElement.scrollWidth")
    assert path.stat().st_size < 1_600_000
    points = tab.evaluate("tracelet.charts.map(c => Math.min(...c.curves.map(curve => curve.x.at(-1))))")
    assert [499] * 4 == points


def test_what_many_runs_are_told_stays_text(shown):
    """Also in the table, and in the drawing of the parameters."""
    runs = []
    for number in range(9):
        with tracelet.start_logging(HOSTILE[number], run_id=f"hostile-{number}", tags=HOSTILE) as run:
            run.log_params({name: f"{name}{number % 3}" for name in HOSTILE})
            run.log_metric(HOSTILE[0], number, 0)
            run.summary[HOSTILE[1]] = number
        runs.append(run)
    tab = shown(*runs)

    assert "undefined" == tab.evaluate("typeof window.owned")
    assert ([], 1) == (tab.complaints(), len(tab.requests()))
    assert 9 == tab.evaluate("document.querySelectorAll('#parallel-plot polyline').length")
    table = tab.evaluate("document.getElementById('run-table').textContent")
    assert [] == [name for name in HOSTILE if name not in table]
    titles = tab.evaluate("[...document.querySelectorAll('.axis-title title')].map(t => t.textContent)")
    assert HOSTILE[1] in titles
    assert 3 == tab.evaluate("document.scripts.length")


def test_a_few_runs_stay_side_by_side(shown, sweep):
    """Up to eight: a column for each, and equal parameters on request."""
    tab = shown(*sweep[:3])
    titles = "[...document.querySelectorAll('#parameters thead')].map(h => h.innerText.split(/\\s+/).filter(Boolean))"
    assert ["parameter", "sweep-00", "sweep-01", "sweep-02"] == tab.evaluate(titles)[0]
    assert not tab.evaluate("document.querySelector('div.equal').checkVisibility()")
    tab.evaluate("document.getElementById('equal').click()")
    assert tab.evaluate("document.querySelector('div.equal').checkVisibility()")
