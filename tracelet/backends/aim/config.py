"""What `config` may say, and the credentials that Aim could use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

_ADDRESSES = ("repo", "repo_path", "backend_url", "artifacts_uri")
# Those of the stores that Aim puts artifacts into.
_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class AimConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `aim.Run` should be given; a key left out keeps Aim's own meaning."""

    repo: str | None = None
    repo_path: str | None = None
    backend_url: str | None = None
    experiment: str | None = None
    name: str | None = None
    run_name: str | None = None
    tags: list[str] | None = None
    description: str | None = None
    run_hash: str | None = None
    system_tracking_interval: float | None = 60.0
    capture_terminal_logs: bool = True
    log_system_params: bool = False
    artifacts_uri: str | None = None

    def __repr__(self) -> str:
        told = {name: getattr(self, name) for name in self.__struct_fields__}
        shown = {name: redacted(value) if name in _ADDRESSES and value else value for name, value in told.items()}
        return f"AimConfig({', '.join(f'{name}={value!r}' for name, value in shown.items() if value is not None)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("", repr(self))]


KEPT = AimConfig.__struct_fields__


def secrets(config: AimConfig) -> Iterator[str]:
    """Passwords in addresses, and the keys of an artifact store."""
    for address in (*(getattr(config, name) for name in _ADDRESSES), os.environ.get("AIM_REPO")):
        password = _password(address)
        if password:
            yield from (password, unquote(password))
    yield from filter(None, map(os.environ.get, _VARIABLES))


def redacted(address: str) -> str:
    """An address without what stands before its host."""
    scheme, mark, rest = address.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark and "@" in rest else address


def _password(address: str | None) -> str | None:
    try:
        return urlsplit(address or "").password
    except ValueError:
        return None
