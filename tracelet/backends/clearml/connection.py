"""Where events and edits go: nowhere for an offline session, else a server that is never waited for without an end."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tracelet.backends.addresses import redacted
from tracelet.backends.base import Probe
from tracelet.backends.clearml.environment import Server, not_configured
from tracelet.backends.clearml.http_sessions import hurried_session, login_error
from tracelet.backends.http import THROTTLED, retry_after_seconds
from tracelet.errors import BackendUnavailable, RecordRejected

_MOMENT = 1.0
_EVENTS_PER_REQUEST = 1000
_OK, _ACCEPTED = 200, 202
_REFUSED = (400, 413, 422)
_SIGN_IN = (401, 403)


class _Patience:
    """How long the server asked to be left alone, in its last answer, and with which number it answered."""

    asked: float | None = None
    status: int | None = None

    def heard(self, answer: Any) -> None:
        self.status = answer.status_code
        self.asked = retry_after_seconds(answer.headers.get("Retry-After")) if answer.status_code in THROTTLED else None


class Connection:
    """A session of our own beside the task's: every answer is waited for a few seconds, and nothing is tried twice.

    ClearML's own tries for more than ten minutes, and a refused connection in its `send` for ever.
    """

    def __init__(self, session: Any, patience: _Patience) -> None:
        self._session, self._patience = session, patience
        self._heard = time.monotonic()
        self._failures: list[Any] = []

    def secrets(self) -> list[str]:
        """What it signed in with."""
        return [word for word in (self._session.access_key, self._session.secret_key) if word]

    def has_task(self, id: str) -> bool:
        """Whether the server knows a task.

        Raises:
            BackendUnavailable: it cannot be asked.
        """
        from clearml.backend_api.services import tasks as api

        meta = self.send(api.GetByIdRequest(task=id)).meta
        if meta.result_code == _OK or meta.result_code in _REFUSED:
            return bool(meta.result_code == _OK)
        raise self.unavailable(f"the server answers {meta.result_code}: {meta.result_msg}")

    def unavailable(self, why: str) -> BackendUnavailable:
        return BackendUnavailable(f"clearml: {redacted(why)}", retry_after=self._patience.asked)

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
            if code == _OK or code in _REFUSED or "failed to index" in message:
                raise RecordRejected(f"clearml: the server refuses it: {message} {refused or ''}".rstrip(), whole=True)
            raise self.unavailable(f"the server answers {code}: {message}")

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        """As `Session.send`; a server that cannot be reached is an answer with an error code, which ClearML raises."""
        from clearml.backend_api import CallResult
        from clearml.backend_api.session.response import ResponseMeta
        from requests import RequestException

        try:
            result = self._session.send(request, *args, **options)
            if result is None:  # the process is offline by now: a thread of an earlier task is late
                return gone()
            self._heard = time.monotonic()
        except (RequestException, login_error()) as error:
            self._heard, self._patience.asked = -_MOMENT, None
            result = CallResult(meta=ResponseMeta.from_raw_data(500, f"{type(error).__name__}: {error}"))
        if result.meta.result_code not in (_OK, _ACCEPTED):
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
        self.check()

    @property
    def has_failed(self) -> bool:
        return bool(self._failures)

    def check(self) -> None:
        """Raise the first failure since `all_or_error` began."""
        if self._failures:
            meta = self._failures[0]
            if meta.result_code in _REFUSED:
                raise RecordRejected(f"clearml: {meta.result_msg}")
            raise self.unavailable(str(meta.result_msg))

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
                session.send = gone


def ended(session: Any) -> Any:
    """A session like this one, for a late thread: whatever it asks, it hears that the session has ended."""
    like = copy.copy(session)
    like.send = gone
    return like


def gone(*_: Any, **__: Any) -> Any:
    """What a request is answered that goes nowhere any more."""
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
    return _sign_in(server, _Patience())


def probe(server: Server) -> Probe:
    """Whether a task could be begun there."""
    from clearml.backend_api import Session
    from clearml.backend_api.session.defs import MissingConfigError

    patience = _Patience()
    try:
        _sign_in(server, patience)
    except BackendUnavailable as error:
        told = error.reason.removeprefix("clearml: ")
        if isinstance(error.__cause__, MissingConfigError):
            return Probe(False, told, signed_in=False)
        signed_in = False if patience.status in _SIGN_IN else None
        return Probe(False, told, reachable=patience.status is not None, signed_in=signed_in)
    host = redacted(server.api or Session.get_api_server_host())
    return Probe(True, f"signed in to {host}", reachable=True, signed_in=True)


def _sign_in(server: Server, patience: _Patience) -> Connection:
    from clearml.backend_api.session.defs import MissingConfigError

    try:
        session = hurried_session(server.api, server.access_key, server.secret_key, patience.heard)
    except MissingConfigError as error:
        raise BackendUnavailable(f"clearml: {not_configured()}") from error
    except (login_error(), ValueError) as error:
        why = redacted(f"clearml: cannot sign in: {error}")
        raise BackendUnavailable(why, retry_after=patience.asked) from error
    return Connection(session, patience)
