"""Build the tables of a run: status, parameters, alerts, artifacts, environment and backends."""

from __future__ import annotations

import base64
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tracelet.journal.status import BackendStatus
from tracelet.records import Alert, File
from tracelet.runs.format import command, commit, duration, machine, number, progress, size
from tracelet.runs.media import read_stored
from tracelet.runs.page.document import moment, table
from tracelet.runs.page.markup import Markup, element, joined, link, web_address
from tracelet.runs.report import ArtifactLine, Refusal, RunReport
from tracelet.runs.summary import RunSummary

_MAX_ROWS = 2_000
_MAX_CHARACTERS = 2_000
_MAX_DOWNLOAD, _MAX_DOWNLOADS = 1 << 20, 3 << 20
"""Bytes of one file that the page contains, and of all."""
_LEVELS = ("info", "warning", "error")


def badge(summary: RunSummary) -> Markup:
    return element("span", summary.status, class_=f"badge {summary.status}")


def ending(summary: RunSummary) -> Markup:
    """Return the status and the end of the run as a phrase."""
    code = summary.exit_code
    time = moment(summary.seen)
    match summary.status:
        case "running":
            return joined("running; state at ", time)
        case "crashed":
            return joined("crashed; last seen at ", time)
        case status:
            return joined(status, f" with exit code {code}" if code else None, ", ", time)


def facts(items: Mapping[str, object]) -> Markup:
    """Return names and values, except values that are None or empty."""
    pairs = [
        element("div", element("dt", name), element("dd", value))
        for name, value in items.items()
        if value not in (None, "")
    ]
    return element("dl", *pairs, class_="facts")


def overview(report: RunReport) -> Markup:
    summary = report.summary
    info = summary.info
    return facts(
        {
            "run": info.run_id,
            "project": info.project,
            "group": info.group,
            "started": moment(info.created),
            "duration": duration(summary.duration),
            "status": ending(summary),
            "command": command(report.environment),
            "commit": commit(report.git),
            "machine": machine(report.environment),
            "records": str(summary.records),
            "backends": joined(*(_progress(status) for status in summary.backends)),
        }
    )


def _progress(status: BackendStatus) -> Markup:
    incomplete = bool(status.pending or status.rejected or status.pending_upload)
    text = f"{status.name}: {progress(status)}"
    return element("span", text, class_="standing lacking" if incomplete else "standing")


def chips(tags: Iterable[str]) -> Markup | None:
    items = [element("li", tag) for tag in tags]
    return element("ul", *items, class_="chips", aria_label="Tags") if items else None


def values(items: Mapping[str, Any], headings: tuple[str, str], omissions: list[str]) -> Markup:
    """Return a table of names and values, sorted by name. Web addresses become links."""
    names = sorted(items)
    if len(names) > _MAX_ROWS:
        omissions.append(f"{len(names) - _MAX_ROWS} of {len(names)} rows of {headings[0]}s")
    return table(headings, ([_cut(name), value_of(items[name])] for name in names[:_MAX_ROWS]))


def value_of(value: Any) -> Markup:
    """Return a value as the content of a cell."""
    if isinstance(value, str):
        return link(value) if len(value) <= _MAX_CHARACTERS else joined(_cut(value))
    if isinstance(value, float) and math.isfinite(value):
        return element("span", number(value) if len(repr(value)) > 12 else repr(value), title=repr(value))
    return joined(_cut(str(value)))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"


def alerts(records: Iterable[Alert]) -> Iterator[Markup]:
    for alert in records:
        level = alert.level if alert.level in _LEVELS else "info"
        time = moment(alert.wall_time)
        head = element("p", element("strong", alert.title), " ", element("small", alert.level, ", ", time))
        text = element("p", _cut(alert.text), class_="plain") if alert.text else None
        yield element("div", head, text, class_=f"alert {level}")


def artifacts(lines: Iterable[ArtifactLine], folder: Path, omissions: list[str]) -> Markup:
    """Return a table of the artifacts of the run in `folder`. Small files can be downloaded from the page."""
    lines = list(lines)
    downloads = _Downloads(folder)
    if len(lines) > _MAX_ROWS:
        omissions.append(f"{len(lines) - _MAX_ROWS} of {len(lines)} artifacts")
    rows = []
    for line in lines[:_MAX_ROWS]:
        if line.files > len(line.listed):
            omissions.append(f"{line.files - len(line.listed)} of {line.files} files of the artifact {line.name!r}")
        numbers = (str(line.files), size(line.size), str(line.versions))
        rows.append([line.name, line.type, *numbers, *_contents(line, downloads)])
    if downloads.omitted:
        omissions.append(
            f"{downloads.omitted} larger files of artifacts; they are in the run folder, in files/, by their SHA-256"
        )
    return table(("artifact", "type", "files", "size", "versions", "SHA-256", "file"), rows, numbers=(2, 3, 4))


