"""Render a run for notebooks: as HTML, and as text for a terminal or a saved notebook that is not trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tracelet.journal.status import BackendStatus
from tracelet.records import RunInfo
from tracelet.runs import charts
from tracelet.runs.format import clean, number
from tracelet.runs.page.markup import Markup, element, joined, link
from tracelet.runs.report import DownsampledSeries
from tracelet.runs.svg import charts_html

_COUNTS = ("delivered", "pending", "rejected", "filtered", "dropped")
_MAX_LINES = 40


def run_html(
    info: RunInfo, state: str, urls: Mapping[str, str | None], submitted: int, backends: Mapping[str, BackendStatus]
) -> Markup:
    """Return a table with the run's name, id, state and folder, and a link and counts for each backend.

    Plain HTML without scripts or style sheets: a saved notebook shows it even if tracelet is not installed.
    """
    facts = {"run": info.run_id, "project": info.project, "state": state, "folder": info.folder}
    rows = [_row(name, value) for name, value in facts.items() if value]
    rows.append(_row("records", str(submitted)))
    rows += [_row(name, *_backend_cell(urls.get(name), status)) for name, status in backends.items()]
    return element("div", element("strong", info.name or info.run_id), element("table", *rows))


def curves_html(series: Mapping[str, DownsampledSeries], note: str = "") -> Markup:
    """Return the charts of a run, and a note below them. No series, no charts."""
    return joined(charts_html(charts.of_run(series)) if series else None, element("p", note) if note else None)


def curves_text(series: Mapping[str, DownsampledSeries]) -> str:
    """Return a line for each of the first forty series: its curve in a few characters, and its last value."""
    tags = charts.system_last(series)
    names = [clean(tag) for tag in tags[:_MAX_LINES]]
    width = max(map(len, names), default=0)
    lines = [
        f"{name:<{width}}  {series[tag].sparkline(24):<24}  {number(series[tag].last, tag)}"
        for name, tag in zip(names, tags, strict=False)
    ]
    return "\n".join(lines + ([f"and {len(tags) - _MAX_LINES} more"] if len(tags) > _MAX_LINES else []))


def _row(name: str, *cell: object) -> Markup:
    return element("tr", element("th", name, style="text-align: left"), element("td", *cell, style="text-align: left"))


def _backend_cell(url: str | None, status: BackendStatus) -> Iterator[object]:
    if url:
        yield from (link(url), element("br"))
    yield ", ".join(_counts(status))


def _counts(status: BackendStatus) -> Iterator[str]:
    for name in _COUNTS:
        count = getattr(status, name)
        if count or name == "delivered":
            yield f"{count} {name}"
    if status.state != "connected":
        yield status.described_state
