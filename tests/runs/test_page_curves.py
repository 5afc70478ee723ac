"""The charts of a page, as somebody reads them who knows TensorBoard."""

from __future__ import annotations

import csv
import io
import math
import random
import time

import pytest
from runs.pages import box, count_points, drawn, labels, logged

import tracelet
from tracelet.records import Scalar


def choose_axis(tab, name):
    tab.evaluate(f"document.getElementById('axis').value = '{name}'")
    tab.evaluate("document.getElementById('axis').dispatchEvent(new Event('change'))")


def tensorboards_smoothing(values, weight):
    """TensorBoard 2.20, tensorboard/webapp/widgets/line_chart_v2/.../smoothing: classicSmoothing."""
    last, smoothed = 0.0, []
    if all(value == values[0] for value in values):
        return values
    for count, value in enumerate(values, 1):
        last = last * weight + (1 - weight) * value
        smoothed.append(last / (1 - weight**count if weight != 1 else 1))
    return smoothed


def smoothed(tab, weight):
    tab.put("#smoothing", weight)
    lines = drawn(tab, "[line.smooth, [...values].map(v => v ?? null)]")
    return [values for is_smooth, values in lines if not is_smooth], [
        values for is_smooth, values in lines if is_smooth
    ]


def test_smoothing_is_tensorboards_and_leaves_the_values_behind_it(shown):
    """The debiased moving average, digit for digit; the values themselves stay, faint."""
    rng = random.Random(0)
    values = [rng.random() for _ in range(200)]
    tab = shown(logged({"loss": values, "same": [5.0] * 10}))

    assert ([values, [5.0] * 10], []) == smoothed(tab, 0)
    raw, smooth = smoothed(tab, 0.6)
    assert [values, [5.0] * 10] == raw
    assert tensorboards_smoothing(values, 0.6) == pytest.approx(smooth[0], rel=1e-12)
    assert [5.0] * 10 == smooth[1]
    strokes = tab.evaluate("tracelet.charts[0].plot.series.slice(1).map(s => s.stroke())")
    assert [9, 7] == [len(stroke) for stroke in strokes]  # the first has an alpha
    assert "0.60" == tab.evaluate("document.getElementById('smoothed').textContent")


def test_a_long_curve_is_smoothed_by_all_its_points(shown):
    """Not by the extremes that stand for them: a rare peak moves the average no more than it should."""
    tab = shown(logged({"loss": [100.0 if step % 50 == 0 else 1.0 for step in range(40_000)]}))
    _, (smooth,) = smoothed(tab, 0.9)

    assert [2.98] * 10 == pytest.approx([value for value in smooth if value is not None][-10:], abs=0.2)


@pytest.mark.parametrize("count", [3, 1000, 100_001])
def test_the_ends_of_a_curve_are_drawn_and_it_says_how_much_of_it(shown, count):
    """However long the curve: its first and its last point; the chart and the last section say what is left out."""
    tab = shown(logged({"line": [float(step) for step in range(count)]}))
    x, points = drawn(tab, "[chart.plot.data[0], values]")[0]

    assert ([0, count - 1], [0, count - 1]) == ([x[0], x[-1]], [points[0], points[-1]])
    said = tab.evaluate("document.querySelector('.chart .drawn')?.textContent ?? null")
    omitted = tab.evaluate("document.getElementById('not-shown').textContent")
    if len(points) == count:
        assert said is None
        assert "This page is complete." in omitted
    else:
        assert f"{len(points):,} of {count:,} points" == said
        assert f"{count - len(points):,} of {count:,} points" in omitted
        assert "complete" not in omitted


