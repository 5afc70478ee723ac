"""The pages of `tracelet show --html` and `tracelet compare --html` in a real browser, which can reach nothing."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from runs.browser import Browser, installed

import tracelet
from tracelet.runs import comparison, page, report
from tracelet.runs.media import Gallery

HOSTILE = (
    "<script>window.owned = 1; alert(1)</script>",
    '"><img src=x onerror="window.owned = 1">',
    "</script><script>window.owned = 1</script>",
    "</style></title></textarea><svg onload='window.owned = 1'>",
    "javascript:window.owned=1",
    "<!--<script>",
    "' onmouseover='window.owned = 1' x='",
    "{{constructor.constructor('window.owned = 1')()}}",
    "<a href=https://example.org/leak>x</a>",
    "<meta http-equiv=refresh content=0;url=https://example.org>",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = installed()
    if program is None:
        pytest.skip("no Chromium is installed (Debian and Ubuntu: apt-get install chromium)")
    with Browser(program, tmp_path_factory.mktemp("browser") / "profile") as made:
        yield made


@pytest.fixture
def shown(browser, tmp_path):
    """`shown(run, ...)`: the page of a run, or of several side by side, opened."""
    opened = []

    def show(*runs, **look):
        path = tmp_path / "page.html"
        if len(runs) == 1:
            gallery = Gallery()
            page.write_run(report.read(runs[0].folder, see=gallery.add), gallery, path)
        else:
            page.write_comparison(comparison.compare([run.folder for run in runs]), path)
        opened.append(browser.open(path, **look))
        return opened[-1]

    yield show
    for one in opened:
        one.close()


def logged(points, **arguments):
    """A run with `points`, {name: values}."""
    with tracelet.start_logging(**arguments) as run:
        for name, values in points.items():
            for step, value in enumerate(values):
                run.log_metric(name, value, step)
    return run


def everything(run, names):
    """Each kind of thing that the page shows, under each of the names."""
    for at, name in enumerate(names):
        for step in range(3):
            run.log_metric(name, step / 3, step)
            run.log_metric(f"{name}/loss", step / 3, step)
            run.log_image(name, np.full((3, 8, 8), 40 * step, np.uint8), step)
            run.log_histogram(name, np.linspace(-1, step, 50), step)
        run.log_text(name, name)
        run.log_table(name, [[name, 1.0]], columns=[name, "b"])
        run.log_params({name: name, f"list {at}": [name]})
        run.summary[name] = name
        run.alert(name, name, "error")
        run.log_artifact(name.encode(), f"{at}/{name.replace('/', '|')}.txt")


def count_points(tab, selector="figure.chart path.curve"):
    """The points of each drawn curve."""
    return tab.evaluate(
        f"[...document.querySelectorAll('{selector}')].map(p => p.getAttribute('d').match(/[ML]/g).length)"
    )


def test_whatever_a_run_is_told_stays_text(shown):
    """Names, values, texts and files that are programs for a browser: all of them are read, none of them runs."""
    told = HOSTILE
    with tracelet.start_logging(told[0], project=told[4], tags=told, notes=told[1], group=told[2]) as run:
        everything(run, told)
    tab = shown(run)

    assert tab.evaluate("typeof window.owned") == "undefined"
    assert [] == tab.complaints()
    assert 1 == len(tab.requests())
    assert 2 == tab.evaluate("document.scripts.length")
    assert 3 * len(told) == tab.evaluate("document.images.length")
    assert [] == tab.evaluate(
        "[...document.images].filter(i => !i.src.startsWith('data:image/png;base64,')).map(i => i.src)"
    )
    links = tab.evaluate("[...document.links].map(a => a.getAttribute('href'))")
    assert [] == [one for one in links if not re.match(r"#[a-z-]+$", one)]
    attributes = (
        "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on'))"
    )
    assert [] == tab.evaluate(attributes)
    assert 0 == tab.evaluate(
        "document.querySelectorAll('iframe, object, embed, base, form, meta[content*=url]').length"
    )
    text = tab.evaluate("document.body.textContent")
    assert [] == [one for one in told if text.count(one) < 8]
    assert told[0] in tab.evaluate("document.title")
    cells = tab.evaluate("[...document.querySelectorAll('#parameters tbody th')].map(e => e.textContent)")
    assert set(told) <= set(cells)


def test_whatever_compared_runs_are_told_stays_text(shown):
    """The same for runs side by side."""
    runs = []
    for number in range(2):
        with tracelet.start_logging(HOSTILE[number], run_id=f"run-{number}", tags=HOSTILE) as run:
            everything(run, HOSTILE)
            run.log_params({one: f"{one}{number}" for one in HOSTILE})
        runs.append(run)
    tab = shown(*runs)

    assert tab.evaluate("typeof window.owned") == "undefined"
    assert [] == tab.complaints()
    assert 1 == len(tab.requests())
    assert (2, 0) == tuple(tab.evaluate("[document.scripts.length, document.images.length]"))
    cells = tab.evaluate("[...document.querySelectorAll('#parameters tbody th')].map(e => e.textContent)")
    assert set(HOSTILE) <= set(cells)
    assert [3] * len(HOSTILE) * 4 == count_points(tab)


def test_markup_that_got_in_would_do_nothing(shown):
    """The page forbids the browser everything but its own script: neither handlers, nor scripts, nor any request."""
    tab = shown(logged({"loss": [1.0]}))
    tab.evaluate("""document.body.insertAdjacentHTML("beforeend",
        "<img src='https://example.org/leak.png'><img src='data:,' onerror='window.owned = 1'>" +
        "<iframe src='https://example.org'></iframe><link rel=stylesheet href='https://example.org/x.css'>")""")
    tab.evaluate("""(() => { const made = document.createElement("script");
        made.textContent = "window.owned = 1"; document.body.append(made); })()""")
    refused = tab.evaluate("fetch('https://example.org').then(() => 'sent', error => error.name)")

    assert ("undefined", "TypeError") == (tab.evaluate("typeof window.owned"), refused)
    assert {"csp", "net::ERR_BLOCKED_BY_CSP"} == tab.refused()
    assert 5 <= len([one for one in tab.complaints() if "Content Security Policy" in str(one)])


def test_the_curves_are_drawn_point_by_point(shown):
    """Short curves whole; those that end in the same word in one chart; NaN and the infinities as gaps with marks."""
    values = [1.0, 0.5, math.nan, 0.25, 0.125, math.inf, -math.inf, 0.5]
    tab = shown(logged({"loss": [1 / (step + 1) for step in range(100)], "val/loss": [0.5] * 10, "odd": values}))

    assert ["loss", "odd"] == tab.evaluate("[...document.querySelectorAll('.chart h3')].map(e => e.textContent)")
    assert [100, 10, 5] == count_points(tab)
    assert ["×", "▲", "▼"] == tab.evaluate("[...document.querySelectorAll('.mark')].map(e => e.firstChild.textContent)")
    assert 3 == tab.evaluate(
        "document.querySelectorAll('.chart')[1].querySelector('path').getAttribute('d').match(/M/g).length"
    )
    assert [] == tab.complaints()


@pytest.mark.parametrize(
    "values",
    [
        [0.0],
        [5.0, 5.0],
        [-1.7e308, 1.7e308],
        [5e-324, 1e-323],
        [math.nan] * 3,
        [math.inf],
        [1e300, 1e300 * (1 + 1e-12)],
    ],
)
def test_any_curve_can_be_drawn(shown, values):
    """Values at the edges of a float: coordinates are numbers, on a logarithmic axis as well."""
    tab = shown(logged({"x": values}))
    for _ in range(2):
        attributes = tab.evaluate(
            "[...document.querySelectorAll('.plot svg *')].flatMap(e => [...e.attributes].map(a => a.value))"
        )
        labels = tab.evaluate("[...document.querySelectorAll('.plot text:not(.mark)')].map(e => e.textContent)")
        wrong = re.compile("NaN|undefined|Infinity|null")
        assert [] == [one for one in attributes + labels if wrong.search(one)]
        assert labels
        tab.evaluate("document.getElementById('logarithmic').click()")
    assert [] == tab.complaints()


def test_a_long_curve_is_thinned_and_keeps_its_peak(shown):
    """A hundred thousand points are drawn as some hundred, and the one outlier is among them."""
    values = [math.sin(step / 1000) for step in range(100_000)]
    values[70_007] = 9.0
    tab = shown(logged({"wave": values}))

    (drawn,) = count_points(tab)
    assert 200 < drawn < 2000
    assert 9.0 == tab.evaluate("Math.max(...JSON.parse(document.getElementById('charts').textContent)[0].curves[0].y)")


def box(tab, selector):
    """The rectangle of an element: left, top, width, height."""
    return tab.evaluate(
        f"(() => {{ const e = document.querySelector('{selector}'); e.scrollIntoView({{block: 'center'}});"
        " const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
    )


def test_pointing_at_a_chart_tells_the_values(shown):
    """Under the pointer stands each curve's nearest point, exactly."""
    tab = shown(logged({"loss": [1.25, 0.5, 0.123456789], "val/loss": [2.0, 3.0, 4.0]}))
    left, top, width, height = box(tab, ".plot svg")
    tab.move((left + width - 12, top + height / 2))

    tip = tab.evaluate("document.querySelector('.tip').innerText").split()
    assert {"step", "2", "loss", "0.12345679", "val/loss", "4"} == set(tip)


