"""Remember the servers that this user's programs use, since a journal from somebody else may name any server."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tracelet.filesystem import make_private
from tracelet.redaction import redacted_url

# The scheme, user and host at the start of a text. A path, as in sqlite:////data/mlflow.db, has no host.
_ADDRESS = re.compile(r"\s*((?:[a-z][\w+.\-]*:)?//)(?:[^/?#\s]*@)?([^/?#\s@]+)", re.IGNORECASE)
# An address whose host is in its query, as in postgresql:///runs?host=there.
_QUERY = re.compile(r"\s*[a-z][\w+.\-]*:[^?\s]*\?\S*=", re.IGNORECASE)


def addresses_in(value: Any) -> Iterator[str]:
    """Yield the scheme and host of each address in plain data, or the whole one, without credentials."""
    match value:
        case str():
            if found := _ADDRESS.match(value):
                yield "".join(found.groups()).lower()
            elif _QUERY.match(value):
                yield redacted_url(" ".join(value.split()))
        case Mapping():
            for item in value.values():
                yield from addresses_in(item)
        case list() | tuple():
            for item in value:
                yield from addresses_in(item)


def remember(addresses: Iterable[str]) -> None:
    """Store addresses that this user configured."""
    new = set(addresses)
    if not new or new <= (known := _remembered()):
        return
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home directory
        path = _path()
        make_private(path.parent)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{address}\n" for address in sorted(new - known))


def unfamiliar(addresses: Iterable[str]) -> list[str]:
    """Return the addresses that are neither remembered nor in a variable of the environment."""
    remaining = set(addresses)
    if remaining:
        remaining -= _remembered()
        remaining -= set(addresses_in(list(os.environ.values())))
    return sorted(remaining)


def _remembered() -> set[str]:
    try:
        return set(_path().read_text(encoding="utf-8", errors="replace").splitlines())
    except (OSError, RuntimeError):
        return set()


def _path() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state", "tracelet", "servers")
