"""ClearML's sessions with a server: its own, as patient as ever, and ours, which never waits for long."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from tracelet.backends.clearml.environment import Server

_CONNECT, _LOGIN, _ANSWER = 3.0, 4.0, 10.0
_MOMENT = 1.0


def default_session(server: Server) -> tuple[Any, bool]:
    """The session that a task of ours, and the program's calls on it, use: as patient as ClearML's own. And whether it
    was made here."""
    from clearml.backend_api import Session
    from clearml.backend_interface.base import InterfaceBase
    from clearml.config import config_obj

    known = InterfaceBase._default_session
    if known is not None and server == Server():  # the program signed in before
        return known, False
    keys = {"api_key": server.access_key, "secret_key": server.secret_key}
    session = Session(initialize_logging=False, config=config_obj, host=server.api, **keys)
    _wake_soon(session)
    return session, True


def _wake_soon(session: Any) -> None:
    """Between two tries ClearML sleeps up to two minutes, and the end of a task waits for the sleeper."""
    for adapter in session._Session__http_session.adapters.values():
        if hasattr(adapter.max_retries, "backoff_max"):
            adapter.max_retries = adapter.max_retries.new(backoff_max=_MOMENT)


@contextlib.contextmanager
def default(session: Any) -> Iterator[None]:
    """Make `session` the one that ClearML's objects are made with."""
    from clearml.backend_interface.base import InterfaceBase

    before = InterfaceBase._default_session
    InterfaceBase._default_session = session
    try:
        yield
    finally:
        if InterfaceBase._default_session is session:
            InterfaceBase._default_session = before


def login_error() -> type[Exception]:
    from clearml.backend_api.session.session import LoginError

    error: type[Exception] = LoginError
    return error


class _Config:
    """ClearML's configuration, but for what makes a session wait for ever."""

    def __init__(self, config: Any) -> None:
        self._config = config

    def get(self, key: str, *default: Any) -> Any:
        return False if key == "api.http.wait_on_maintenance_forever" else self._config.get(key, *default)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._config, name)


def hurried_session(
    host: str | None, access_key: str | None, secret_key: str | None, heard: Callable[[Any], None]
) -> Any:
    """A session that tries nothing twice and waits for seconds; `heard` is told of every answer.

    Raises:
        LoginError, MissingConfigError, ValueError: ClearML's own; nobody is there, or the keys are missing or wrong.
    """
    from clearml.backend_api import Session
    from clearml.config import config_obj
    from requests import exceptions

    # At these ClearML's session tries again without a count.
    endless = (
        exceptions.SSLError,
        exceptions.ChunkedEncodingError,
        exceptions.ContentDecodingError,
        exceptions.StreamConsumedError,
    )

    class HurriedSession(Session):  # type: ignore[misc]
        _session_initial_timeout = (_CONNECT, _LOGIN)
        _session_timeout = (_CONNECT, _ANSWER)
        _write_session_timeout = (_CONNECT, _ANSWER)

        def _load_vaults(self) -> None:
            return  # the task's own session did

        def _apply_config_sections(self, *_: Any) -> None:
            return

        def _get_retry_codes(self) -> list[int]:
            return []  # else the answer is an exception, without what the server said

        def refresh_token(self) -> None:
            # The first thing that a session does with its connections.
            http = self._Session__http_session
            if "request" not in vars(http):
                http.request = _once(http.request)
            super().refresh_token()

    def _once(request: Callable[..., Any]) -> Callable[..., Any]:
        def once(*args: Any, **options: Any) -> Any:
            try:
                answer = request(*args, **options)
            except endless as error:
                raise exceptions.ConnectionError(str(error)) from error
            heard(answer)
            return answer

        return once

    retries = dict.fromkeys(("total", "connect", "read", "status"), 0) | {"redirect": 3, "backoff_factor": 0}
    return HurriedSession(
        initialize_logging=False,
        config=_Config(config_obj),
        host=host,
        api_key=access_key,
        secret_key=secret_key,
        http_retries_config=retries,
    )
