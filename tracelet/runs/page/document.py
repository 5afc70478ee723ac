"""The frame of a page: its head, what it forbids the browser, its sections, its data, its script."""

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


class Section(NamedTuple):
    """`anchor` is its id; `parts` may be made as they are written."""

    anchor: str
    heading: str
    parts: Iterable[Markup]


def document(title: str, header: Markup, sections: Iterable[Section], data: Iterable[Markup]) -> Iterator[str]:
    """The page, piece by piece; `data` is the JSON of the charts."""
    sections = list(sections)
    script, style = _own("script.js"), _own("style.css")
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
    yield element("footer", f"Made by tracelet {__version__}, ", moment(time.time()), ".")
    yield '\n<script type="application/json" id="charts">'
    yield from data
    yield "</script>\n"
    yield element("script", script)
    yield "\n</body>\n</html>\n"


def moment(seconds: float) -> Markup:
    """A time of day here, with its zone: a page is read elsewhere, too."""
    try:
        when = datetime.fromtimestamp(seconds).astimezone()
    except (OverflowError, OSError, ValueError):
        return joined("at a time that no clock shows")
    return element("time", when.strftime("%Y-%m-%d %H:%M:%S %Z"), datetime=when.isoformat(timespec="seconds"))


def table(headings: Iterable[object], rows: Iterable[Iterable[object]], *, numbers: Iterable[int] = ()) -> Markup:
    """A table that scrolls inside itself where it is too wide; `numbers` are its right-aligned columns.

    Cells are text, or `Markup` of a whole cell's content. The first of a row is its heading.
    """
    right = set(numbers)

    def look(at: int) -> str | None:
        return "number" if at in right else None

    def cell(at: int, one: object) -> Markup:
        return element("td", one, class_=look(at)) if at else element("th", one, scope="row", class_=look(at))

    titles = [element("th", one, scope="col", class_=look(at)) for at, one in enumerate(headings)]
    body = (element("tr", *(cell(at, one) for at, one in enumerate(row))) for row in rows)
    inner = element("table", element("thead", element("tr", *titles)), element("tbody", *body))
    return element("div", inner, class_="scroll", tabindex="0", role="group", aria_label="Table")


def _head(title: str, script: Markup, style: Markup) -> list[Markup]:
    # Only what is written here may act: the hashes admit this style and this script, and nothing that a name or a text
    # of the run could smuggle in.
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{title} · tracelet"),
        element("link", rel="icon", href="data:,"),  # else a browser asks the server for one
        element("style", style),
    ]


def _navigation(sections: Iterable[Section]) -> Markup:
    links = [element("li", element("a", one.heading, href=f"#{one.anchor}")) for one in sections]
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
    """A file of this package; its text is ours."""
    return Markup(resources.files("tracelet.runs.page").joinpath(name).read_text(encoding="utf-8"))


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
