"""The page of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tracelet.runs.charts import of_run, system_last
from tracelet.runs.media import Gallery
from tracelet.runs.page import curves, media, tables
from tracelet.runs.page.document import Section, document, table
from tracelet.runs.page.markup import Markup, element, joined
from tracelet.runs.report import RunReport

_SHOWN_KINDS = ("image", "histogram", "text", "table", "pr_curve", "alert")


def run_page(report: RunReport, gallery: Gallery) -> Iterator[str]:
    """The page, piece by piece: never all of it in memory."""
    left_out: list[str] = []  # told last, so that everything before it has been written
    folder = report.summary.folder
    charts = curves.fitting(of_run(report.scalars), left_out)

    def shown_curves() -> Iterator[Markup]:
        yield from curves.chart_parts(charts)
        yield curves.figures([report.scalars[tag] for tag in system_last(report.scalars)], left_out)

    def one(make: Callable[[], Markup]) -> Iterator[Markup]:
        yield make()

    pairs = tables.values
    sections = [
        ("alerts", "Alerts", report.alerts, tables.alerts(report.alerts)),
        ("final", "Final figures", report.final, one(lambda: pairs(report.final, ("figure", "value"), left_out))),
        ("curves", "Curves", report.scalars, shown_curves()),
        ("pictures", "Pictures", gallery.pictures, media.pictures(gallery, folder, left_out)),
        ("histograms", "Histograms", gallery.histograms, media.histograms(gallery.histograms, left_out)),
        ("pr-curves", "Precision and recall", gallery.pr_curves, media.pr_curves(gallery.pr_curves)),
        ("tables", "Tables", gallery.tables, media.tables(gallery, folder, left_out)),
        ("texts", "Texts", gallery.texts, media.texts(gallery.texts, left_out)),
        (
            "parameters",
            "Parameters",
            report.params,
            one(lambda: pairs(report.params, ("parameter", "value"), left_out)),
        ),
        (
            "artifacts",
            "Artifacts",
            report.artifacts,
            one(lambda: tables.artifacts(report.artifacts.values(), left_out)),
        ),
        ("environment", "Environment", report.environment or report.git, tables.environment(report)),
        ("backends", "Backends", True, tables.backends(report)),
        ("not-shown", "Not on this page", True, _not_shown(report, gallery, left_out)),
    ]
    info = report.summary.info
    name = info.name or info.run_id
    header = joined(
        element("h1", name, " ", tables.badge(report.summary)),
        tables.chips(report.tags),
        element("p", info.notes, class_="plain") if info.notes else None,
        tables.overview(report),
    )
    found = [Section(anchor, heading, parts) for anchor, heading, some, parts in sections if some]
    return document(name, header, found, curves.chart_data(charts))


def _not_shown(report: RunReport, gallery: Gallery, left_out: list[str]) -> Iterator[Markup]:
    """What the run has besides."""
    said = [*left_out]
    said += [f"{count} records of the kind {kind}, under other names" for kind, count in gallery.crowded_out.items()]
    said += report.damaged
    alerts = sum(report.others.get("alert", {}).values())
    if alerts > len(report.alerts):
        said.append(f"the first {alerts - len(report.alerts)} of {alerts} alerts")
    if said:
        yield element("p", "Left out, so that the page stays small, or because it cannot be shown:")
        yield element("ul", *(element("li", one) for one in said))
    others = {kind: names for kind, names in report.others.items() if not _is_shown(kind, gallery)}
    if others:
        yield element("p", "In the journal, and not of a kind that this page shows:")
        yield table(("kind", "names", "records"), map(_kind_row, others.items()), numbers=(2,))
    if not said and not others:
        yield element("p", "Everything that the run logged is here.")


def _is_shown(kind: str, gallery: Gallery) -> bool:
    return kind in _SHOWN_KINDS or (kind == "video" and bool(gallery.pictures))


def _kind_row(one: tuple[str, Mapping[str, int]]) -> list[Any]:
    kind, names = one
    listed = ", ".join(list(names)[:20]) + (f", … ({len(names)})" if len(names) > 20 else "")
    return [kind, listed, str(sum(names.values()))]
