"""Select ClearML's server and mode temporarily, by its environment variables and class attributes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from tracelet.backends.environment import set_variable

_OFFLINE_NAMES = ("CLEARML_OFFLINE_MODE", "TRAINS_OFFLINE_MODE")
HOST_NAMES = ("CLEARML_API_HOST", "CLEARML_WEB_HOST", "CLEARML_FILES_HOST")
_YES = ("1", "true", "yes", "y", "t", "on")


class Server(NamedTuple):
    """A server's URLs and keys. If a field is None, ClearML's own value applies (environment, clearml.conf)."""

    api: str | None = None
    web: str | None = None
    files: str | None = None
    access_key: str | None = None
    secret_key: str | None = None

    def hosts(self) -> dict[str, str]:
        """Return the known URLs by the names of ClearML's variables.

        If `api` is set, the other two are derived from it: those in a clearml.conf belong to another server.
        """
        web, files = self.web, self.files
        if self.api is not None:
            web = web or _derived_url(self.api, "app.", 8080)
            files = files or _derived_url(self.api, "files.", 8081)
        return {name: host for name, host in zip(HOST_NAMES, (self.api, web, files), strict=True) if host}


def _derived_url(api: str, label: str, port: int) -> str | None:
    """Derive the URL of the web or file server from that of the API server, as ClearML does."""
    parts = urlsplit(api)
    if parts.netloc.startswith("api."):
        return urlunsplit(parts._replace(netloc=label + parts.netloc[len("api.") :]))
    if parts.port == 8008:
        return urlunsplit(parts._replace(netloc=parts.netloc[: -len("8008")] + str(port)))
    return None


def wants_offline(clearml: Any, mode: str | None) -> bool:
    """Return whether a new task is an offline session."""
    if mode is not None:
        return mode == "offline"
    by_variable = any(os.environ.get(name, "").strip().lower() in _YES for name in _OFFLINE_NAMES)
    return by_variable or bool(clearml.Task.is_offline())


@contextlib.contextmanager
def offline_mode(wanted: bool) -> Iterator[None]:
    """Switch ClearML to offline sessions, or to servers, within a `with` block.

    `Task.set_offline(False)` is no alternative: it makes every session of the process sign in to a server.
    """
    from clearml.backend_api import Session
    from clearml.backend_interface.base import InterfaceBase

    owners = (InterfaceBase, Session)
    before = [owner._offline_mode for owner in owners]
    default = InterfaceBase._default_session
    if bool(before[0]) != wanted:  # the default session is signed in only if it was created online
        InterfaceBase._default_session = None
    try:
        with temporary_variables({name: str(int(wanted)) for name in _OFFLINE_NAMES}):
            for owner in owners:
                owner._offline_mode = wanted
            yield
    finally:
        for owner, value in zip(owners, before, strict=True):
            owner._offline_mode = value
        InterfaceBase._default_session = default


@contextlib.contextmanager
def temporary_variables(values: dict[str, str]) -> Iterator[None]:
    """Set variables within a `with` block. A variable that was changed meanwhile keeps its new value."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if os.environ.get(name) == values[name]:
                set_variable(name, value)


def not_configured() -> str:
    """Return the error text for a missing server or missing keys."""
    return (
        "no server and keys are configured: run `clearml-init`, set CLEARML_API_HOST, CLEARML_API_ACCESS_KEY and "
        "CLEARML_API_SECRET_KEY, or record offline: CLEARML_OFFLINE_MODE=1"
    )
