"""Render texts from Markdown. HTML in them stays text."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from tracelet.runs.page.markup import Markup, element, visible

_SCHEMES = ("http", "https", "mailto")


def rendered(text: str) -> Iterator[Markup]:
    """Yield a text, rendered from Markdown, and its source if that looks different.

    HTML in it stays text, images become links, and links with other schemes than http, https and mailto stay text.
    """
    plain = visible(text)
    tokens = _markdown().parse(plain)
    if all(token.type in ("paragraph_open", "inline", "paragraph_close") for token in tokens) and all(
        child.type in ("text", "softbreak") for token in tokens for child in token.children or ()
    ):
        yield element("pre", "\n", text, dir="auto")  # browsers drop a line end right after <pre>
        return
    body = _markdown().renderer.render(tokens, _markdown().options, {})
    yield element("div", Markup(body), class_="markdown", dir="auto")
    yield element("details", element("summary", "Source"), element("pre", "\n", text, dir="auto"), class_="source")


@functools.cache
def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}, renderer_cls=_Renderer)
    markdown.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline"])
    markdown.validateLink = _is_allowed  # type: ignore[method-assign, assignment]
    return markdown


def _is_allowed(address: str) -> bool:
    try:
        return urlsplit(address).scheme in _SCHEMES
    except ValueError:
        return False


class _Renderer(RendererHTML):
    """Render links like those of the page, tables that scroll, and headings below the page's own."""

    def heading_open(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        return f'<h4 class="{tokens[index].tag}">'

    def heading_close(self, *_: Any) -> str:
        return "</h4>\n"

    def link_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        tokens[index].attrs |= {"rel": "noopener noreferrer", "target": "_blank"}
        return self.renderToken(tokens, index, options, env)

    def table_open(self, *_: Any) -> str:
        return '<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>\n'

    def table_close(self, *_: Any) -> str:
        return "</table></div>\n"
