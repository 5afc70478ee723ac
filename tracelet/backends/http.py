"""Send one short HTTP request to a server, and read its Retry-After header."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from tracelet.backends.call import call_within

THROTTLED = (429, 503)
"""Status codes that come with a Retry-After header."""


class Response(NamedTuple):
    """`body` is empty unless it was requested; `retry_after` is in seconds."""

    status: int
    reason: str
    retry_after: float | None
    body: bytes


class NotHttp(OSError):
    """The server answered with something other than HTTP, for example TLS."""


def request(
    url: str,
    timeout: float,
    *,
    data: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    insecure: bool = False,
    read_body: bool = False,
    redirects: bool = True,
) -> Response:
    """Send a GET request, or a POST if there is `data`, and return the response, whatever its status code.

    `timeout` seconds apply to each operation on the socket, and twice as many to the whole request. `insecure` accepts
    any certificate. The body of an error response is never read. Without `redirects`, a redirect is the response; with
    them, a POST that is redirected becomes a GET.

    Raises:
        OSError: no answer in time; `NotHttp` if the answer is no HTTP.
        ValueError: `url` is no URL.
    """
    arguments = url, timeout, data, headers or {}, insecure, read_body, redirects
    return call_within(2 * timeout, "http-request", lambda: _request(*arguments))


def _request(
    url: str,
    timeout: float,
    data: bytes | None,
    headers: Mapping[str, str],
    insecure: bool,
    read_body: bool,
    redirects: bool,
) -> Response:
    import http.client  # here: an HTTP client takes as long to import as a whole backend
    import ssl
    import urllib.error
    import urllib.request

    context = ssl._create_unverified_context() if insecure else None
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
    if not redirects:
        unfollowed = urllib.request.HTTPRedirectHandler()
        unfollowed.redirect_request = lambda *_: None  # type: ignore[method-assign]
        handlers.append(unfollowed)
    message = urllib.request.Request(url, data, dict(headers))
    try:
        with urllib.request.build_opener(*handlers).open(message, timeout=timeout) as answer:
            return Response(answer.status, answer.reason, None, answer.read() if read_body else b"")
    except urllib.error.HTTPError as error:
        with error:
            return Response(error.code, error.reason, retry_after_seconds(error.headers.get("Retry-After")), b"")
    except http.client.HTTPException as error:
        raise NotHttp(str(error)) from error


def retry_after_seconds(header: str | None) -> float | None:
    """Return the seconds from now until the number or date in the header; None if it holds neither."""
    from email.utils import parsedate_to_datetime  # here: few responses have the header

    text = (header or "").strip()
    try:
        return max(0.0, float(text) if text.isdigit() else parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
