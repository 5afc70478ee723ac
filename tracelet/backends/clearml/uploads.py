"""Upload files to a file server once, with a timeout of seconds.

ClearML's own upload tries an unreachable server up to sixteen times, five minutes each.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from tracelet.backends.call import call_within
from tracelet.backends.http import THROTTLED, retry_after_seconds
from tracelet.errors import BackendUnavailable, RecordRejected

_CONNECT, _ANSWER = 3.0, 10.0
_MIN_RATE = 1e6
"""Bytes per second."""


class Uploads:
    """Limit the uploads of one thread until `close`. ClearML has an upload session for each thread and server."""

    def __init__(self) -> None:
        self._failed: Exception | None = None
        self._undo = contextlib.ExitStack()
        self._limited: list[Any] = []

    def close(self) -> None:
        self._undo.close()
        self._limited.clear()

    @contextlib.contextmanager
    def fail_fast(self, url: str) -> Iterator[None]:
        """Try each upload to the server of `url` once, within a `with` block.

        Raises:
            BackendUnavailable: an upload failed, even if ClearML ignored that.
            RecordRejected: the server rejected the file.
        """
        self._failed = None
        if url.startswith(("http://", "https://")):
            self._limit(url)
        try:
            yield
        finally:
            self.check()

    @property
    def failed(self) -> bool:
        return self._failed is not None

    def check(self) -> None:
        """Raise the first failure since `fail_fast` was entered."""
        if self._failed is not None:
            raise self._failed

    def _limit(self, url: str) -> None:
        import requests
        from clearml.storage.helper import StorageHelper

        helper = StorageHelper.get(url)
        session = getattr(getattr(helper, "_container", None), "session", None)
        if session is None or any(limited is session for limited in self._limited):
            return
        self._limited.append(session)
        for adapter in session.adapters.values():
            adapter.max_retries = adapter.max_retries.new(total=0, connect=0, read=0, status=0, status_forcelist=())
        session.send = self._send_once(functools.partial(requests.Session.send, session))
        self._undo.callback(_forget, StorageHelper, helper)

    def _send_once(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def once(request: Any, **options: Any) -> Any:
            from requests import RequestException

            if self._failed is not None:  # ClearML retries at once
                raise self._failed
            size = int(request.headers.get("Content-Length") or 0)
            limit = _ANSWER + size / _MIN_RATE
            options["timeout"] = (_CONNECT, limit)
            try:
                response = call_within(_CONNECT + 2 * limit, "clearml-call", lambda: send(request, **options))
            except (RequestException, OSError) as error:
                self._failed = BackendUnavailable(f"clearml: the upload to the file server failed: {error}")
                raise self._failed from error
            if response.status_code != 200:
                self._failed = _error(response)
                raise self._failed
            return response

        return once


def _error(response: Any) -> Exception:
    reason = f"clearml: the file server returned {response.status_code} {response.reason}"
    if response.status_code in (400, 413, 422):
        return RecordRejected(reason)
    wait = retry_after_seconds(response.headers.get("Retry-After")) if response.status_code in THROTTLED else None
    return BackendUnavailable(reason, retry_after=wait)


def _forget(helpers: Any, helper: Any) -> None:
    """Remove the helper: ClearML finds it by the thread's number, which a later thread may have again."""
    for key, cached in list(helpers._helpers.items()):
        if cached is helper:
            del helpers._helpers[key]
