"""Build the page of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tracelet.runs.charts import of_run, system_last
from tracelet.runs.media import Gallery
from tracelet.runs.page import curves, drawings, media, tables, texts
from tracelet.runs.page.document import Section, document, table
from tracelet.runs.page.markup import Markup, element, joined
from tracelet.runs.report import RunReport

_SHOWN_KINDS = ("image", "audio", "video", "histogram", "text", "table", "pr_curve", "alert")


def run_page(report: RunReport, gallery: Gallery) -> Iterator[str]:
    """Yield the page in pieces, since the whole page may be large."""
    omissions: list[str] = []  # listed in the last section, after all others have added theirs
    folder = report.summary.folder
    grouped, single = curves.without_single_values(of_run(report.scalars))
    charts = curves.arrange(grouped, omissions)

    def shown_curves() -> Iterator[Markup]:
        yield from curves.chart_parts(charts)
        yield from curves.single_values(single)
        yield curves.statistics([report.scalars[tag] for tag in system_last(report.scalars)], omissions)

    def lazily(build: Callable[[], Markup]) -> Iterator[Markup]:
        yield build()

    pairs = tables.values
    console = texts.read_console(report)
    sections = [
        ("alerts", "Alerts", report.alerts, tables.alerts(report.alerts)),
        ("final", "Summary metrics", report.final, lazily(lambda: pairs(report.final, ("metric", "value"), omissions))),
        ("curves", "Curves", report.scalars, shown_curves()),
        ("pictures", "Images", gallery.images, media.images(gallery, folder, omissions)),
        ("audio", "Audio", gallery.audio, media.clips(gallery, "audio", folder, omissions)),
        ("videos", "Videos", gallery.videos, media.clips(gallery, "video", folder, omissions)),
        ("histograms", "Histograms", gallery.histograms, drawings.histograms(gallery.histograms, omissions)),
        ("pr-curves", "Precision and recall", gallery.pr_curves, drawings.pr_curves(gallery.pr_curves, omissions)),
        ("tables", "Tables", gallery.tables, media.tables(gallery, folder, omissions)),
        ("texts", "Texts", gallery.texts, texts.texts(gallery, omissions)),
        ("console", "Console", console, texts.console(console)),
        (
            "parameters",
            "Parameters",
            report.params,
            lazily(lambda: pairs(report.params, ("parameter", "value"), omissions)),
        ),
        (
            "artifacts",
            "Artifacts",
            report.artifacts,
            lazily(lambda: tables.artifacts(report.artifacts.values(), folder, omissions)),
        ),
        ("environment", "Environment", report.environment or report.git, tables.environment(report)),
        ("backends", "Backends", True, tables.backends(report)),
        ("not-shown", "Not on this page", True, _not_shown(report, gallery, omissions)),
    ]
    info = report.summary.info
    name = info.name or info.run_id
    header = joined(
        element("h1", name, " ", tables.badge(report.summary)),
        tables.chips(report.tags),
        element("p", info.notes, class_="plain") if info.notes else None,
        tables.overview(report),
    )
    shown = [Section(anchor, heading, parts) for anchor, heading, has_content, parts in sections if has_content]
    return document(name, header, shown, curves.chart_data(charts), ("media.js",))


def _not_shown(report: RunReport, gallery: Gallery, omissions: list[str]) -> Iterator[Markup]:
    lines = [*omissions]
    lines += [f"{count} records of kind {kind} with other tags" for kind, count in gallery.omitted.items()]
    lines += report.damaged
    alerts = sum(report.others.get("alert", {}).values())
    if alerts > len(report.alerts):
        lines.append(f"the first {alerts - len(report.alerts)} of {alerts} alerts")
    if lines:
        yield element("p", "Omitted to limit the size of the page, or not displayable:")
        yield element("ul", *(element("li", line) for line in lines))
    others = {kind: names for kind, names in report.others.items() if kind not in _SHOWN_KINDS}
    if others:
        yield element("p", "Kinds that this page does not show, but the journal contains:")
        yield table(("kind", "names", "records"), map(_kind_row, others.items()), numbers=(2,))
    if not lines and not others:
        yield element("p", "This page is complete.")


def _kind_row(entry: tuple[str, Mapping[str, int]]) -> list[Any]:
    kind, names = entry
    listed = ", ".join(list(names)[:20]) + (f", … ({len(names)})" if len(names) > 20 else "")
    return [kind, listed, str(sum(names.values()))]
