"""Build the sections of texts, rendered from Markdown, and of the console."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tracelet.runs.media import Gallery, TextExcerpt, read_stored
from tracelet.runs.page.drawings import caption
from tracelet.runs.page.markup import Markup, element
from tracelet.runs.report import RunReport

_LOG = "console.log"
_MAX_LOG = 256 << 10
# Colors and cursor movements of a terminal, and the titles of its window.
_ESCAPE = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[@-Z\\\\-_])")


def texts(gallery: Gallery, omissions: list[str]) -> Iterator[Markup]:
    """Yield the texts of each tag. If it has several steps, the page's script shows one at a time."""
    for tag, excerpts in gallery.selected_texts().items():
        count = gallery.texts[tag].count
        if len(excerpts) < count:
            omissions.append(f"{count - len(excerpts)} of {count} texts of {tag!r}")
        frames = element("div", *_frames(tag, excerpts, omissions), class_="frames")
        yield element("figure", caption(tag), frames, class_="card reel text")


def _frames(tag: str, excerpts: Sequence[TextExcerpt], omissions: list[str]) -> Iterator[Markup]:
    from tracelet.runs.page.markdown import rendered  # here: other commands need not load the library

    for excerpt in excerpts:
        omitted = excerpt.length - len(excerpt.text)
        if omitted > 0:
            omissions.append(f"{omitted} of {excerpt.length} characters of the text {tag!r}, step {excerpt.step}")
        body = rendered(excerpt.text)
        yield element("div", *body, element("p", f"step {excerpt.step}"), class_="frame", data_step=excerpt.step)


def read_console(report: RunReport) -> str | None:
    """Return the end of the program's output as readable text; None if it was not captured."""
    artifact = report.artifacts.get(_LOG)
    folder = report.summary.folder
    data = None
    if artifact is not None and len(artifact.listed) == 1:
        data = read_stored(folder, artifact.listed[0].digest, 64 << 20)
    elif not (folder / _LOG).is_symlink():
        try:
            data = (folder / _LOG).read_bytes()
        except OSError:
            return None
    return None if data is None else plain_output(data.decode("utf-8", "replace"))


def plain_output(text: str) -> str:
    """Return the output of a program as a terminal would leave it: without colors, and with the last progress bar."""
    lines = _ESCAPE.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(next((part for part in reversed(line.split("\r")) if part), "") for line in lines).rstrip("\n")


def console(text: str | None) -> Iterator[Markup]:
    """Yield the output; of a long one, the end."""
    text = text or ""
    if len(text) > _MAX_LOG:
        yield element("p", f"The last {_MAX_LOG:,} of {len(text):,} characters.", class_="hint")
    output = text[-_MAX_LOG:]
    yield element("pre", "\n", output, class_="console", tabindex="0", role="group", aria_label="Output of the program")
