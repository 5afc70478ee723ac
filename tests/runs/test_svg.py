"""Charts without scripts: what is drawn of odd values, and how much of a large run."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from tracelet.runs import charts, svg
from tracelet.runs.report import DownsampledSeries


def of(curves):
    """The HTML for series of (step, value) points, or of values."""
    series = {}
    for tag, points in curves.items():
        writer = tag.partition("/")[0] if "/" in tag else ""
        series[tag] = DownsampledSeries(tag, svg.BUCKETS, writer=writer)
        for step, point in enumerate(points):
            series[tag].add(*(point if isinstance(point, tuple) else (step, point)))
    return svg.charts_html(charts.of_run(series))


def drawn(curves):
    """The only chart as XML, its paths, and its texts."""
    (text,) = re.findall(r"<svg.*?</svg>", of(curves), re.DOTALL)
    root = ElementTree.fromstring(text)
    lines = [one.get("d") for one in root.iter("path") if one.get("fill") == "none"]
    return root, lines, [one.text for one in root.iter("text")]


def test_a_curve_is_a_line_from_corner_to_corner():
    _, (line,), texts = drawn({"loss": [(10, 1.0), (20, 3.0), (30, 2.0)]})
    assert "M58.0 148.0L189.0 10.0L320.0 79.0" == line
    assert ["1", "2", "3", "10", "30"] == texts


def test_what_is_not_finite_is_a_gap_with_a_mark():
    """A point between two gaps is a dot."""
    values = [0.0, 1.0, math.nan, 0.5, math.inf, -math.inf, 0.25, 0.5]
    _, (line,), texts = drawn({"loss": values})
    assert [2, 1, 2] == [len(part.split("L")) for part in line.split("M")[1:]]
    assert 1 == line.count("h0")
    assert {"×", "▲", "▼"} <= set(texts)
    _, lines, texts = drawn({"loss": [math.nan] * 50})
    assert ([], 20) == (lines, texts.count("×"))


@pytest.mark.parametrize(
    "points",
    [
        [1e308, -1e308, 0.0],
        [5e-324, 0.0],
        [(0, 1.0), (10**400, 2.0), (-(10**400), 3.0)],
        [(7, 1.0), (7, 2.0), (7, 3.0)],
        [(3, 1.0), (2, 2.0), (1, 0.0)],
        [0.5],
    ],
    ids=["overflow", "subnormal", "steps", "stepless", "backwards", "one"],
)
def test_every_point_is_inside(points):
    _, (line,), _ = drawn({"loss": points})
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", line.removesuffix("h0"))]
    assert 2 * len(points) == len(numbers)
    assert all(58 <= x <= 320 for x in numbers[::2])
    assert all(10 <= y <= 148 for y in numbers[1::2])


def test_labels_of_close_values_differ():
    _, _, texts = drawn({"loss": [1.00000001, 1.00000003]})
    assert ["1.00000001", "1.00000002", "1.00000003"] == texts[:3]


def test_train_and_val_are_one_chart_and_sections_have_names():
    tags = ("train/loss", "val/loss", "train/lr", "opt/a", "opt/b", "acc", "system/cpu")
    text = of({tag: [1.0, 2.0] for tag in tags})
    assert ["opt"] == re.findall(r"<h4[^>]*>(.*?)</h4>", text)
    assert ["loss", "train/lr", "acc", "opt/a", "opt/b"] == re.findall(r"<figcaption[^>]*>(.*?)</figcaption>", text)
    for name in ("train/loss: ", "val/loss: "):
        assert f"</span> {name}2</div>" in text
    assert "system" in of({"system/cpu": [1.0]})


def test_names_stay_text():
    evil = "</svg><script>alert(1)</script>\"'&\x00\u202e/"
    text = of({f"{evil}a": [1.0], f"{evil}b": [1.0], evil: [1.0]})
    assert "<script" not in text
    for chart in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert "</svg><script>alert(1)</script>\"'&\\x00\\u202e/" in (ElementTree.fromstring(chart)[0].text or "")


def test_a_large_run_has_a_bounded_size():
    """Three hundred series of 5,000 points: 24 charts of eight curves."""
    values = [math.sin(step) if step % 50 else math.nan for step in range(5000)]
    text = of({f"{part}/{name}": values for part in range(10) for name in range(30)})
    assert (24, 24 * 8) == (text.count("<svg"), text.count('stroke-linecap="round"'))
    assert "24 of 30 charts" in text
    assert "and 2 more" in text
    assert len(text) < 1_000_000
