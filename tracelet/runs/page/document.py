"""Build the frame of a page: head, content security policy, sections, data and script."""

from __future__ import annotations

import base64
import functools
import hashlib
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib import resources
from typing import NamedTuple

from tracelet.runs.page.markup import Markup, element, joined
from tracelet.version import __version__

_CHART_SCRIPTS = (
    "uplot/uPlot.iife.min.js",
    *(f"scripts/{name}.js" for name in ("common", "axes", "curves", "chart", "charts")),
)


class Section(NamedTuple):
    """A section of a page. `anchor` is its id; `parts` may be a generator."""

    anchor: str
    heading: str
    parts: Iterable[Markup]


def document(
    title: str, header: Markup, sections: Iterable[Section], data: Iterable[Markup], scripts: Iterable[str]
) -> Iterator[str]:
    """Yield the page in pieces. `data` is the JSON of the charts; `scripts` are files to run after theirs."""
    sections = list(sections)
    license = Markup(f"/*\n{_own('uplot/LICENSE')}\n*/")
    parts = (*_CHART_SCRIPTS, *(f"scripts/{name}" for name in scripts))
    script = Markup("\n".join((license, *map(_own, parts))))
    style = Markup(_own("uplot/uPlot.min.css") + _own("style.css"))
    yield "<!doctype html>\n"
    yield '<html lang="en">\n'
    yield element("head", *_head(title, script, style))
    yield "\n<body>\n"
    yield element("a", "Skip to the content", href="#content", class_="skip")
    yield element("header", header, _navigation(sections), class_="top")
    yield '\n<main id="content">\n'
    for section in sections:
        yield from _section(section)
    yield "</main>\n"
    yield element("footer", f"Created by tracelet {__version__}, ", moment(time.time()), ".")
    yield '\n<script type="application/json" id="charts">'
    yield from data
    yield "</script>\n"
    yield element("script", script)
    yield "\n</body>\n</html>\n"


def moment(seconds: float) -> Markup:
    """Return the local date and time with the time zone, since a page may be read elsewhere."""
    try:
        date = datetime.fromtimestamp(seconds).astimezone()
    except (OverflowError, OSError, ValueError):
        return joined("invalid time")
    return element("time", date.strftime("%Y-%m-%d %H:%M:%S %Z"), datetime=date.isoformat(timespec="seconds"))


def table(headings: Iterable[object], rows: Iterable[Iterable[object]], *, numbers: Iterable[int] = ()) -> Markup:
    """Return a table that scrolls if it is too wide. `numbers` are the right-aligned columns.

    Cells are text or `Markup`. The first cell of a row is its heading.
    """
    right = set(numbers)

    def style(column: int) -> str | None:
        return "number" if column in right else None

    def cell(column: int, content: object) -> Markup:
        if column:
            return element("td", content, class_=style(column))
        return element("th", content, scope="row", class_=style(column))

    titles = [element("th", title, scope="col", class_=style(column)) for column, title in enumerate(headings)]
    body = (element("tr", *(cell(column, content) for column, content in enumerate(row))) for row in rows)
    inner = element("table", element("thead", element("tr", *titles)), element("tbody", *body))
    return element("div", inner, class_="scroll", tabindex="0", role="group", aria_label="Table")


def _head(title: str, script: Markup, style: Markup) -> list[Markup]:
    # The hashes allow this style and this script only. Names and texts of a run cannot add others.
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    return [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{title} · tracelet"),
        element("link", rel="icon", href="data:,"),  # otherwise a browser requests an icon from the server
        element("style", style),
    ]


def _navigation(sections: Iterable[Section]) -> Markup:
    links = [element("li", element("a", section.heading, href=f"#{section.anchor}")) for section in sections]
    return element("nav", element("ul", *links), aria_label="Sections")


def _section(section: Section) -> Iterator[str]:
    yield f'<section id="{section.anchor}" aria-labelledby="{section.anchor}-heading">\n'
    yield element("h2", section.heading, id=f"{section.anchor}-heading")
    for part in section.parts:
        yield "\n"
        yield part
    yield "\n</section>\n"


@functools.cache
def _own(name: str) -> Markup:
    """Return a file of this package as trusted markup."""
    return Markup(resources.files("tracelet.runs.page").joinpath(name).read_text(encoding="utf-8"))


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
