"""Charts have the tables of those of the real wandb, and are drawn without matplotlib's global state."""

import builtins
import inspect
import io
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import wandb

from tracelet.compat.wandb import data_types as ours
from tracelet.compat.wandb import plot
from tracelet.compat.wandb.base import warn_once
from tracelet.compat.wandb.charts import draw
from tracelet.compat.wandb.errors import Error
from tracelet.records import Image, Table

RANDOM = np.random.default_rng(3)
LABELS = RANDOM.integers(0, 3, 60)
SCORES = RANDOM.dirichlet(np.ones(3), size=60)
CHARTS = ["line", "scatter", "bar", "histogram", "line_series", "confusion_matrix", "roc_curve", "pr_curve"]


def both(chart, *arguments, **options):
    """The chart of the real wandb, and ours."""
    return [getattr(module, chart)(*arguments, **options) for module in (wandb.plot, plot)]


def of_table(chart, **options):
    rows = [[1, 2.5, "x"], [2, 3.5, "y"]]
    return [
        getattr(module, chart)(types.Table(["a", "b", "c"], rows), **options)
        for module, types in ((wandb.plot, wandb), (plot, ours))
    ]


def assert_same(charts):
    real, own = charts
    assert real.table.columns == own.table.columns
    assert real.table.data == own.table.data
    assert real.spec.spec_name == own.spec.spec_name
    assert (real.spec.fields, real.spec.string_fields) == (own.spec.fields, own.spec.string_fields)
    for chart in charts:
        chart.set_key("key")
    assert real.spec.table_key == own.spec.table_key


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_has_the_arguments_of_wandb(chart):
    real, own = (inspect.signature(getattr(module, chart)) for module in (wandb.plot, plot))
    assert [(name, parameter.default) for name, parameter in real.parameters.items()] == [
        (name, parameter.default) for name, parameter in own.parameters.items()
    ]


@pytest.mark.parametrize(
    ("chart", "options"),
    [
        ("line", {"x": "a", "y": "b"}),
        ("line", {"x": "a", "y": "b", "stroke": "c", "title": "t", "split_table": True}),
        ("scatter", {"x": "a", "y": "b", "title": "t"}),
        ("bar", {"label": "c", "value": "b"}),
        ("histogram", {"value": "b", "title": "t"}),
    ],
)
def test_a_chart_of_a_table_is_that_of_wandb(chart, options):
    assert_same(of_table(chart, **options))


@pytest.mark.parametrize(
    ("xs", "ys", "options"),
    [
        ([1, 2, 3], [[4, 5, 6], [7, 8, 9]], {}),
        ([[1, 2], [3, 4, 5]], [[4, 5], [7, 8, 9]], {"keys": ["a", "b"], "title": "t", "xname": "step"}),
        (["p", "q"], [[1, 2]], {}),
        (np.arange(3), np.arange(6).reshape(2, 3), {}),
    ],
)
def test_line_series_are_those_of_wandb(xs, ys, options):
    assert_same(both("line_series", xs, ys, **options))


@pytest.mark.parametrize(("xs", "ys", "keys"), [([[1]], [[1], [2]], None), ([1], [[1]], ["a", "b"])])
def test_line_series_need_as_many_lines(xs, ys, keys):
    for module in (wandb.plot, plot):
        with pytest.raises(ValueError):
            module.line_series(xs, ys, keys)


@pytest.mark.parametrize(
    "options",
    [
        {"probs": SCORES, "y_true": LABELS.tolist()},
        {"preds": [0, 2, 1, 0], "y_true": [0, 1, 1, 2], "class_names": ["a", "b", "c"], "title": "t"},
        {"preds": ["cat", "dog"], "y_true": ["dog", "dog"]},
        {"preds": [5, 5], "y_true": [5, 7]},
    ],
)
def test_a_confusion_matrix_is_that_of_wandb(options):
    assert_same(both("confusion_matrix", **options))


@pytest.mark.parametrize(
    "options",
    [
        {"probs": SCORES, "preds": LABELS, "y_true": LABELS},
        {"preds": [1], "y_true": [1, 2]},
        {"preds": [0, 1, 2], "y_true": [0, 1, 2], "class_names": ["a"]},
    ],
)
def test_an_invalid_confusion_matrix_is_an_error(options):
    for module in (wandb.plot, plot):
        with pytest.raises(ValueError):
            module.confusion_matrix(**options)