def test_a_stretch_of_a_curve_can_be_looked_at_closer(shown):
    """Dragging zooms, the button shows all of it again."""
    tab = shown(logged({"loss": [float(step) for step in range(100)]}))
    labels = "[...document.querySelectorAll('.plot svg > text')].map(e => e.textContent).join(' ')"
    whole = tab.evaluate(labels)
    left, top, width, height = box(tab, ".plot svg")
    assert tab.evaluate("document.querySelector('.reset').hidden")
    tab.drag((left + width * 0.5, top + height / 2), (left + width * 0.6, top + height / 2))

    closer = tab.evaluate(labels)
    assert closer != whole
    assert not tab.evaluate("document.querySelector('.reset').hidden")
    tab.evaluate("document.querySelector('.reset').click()")
    assert whole == tab.evaluate(labels)


def test_a_chart_can_be_read_with_the_keyboard(shown):
    """Arrows move from point to point, + and Escape change the view."""
    tab = shown(logged({"loss": [3.0, 2.0, 1.0]}))
    tab.evaluate("document.querySelector('.plot svg').focus()")
    said = []
    for key in ("ArrowRight", "ArrowRight", "End", "ArrowLeft", "Home"):
        tab.key(key)
        said.append(tab.evaluate("document.querySelector('.tip').innerText").split())
    assert [["step", str(step), str(3 - step)] for step in (0, 1, 2, 1, 0)] == said
    tab.key("+")
    assert not tab.evaluate("document.querySelector('.reset').hidden")
    tab.key("Escape")
    assert tab.evaluate("document.querySelector('.reset').hidden")


