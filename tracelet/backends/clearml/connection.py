"""Where events and edits go: nowhere for an offline session, else a server that is never waited for without an end."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from tracelet.errors import BackendUnavailable, RecordRejected

_CONNECT, _LOGIN, _ANSWER = 3.0, 5.0, 10.0
_MOMENT = 1.0
_EVENTS_PER_REQUEST = 1000
_OFFLINE_NAMES = ("CLEARML_OFFLINE_MODE", "TRAINS_OFFLINE_MODE")
_HOST_NAMES = ("CLEARML_API_HOST", "CLEARML_WEB_HOST", "CLEARML_FILES_HOST")
_YES = ("1", "true", "yes", "y", "t", "on")
_OK = 200


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
        return {name: host for name, host in zip(_HOST_NAMES, (self.api, web, files), strict=True) if host}


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


class Connection:
    """A session of our own beside the task's: every answer is waited for a few seconds, and nothing is tried twice.

    ClearML's own tries for more than ten minutes, and a refused connection in its `send` for ever.
    """

    def __init__(self, host: str | None, access_key: str | None, secret_key: str | None) -> None:
        self._session = _hurried_session(host, access_key, secret_key)
        self._heard = time.monotonic()
        self._failures: list[Any] = []

    def alive(self) -> bool:
        """Whether the server answers now, or did a moment ago."""
        from requests import RequestException

        if time.monotonic() - self._heard > _MOMENT:
            try:
                self._session.send_request("debug", "ping")
            except (RequestException, login_error()):
                return False
            self._heard = time.monotonic()
        return True

    def send_events(self, events: Sequence[dict[str, Any]]) -> None:
        """Have the server take events, in order.

        Raises:
            BackendUnavailable: it cannot be reached, or failed.
            RecordRejected: it refuses one of them (`whole`). To send the others again overwrites them by themselves.
        """
        from clearml.backend_api.services import events as api

        for start in range(0, len(events), _EVENTS_PER_REQUEST):
            part = list(events[start : start + _EVENTS_PER_REQUEST])
            result = self.send(api.AddBatchRequest(requests=part))
            code, message = result.meta.result_code, str(result.meta.result_msg)
            refused = (result.response_data or {}).get("errors")
            if code == _OK and not refused:
                continue
            if code == _OK or code in (400, 413, 422) or "failed to index" in message:
                raise RecordRejected(f"clearml: the server refuses it: {message} {refused or ''}".rstrip(), whole=True)
            raise BackendUnavailable(f"clearml: the server answers {code}: {message}")

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        """As `Session.send`; a server that cannot be reached is an answer with an error code, which ClearML raises."""
        from clearml.backend_api import CallResult
        from clearml.backend_api.session.response import ResponseMeta
        from requests import RequestException

        try:
            result = self._session.send(request, *args, **options)
            if result is None:  # the process is offline by now: a thread of an earlier task is late
                return _gone()
            self._heard = time.monotonic()
        except (RequestException, login_error()) as error:
            self._heard = -_MOMENT
            result = CallResult(meta=ResponseMeta.from_raw_data(500, f"{type(error).__name__}: {error}"))
        if result.meta.result_code not in (_OK, 202):
            self._failures.append(result.meta)
        return result

    @contextlib.contextmanager
    def all_or_error(self) -> Iterator[None]:
        """ClearML says nothing when an edit of a task fails; here it does.

        Raises:
            BackendUnavailable: a request failed meanwhile.
            RecordRejected: the server refused one.
        """
        self._failures.clear()
        yield
        if self._failures:
            meta = self._failures[0]
            refused = meta.result_code in (400, 413, 422)
            raise (RecordRejected if refused else BackendUnavailable)(f"clearml: {meta.result_msg}")

    @contextlib.contextmanager
    def stand_in(self, session: Any, *, ends: bool) -> Iterator[None]:
        """Requests that a ClearML object makes in this thread go through here, and those of ClearML's own threads, but
        for the program's events: they hold the task's lock while they wait. The program's own calls are as patient as
        ever.

        `ends`: the session is no use afterwards, and a thread of an abandoned task, which would try for ever, is told.
        """
        from clearml.backend_api.services import events as api

        patient: Callable[..., Any] = session.send
        ours = threading.get_ident()

        def send(request: Any, *args: Any, **options: Any) -> Any:
            hurried = threading.get_ident() == ours or (
                not isinstance(request, api.AddBatchRequest) and _is_vendors(threading.current_thread())
            )
            return (self.send if hurried else patient)(request, *args, **options)

        session.send = send
        try:
            yield
        finally:
            if vars(session).get("send") is send:
                del session.send
            if ends:
                session.send = _gone


def _gone(*_: Any, **__: Any) -> Any:
    from clearml.backend_api import CallResult
    from clearml.backend_api.session.response import ResponseMeta

    return CallResult(meta=ResponseMeta.from_raw_data(500, "this session has ended"))


def _is_vendors(thread: threading.Thread) -> bool:
    return str(getattr(getattr(thread, "_target", None), "__module__", "")).startswith("clearml.")


def connect(server: Server) -> Connection:
    """Sign in, within seconds.

    Raises:
        BackendUnavailable: nobody is there, or the keys are missing or wrong.
    """
    from clearml.backend_api.session.defs import MissingConfigError

    try:
        return Connection(server.api, server.access_key, server.secret_key)
    except MissingConfigError as error:
        raise BackendUnavailable(f"clearml: {not_configured()}") from error
    except (login_error(), ValueError) as error:
        raise BackendUnavailable(f"clearml: cannot sign in: {error}") from error


def not_configured() -> str:
    return (
        "no server and keys are configured: run `clearml-init`, set CLEARML_API_HOST, CLEARML_API_ACCESS_KEY and "
        'CLEARML_API_SECRET_KEY, or use the mode "offline"'
    )


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


def _hurried_session(host: str | None, access_key: str | None, secret_key: str | None) -> Any:
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

        def refresh_token(self) -> None:
            # The first thing that a session does with its connections.
            http = self._Session__http_session
            if "request" not in vars(http):
                http.request = _once(http.request)
            super().refresh_token()

    def _once(request: Callable[..., Any]) -> Callable[..., Any]:
        def once(*args: Any, **options: Any) -> Any:
            try:
                return request(*args, **options)
            except endless as error:
                raise exceptions.ConnectionError(str(error)) from error

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