class _Downloads:
    """Links that contain files of the run in `folder`, within a limit of bytes."""

    def __init__(self, folder: Path) -> None:
        self.omitted = 0
        self._folder, self._remaining = folder, _MAX_DOWNLOADS

    def link(self, file: File) -> Markup:
        """Return a link that saves the file; a note if the page does not contain it."""
        limit = min(_MAX_DOWNLOAD, self._remaining)
        data = read_stored(self._folder, file.digest, limit) if file.size <= limit else None
        if data is None:
            self.omitted += 1
            return element("span", "in the run folder", class_="absent")
        self._remaining -= len(data)
        # A browser saves this type, and never shows it.
        address = Markup(f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}")
        return element("a", "Download", href=address, download=file.name.rpartition("/")[2] or "file", class_="save")


def _contents(line: ArtifactLine, downloads: _Downloads) -> tuple[Markup, Markup]:
    """Return the digest and the link of a single file, or a table of several."""
    if len(line.listed) == 1 and line.files == 1:
        return element("code", line.listed[0].digest), downloads.link(line.listed[0])
    rows = [[file.name, size(file.size), element("code", file.digest), downloads.link(file)] for file in line.listed]
    files = table(("name", "size", "SHA-256", "file"), rows, numbers=(1,))
    return element("details", element("summary", f"{line.files} files"), files), joined()


def environment(report: RunReport) -> Iterator[Markup]:
    """Yield the tables of git, host, job and packages."""
    items = {f"git {name}": value for name, value in report.git.items()}
    items |= {name: value for name, value in report.environment.items() if name not in ("job", "packages")}
    items |= dict(report.environment.get("job", {}))
    rows = ([name.replace("_", " ") if name.islower() else name, _fact(name, value)] for name, value in items.items())
    yield table(("name", "value"), rows)
    packages = report.environment.get("packages", {})
    if packages:
        versions = table(("package", "version"), packages.items())
        yield element("details", element("summary", f"{len(packages)} installed packages"), versions)


def _fact(name: str, value: Any) -> Markup:
    match value:
        case bool():
            return joined("yes" if value else "no")
        case int() if name.endswith("_bytes"):
            return joined(size(value))
        case list():
            return joined(shlex.join(map(str, value)) if name == "argv" else ", ".join(map(str, value)))
        case None:
            return joined("unknown")
        case _:
            return value_of(value)


def backends(report: RunReport) -> Iterator[Markup]:
    """Yield the counts, the page and the reasons of each backend, and its rejected records."""
    states = report.summary.backends
    if not states:
        yield element("p", "No backend. All records are stored in the journal.")
        return
    headings = ("backend", "delivered", "pending", "rejected", "filtered", "page", "reason")
    rows = (
        [
            status.name,
            *(str(count) for count in (status.delivered, status.pending, status.rejected, status.filtered)),
            _long(link(web_address(status.url) or status.url)) if status.url else "",
            _long(_reason(status)),
        ]
        for status in states
    )
    yield table(headings, rows, numbers=range(1, 5))
    for backend, refusals in report.refusals.items():
        yield element("h3", f"Rejected by {backend}")
        yield _refusals(refusals)
    if any(status.pending or status.pending_upload for status in states):
        yield element("p", "Pending records are stored in the journal. Run: ", element("code", "tracelet sync"))


def _long(content: object) -> Markup:
    """Return a cell with a minimum width, so that words are not broken early."""
    return element("div", content, class_="long") if content else joined()


def _reason(status: BackendStatus) -> str:
    reasons = []
    if status.pending_upload:
        reasons.append("recorded offline, not uploaded yet")
    if status.reason and (status.pending or status.pending_upload):
        reasons.append(status.short_reason)
    return "; ".join(reasons)


def _refusals(refusals: Iterable[Refusal]) -> Markup:
    return table(
        ("reason", "records", "first"),
        ([_long(refusal.reason), str(refusal.count), refusal.example] for refusal in refusals),
        numbers=(1,),
    )
