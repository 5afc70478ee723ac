"""Send events and edits to a server, with a timeout for each request."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tracelet.backends.capabilities import Probe
from tracelet.backends.clearml.environment import Server, not_configured
from tracelet.backends.clearml.http_sessions import fail_fast_session, login_error
from tracelet.backends.http import THROTTLED, retry_after_seconds
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.redaction import redacted_url

_ALIVE_FOR = 1.0
"""Seconds after a response in which the server counts as alive."""
_EVENTS_PER_REQUEST = 1000
_OK, _ACCEPTED = 200, 202
_REJECTED = (400, 413, 422)
_UNAUTHORIZED = (401, 403)


class _LastResponse:
    """The status code and the Retry-After seconds of the server's last response."""

    status: int | None = None
    retry_after: float | None = None

    def update(self, response: Any) -> None:
        header = response.headers.get("Retry-After")
        self.status = response.status_code
        self.retry_after = retry_after_seconds(header) if response.status_code in THROTTLED else None


class Connection:
    """Send requests by a session beside the task's own, with a timeout of seconds and without retries.

    ClearML's own session retries for more than ten minutes, and in `send` retries a refused connection for ever.
    """

    def __init__(self, session: Any, last_response: _LastResponse) -> None:
        self._session, self._last_response = session, last_response
        self._alive_at = time.monotonic()
        self._failures: list[Any] = []

    def secrets(self) -> list[str]:
        """Return the keys that signed in."""
        return [key for key in (self._session.access_key, self._session.secret_key) if key]

    def has_task(self, id: str) -> bool:
        """Return whether a task exists on the server.

        Raises:
            BackendUnavailable: the server did not answer, or failed.
        """
        from clearml.backend_api.services import tasks as api

        meta = self.send(api.GetByIdRequest(task=id)).meta
        if meta.result_code == _OK or meta.result_code in _REJECTED:
            return bool(meta.result_code == _OK)
        raise self.unavailable(f"the server returned {meta.result_code}: {meta.result_msg}")

    def unavailable(self, reason: str) -> BackendUnavailable:
        return BackendUnavailable(f"clearml: {redacted_url(reason)}", retry_after=self._last_response.retry_after)

    def alive(self) -> bool:
        """Return whether the server responded within the last second, or responds to a ping now."""
        from requests import RequestException

        if time.monotonic() - self._alive_at > _ALIVE_FOR:
            try:
                self._session.send_request("debug", "ping")
            except (RequestException, login_error()):
                return False
            self._alive_at = time.monotonic()
        return True

    def send_events(self, events: Sequence[dict[str, Any]]) -> None:
        """Send events in order.

        Raises:
            BackendUnavailable: the server is unreachable, or failed.
            RecordRejected: the server rejected one of them. Events that are sent again overwrite themselves.
        """
        from clearml.backend_api.services import events as api

        for start in range(0, len(events), _EVENTS_PER_REQUEST):
            part = list(events[start : start + _EVENTS_PER_REQUEST])
            result = self.send(api.AddBatchRequest(requests=part))
            code, message = result.meta.result_code, str(result.meta.result_msg)
            rejected = (result.response_data or {}).get("errors")
            if code == _OK and not rejected:
                continue
            if code == _OK or code in _REJECTED or "failed to index" in message:
                reason = f"clearml: the server rejected the record: {message} {rejected or ''}".rstrip()
                raise RecordRejected(reason)
            raise self.unavailable(f"the server returned {code}: {message}")

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        """Do as `Session.send`, but return an error code if the server is unreachable. ClearML raises it."""
        from clearml.backend_api import CallResult
        from clearml.backend_api.session.response import ResponseMeta
        from requests import RequestException

        try:
            result = self._session.send(request, *args, **options)
            if result is None:  # the process is offline by now, and this is a late thread of an earlier task
                return session_ended()
            self._alive_at = time.monotonic()
        except (RequestException, login_error()) as error:
            self._alive_at, self._last_response.retry_after = -_ALIVE_FOR, None
            result = CallResult(meta=ResponseMeta.from_raw_data(500, f"{type(error).__name__}: {error}"))
        if result.meta.result_code not in (_OK, _ACCEPTED):
            self._failures.append(result.meta)
        return result

    @contextlib.contextmanager
    def raise_failures(self) -> Iterator[None]:
        """Raise the first failed request of a `with` block. ClearML itself ignores failed edits of a task.

        Raises:
            BackendUnavailable: a request failed.
            RecordRejected: the server rejected one.
        """
        self._failures.clear()
        yield
        self.check()

    @property
    def has_failed(self) -> bool:
        return bool(self._failures)

    def check(self) -> None:
        """Raise the first failure since `raise_failures` was entered."""
        if self._failures:
            meta = self._failures[0]
            if meta.result_code in _REJECTED:
                raise RecordRejected(f"clearml: {meta.result_msg}")
            raise self.unavailable(str(meta.result_msg))

    @contextlib.contextmanager
    def replace_send(self, session: Any, *, ends: bool) -> Iterator[None]:
        """Send requests of `session` through this connection, within a `with` block.

        That covers this thread and ClearML's own threads, which hold the task's lock while they wait. The program's
        events and its other calls keep ClearML's timeouts.

        `ends`: fail all later requests of the session. Otherwise a thread of an abandoned task would retry for ever.
        """
        from clearml.backend_api.services import events as api

        original: Callable[..., Any] = session.send
        thread_id = threading.get_ident()

        def send(request: Any, *args: Any, **options: Any) -> Any:
            fails_fast = threading.get_ident() == thread_id or (
                not isinstance(request, api.AddBatchRequest) and _is_of_clearml(threading.current_thread())
            )
            return (self.send if fails_fast else original)(request, *args, **options)

        session.send = send
        try:
            yield
        finally:
            if vars(session).get("send") is send:
                del session.send
            if ends:
                session.send = session_ended


