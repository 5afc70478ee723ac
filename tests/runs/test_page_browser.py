"""The pages of `tracelet show --html` and `tracelet compare --html` in a real browser, which can reach nothing."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from runs.pages import HOSTILE, box, count_points, drawn, everything, labels, logged

import tracelet


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
    assert 3 * len(told) == tab.evaluate("document.querySelectorAll('main img').length")
    assert [] == tab.evaluate(
        "[...document.querySelectorAll('main img')].filter(i => !i.src.startsWith('data:image/png;base64,'))"
        ".map(i => i.src)"
    )
    assert {"data:audio/wav"} == set(
        tab.evaluate("[...document.querySelectorAll('audio')].map(a => a.src.split(';')[0])")
    )
    links = tab.evaluate(
        "[...document.links].map(a => [a.getAttribute('href').slice(0, 40), a.hasAttribute('download')])"
    )
    saved = "data:application/octet-stream;base64,"
    assert [] == [(one, is_file) for one, is_file in links if not re.match(saved if is_file else "#[a-z-]+$", one)]
    assert len(told) == sum(is_file for _, is_file in links)
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
    assert (2, 0) == tuple(tab.evaluate("[document.scripts.length, document.images.length]"))  # all values are texts
    cells = tab.evaluate("[...document.querySelectorAll('#parameters tbody th')].map(e => e.textContent)")
    assert set(HOSTILE) <= set(cells)
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")  # draws also what is not in view
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
    """Short curves whole; a metric of several data sets in one chart; NaN and the infinities as gaps with marks."""
    values = [1.0, 0.5, math.nan, 0.25, 0.125, math.inf, -math.inf, 0.5]
    tab = shown(logged({"loss": [1 / (step + 1) for step in range(100)], "val/loss": [0.5] * 10, "odd": values}))

    assert ["loss", "odd"] == tab.evaluate("[...document.querySelectorAll('.chart h3')].map(e => e.textContent)")
    assert [100, 10, 5] == count_points(tab)
    assert [[2, "NaN"], [5, "Infinity"], [6, "-Infinity"]] == tab.evaluate(
        "tracelet.charts[1].marks.map(mark => [mark.x, String(mark.y)])"
    )
    assert [None, None, None] == [drawn(tab, "values")[2][at] for at in (2, 5, 6)]
    assert 0 < tab.evaluate(PIXELS.replace("CHART", "1").replace("COLOR", "0, 121, 107"))
    assert [] == tab.complaints()


# How many pixels of a chart have a colour.
PIXELS = """(() => { const c = document.querySelectorAll(".plot canvas")[CHART], color = [COLOR];
    const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; let n = 0;
    for (let i = 0; i < d.length; i += 4)
        n += color.every((part, at) => Math.abs(d[i + at] - part) < 12) && d[i + 3] > 200;
    return n; })()"""


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
    """Values at the edges of a float: what is drawn are numbers, on a logarithmic axis as well."""
    tab = shown(logged({"x": values}))
    for _ in range(2):
        texts = [text for axis in "xy" for text in labels(tab, axis)]
        assert [] == [text for text in texts if re.search("NaN|undefined|Infinity|null", text)]
        assert texts
        scales = tab.evaluate("['x', 'y'].map(key => tracelet.charts[0].plot.scales[key]).map(s => s.max - s.min)")
        assert all(math.isfinite(span) and span > 0 for span in scales)
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


def test_pointing_at_a_chart_tells_the_values(shown):
    """Under the pointer stands each curve's nearest point, exactly."""
    tab = shown(logged({"loss": [1.25, 0.5, 0.123456789], "val/loss": [2.0, 3.0, 4.0]}))
    left, top, width, height = box(tab, ".plot .u-over")
    tab.move((left + width - 4, top + height / 2))

    tip = tab.evaluate("document.querySelector('.tip').innerText").split()
    assert {"step", "2", "loss", "0.12345679", "val/loss", "4"} == set(tip)


def test_a_stretch_of_a_curve_can_be_looked_at_closer(shown):
    """Dragging zooms, the button shows all of it again."""
    tab = shown(logged({"loss": [float(step) for step in range(100)]}))
    whole = labels(tab, "x")
    left, top, width, height = box(tab, ".plot .u-over")
    assert tab.evaluate("document.querySelector('.reset').hidden")
    tab.drag((left + width * 0.5, top + height / 2), (left + width * 0.6, top + height / 2))

    assert labels(tab, "x") != whole
    assert not tab.evaluate("document.querySelector('.reset').hidden")
    tab.evaluate("document.querySelector('.reset').click()")
    assert whole == labels(tab, "x")


def test_a_chart_can_be_read_with_the_keyboard(shown):
    """Arrows move from point to point, + and Escape change the view."""
    tab = shown(logged({"loss": [3.0, 2.0, 1.0]}))
    tab.evaluate("document.querySelector('.plot').focus()")
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

    assert {"0.1", "1", "10", "100"} <= set(labels(tab))
    assert [4] == count_points(tab)


def test_many_charts_are_drawn_as_they_come_into_view(shown):
    tab = shown(logged({f"metric {number}": [1.0, 2.0] for number in range(60)}))
    wait = (
        "new Promise(done => { const look = () => tracelet.charts[{}].plot"
        " ? done(0) : requestAnimationFrame(look); look(); })"
    )
    tab.evaluate(wait.replace("{}", "0"))
    assert 0 < len(count_points(tab)) < 60
    tab.evaluate("document.querySelectorAll('.chart')[59].scrollIntoView()")
    tab.evaluate(wait.replace("{}", "59"))
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
    tab.settle()
    before = tab.evaluate("tracelet.charts[0].plot.width")
    tab.resize(400)
    tab.settle()

    assert before > tab.evaluate("tracelet.charts[0].plot.width") == tab.evaluate("tracelet.charts[0].host.clientWidth")


def test_dark_and_light(shown):
    """The page takes the colours that its reader prefers."""
    run = logged({"loss": [1.0, 2.0]})
    ink = "getComputedStyle(document.body).color + getComputedStyle(document.body).backgroundColor"
    tabs = [shown(run, dark=dark) for dark in (False, True)]
    teal, bright = (PIXELS.replace("CHART", "0").replace("COLOR", color) for color in ("0, 121, 107", "77, 208, 184"))

    assert 2 == len({tab.evaluate(ink) for tab in tabs})
    assert [(True, False), (False, True)] == [(tab.evaluate(teal) > 0, tab.evaluate(bright) > 0) for tab in tabs]
    tabs[1].call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    tabs[1].settle()
    assert tabs[1].evaluate(teal) > 0


def test_nothing_moves_for_those_who_ask_for_it(shown):
    tab = shown(logged({"loss": [1.0, 2.0]}))
    moving = "getComputedStyle(document.querySelector('.widen')).transitionDuration"
    assert "0s" not in tab.evaluate(moving).split(", ")
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])

    assert "0s" == tab.evaluate(moving)


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
