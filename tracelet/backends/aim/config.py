"""The keys of `config`, and the credentials that Aim may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec

from tracelet.redaction import passwords_in_url

_ADDRESSES = ("repo", "repo_path", "backend_url", "artifacts_uri")
# Credentials of the stores that Aim can use for artifacts.
_CREDENTIALS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class AimConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of `aim.Run`. A key that is not set has Aim's default."""

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
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        shown = {name: without_user(value) if name in _ADDRESSES and value else value for name, value in fields.items()}
        return f"AimConfig({', '.join(f'{name}={value!r}' for name, value in shown.items() if value is not None)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("", repr(self))]


PERSISTENT_KEYS = AimConfig.__struct_fields__


def secrets(config: AimConfig) -> Iterator[str]:
    """Yield the passwords in addresses, and the credentials of an artifact store."""
    for address in (*(getattr(config, name) for name in _ADDRESSES), os.environ.get("AIM_REPO")):
        yield from passwords_in_url(address)
    yield from filter(None, map(os.environ.get, _CREDENTIALS))


def without_user(address: str) -> str:
    """Return an address without the user and password before its host."""
    scheme, mark, rest = address.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark and "@" in rest else address
