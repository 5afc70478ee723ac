"""Build HTML from plain values. Everything except `Markup` is escaped here, so callers cannot forget it."""

from __future__ import annotations

import html
import json
import re
from typing import Any
from urllib.parse import urlsplit

_VOID = {"br", "img", "input", "link", "meta"}
# Control characters, characters that reverse the text direction, and lone surrogates, which have no UTF-8. Tabs, line
# ends and the joiners that many scripts need are allowed.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Markup(str):
    """HTML text. Only the functions of this module create it."""

    __slots__ = ()


def visible(text: object) -> str:
    """Escape invisible characters."""
    plain = str(text).replace("\r\n", "\n")
    return _INVISIBLE.sub(lambda match: match[0].encode("unicode_escape").decode(), plain)


def joined(*parts: object) -> Markup:
    """Concatenate the parts, except None."""
    return Markup("".join(_inner(part) for part in parts))


def element(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return `<name attribute="...">children</name>`.

    Skip attributes that are None or False; write those that are True without a value. In their names, "_" stands for
    "-", and a trailing "_" (`class_`) is dropped.
    """
    text = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{text}>")
    return Markup(f"<{name}{text}>{joined(*children)}</{name}>")


def link(text: object, address: str | None = None) -> Markup:
    """Return a link if `address` (default: the text) is a web address, else the text. Never link `javascript:`."""
    target = web_address(str(text) if address is None else address)
    if target is None:
        return joined(text)
    return element("a", text, href=target, rel="noopener noreferrer", target="_blank")


def web_address(text: str) -> str | None:
    """Return an http or https address without credentials; None if the text is anything else."""
    if _INVISIBLE.search(text) or any(char.isspace() for char in text):
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
    """Return JSON without `<`, so that `</script>` and `<!--` in a value do not end or change the script element."""
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
