"""Send events, edits and files to a server: each request once, with a timeout of seconds.

ClearML itself retries a request for ten minutes or for ever, and an upload sixteen times, five minutes each.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tracelet.backends.call import call_within
from tracelet.backends.capabilities import Probe
from tracelet.backends.clearml.config import ClearmlConfig
from tracelet.backends.environment import overridden
from tracelet.backends.http import THROTTLED, retry_after_seconds
from tracelet.backends.patches import patched, wrapped
from tracelet.errors import BackendError, BackendUnavailable, RecordRejected
from tracelet.proxy import Proxy
from tracelet.redaction import redacted_url

_CONNECT, _LOGIN, _ANSWER = 3.0, 4.0, 10.0
_MIN_RATE = 1e6  # bytes per second
_MAX_BACKOFF = 1.0
_EVENTS_PER_REQUEST = 1000
_OK, _ACCEPTED, _UNAVAILABLE = 200, 202, 503
_REJECTED = (400, 413, 422)
_UNAUTHORIZED = (401, 403)
_EVENTS = "events.add_batch"
_MAX_REASON = 300
NOT_CONFIGURED = (
    "no server and keys are configured: run `clearml-init`, set CLEARML_API_HOST, CLEARML_API_ACCESS_KEY and "
    "CLEARML_API_SECRET_KEY, or record offline: CLEARML_OFFLINE_MODE=1"
)


class _Answer(threading.local):
    """The status code and the Retry-After seconds of the last response to the current thread."""

    status: int | None = None
    retry_after: float | None = None


class Http(Proxy):
    """An HTTP session of ClearML. It sends the requests of this thread once, with a timeout; others as ClearML does."""

    def __init__(self, patient: Any) -> None:
        from clearml.backend_api.utils import get_http_session_with_retry

        super().__init__(patient)
        self.last = _Answer()
        self._thread_id = threading.get_ident()
        self._once = get_http_session_with_retry()
        self._once.request_size_threshold = math.inf  # a larger request would get a timeout of five minutes

    def is_fast(self, action: str) -> bool:
        """Return whether a request of the current thread is sent once.

        That includes ClearML's own threads, which hold the task's lock while they wait, but not the program's events.
        """
        module = getattr(getattr(threading.current_thread(), "_target", None), "__module__", None)
        return threading.get_ident() == self._thread_id or (action != _EVENTS and str(module).startswith("clearml."))

    def request(self, method: str, url: str, **options: Any) -> Any:
        from requests import exceptions, utils

        if not self.is_fast(url.rpartition("/")[2]):
            return self._original.request(method, url, **options)
        self.last.status = self.last.retry_after = None
        answer = _LOGIN if url.endswith("auth.login") else _ANSWER
        limit = answer + utils.super_len(options.get("data") or b"") / _MIN_RATE
        options["timeout"] = _CONNECT, limit
        try:
            response = call_within(
                _CONNECT + 2 * limit, "clearml-call", lambda: self._once.request(method, url, **options)
            )
        except TimeoutError as error:
            raise exceptions.ReadTimeout(str(error)) from error
        except exceptions.RequestException as error:  # ClearML retries other classes without a limit
            raise exceptions.ConnectionError(str(error)) from error
        self.last.status = response.status_code
        if response.status_code in THROTTLED:
            self.last.retry_after = retry_after_seconds(response.headers.get("Retry-After"))
        if response.status_code == _UNAVAILABLE:  # ClearML would wait for the end of a maintenance
            raise exceptions.ConnectionError(f"{_UNAVAILABLE} {response.reason}")
        return response

    def post(self, url: str, **options: Any) -> Any:
        return self.request("POST", url, **options)


class Connection:
    """Send the requests of a task's session, each once, until `undo`.

    `ends`: fail all later requests of the session. Otherwise a thread of an abandoned task would retry for ever.
    `must_stop` returns whether to fail all later requests. An exception would not stop ClearML, which would retry.
    `failures` are those since `raise_failures` was entered.
    """

    def __init__(self, session: Any, undo: contextlib.ExitStack, *, ends: bool) -> None:
        http = session._Session__http_session
        self._session, self._send, self.host = session, session.send, str(session.host)
        self._http = http if isinstance(http, Http) else Http(http)
        self.failures: list[BackendError] = []
        self.must_stop: Callable[[], bool] = lambda: False
        undo.enter_context(patched(session, "_Session__http_session", self._http))
        undo.enter_context(patched(session, "send", self.send))
        if ends:
            undo.callback(setattr, session, "send", failed)

    def secrets(self) -> list[str]:
        """Return the keys that signed in."""
        return [key for key in (self._session.access_key, self._session.secret_key) if key]

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        """Do as `Session.send`, but return an error code if the server is unreachable. ClearML raises it."""
        from clearml.backend_api.session.session import LoginError
        from requests import RequestException

        if not self._http.is_fast(f"{request._service}.{request._action}"):
            return self._send(request, *args, **options)
        if self.must_stop():
            return failed()
        try:
            result = self._send(request, *args, **options) or failed()  # None: the process is offline by now
        except (RequestException, LoginError) as error:
            result = failed(reason=f"{type(error).__name__}: {error}")
        if result.meta.result_code not in (_OK, _ACCEPTED):
            self.failures.append(self._error(result.meta.result_code, result.meta.result_msg))
        return result

    def _error(self, code: int | None, message: object) -> BackendError:
        answer = f"the server returned {self._http.last.status}: " if self._http.last.status is not None else ""
        reason = redacted_url(f"clearml: {answer}{message}")
        if code in _REJECTED:
            return RecordRejected(reason)
        return BackendUnavailable(reason, retry_after=self._http.last.retry_after)

    def has_task(self, id: str) -> bool:
        """Return whether a task exists on the server.

        Raises:
            BackendUnavailable: the server did not answer, or failed.
        """
        from clearml.backend_api.services import tasks as api

        meta = self.send(api.GetByIdRequest(task=id)).meta
        if meta.result_code != _OK and meta.result_code not in _REJECTED:
            raise self._error(meta.result_code, meta.result_msg)
        return bool(meta.result_code == _OK)

    def send_events(self, events: Sequence[dict[str, Any]]) -> None:
        """Send events in order.

        Raises:
            BackendUnavailable: the server is unreachable, or failed.
            RecordRejected: the server rejected one of them. Events that are sent again overwrite themselves.
        """
        from clearml.backend_api.services import events as api

        for start in range(0, len(events), _EVENTS_PER_REQUEST):
            result = self.send(api.AddBatchRequest(requests=list(events[start : start + _EVENTS_PER_REQUEST])))
            message, rejected = str(result.meta.result_msg), (result.response_data or {}).get("errors")
            if rejected or "failed to index" in message:
                raise RecordRejected(f"clearml: the server rejected the record: {message} {rejected or ''}".rstrip())
            if result.meta.result_code != _OK:
                raise self._error(result.meta.result_code, message)

    @contextlib.contextmanager
    def raise_failures(self) -> Iterator[None]:
        """Raise the first failed request or upload of a `with` block, even if ClearML ignored it.

        Raises:
            BackendUnavailable: one failed.
            RecordRejected: a server rejected one.
        """
        from clearml.storage.helper import _HttpDriver

        self.failures.clear()
        try:
            with wrapped(_HttpDriver, "upload_object_via_stream", self._upload):
                yield
        finally:
            if self.failures:
                raise self.failures[0]

    def _upload(self, original: Callable[..., Any], *args: Any, container: Any, **options: Any) -> Any:
        """Upload a file to a file server once. Uploads to other stores keep ClearML's timeouts."""
        if not self._http.is_fast(_EVENTS):
            return original(*args, container=container, **options)
        if self.failures:  # ClearML retries at once
            raise self.failures[0]
        container._default_backend_session = self._session  # it may be that of an earlier task
        fast_container: Any = Proxy(container)
        fast_container.session = self._http
        try:
            return original(*args, container=fast_container, **options)
        except (OSError, ValueError) as error:
            failure = self._error(self._http.last.status, f"the upload failed: {str(error)[:_MAX_REASON]}")
            self.failures.append(failure)
            raise failure from error