def test_the_x_axis_is_steps_or_time(shown):
    """Steps from 0, seconds since the first point, or the time of day; the pointer says the same."""
    start = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1))
    with tracelet.start_logging() as run:
        for step in range(0, 101, 10):
            run.log_metric("loss", 1.0 + step, step, wall_time=start + 36 * step)
    tab = shown(run)

    def look(axis):
        choose_axis(tab, axis)
        texts = labels(tab, "x")
        tab.evaluate("document.querySelector('.plot').focus()")
        tab.key("End")
        return texts[0], texts[-1], tab.evaluate("document.querySelector('.tip div').textContent")

    assert ("0", "100", "step 100") == look("step")
    assert ("0 s", "1 h", "1 h") == look("relative")
    assert ("12:00", "13:00", "2026-03-01 13:00:00") == look("wall")
    assert [] == tab.complaints()


@pytest.mark.parametrize("first", [0, 1, 49])
def test_step_0_is_on_the_axis(shown, first):
    """Also if the first point is a little later."""
    with tracelet.start_logging() as run:
        for step in range(first, 1000, 50):
            run.log_metric("loss", 1.0, step)
    tab = shown(run)

    assert "0" == labels(tab, "x")[0]
    assert 0 == tab.evaluate("tracelet.charts[0].plot.scales.x.min")


def test_charts_stand_in_sections_that_fold(shown):
    """By the first part of their names; charts alone in theirs come first, the machine's last."""
    names = ["loss", "weights/a", "weights/b", "optimizer/lr", "optimizer/momentum", "odd/one", "system/cpu_percent"]
    tab = shown(logged({name: [1.0, 2.0] for name in names}))
    found = tab.evaluate(
        "[...document.querySelectorAll('details.group')].map(g => [g.querySelector('summary').textContent,"
        " [...g.querySelectorAll('h3')].map(h => h.textContent)])"
    )

    assert [
        ["Charts 2 charts", ["loss", "odd/one"]],
        ["weights 2 charts", ["weights/a", "weights/b"]],
        ["optimizer 2 charts", ["optimizer/lr", "optimizer/momentum"]],
        ["System metrics 1 chart", ["system/cpu_percent"]],
    ] == found
    assert ["loss", "odd/one", "weights/a"] == tab.evaluate("tracelet.charts.slice(0, 3).map(c => c.data.title)")
    tab.evaluate("document.querySelector('.group summary').click()")
    assert not tab.evaluate("document.querySelector('.chart').checkVisibility()")


@pytest.mark.parametrize(
    ("text", "found", "note"),
    [
        ("^train/(loss|acc)", ["train/loss", "train/acc"], "2 of 4 charts"),
        ("LOSS", ["train/loss"], "1 of 4 charts"),
        ("a[", ["a[0]"], "1 of 4 charts (not a regular expression; searched as text)"),
        ("", ["train/loss", "train/acc", "a[0]", "lr"], ""),
    ],
)
def test_charts_are_searched_by_regular_expressions(shown, text, found, note):
    tab = shown(logged({name: [1.0] for name in ("train/loss", "train/acc", "a[0]", "lr")}))
    tab.put("#filter", text)

    visible = "tracelet.charts.filter(c => c.figure.checkVisibility()).map(c => c.data.title)"
    assert sorted(found) == sorted(tab.evaluate(visible))
    assert note == tab.evaluate("document.getElementById('found').textContent")


def test_the_series_of_one_add_scalars_share_a_chart(shown, tmp_path):
    """As in TensorBoard; other names below the same one have their own."""
    from torch.utils.tensorboard import SummaryWriter

    with tracelet.start_logging() as run, SummaryWriter(str(tmp_path / "logs")) as writer:
        for step in range(5):
            writer.add_scalars("waves", {"sin": math.sin(step), "cos": math.cos(step)}, step)
            writer.add_scalar("waves/other", 1.0, step)
    tab = shown(run)

    assert [["waves", ["waves/cos", "waves/sin"]], ["waves/other", ["waves/other"]]] == sorted(
        tab.evaluate("tracelet.charts.map(c => [c.data.title, c.curves.map(curve => curve.name).sort()])")
    )


