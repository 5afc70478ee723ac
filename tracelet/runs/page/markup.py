"""HTML from plain values. Whatever is not `Markup` is text, and is escaped here: nothing can be forgotten elsewhere."""

from __future__ import annotations

import html
import json
import re
from typing import Any
from urllib.parse import urlsplit

_VOID = {"br", "img", "input", "link", "meta"}
# Control characters; those that turn the direction of the line, so that a name reads as another; halves of characters,
# which have no UTF-8. Tabs, line ends and the joiners that many scripts need stay.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Markup(str):
    """Text that is HTML already. Made by the functions of this module alone."""

    __slots__ = ()


def visible(text: object) -> str:
    """The text, with characters that would not be seen spelled out."""
    plain = str(text).replace("\r\n", "\n")
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), plain)


def joined(*parts: object) -> Markup:
    """The parts, one after another; None is nothing."""
    return Markup("".join(_inner(part) for part in parts))


def element(name: str, /, *children: object, **attributes: object) -> Markup:
    """`<name attribute="...">children</name>`.

    An attribute that is None or False is left out, one that is True has no value; "_" stands for "-", and one at the
    end (`class_`) keeps Python's own words apart.
    """
    told = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{joined(*children)}</{name}>")


def link(text: object, address: str | None = None) -> Markup:
    """A link where `address` (default: the text) is a web address, else the text alone: never `javascript:`."""
    target = web_address(str(text) if address is None else address)
    if target is None:
        return joined(text)
    return element("a", text, href=target, rel="noopener noreferrer", target="_blank")


def web_address(text: str) -> str | None:
    """An http or https address without the name and password that it may hold; None for anything else."""
    if _UNSEEN.search(text) or any(letter.isspace() for letter in text):
        return None
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host:
        return None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def json_text(value: Any) -> Markup:
    """JSON to stand inside a script element, which ends at `</script>` whatever it means, and begins anew at `<!--`."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _inner(part: object) -> str:
    if part is None:
        return ""
    return part if isinstance(part, Markup) else html.escape(visible(part), quote=False)


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(visible(value))}"'