def failed(*_: Any, reason: str = "this session has ended", **__: Any) -> Any:
    """Return the error result of a request that is not sent, or got no answer."""
    from clearml.backend_api import CallResult
    from clearml.backend_api.session.response import ResponseMeta

    return CallResult(meta=ResponseMeta.from_raw_data(500, reason))


def sign_in(config: ClearmlConfig, undo: contextlib.ExitStack, used: list[Http] | None = None) -> Connection:
    """Sign in, within seconds, and make ClearML's new objects use the connection until `undo`.

    `used` gets the HTTP session, also if that fails.

    Raises:
        BackendUnavailable: the server is unreachable, or the keys are missing or wrong.
    """
    from clearml.backend_api import Session
    from clearml.backend_api.session.defs import MissingConfigError
    from clearml.backend_api.session.session import LoginError
    from clearml.backend_interface.base import InterfaceBase
    from clearml.config import config_obj

    used = [] if used is None else used
    access, secret = config.keys
    arguments = {"config": config_obj, "host": config.backend_url, "api_key": access, "secret_key": secret}

    def create(original: Callable[..., Any], **options: Any) -> Http:
        used.append(Http(original(**options)))
        for adapter in used[-1].adapters.values():  # otherwise pauses of two minutes, which the end of a task waits for
            if hasattr(adapter.max_retries, "backoff_max"):
                adapter.max_retries = adapter.max_retries.new(backoff_max=_MAX_BACKOFF)
        return used[-1]

    for name, host in config.hosts().items():
        undo.enter_context(overridden(name, host))
    try:
        with wrapped(sys.modules[Session.__module__], "get_http_session_with_retry", create):
            session = Session(initialize_logging=False, **arguments)
    except MissingConfigError as error:
        raise BackendUnavailable(f"clearml: {NOT_CONFIGURED}") from error
    except (LoginError, ValueError) as error:
        retry_after = used[-1].last.retry_after if used else None
        raise BackendUnavailable(redacted_url(f"clearml: cannot sign in: {error}"), retry_after=retry_after) from error
    undo.enter_context(patched(InterfaceBase, "_default_session", session))
    return Connection(session, undo, ends=True)


def probe(config: ClearmlConfig) -> Probe:
    """Check whether a task can be created on the server."""
    used: list[Http] = []
    try:
        with contextlib.ExitStack() as undo:
            host = redacted_url(sign_in(config, undo, used).host)
    except BackendUnavailable as error:
        reason, status = error.reason.removeprefix("clearml: "), used[-1].last.status if used else None
        signed_in = False if status in _UNAUTHORIZED or reason == NOT_CONFIGURED else None
        return Probe(
            False, reason, reachable=None if reason == NOT_CONFIGURED else status is not None, signed_in=signed_in
        )
    return Probe(True, f"signed in to {host}", reachable=True, signed_in=True)