@pytest.mark.parametrize("chart", ["roc_curve", "pr_curve"])
@pytest.mark.parametrize(
    "options",
    [
        {"y_true": LABELS, "y_probas": SCORES},
        {"y_true": LABELS.tolist(), "y_probas": SCORES.tolist(), "labels": ["a", "b", "c"], "title": "t"},
        {"y_true": LABELS, "y_probas": SCORES, "classes_to_plot": [0, 2], "split_table": True},
        {"y_true": np.array(["x", "y", "z"])[LABELS], "y_probas": SCORES},
    ],
)
def test_a_curve_is_that_of_wandb(chart, options):
    """The same points, rounded alike."""
    assert_same(both(chart, **options))


def test_a_long_curve_is_sampled_as_in_wandb(monkeypatch):
    monkeypatch.setattr(wandb.Table, "MAX_ROWS", 20)
    monkeypatch.setattr(ours.Table, "MAX_ROWS", 20)
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert_same(both("roc_curve", y_true=LABELS, y_probas=SCORES))
    assert_same(both("pr_curve", y_true=LABELS, y_probas=SCORES))


def test_curves_name_the_package_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(Error, match="pip install scikit-learn"):
        plot.roc_curve(LABELS, SCORES)


def test_a_chart_needs_a_table():
    for module, error in ((wandb.plot, wandb.Error), (plot, Error)):
        with pytest.raises(error):
            module.plot_table("wandb/line/v0", [[1]], {})
        with pytest.raises(error):
            module.visualize("id", [[1]])


def all_charts():
    for chart, options in (
        ("line", {"x": "a", "y": "b", "stroke": "c"}),
        ("scatter", {"x": "a", "y": "b"}),
        ("bar", {"label": "c", "value": "b"}),
        ("histogram", {"value": "b"}),
    ):
        yield of_table(chart, **options)[1]
    yield plot.line_series([1, 2], [[1, 2]])
    yield plot.confusion_matrix(preds=[0, 1], y_true=[0, 1])
    yield plot.pr_curve(LABELS, SCORES)


@pytest.mark.parametrize("chart", all_charts(), ids=lambda chart: chart.spec.spec_name)
def test_a_chart_is_logged_as_its_table_and_an_image(chart):
    table, image = chart.records("name", 3, 1.5)

    assert (Table, "name_table", 3) == (type(table), table.tag, table.step)
    assert (Image, "name", 640, 480, "png") == (type(image), image.tag, image.width, image.height, image.format)
    picture = PIL.Image.open(io.BytesIO(image.data)).convert("L")
    assert (640, 480) == picture.size
    assert 10 < len(set(picture.tobytes())), "nothing is drawn"
    assert chart.summary() == chart.table.summary()


def test_a_chart_without_matplotlib_is_its_table(monkeypatch, caplog):
    """A warning names matplotlib once."""
    chart, original = plot.line_series([1, 2], [[1, 2]], split_table=True), builtins.__import__

    def without_matplotlib(name, *arguments, **options):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    warn_once.cache_clear()
    tables = [*chart.records("name", 3, 1.5), *chart.records("name", 4, 1.5)]

    assert ["Custom Chart Tables/name_table"] * 2 == [table.tag for table in tables]
    assert 1 == caplog.text.count("pip install matplotlib")


def test_values_that_cannot_be_drawn_are_logged_as_the_table(caplog):
    chart = plot.scatter(ours.Table(["x", "y"], [[{"k": 1}, 2]]), "x", "y", title="odd")

    assert ["name_table"] == [record.tag for record in chart.records("name", 3, 1.5)]
    assert "the chart 'odd' is logged as its table alone: TypeError" in caplog.text


def test_a_chart_of_another_definition_is_its_table():
    assert draw("team/own/v1", ours.Table(["x"], [[1]]), {"x": "x"}, {}) is None
    assert ["name_table"] == [
        record.tag for record in plot.visualize("own", ours.Table(["x"], [[1]])).records("name", 0, 0.0)
    ]


def test_drawing_leaves_pyplot_alone():
    """Neither imported nor set to another backend; the program's current figure stays."""
    code = (
        "import sys; from tracelet.compat.wandb import plot; "
        "print(len(list(plot.line_series([1, 2], [[1, 2]]).records('a', 0, 0.0))), 'matplotlib.pyplot' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "2 False" == shown.stdout.strip()