def test_bytes_have_units_and_single_points_a_table(shown):
    """Of the machine's metrics: what was measured once needs no chart."""
    with tracelet.start_logging() as run:
        for step in range(4):
            run.log_metric("system/memory_bytes", (300 + 100 * step) * 2**20, step)
        run.log_metric("system/disk_total_bytes", 5 * 2**30, 0)
        run.log_metric("system/boot", 1.0, 0)
    tab = shown(run)

    assert ["system/memory_bytes"] == tab.evaluate("tracelet.charts.map(c => c.data.title)")
    assert {"384 MiB", "512 MiB"} <= set(labels(tab))
    tab.evaluate("document.querySelector('.plot').focus()")
    tab.key("End")
    assert "600 MiB" in tab.evaluate("document.querySelector('.tip').textContent")
    table = "[...document.querySelectorAll('.single tbody tr')].map(row => row.textContent)"
    assert ["system/disk_total_bytes5.0 GiB", "system/boot1"] == tab.evaluate(table)


def test_the_points_of_a_chart_can_be_saved(shown, tmp_path):
    """As CSV, with exact values and names of any kind."""
    values = [0.1, 1 / 3, math.nan, math.inf, 1e-300]
    with tracelet.start_logging() as run:
        for step, value in enumerate(values):
            run.log_metric('a "b", c', value, step, wall_time=1000.5 + step)
    tab = shown(run)
    tab.download_to(tmp_path / "saved")
    tab.evaluate("document.querySelector('.csv').click()")
    (path,) = tab.downloads(1)
    head, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))

    assert (["curve", "step", "wall_time", "value"], "a_b_c.csv") == (head, path.name)
    assert [('a "b", c', step, 1000.5 + step) for step in range(5)] == [
        (name, int(step), float(moment)) for name, step, moment, _ in rows
    ]
    assert [str(value) for value in values] == [str(float(row[3])) for row in rows]


def test_steps_that_begin_again_and_repeat_keep_all_their_points(shown):
    """A program that starts over draws a second line; points of one step stand above each other."""
    with tracelet.start_logging() as run:
        for step in (0, 1, 2, 3, 1, 2, 2, 2, 3):
            run.log_metric("loss", float(run.stats().submitted), step)
    tab = shown(run)

    assert [4, 5] == count_points(tab)
    assert 1 == tab.evaluate("tracelet.charts[0].curves.length")


def test_a_point_between_gaps_is_seen(shown):
    """A line of one point has no length; it is drawn as a dot."""
    values = [1.0, math.nan, 2.0, math.nan] * 30
    tab = shown(logged({"loss": values}))
    tab.settle()
    row = tab.evaluate("tracelet.charts[0].plot.series[1].points.filter(tracelet.charts[0].plot, 1, false)")
    assert list(range(0, 120, 2)) == row


def test_a_wall_time_beyond_the_calendar_leaves_the_rest(shown):
    """A program may log any; the steps are drawn, and the times are not."""
    with tracelet.start_logging() as run:
        run._orchestrator.submit(Scalar("loss", 1.0, 0, 1e300))
        run._orchestrator.submit(Scalar("loss", 2.0, 1, math.nan))
        run.log_metric("lr", 1.0, 0)
    tab = shown(run)
    assert [2, 1] == count_points(tab)
    choose_axis(tab, "wall")

    assert [0, 1] == count_points(tab)
    assert [] == tab.complaints()


def test_a_chart_expands_and_its_name_stays_in_its_card(shown):
    name = "a_long_name_without_spaces_" * 6
    tab = shown(logged({name: [1.0, 2.0]}))
    narrow = box(tab, ".chart")[2]
    tab.evaluate("document.querySelector('.widen').click()")
    tab.settle()

    assert box(tab, ".chart")[2] > 2 * narrow
    assert tab.evaluate("tracelet.charts[0].plot.width === tracelet.charts[0].host.clientWidth")
    assert tab.evaluate(
        "document.querySelector('.chart h3').scrollWidth <= document.querySelector('.chart').clientWidth"
    )
