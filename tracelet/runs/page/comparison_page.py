"""The page of several runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tracelet.runs.comparison import MISSING, Comparison, Row
from tracelet.runs.format import duration
from tracelet.runs.page import curves
from tracelet.runs.page.document import Section, document, moment, table
from tracelet.runs.page.markup import Markup, element, joined
from tracelet.runs.page.tables import badge, ending, value_of
from tracelet.runs.report import DownsampledSeries

_MOST_ROWS = 2_000


def comparison_page(comparison: Comparison) -> Iterator[str]:
    """The page, piece by piece."""
    left_out: list[str] = []
    charts = curves.fitting(comparison.charts(), left_out)
    differing = comparison.differing
    alike = len(comparison.params) - len(differing)

    def params() -> Iterator[Markup]:
        if differing:
            yield _lines("parameter", comparison, differing, left_out)
        said = f"The same in all of them: {alike} of {len(comparison.params)} parameters."
        yield element("p", said, class_="hint")

    def shown_curves() -> Iterator[Markup]:
        yield from curves.chart_parts(charts)

    def one(make: Callable[[], Markup]) -> Iterator[Markup]:
        yield make()

    sections = [
        ("runs", "Runs", True, one(lambda: _runs(comparison))),
        ("parameters", "Parameters that differ", comparison.params, params()),
        (
            "final",
            "Final figures",
            comparison.final,
            one(lambda: _lines("figure", comparison, comparison.final, left_out)),
        ),
        ("curves", "Curves", charts, shown_curves()),
        ("figures", "Figures of the curves", comparison.common, one(lambda: _figures(comparison, left_out))),
        ("not-shown", "Not on this page", True, _not_shown(comparison, left_out)),
    ]
    header = element("h1", f"{len(comparison.runs)} runs side by side")
    found = [Section(anchor, heading, parts) for anchor, heading, some, parts in sections if some]
    return document(" · ".join(comparison.labels), header, found, curves.chart_data(charts))


def _headings(first: str, comparison: Comparison) -> list[object]:
    return [first, *(joined(curves.swatch(at), label) for at, label in enumerate(comparison.labels))]


def _runs(comparison: Comparison) -> Markup:
    rows = [
        ["run", *(run.summary.info.run_id for run in comparison.runs)],
        ["project", *(run.summary.info.project or "" for run in comparison.runs)],
        ["status", *(badge(run.summary) for run in comparison.runs)],
        ["ended", *(ending(run.summary) for run in comparison.runs)],
        ["started", *(moment(run.summary.info.created) for run in comparison.runs)],
        ["took", *(duration(run.summary.duration) for run in comparison.runs)],
        ["tags", *(", ".join(run.tags) for run in comparison.runs)],
        ["records", *(str(run.summary.records) for run in comparison.runs)],
    ]
    return table(_headings("fact", comparison), [row for row in rows if any(row[1:])])


def _lines(word: str, comparison: Comparison, lines: Sequence[Row], left_out: list[str]) -> Markup:
    if len(lines) > _MOST_ROWS:
        left_out.append(f"{len(lines) - _MOST_ROWS} of {len(lines)} rows of {word}s")
    rows = ([line.name, *(_cell(value) for value in line.shown)] for line in lines[:_MOST_ROWS])
    return table(_headings(word, comparison), rows)


def _cell(value: object) -> Markup:
    return element("span", "not given", class_="absent") if value is MISSING else value_of(value)


def _figures(comparison: Comparison, left_out: list[str]) -> Markup:
    common = list(comparison.common.items())
    if len(common) > _MOST_ROWS:
        left_out.append(f"the figures of {len(common) - _MOST_ROWS} of {len(common)} series")
    rows = ([tag, *(_series(one) for one in found)] for tag, found in common[:_MOST_ROWS])
    return joined(
        table(_headings("scalar", comparison), rows),
        element("p", "The last value; in brackets the lowest and the highest.", class_="hint"),
    )


def _series(one: DownsampledSeries | None) -> Markup:
    if one is None:
        return element("span", "not logged", class_="absent")
    last, low, high = map(curves.figure, (one.last, one.minimum, one.maximum))
    return joined(last, element("small", " (", low, " to ", high, ")"))


def _not_shown(comparison: Comparison, left_out: list[str]) -> Iterator[Markup]:
    said = [*left_out]
    alone = [tag for tag in comparison.series if tag not in comparison.common]
    if alone:
        listed = ", ".join(alone[:20]) + (", …" if len(alone) > 20 else "")
        said.append(f"{len(alone)} series that only one of the runs has: {listed}")
    for label, run in zip(comparison.labels, comparison.runs, strict=True):
        said += [f"{label}: {damage}" for damage in run.damaged]
    if said:
        yield element("ul", *(element("li", one) for one in said))
    yield element(
        "p",
        "Pictures, histograms, texts and artifacts are on each run's own page: ",
        element("code", "tracelet show RUN --html page.html"),
    )
