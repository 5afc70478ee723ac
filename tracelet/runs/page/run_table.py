"""Build the table of many runs, one row each, and the data of their parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tracelet.records import is_system_metric
from tracelet.runs.comparison import MISSING, Comparison, Row
from tracelet.runs.format import duration
from tracelet.runs.page import curves
from tracelet.runs.page.document import moment
from tracelet.runs.page.markup import Markup, element, joined, json_text
from tracelet.runs.page.tables import badge, value_of

_MAX_COLUMNS = 40
_MAX_AXES = 10
_MAX_CHARACTERS = 200


class _Column(NamedTuple):
    """A column of the table. `keys` sort its cells: numbers, texts, or None if a run has no value."""

    heading: object
    cells: Sequence[object]
    keys: Sequence[Any]
    is_equal: bool = False


def run_table(comparison: Comparison, omissions: list[str]) -> Iterator[Markup]:
    """Yield a table with a row for each run, which the page's script sorts and filters."""
    columns = _columns(comparison, omissions)
    equal = sum(column.is_equal for column in columns)
    yield element(
        "div",
        element("label", "Runs ", element("input", type="search", id="run-filter", placeholder="regular expression")),
        equal_toggle(equal) if equal else None,
        element("span", id="runs-found", role="status"),
        class_="controls",
    )
    labels = [
        element("th", curves.swatch(index), label, scope="row", data_sort=label)
        for index, label in enumerate(comparison.labels)
    ]
    head = element("tr", element("th", "run", scope="col"), *(_heading(column) for column in columns))
    body = [
        element("tr", label, *(_cell(column, index) for column in columns), data_run=index)
        for index, label in enumerate(labels)
    ]
    inner = element("table", element("thead", head), element("tbody", *body), class_="sortable", id="run-table")
    yield element("div", inner, class_="scroll", tabindex="0", role="group", aria_label="Runs")
    yield element("p", "The search also selects the curves below. Click on a heading to sort.", class_="hint")


def equal_toggle(count: int) -> Markup:
    """Return a control that shows elements of the class `equal`."""
    box = element("input", type="checkbox", id="equal", checked=True)
    return element("label", box, f" Hide {count} equal parameter{'' if count == 1 else 's'}")


def _heading(column: _Column) -> Markup:
    hidden = {"class_": "equal", "hidden": True} if column.is_equal else {}
    return element("th", column.heading, scope="col", **hidden)


def _cell(column: _Column, index: int) -> Markup:
    key = column.keys[index]
    is_number = isinstance(key, (int, float)) and not isinstance(key, bool)
    classes = [*(["number"] if is_number else []), *(["equal"] if column.is_equal else [])]
    return element(
        "td",
        column.cells[index],
        class_=" ".join(classes) or None,
        hidden=column.is_equal,
        data_sort=None if key is None else key,
    )


def _columns(comparison: Comparison, omissions: list[str]) -> list[_Column]:
    """Return what is different first, and what is equal last."""
    equal = [row for row in comparison.params if not row.differs]
    common = [(tag, series) for tag, series in comparison.common.items() if not is_system_metric(tag)]
    summaries = [run.summary for run in comparison.runs]
    return [
        _Column("status", [badge(summary) for summary in summaries], [summary.status for summary in summaries]),
        *_limited("differing parameters", comparison.differing, _row, omissions),
        *_limited("summary metrics", comparison.final, _row, omissions),
        *_limited("last values of curves", common, lambda item: _last(*item), omissions),
        *_facts(comparison),
        *_limited("equal parameters", equal, lambda row: _row(row)._replace(is_equal=True), omissions),
    ]


def _facts(comparison: Comparison) -> Iterator[_Column]:
    summaries = [run.summary for run in comparison.runs]
    created = [summary.info.created for summary in summaries]
    yield _Column("started", [moment(time) for time in created], created)
    durations = [summary.duration for summary in summaries]
    yield _Column("duration", [duration(seconds) for seconds in durations], durations)
    if any(run.tags for run in comparison.runs):
        tags = [", ".join(run.tags) for run in comparison.runs]
        yield _Column("tags", tags, tags)


def _limited(
    name: str, items: Sequence[Any], build: Callable[[Any], _Column], omissions: list[str]
) -> Iterator[_Column]:
    if len(items) > _MAX_COLUMNS:
        omissions.append(f"{len(items) - _MAX_COLUMNS} of {len(items)} columns of {name}")
    yield from map(build, items[:_MAX_COLUMNS])


def _row(row: Row) -> _Column:
    cells = [_absent() if value is MISSING else value_of(value) for value in row.shown]
    return _Column(row.name, cells, [_key(value) for value in row.values])


def _last(tag: str, series: Sequence[Any]) -> _Column:
    cells = [_absent() if one is None else curves.short_numbers(one, "last")[0] for one in series]
    heading = joined(tag, element("small", " last"))
    return _Column(heading, cells, [None if one is None else _key(one.last) for one in series])


def _absent() -> Markup:
    return element("span", "–", class_="absent", title="not set")


def _key(value: Any) -> Any:
    """Return a number or a short text; None if there is no value. Text that says a number sorts as one."""
    if value is MISSING or value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value if math.isfinite(value) else str(value)
    return str(value)[:_MAX_CHARACTERS]


def parallel(comparison: Comparison) -> Iterator[Markup]:
    """Yield an empty figure and its data, if there are parameters and results to draw."""
    params = [{"name": row.name, "values": [_key(value) for value in row.values]} for row in comparison.differing]
    results = list(_results(comparison))
    options = (element("option", result["name"], value=index) for index, result in enumerate(results))
    yield element(
        "div",
        element("label", "Result ", element("select", *options, id="result")),
        element("button", "Clear selection", type="button", id="clear", hidden=True),
        class_="controls",
    )
    yield element("div", class_="parallel card", id="parallel-plot")
    hint = "A line is a run, colored by its result. Drag along an axis to select runs in the table and the charts."
    yield element("p", hint, class_="hint")
    data = {"labels": comparison.labels, "params": params[:_MAX_AXES], "results": results}
    yield element("script", json_text(data), type="application/json", id="compared")


def has_parallel(comparison: Comparison) -> bool:
    return len(comparison.runs) > 2 and bool(comparison.differing) and any(True for _ in _results(comparison))


def _results(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Yield the numbers that a run ends with: summary metrics, and the last values of curves."""
    candidates: Iterable[tuple[str, Sequence[Any]]] = (
        *((row.name, [_key(value) for value in row.values]) for row in comparison.final),
        *(
            (f"{tag} (last)", [None if one is None else _key(one.last) for one in series])
            for tag, series in comparison.common.items()
            if not is_system_metric(tag)
        ),
    )
    for name, values in candidates:
        numbers = [value if isinstance(value, (int, float)) else None for value in values]
        if len({number for number in numbers if number is not None}) > 1:
            yield {"name": name, "values": numbers}