def ended_copy(session: Any) -> Any:
    """Return a copy of the session, for a late thread. All its requests fail because the session has ended."""
    ended = copy.copy(session)
    ended.send = session_ended
    return ended


def session_ended(*_: Any, **__: Any) -> Any:
    """Return the error result of a request that is no longer sent."""
    from clearml.backend_api import CallResult
    from clearml.backend_api.session.response import ResponseMeta

    return CallResult(meta=ResponseMeta.from_raw_data(500, "this session has ended"))


def _is_of_clearml(thread: threading.Thread) -> bool:
    return str(getattr(getattr(thread, "_target", None), "__module__", "")).startswith("clearml.")


def connect(server: Server) -> Connection:
    """Sign in, within seconds.

    Raises:
        BackendUnavailable: the server is unreachable, or the keys are missing or wrong.
    """
    return _sign_in(server, _LastResponse())


def probe(server: Server) -> Probe:
    """Check whether a task can be created on the server."""
    from clearml.backend_api import Session
    from clearml.backend_api.session.defs import MissingConfigError

    last_response = _LastResponse()
    try:
        _sign_in(server, last_response)
    except BackendUnavailable as error:
        reason = error.reason.removeprefix("clearml: ")
        if isinstance(error.__cause__, MissingConfigError):
            return Probe(False, reason, signed_in=False)
        signed_in = False if last_response.status in _UNAUTHORIZED else None
        return Probe(False, reason, reachable=last_response.status is not None, signed_in=signed_in)
    host = redacted_url(server.api or Session.get_api_server_host())
    return Probe(True, f"signed in to {host}", reachable=True, signed_in=True)


def _sign_in(server: Server, last_response: _LastResponse) -> Connection:
    from clearml.backend_api.session.defs import MissingConfigError

    try:
        session = fail_fast_session(server.api, server.access_key, server.secret_key, last_response.update)
    except MissingConfigError as error:
        raise BackendUnavailable(f"clearml: {not_configured()}") from error
    except (login_error(), ValueError) as error:
        reason = redacted_url(f"clearml: cannot sign in: {error}")
        raise BackendUnavailable(reason, retry_after=last_response.retry_after) from error
    return Connection(session, last_response)