def test_curves_can_be_hidden_and_charts_filtered(shown):
    """A name in the legend is a switch; the filter leaves the charts whose names hold it."""
    tab = shown(logged({"loss": [1.0, 2.0], "val/loss": [1.0, 2.0], "accuracy": [1.0, 2.0]}))
    tab.evaluate("document.querySelector('.chart ul button').click()")
    assert [2, 2] == count_points(tab)
    assert ["false", "true"] == tab.evaluate(
        "[...document.querySelectorAll('.chart ul button')].map(b => b.getAttribute('aria-pressed'))"
    )
    tab.put("#filter", "VAL")
    assert [False, True] == tab.evaluate("[...document.querySelectorAll('.chart')].map(e => e.hidden)")
    assert "1 of 2 charts" == tab.evaluate("document.getElementById('found').textContent")


def test_a_logarithmic_axis(shown):
    """Powers of ten; what is not above zero is a gap."""
    tab = shown(logged({"loss": [100.0, 10.0, 1.0, 0.0, 0.1]}))
    tab.evaluate("document.getElementById('logarithmic').click()")

    labels = tab.evaluate("[...document.querySelectorAll('.plot text')].map(e => e.textContent)")
    assert {"0.1", "1", "10", "100"} <= set(labels)
    assert [4] == count_points(tab)


