"""A run as a notebook shows it."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from tracelet.delivery.status import DeliveryStats
from tracelet.records import RunInfo

_COUNTS = ("delivered", "pending", "rejected", "filtered", "dropped")


def run_html(
    info: RunInfo, state: str, urls: Mapping[str, str | None], submitted: int, backends: Mapping[str, DeliveryStats]
) -> str:
    """Name, id, state and folder, and for each backend a link to its page and what it has of the run.

    Plain HTML without a script or a style sheet: a notebook keeps it, and shows it where tracelet is not installed.
    """
    facts = {"run": info.run_id, "project": info.project, "state": state, "folder": info.folder}
    rows = [_row(name, html.escape(value)) for name, value in facts.items() if value]
    rows.append(_row("records", str(submitted)))
    rows += [_row(name, _standing(urls.get(name), stats)) for name, stats in backends.items()]
    return f"<div><strong>{html.escape(info.name or info.run_id)}</strong><table>{''.join(rows)}</table></div>"


def _row(name: str, cell: str) -> str:
    return f'<tr><th style="text-align: left">{html.escape(name)}</th><td style="text-align: left">{cell}</td></tr>'


def _standing(url: str | None, stats: DeliveryStats) -> str:
    counts = ", ".join(_counts(stats))
    if not url:
        return counts
    shown = html.escape(url)
    # A page on the web alone is a link: what else a vendor calls an address (a folder) a browser would not open.
    link = f'<a href="{shown}" target="_blank" rel="noopener">{shown}</a>' if _is_page(url) else shown
    return f"{link}<br>{counts}"


def _counts(stats: DeliveryStats) -> Iterator[str]:
    for name in _COUNTS:
        count = getattr(stats, name)
        if count or name == "delivered":
            yield f"{count} {'waiting' if name == 'pending' else name}"
    if stats.state != "connected":
        yield html.escape(stats.state)


def _is_page(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False
