"""What is read out of a journal for people."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracelet
from tracelet.importer import import_run
from tracelet.runs import report
from tracelet.runs.charts import group_by_name, is_stepless, of_run
from tracelet.runs.report import DownsampledSeries, sparkline

FLOATS = st.floats(allow_nan=True, allow_infinity=True)


def series_of(values, buckets=4):
    one = DownsampledSeries("x", buckets)
    for step, value in enumerate(values):
        one.add(step, value)
    return one


@given(st.lists(FLOATS, min_size=1, max_size=200))
def test_a_series_knows_its_extremes(values):
    """Count, first, last, and the extremes of what is a number, over all points whatever was kept of them."""
    one = series_of(values)
    numbers = [value for value in values if not math.isnan(value)]

    assert (len(values), repr(values[0]), repr(values[-1])) == (one.count, repr(one.first), repr(one.last))
    assert len(values) - len(numbers) == one.nans
    assert numbers == [] or (min(numbers), max(numbers)) == (one.minimum, one.maximum)


@given(st.lists(FLOATS, min_size=1, max_size=300))
def test_a_long_curve_keeps_its_shape_in_bounded_room(values):
    """However long: few points, in order, each one really logged, the extremes and anything odd among them."""
    points = series_of(values).points()

    assert len(points) <= 3 * 2 * 4 + 2
    assert {1, len(values)} <= {point.position for point in points}
    assert sorted(point.position for point in points) == [point.position for point in points]
    assert [repr(values[point.position - 1]) for point in points] == [repr(point.value) for point in points]
    finite = [value for value in values if math.isfinite(value)]
    kept = [point.value for point in points if math.isfinite(point.value)]
    assert (min(finite, default=0), max(finite, default=0)) == (min(kept, default=0), max(kept, default=0))
    assert (len(finite) < len(values)) == any(not math.isfinite(point.value) for point in points)


def test_a_short_curve_is_kept_whole():
    values = [0.5, math.nan, 2.0, math.inf, 1.0]

    assert [repr(value) for value in values] == [repr(point.value) for point in series_of(values).points()]


@given(st.lists(FLOATS, max_size=100), st.integers(1, 40))
def test_a_sparkline_has_the_width_it_was_given(values, width):
    """Any floats at all give at most `width` characters, and none of them is blank."""
    line = sparkline(values, width)

    assert min(width, len(values)) == len(line)
    assert set(line) <= set("▁▂▃▄▅▆▇█×↑↓")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], "▁▂▃▄▅▆▇█"),
        ([5.0, 5.0], "▄▄"),
        ([math.nan], "×"),
        ([-1.7e308, 1.7e308], "▁█"),
        ([0.0, 5e-324], "▁█"),
        ([-5e-324, 0.0, 5e-324], "▁▅█"),
        ([], ""),
    ],
)
def test_sparklines(values, line):
    assert line == sparkline(values)


def test_one_nan_in_a_long_curve_is_seen():
    """A single NaN among 10 000 points is in the sparkline."""
    values = [1.0] * 10_000
    values[7000] = math.nan

    assert "×" in series_of(values, buckets=256).sparkline(20)


def titles(names, charts=group_by_name):
    return {
        chart.title: [curve.name for curve in chart.curves]
        for chart in charts({one: DownsampledSeries(one) for one in names})
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["loss", "val/loss", "lr"], {"loss": ["loss", "val/loss"], "lr": ["lr"]}),
        (["train/epoch/acc"], {"train/epoch/acc": ["train/epoch/acc"]}),
        (["train/loss/ce", "val/loss/ce"], {"loss/ce": ["train/loss/ce", "val/loss/ce"]}),
        (["Loss/train", "Loss/test"], {"Loss": ["Loss/train", "Loss/test"]}),
        (["actor/loss", "critic/loss"], {"actor/loss": ["actor/loss"], "critic/loss": ["critic/loss"]}),
        (["val/accuracy"], {"val/accuracy": ["val/accuracy"]}),
        (["", "/"], {"": ["", "/"]}),
    ],
)
def test_curves_of_several_data_sets_share_a_chart(names, expected):
    """A curve alone is called by its whole name; several by the rest of it, and whole in the legend."""
    assert expected == titles(names)


def test_a_tag_of_several_writers_and_one_call_of_add_scalars_share_a_chart(tmp_path):
    """As in TensorBoard, live and imported; what merely begins or ends alike stays apart."""
    from torch.utils.tensorboard import SummaryWriter

    logs = tmp_path / "logs"
    with tracelet.start_logging(dir=tmp_path, root_logdir=str(logs)) as run:
        for name in ("a", "b"):
            with SummaryWriter(str(logs / name)) as writer:
                writer.add_scalar("loss", 1.0, 0)
                writer.add_scalar("waves/other", 1.0, 0)
                writer.add_scalars("waves", {"sin": 0.0, "cos": 1.0}, 0)
    imported = import_run(logs, base=tmp_path / "imported")
    live, later = (
        {chart.title: {curve.name for curve in chart.curves} for chart in of_run(report.read(folder).scalars)}
        for folder in (run.folder, imported.folder)
    )

    assert {
        "loss": {"a/loss", "b/loss"},
        "waves/other": {"a/waves/other", "b/waves/other"},
        "waves": {"a/waves/sin", "a/waves/cos", "b/waves/sin", "b/waves/cos"},
    } == live
    assert live == later


@given(st.integers(1, 400))
def test_the_means_of_a_long_curve_are_those_of_its_stretches(count):
    """Of all points, and at points that are there; the mean of a skewed curve is not that of its extremes."""
    values = [100.0 if step % 10 == 0 else 1.0 for step in range(count)]
    one = series_of(values)
    means = one.means()

    assert (means is None) == (count <= 8)
    if means is not None:
        assert set(means) <= {point.position for point in one.points()}
        assert count in means
        assert means[min(means)] < 60


def test_the_machines_curves_come_last():
    """What was measured of the machine shares no chart with what the program said."""
    assert ["loss", "cpu", "system/cpu"] == list(titles(["system/cpu", "loss", "cpu"], of_run))


def test_where_no_steps_were_given_the_order_takes_their_place():
    stepless, single, stepped = (
        [report.Point(at, step, 1.0) for at, step in points]
        for points in ([(1, 0), (2, 0)], [(1, 7)], [(1, 0), (2, 5)])
    )

    assert [True, False, False, False] == [is_stepless(one) for one in ([stepless], [single], [stepped], [])]


def test_a_run_is_read_as_it_was_written(tmp_path):
    """Scalars by name, parameters merged, everything else counted; the backends' numbers add up to the records."""
    with tracelet.start_logging(dir=tmp_path, backend="csv") as run:
        run.log_metrics({"loss": 0.5, "acc": 1.0})
        run.log_metric("loss", 0.25, 3)
        run.log_params({"lr": 0.1})
        run.log_text("note", "a")

    found = report.read(run.folder)

    assert {"loss": [(0, 0.5), (3, 0.25)], "acc": [(0, 1.0)]} == {
        name: [(point.step, point.value) for point in one.points()] for name, one in found.scalars.items()
    }
    assert ({"lr": 0.1}, {"text": {"note": 1}}) == (found.params, found.others)
    (csv,) = found.summary.backends
    assert found.summary.records == 5 == csv.delivered + csv.pending + csv.rejected + csv.filtered


def test_a_folder_without_a_journal_is_an_error(tmp_path):
    with pytest.raises(tracelet.JournalError, match=r"journal\.db"):
        report.summarise(tmp_path)


def test_damage_is_told_and_the_rest_is_read(tmp_path):
    """A batch whose checksum is wrong is named; the records before and after it are there."""
    import sqlite3

    with tracelet.start_logging(dir=tmp_path) as run:
        for step in range(3):
            run.log_metric("loss", float(step), step)
            run.flush()
    with sqlite3.connect(run.folder / "journal.db") as database:
        database.execute("UPDATE batches SET data = x'00' WHERE first = 2")
    database.close()

    found = report.read(run.folder)

    assert [0.0, 2.0] == [point.value for point in found.scalars["loss"].points()]
    assert ["records 2 to 2 are damaged (checksum)"] == found.damaged
