"""Render a run as HTML for notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from tracelet.journal.status import BackendStatus
from tracelet.records import RunInfo

_COUNTS = ("delivered", "pending", "rejected", "filtered", "dropped")


def run_html(
    info: RunInfo, state: str, urls: Mapping[str, str | None], submitted: int, backends: Mapping[str, BackendStatus]
) -> str:
    """Return a table with the run's name, id, state and folder, and a link and counts for each backend.

    Plain HTML without scripts or style sheets: a saved notebook shows it even if tracelet is not installed.
    """
    facts = {"run": info.run_id, "project": info.project, "state": state, "folder": info.folder}
    rows = [_row(name, html.escape(value)) for name, value in facts.items() if value]
    rows.append(_row("records", str(submitted)))
    rows += [_row(name, _backend_cell(urls.get(name), status)) for name, status in backends.items()]
    return f"<div><strong>{html.escape(info.name or info.run_id)}</strong><table>{''.join(rows)}</table></div>"


def _row(name: str, cell: str) -> str:
    return f'<tr><th style="text-align: left">{html.escape(name)}</th><td style="text-align: left">{cell}</td></tr>'


def _backend_cell(url: str | None, status: BackendStatus) -> str:
    counts = ", ".join(_counts(status))
    if not url:
        return counts
    text = html.escape(url)
    # Link only web pages: a browser cannot open other addresses, such as a folder.
    link = f'<a href="{text}" target="_blank" rel="noopener">{text}</a>' if _is_page(url) else text
    return f"{link}<br>{counts}"


def _counts(status: BackendStatus) -> Iterator[str]:
    for name in _COUNTS:
        count = getattr(status, name)
        if count or name == "delivered":
            yield f"{count} {name}"
    if status.state != "connected":
        yield html.escape(status.described_state)


def _is_page(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False
