"""Runs to show, and what a browser has drawn of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from runs.browser import Page

import tracelet
from tracelet import Experiment

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


def logged(points: Mapping[str, Iterable[float]], **arguments: Any) -> Experiment:
    """A run with `points`, {name: values}."""
    with tracelet.start_logging(**arguments) as run:
        for name, values in points.items():
            for step, value in enumerate(values):
                run.log_metric(name, value, step)
    return run


def everything(run: Experiment, names: Sequence[str]) -> None:
    """Each kind of thing that the page shows, under each of the names."""
    for at, name in enumerate(names):
        for step in range(3):
            run.log_metric(name, step / 3, step)
            run.log_metric(f"{name}/loss", step / 3, step)
            run.log_image(name, np.full((3, 8, 8), 40 * step, np.uint8), step, caption=name)
            run.log_audio(name, np.zeros(100), step, sample_rate=8000)
            run.log_histogram(name, np.linspace(-1, step, 50), step)
        run.log_text(name, name)
        run.log_text(f"{name} rendered", f"# {name}\n\n- {name}\n\n| {name} |\n|---|\n| {name} |\n")
        run.log_table(name, [[name, 1.0]], columns=[name, "b"])
        run.log_params({name: name, f"list {at}": [name]})
        run.summary[name] = name
        run.alert(name, name, "error")
        run.log_artifact(name.encode(), f"{at}/{name.replace('/', '|')}.txt")


def drawn(tab: Page, expression: str) -> Any:
    """The value of an expression for each line that is drawn: of `chart`, `line`, and its `values`."""
    tab.settle()
    return tab.evaluate(
        "tracelet.charts.filter(chart => chart.plot).flatMap(chart => chart.lines.map((line, index) => "
        "({chart, line, values: chart.plot.data[index + 1]})).filter(({line}) => line.curve.visible))"
        f".map(({{chart, line, values}}) => {expression})"
    )


def count_points(tab: Page) -> Any:
    """The points of each drawn line."""
    return drawn(tab, "values.filter(value => typeof value === 'number').length")


def labels(tab: Page, axis: str = "y", chart: int = 0) -> Any:
    """The labels of an axis."""
    tab.settle()
    return tab.evaluate(f"tracelet.charts[{chart}].plot.axes[{'xy'.index(axis)}]._values")


def box(tab: Page, selector: str) -> Any:
    """The rectangle of an element: left, top, width, height."""
    return tab.evaluate(
        f"(() => {{ const e = document.querySelector('{selector}'); e.scrollIntoView({{block: 'center'}});"
        " const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
    )
