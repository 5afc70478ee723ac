"""Files on their way to a file server: tried once, and given up after seconds.

ClearML's own upload tries a server that went away up to sixteen times, five minutes each.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from tracelet.backends.http import THROTTLED, retry_after_seconds
from tracelet.errors import BackendUnavailable, RecordRejected

_CONNECT, _ANSWER = 3.0, 10.0
_SLOWEST = 1e6
"""Bytes a second."""


class Uploads:
    """Of one thread, from the first to `close`: ClearML keeps an upload session for each thread and server."""

    def __init__(self) -> None:
        self._failed: Exception | None = None
        self._undo = contextlib.ExitStack()
        self._known: list[Any] = []

    def close(self) -> None:
        self._undo.close()
        self._known.clear()

    @contextlib.contextmanager
    def hurried(self, url: str) -> Iterator[None]:
        """What is uploaded to `url`'s server meanwhile is tried once.

        Raises:
            BackendUnavailable: it did not get there, also where ClearML says nothing of it.
            RecordRejected: the server refused it.
        """
        self._failed = None
        if url.startswith(("http://", "https://")):
            self._tame(url)
        try:
            yield
        finally:
            self.check()

    @property
    def failed(self) -> bool:
        return self._failed is not None

    def check(self) -> None:
        """Raise what went wrong since `hurried` began."""
        if self._failed is not None:
            raise self._failed

    def _tame(self, url: str) -> None:
        import requests
        from clearml.storage.helper import StorageHelper

        helper = StorageHelper.get(url)
        session = getattr(getattr(helper, "_container", None), "session", None)
        if session is None or any(one is session for one in self._known):
            return
        self._known.append(session)
        for adapter in session.adapters.values():
            adapter.max_retries = adapter.max_retries.new(total=0, connect=0, read=0, status=0, status_forcelist=())
        session.send = self._impatient(functools.partial(requests.Session.send, session))
        self._undo.callback(_forget, StorageHelper, helper)

    def _impatient(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def once(request: Any, **options: Any) -> Any:
            from requests import RequestException

            if self._failed is not None:  # ClearML tries again at once
                raise self._failed
            size = int(request.headers.get("Content-Length") or 0)
            options["timeout"] = (_CONNECT, _ANSWER + size / _SLOWEST)
            try:
                answer = send(request, **options)
            except (RequestException, OSError) as error:
                self._failed = BackendUnavailable(f"clearml: the file server does not take a file: {error}")
                raise self._failed from error
            if answer.status_code != 200:
                self._failed = _refusal(answer)
                raise self._failed
            return answer

        return once


def _refusal(answer: Any) -> Exception:
    reason = f"clearml: the file server answers {answer.status_code} {answer.reason}"
    if answer.status_code in (400, 413, 422):
        return RecordRejected(reason)
    wait = retry_after_seconds(answer.headers.get("Retry-After")) if answer.status_code in THROTTLED else None
    return BackendUnavailable(reason, retry_after=wait)


def _forget(helpers: Any, helper: Any) -> None:
    """A later thread may have the number of ours, by which ClearML finds its sessions."""
    for key, one in list(helpers._helpers.items()):
        if one is helper:
            del helpers._helpers[key]
