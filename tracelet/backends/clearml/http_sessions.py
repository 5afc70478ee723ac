"""Create sessions with a server: one with ClearML's own timeouts, and one that fails within seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from tracelet.backends.call import call_within
from tracelet.backends.clearml.environment import Server
from tracelet.proxy import Proxy

_CONNECT, _LOGIN, _ANSWER = 3.0, 4.0, 10.0
_MAX_BACKOFF = 1.0


def default_session(server: Server) -> tuple[Any, bool]:
    """Return the session for tracelet's task, with ClearML's own timeouts, and whether it was created here."""
    from clearml.backend_api import Session
    from clearml.backend_interface.base import InterfaceBase
    from clearml.config import config_obj

    known = InterfaceBase._default_session
    if known is not None and server == Server():  # the program has signed in
        return known, False
    keys = {"api_key": server.access_key, "secret_key": server.secret_key}
    session = Session(initialize_logging=False, config=config_obj, host=server.api, **keys)
    _limit_backoff(session)
    return session, True


def _limit_backoff(session: Any) -> None:
    """Limit the pause between two retries: ClearML sleeps up to two minutes, and the end of a task waits for it."""
    for adapter in session._Session__http_session.adapters.values():
        if hasattr(adapter.max_retries, "backoff_max"):
            adapter.max_retries = adapter.max_retries.new(backoff_max=_MAX_BACKOFF)


@contextlib.contextmanager
def as_default(session: Any) -> Iterator[None]:
    """Make `session` the default for new ClearML objects, within a `with` block."""
    from clearml.backend_interface.base import InterfaceBase

    before = InterfaceBase._default_session
    InterfaceBase._default_session = session
    try:
        yield
    finally:
        if InterfaceBase._default_session is session:
            InterfaceBase._default_session = before


def login_error() -> type[Exception]:
    """Return ClearML's class for a failed login."""
    from clearml.backend_api.session.session import LoginError

    error: type[Exception] = LoginError
    return error


class _NoMaintenanceWait(Proxy):
    """ClearML's configuration, without the wait for a server in maintenance, which has no limit."""

    def get(self, key: str, *default: Any) -> Any:
        return False if key == "api.http.wait_on_maintenance_forever" else self._original.get(key, *default)


def fail_fast_session(
    host: str | None, access_key: str | None, secret_key: str | None, on_response: Callable[[Any], None]
) -> Any:
    """Return a session without retries and with timeouts of seconds. It calls `on_response` with every response.

    Raises:
        LoginError, MissingConfigError, ValueError: the server is unreachable, or the keys are missing or wrong.
    """
    from clearml.backend_api import Session
    from clearml.config import config_obj
    from requests import exceptions

    # ClearML's session retries these without a limit.
    retried_for_ever = (
        exceptions.SSLError,
        exceptions.ChunkedEncodingError,
        exceptions.ContentDecodingError,
        exceptions.StreamConsumedError,
    )

    class FailFastSession(Session):  # type: ignore[misc]
        _session_initial_timeout = (_CONNECT, _LOGIN)
        _session_timeout = (_CONNECT, _ANSWER)
        _write_session_timeout = (_CONNECT, _ANSWER)

        def _load_vaults(self) -> None:
            return  # done by the task's own session

        def _apply_config_sections(self, *_: Any) -> None:
            return

        def _get_retry_codes(self) -> list[int]:
            return []  # otherwise an error response becomes an exception without its text

        def refresh_token(self) -> None:
            # The session's first use of its connections.
            http = self._Session__http_session
            if "request" not in vars(http):
                http.request = _once(http.request)
            super().refresh_token()

    def _once(request: Callable[..., Any]) -> Callable[..., Any]:
        def once(*args: Any, **options: Any) -> Any:
            try:
                response = call_within(_CONNECT + 2 * _ANSWER, "clearml-call", lambda: request(*args, **options))
            except TimeoutError as error:
                raise exceptions.ReadTimeout(str(error)) from error
            except retried_for_ever as error:
                raise exceptions.ConnectionError(str(error)) from error
            on_response(response)
            return response

        return once

    retries = dict.fromkeys(("total", "connect", "read", "status"), 0) | {"redirect": 3, "backoff_factor": 0}
    return FailFastSession(
        initialize_logging=False,
        config=_NoMaintenanceWait(config_obj),
        host=host,
        api_key=access_key,
        secret_key=secret_key,
        http_retries_config=retries,
    )
