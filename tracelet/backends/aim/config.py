"""The keys of `config`, and the credentials that Aim may use."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tracelet.backends.base import BackendConfig
from tracelet.redaction import passwords_in_url

# Credentials of the stores that Aim can use for artifacts.
_CREDENTIALS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class AimConfig(BackendConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of `aim.Run`. A key that is not set has Aim's default."""

    address_keys = ("repo", "repo_path", "backend_url", "artifacts_uri")
    path_keys = ("repo", "repo_path")

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

    def secrets(self) -> Iterator[str]:
        """Yield the passwords in addresses, and the credentials of an artifact store."""
        yield from super().secrets()
        yield from passwords_in_url(os.environ.get("AIM_REPO"))
        yield from filter(None, map(os.environ.get, _CREDENTIALS))


def without_user(address: str) -> str:
    """Return an address without the user and password before its host."""
    scheme, mark, rest = address.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark and "@" in rest else address
