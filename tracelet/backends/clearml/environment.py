"""Which server and which mode ClearML works with, for a while: afterwards the process is as before."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

_OFFLINE_NAMES = ("CLEARML_OFFLINE_MODE", "TRAINS_OFFLINE_MODE")
HOST_NAMES = ("CLEARML_API_HOST", "CLEARML_WEB_HOST", "CLEARML_FILES_HOST")
_YES = ("1", "true", "yes", "y", "t", "on")


class Server(NamedTuple):
    """A server and how to sign in to it; what is None is ClearML's own (environment, clearml.conf)."""

    api: str | None = None
    web: str | None = None
    files: str | None = None
    access_key: str | None = None
    secret_key: str | None = None

    def hosts(self) -> dict[str, str]:
        """The three addresses by the names of ClearML's variables, as far as they are known or follow from the first.

        The addresses of a clearml.conf belong to another server where `api` was given.
        """
        web, files = self.web, self.files
        if self.api is not None:
            web = web or _beside(self.api, "app.", 8080)
            files = files or _beside(self.api, "files.", 8081)
        return {name: host for name, host in zip(HOST_NAMES, (self.api, web, files), strict=True) if host}


def _beside(api: str, label: str, port: int) -> str | None:
    """The address of the web or the file server, as ClearML derives it from that of the API server."""
    parts = urlsplit(api)
    if parts.netloc.startswith("api."):
        return urlunsplit(parts._replace(netloc=label + parts.netloc[len("api.") :]))
    if parts.port == 8008:
        return urlunsplit(parts._replace(netloc=parts.netloc[: -len("8008")] + str(port)))
    return None


def wants_offline(clearml: Any, mode: str | None) -> bool:
    """Whether a task begun now is an offline session."""
    if mode is not None:
        return mode == "offline"
    told = any(os.environ.get(name, "").strip().lower() in _YES for name in _OFFLINE_NAMES)
    return told or bool(clearml.Task.is_offline())


@contextlib.contextmanager
def offline_mode(wanted: bool) -> Iterator[None]:
    """Switch ClearML to offline sessions, or to servers; afterwards it is as it was.

    Not by `Task.set_offline(False)`: that makes every session of the process sign in to a server.
    """
    from clearml.backend_api import Session
    from clearml.backend_interface.base import InterfaceBase

    holders = (InterfaceBase, Session)
    before = [holder._offline_mode for holder in holders]
    default = InterfaceBase._default_session
    if bool(before[0]) != wanted:  # a session of the other kind was never, or is, signed in
        InterfaceBase._default_session = None
    try:
        with environment({name: str(int(wanted)) for name in _OFFLINE_NAMES}):
            for holder in holders:
                holder._offline_mode = wanted
            yield
    finally:
        for holder, value in zip(holders, before, strict=True):
            holder._offline_mode = value
        InterfaceBase._default_session = default


@contextlib.contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables; afterwards each is as before, unless somebody changed it meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if os.environ.get(name) == values[name]:
                restore_variable(name, value)


def restore_variable(name: str, value: str | None) -> None:
    """Give a variable its value, None: none."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def not_configured() -> str:
    return (
        "no server and keys are configured: run `clearml-init`, set CLEARML_API_HOST, CLEARML_API_ACCESS_KEY and "
        "CLEARML_API_SECRET_KEY, or record offline: CLEARML_OFFLINE_MODE=1"
    )
