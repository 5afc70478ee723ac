"""Build the page of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tracelet.runs.comparison import MISSING, Comparison, Row
from tracelet.runs.format import duration
from tracelet.runs.page import curves, run_table
from tracelet.runs.page.document import Section, document, moment, table
from tracelet.runs.page.markup import Markup, element, joined
from tracelet.runs.page.tables import badge, ending, value_of
from tracelet.runs.report import DownsampledSeries

_MAX_ROWS = 2_000
_MAX_RUN_COLUMNS = 8
"""With more runs, tables have one row for each run instead of one column."""


def comparison_page(comparison: Comparison) -> Iterator[str]:
    """Yield the page in pieces."""
    omissions: list[str] = []
    grouped, single = curves.without_single_values(comparison.charts())
    charts = curves.arrange(grouped, omissions)
    is_wide = len(comparison.runs) > _MAX_RUN_COLUMNS
    if single and is_wide:
        omissions.append(f"{len({series.tag for series in single})} system metrics of one point")

    def lazily(build: Callable[[], Markup]) -> Iterator[Markup]:
        yield build()

    sections: list[tuple[str, str, object, Iterator[Markup]]]
    if is_wide:
        sections = [("runs", "Runs", True, run_table.run_table(comparison, omissions))]
    else:
        sections = [
            ("runs", "Runs", True, lazily(lambda: _runs(comparison))),
            ("parameters", "Differing parameters", comparison.params, _params(comparison, omissions)),
            (
                "final",
                "Summary metrics",
                comparison.final,
                lazily(lambda: _rows("metric", comparison, comparison.final, omissions)),
            ),
        ]
    has_parallel = run_table.has_parallel(comparison)
    sections += [
        ("parallel", "Parallel coordinates", has_parallel, run_table.parallel(comparison)),
        ("curves", "Curves", charts, curves.chart_parts(charts, legends=not is_wide)),
    ]
    if not is_wide:
        figures = lazily(lambda: _statistics(comparison, omissions))
        sections.append(("figures", "Curve statistics", comparison.common, figures))
    sections.append(("not-shown", "Not on this page", True, _not_shown(comparison, omissions)))
    header = element("h1", f"Comparison of {len(comparison.runs)} runs")
    shown = [Section(anchor, heading, parts) for anchor, heading, has_content, parts in sections if has_content]
    title = " · ".join(comparison.labels[:_MAX_RUN_COLUMNS]) + (" · …" if is_wide else "")
    return document(title, header, shown, curves.chart_data(charts), ("runs.js", "parallel.js"))


def _headings(first: str, comparison: Comparison) -> list[object]:
    return [first, *(joined(curves.swatch(index), label) for index, label in enumerate(comparison.labels))]


def _runs(comparison: Comparison) -> Markup:
    rows = [
        ["run", *(run.summary.info.run_id for run in comparison.runs)],
        ["project", *(run.summary.info.project or "" for run in comparison.runs)],
        ["status", *(badge(run.summary) for run in comparison.runs)],
        ["end", *(ending(run.summary) for run in comparison.runs)],
        ["started", *(moment(run.summary.info.created) for run in comparison.runs)],
        ["duration", *(duration(run.summary.duration) for run in comparison.runs)],
        ["tags", *(", ".join(run.tags) for run in comparison.runs)],
        ["records", *(str(run.summary.records) for run in comparison.runs)],
    ]
    return table(_headings("property", comparison), [row for row in rows if any(row[1:])])


def _params(comparison: Comparison, omissions: list[str]) -> Iterator[Markup]:
    differing = comparison.differing
    equal = [row for row in comparison.params if not row.differs]
    if equal:
        yield element("div", run_table.equal_toggle(len(equal)), class_="controls")
    if differing:
        yield _rows("parameter", comparison, differing, omissions)
    text = f"Equal in all runs: {len(equal)} of {len(comparison.params)} parameters."
    yield element("p", text, class_="hint")
    if equal:
        yield element("div", _rows("parameter", comparison, equal, omissions), class_="equal", hidden=True)


def _rows(heading: str, comparison: Comparison, rows: Sequence[Row], omissions: list[str]) -> Markup:
    if len(rows) > _MAX_ROWS:
        omissions.append(f"{len(rows) - _MAX_ROWS} of {len(rows)} rows of {heading}s")
    cells = ([row.name, *(_cell(value) for value in row.shown)] for row in rows[:_MAX_ROWS])
    return table(_headings(heading, comparison), cells)


def _cell(value: object) -> Markup:
    return element("span", "not set", class_="absent") if value is MISSING else value_of(value)


def _statistics(comparison: Comparison, omissions: list[str]) -> Markup:
    common = list(comparison.common.items())
    if len(common) > _MAX_ROWS:
        omissions.append(f"the statistics of {len(common) - _MAX_ROWS} of {len(common)} series")
    rows = ([tag, *(_range(series) for series in runs)] for tag, runs in common[:_MAX_ROWS])
    return joined(
        table(_headings("scalar", comparison), rows),
        element("p", "Last value (lowest to highest).", class_="hint"),
    )


def _range(series: DownsampledSeries | None) -> Markup:
    if series is None:
        return element("span", "not logged", class_="absent")
    last, low, high = curves.short_numbers(series, "last", "minimum", "maximum")
    return joined(last, element("small", " (", low, " to ", high, ")"))


def _not_shown(comparison: Comparison, omissions: list[str]) -> Iterator[Markup]:
    lines = [*omissions]
    unshared = [tag for tag in comparison.series if tag not in comparison.common]
    if unshared:
        listed = ", ".join(unshared[:20]) + (", …" if len(unshared) > 20 else "")
        lines.append(f"{len(unshared)} series of one run only: {listed}")
    for label, run in zip(comparison.labels, comparison.runs, strict=True):
        lines += [f"{label}: {damage}" for damage in run.damaged]
    if lines:
        yield element("ul", *(element("li", line) for line in lines))
    yield element(
        "p",
        "Images, histograms, texts and artifacts are on the page of each run: ",
        element("code", "tracelet show RUN --html page.html"),
    )