def test_many_charts_are_drawn_as_they_come_into_view(shown):
    tab = shown(logged({f"metric {number}": [1.0, 2.0] for number in range(60)}))
    drawn = (
        "new Promise(done => { const look = () => document.querySelectorAll('.chart')[{}].querySelector('path.curve')"
        " ? done(0) : requestAnimationFrame(look); look(); })"
    )
    tab.evaluate(drawn.replace("{}", "0"))
    assert 0 < len(count_points(tab)) < 60
    tab.evaluate("document.querySelectorAll('.chart')[59].scrollIntoView()")
    tab.evaluate(drawn.replace("{}", "59"))
    assert [] == tab.complaints()


def test_pictures_are_wound_through(shown):
    """One step at a time, the last first."""
    with tracelet.start_logging() as run:
        for step in range(0, 50, 10):
            run.log_image("sample", np.full((1, 8, 8), step, np.uint8), step)
    tab = shown(run)
    visible = "[...document.querySelectorAll('.frame')].filter(f => !f.hidden).map(f => f.innerText.trim())"
    assert ["step 40"] == tab.evaluate(visible)
    tab.put(".reel input", 1)

    assert ["step 10"] == tab.evaluate(visible)
    assert [8, 8] == tab.evaluate("[document.images[1].naturalWidth, document.images[1].naturalHeight]")


LONG = "a_name_without_any_place_to_break_it_" * 8


@pytest.mark.parametrize("width", [320, 768, 1400])
@pytest.mark.parametrize("several", [False, True])
def test_no_screen_is_too_narrow(shown, width, several):
    """Whatever the names: the page itself never scrolls sideways, and every chart is as wide as it may be."""
    runs = []
    for number in range(1 + 3 * several):
        with tracelet.start_logging(LONG, run_id=f"run-{number}", tags=[LONG], notes=LONG, backend="csv") as run:
            everything(run, ["loss", LONG])
            run.log_params({LONG: LONG * (1 + number), "layers": [64] * 200})
            run.log_table("wide", [[0.123456789] * 25], columns=[f"column {at}" for at in range(25)])
        runs.append(run)
    tab = shown(*runs, width=width)

    assert width == tab.evaluate("document.documentElement.scrollWidth")
    boxes = "[...document.querySelectorAll('main > section, .chart, .card, .top *')]"
    outside = f"{boxes}.filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    assert [] == tab.evaluate(f"{outside}.map(e => e.outerHTML.slice(0, 200))")
    assert tab.evaluate("document.querySelector('.plot').clientWidth") > 200


def test_the_page_follows_the_size_of_its_window(shown):
    tab = shown(logged({"loss": [1.0, 2.0]}), width=1400)
    before = tab.evaluate("document.querySelector('.plot svg').getAttribute('viewBox')")
    tab.resize(400)
    tab.settle()

    drawn = tab.evaluate("document.querySelector('.plot svg').getAttribute('viewBox')")
    assert drawn != before
    assert f"0 0 {tab.evaluate('document.querySelector(`.plot`).clientWidth')} 216".split()[:2] == drawn.split()[:2]


def test_dark_and_light(shown):
    """The page takes the colours that its reader prefers."""
    run = logged({"loss": [1.0, 2.0]})
    ink = "getComputedStyle(document.body).color + getComputedStyle(document.body).backgroundColor"
    seen = {shown(run, dark=dark).evaluate(ink) for dark in (False, True)}

    assert 2 == len(seen)


def test_everything_has_a_name_for_those_who_do_not_see_it(shown):
    """One h1, headings without leaps, labelled controls and pictures, a language, a way past the navigation."""
    with tracelet.start_logging("all kinds", backend="csv") as run:
        everything(run, ["a", "b"])
    tab = shown(run)

    levels = tab.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(e => Number(e.tagName[1]))")
    assert (1, 1) == (levels[0], levels.count(1))
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert "en" == tab.evaluate("document.documentElement.lang")
    assert "#content" == tab.evaluate("document.querySelector('a').getAttribute('href')")
    nameless = """[...document.querySelectorAll("input, button, img, svg[role=img], [role=group], section")].filter(e =>
        !(e.getAttribute("aria-label") || e.getAttribute("alt") || e.getAttribute("aria-labelledby") ||
          (e.labels && e.labels.length) || (e.tagName === "BUTTON" && e.textContent.trim()))).map(e => e.outerHTML)"""
    assert [] == tab.evaluate(nameless)
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(set(ids)) == len(ids)
    targets = tab.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href').slice(1))")
    assert set(targets) <= set(ids)
