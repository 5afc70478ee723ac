"""What is said of a run as a whole: how it ended, parameters, artifacts, backends."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracelet.records import Alert
from tracelet.runs.format import command, commit, duration, machine, number, progress, size
from tracelet.runs.page.document import moment, table
from tracelet.runs.page.markup import Markup, element, joined, link, web_address
from tracelet.runs.report import ArtifactLine, BackendState, Refusal, RunReport, RunSummary

_MOST_ROWS = 2_000
_MOST_LETTERS = 2_000
_LEVELS = ("info", "warning", "error")


def badge(summary: RunSummary) -> Markup:
    return element("span", summary.status, class_=f"badge {summary.status}")


def ending(summary: RunSummary) -> Markup:
    """How the run ended, in a sentence's part."""
    code = summary.exit_code
    when = moment(summary.seen)
    match summary.status:
        case "running":
            return joined("going on; this page shows it as it was at ", when)
        case "crashed":
            return joined("its process ended without a word; the last sign of life is of ", when)
        case status:
            return joined(status, f" with exit code {code}" if code else None, ", ", when)


def facts(told: Mapping[str, object]) -> Markup:
    """Names and values; without those that are None or empty."""
    pairs = [
        element("div", element("dt", name), element("dd", value))
        for name, value in told.items()
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
            "took": duration(summary.duration),
            "ended": ending(summary),
            "command": command(report.environment),
            "commit": commit(report.git),
            "machine": machine(report.environment),
            "records": str(summary.records),
            "backends": joined(*(_standing(state) for state in summary.backends)),
        }
    )


def _standing(state: BackendState) -> Markup:
    lacks = bool(state.pending or state.rejected or state.pending_upload)
    return element("span", f"{state.name}: {progress(state)}", class_="standing lacking" if lacks else "standing")


def chips(words: Iterable[str]) -> Markup | None:
    items = [element("li", word) for word in words]
    return element("ul", *items, class_="chips", aria_label="Tags") if items else None


def values(told: Mapping[str, Any], headings: tuple[str, str], left_out: list[str]) -> Markup:
    """Names and plain values, sorted by name; a value that is a web address is a link."""
    names = sorted(told)
    if len(names) > _MOST_ROWS:
        left_out.append(f"{len(names) - _MOST_ROWS} of {len(names)} rows of {headings[0]}s")
    return table(headings, ([_cut(name), value_of(told[name])] for name in names[:_MOST_ROWS]))


def value_of(value: Any) -> Markup:
    """A plain value as a cell."""
    if isinstance(value, str):
        return link(value) if len(value) <= _MOST_LETTERS else joined(_cut(value))
    if isinstance(value, float) and math.isfinite(value):
        return element("span", number(value) if len(repr(value)) > 12 else repr(value), title=repr(value))
    return joined(_cut(str(value)))


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"


def alerts(told: Iterable[Alert]) -> Iterator[Markup]:
    for one in told:
        level = one.level if one.level in _LEVELS else "info"
        head = element("p", element("strong", one.title), " ", element("small", one.level, ", ", moment(one.wall_time)))
        yield element(
            "div", head, element("p", _cut(one.text), class_="plain") if one.text else None, class_=f"alert {level}"
        )


def artifacts(lines: Iterable[ArtifactLine], left_out: list[str]) -> Markup:
    """Name, files, size, versions, digest."""
    every = list(lines)
    if len(every) > _MOST_ROWS:
        left_out.append(f"{len(every) - _MOST_ROWS} of {len(every)} artifacts")
    rows = []
    for one in every[:_MOST_ROWS]:
        if one.files > len(one.listed):
            left_out.append(f"{one.files - len(one.listed)} of {one.files} files of the artifact {one.name!r}")
        rows.append([one.name, one.type, str(one.files), size(one.size), str(one.versions), _contents(one)])
    return table(("artifact", "type", "files", "size", "versions", "SHA-256"), rows, numbers=(2, 3, 4))


def _contents(one: ArtifactLine) -> Markup:
    if len(one.listed) == 1 and one.files == 1:
        return element("code", one.listed[0].digest)
    rows = [[file.name, size(file.size), element("code", file.digest)] for file in one.listed]
    inside = table(("file", "size", "SHA-256"), rows, numbers=(1,))
    return element("details", element("summary", f"{one.files} files"), inside)


def environment(report: RunReport) -> Iterator[Markup]:
    """What was collected of the commit, and of what the program ran on."""
    told = {f"git {name}": value for name, value in report.git.items()}
    told |= {name: value for name, value in report.environment.items() if name not in ("job", "packages")}
    told |= dict(report.environment.get("job", {}))
    rows = ([name.replace("_", " ") if name.islower() else name, _fact(name, value)] for name, value in told.items())
    yield table(("fact", "value"), rows)
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
            return joined("not known")
        case _:
            return value_of(value)


def backends(report: RunReport) -> Iterator[Markup]:
    """How far each backend is, where to look at the run there, and why something is not there."""
    states = report.summary.backends
    if not states:
        yield element("p", "No backend: the journal has it all.")
        return
    headings = ("backend", "delivered", "waiting", "rejected", "filtered", "page", "why something waits")
    rows = (
        [
            state.name,
            *(str(count) for count in (state.delivered, state.pending, state.rejected, state.filtered)),
            _long(link(web_address(state.url) or state.url)) if state.url else "",
            _long(_trouble(state)),
        ]
        for state in states
    )
    yield table(headings, rows, numbers=range(1, 5))
    for backend, refusals in report.refusals.items():
        yield element("h3", f"What {backend} refused")
        yield _refusals(refusals)
    if any(state.pending or state.pending_upload for state in states):
        yield element(
            "p", "What waits is safe in the journal, and is delivered by ", element("code", "tracelet sync"), "."
        )


def _long(content: object) -> Markup:
    """A cell that is given room before its words are broken."""
    return element("div", content, class_="long") if content else joined()


def _trouble(state: BackendState) -> str:
    said = []
    if state.pending_upload:
        said.append("recorded offline by the vendor, to be handed over")
    if state.trouble and (state.pending or state.pending_upload):
        said.append(state.trouble.removeprefix(f"{state.name}: "))
    return "; ".join(said)


def _refusals(refusals: Iterable[Refusal]) -> Markup:
    return table(
        ("reason", "records", "the first"),
        ([_long(one.reason), str(one.count), one.example] for one in refusals),
        numbers=(1,),
    )
