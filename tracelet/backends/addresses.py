"""Addresses in a text, shown without the credentials that they may hold."""

from __future__ import annotations

import re

_USER = re.compile(r"""(?<=://)[^/?#\s]*@|[^\s/@:'"]+:[^\s/@]+@""")
_QUERY = re.compile(r"""(?<=[?&])([^=&\s]*(?:key|token|secret|pass)[^=&\s]*)=[^&\s'"]+""", re.IGNORECASE)


def redacted(text: str) -> str:
    """A text without the user and password of the addresses in it, and without a key in their query."""
    return _QUERY.sub(r"\1=***", _USER.sub("***@", text))
