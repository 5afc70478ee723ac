"""The page of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tracelet.charts import machine_last, of_run
from tracelet.gallery import Gallery
from tracelet.page import curves, exhibits, facts
from tracelet.page.document import Section, document, table
from tracelet.page.markup import Markup, element, joined
from tracelet.report import RunReport

_SHOWN_KINDS = ("image", "histogram", "text", "table", "pr_curve", "alert")


def run_page(report: RunReport, gallery: Gallery) -> Iterator[str]:
    """The page, piece by piece: never all of it in memory."""
    left_out: list[str] = []  # told last, so that everything before it has been written
    folder = report.summary.folder
    charts = curves.fitting(of_run(report.scalars), left_out)

    def shown_curves() -> Iterator[Markup]:
        yield from curves.chart_parts(charts)
        yield curves.figures([report.scalars[tag] for tag in machine_last(report.scalars)], left_out)

    def one(make: Callable[[], Markup]) -> Iterator[Markup]:
        yield make()

    pairs = facts.values
    sections = [
        ("alerts", "Alerts", report.alerts, facts.alerts(report.alerts)),
        ("final", "Final figures", report.final, one(lambda: pairs(report.final, ("figure", "value"), left_out))),
        ("curves", "Curves", report.scalars, shown_curves()),
        ("pictures", "Pictures", gallery.pictures, exhibits.pictures(gallery, folder, left_out)),
        ("histograms", "Histograms", gallery.histograms, exhibits.histograms(gallery.histograms, left_out)),
        ("pr-curves", "Precision and recall", gallery.pr_curves, exhibits.pr_curves(gallery.pr_curves)),
        ("tables", "Tables", gallery.tables, exhibits.tables(gallery, folder, left_out)),
        ("texts", "Texts", gallery.texts, exhibits.texts(gallery.texts, left_out)),
        (
            "parameters",
            "Parameters",
            report.params,
            one(lambda: pairs(report.params, ("parameter", "value"), left_out)),
        ),
        ("artifacts", "Artifacts", report.artifacts, one(lambda: facts.artifacts(report.artifacts.values(), left_out))),
        ("environment", "Environment", report.environment or report.git, facts.environment(report)),
        ("backends", "Backends", True, facts.backends(report)),
        ("not-shown", "Not on this page", True, _not_shown(report, gallery, left_out)),
    ]
    info = report.summary.info
    name = info.name or info.run_id
    header = joined(
        element("h1", name, " ", facts.badge(report.summary)),
        facts.chips(report.tags),
        element("p", info.notes, class_="plain") if info.notes else None,
        facts.overview(report),
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
