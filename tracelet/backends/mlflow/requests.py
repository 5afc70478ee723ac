"""Sign in our requests to the tracking server, and make them fail after seconds instead of minutes.

Both use MLflow's request auth provider. MLflow calls it for each request, in the thread of the request, and passes the
URL, so only our server receives the credentials. MLflow reads its retries and timeouts (245 s for a closed port, 1207 s
for a silent one) from the environment at the start of each request. Our values are set only for that moment, so the
program's own calls keep MLflow's values.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tracelet.backends import environment
from tracelet.backends.call import Call
from tracelet.backends.mlflow.config import MlflowConfig
from tracelet.backends.mlflow.store import ping
from tracelet.errors import BackendUnavailable

T = TypeVar("T")

_AUTH = "MLFLOW_TRACKING_AUTH"
_RETRIES, _REQUEST_TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
_POLL = 0.5
_MAX_ABANDONED = 3
_QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


class Access:
    """Control requests to the server at `uri` from `open` to `close`. Does nothing for a database or a folder."""

    def __init__(self, uri: str, config: MlflowConfig, timeout: float | None = None) -> None:
        self._base = urlsplit(uri)
        self._headers = _headers(config)
        self._timeout = config.timeout if timeout is None else timeout
        self._name = f"tracelet-{id(self)}"
        self._calling = threading.local()
        self._undo = contextlib.ExitStack()
        self._abandoned: list[Call[Any]] = []

    @property
    def is_http(self) -> bool:
        return self._base.scheme in ("http", "https")

    def open(self) -> None:
        from mlflow.tracking.request_auth.registry import _request_auth_provider_registry as registry

        if self.is_http:
            registry.register(lambda: _Provider(self._name, self))
            provider = registry._registry[-1]
            self._undo.callback(registry._registry.remove, provider)

    def close(self) -> None:
        self._undo.close()

    @contextlib.contextmanager
    def for_program(self) -> Iterator[None]:
        """Sign in the program's own calls to our server with the credentials of our `config`, if it has any."""
        with environment.overridden(_AUTH, self._name) if self._headers else contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def fail_fast(self, size: int = 0) -> Iterator[None]:
        """Send requests of this thread without retries. `size`: the bytes of the largest upload."""
        with contextlib.ExitStack() as undo:
            for name, value in _QUIET.items():
                if environment.original(name) is None:
                    undo.enter_context(environment.overridden(name, value))
            if self.is_http and not hasattr(self._calling, "window"):
                self._calling.window = _Window(self._variables(size))
                undo.callback(self._leave)
                self._calling.window.open()
            yield

    def call(self, function: Callable[[], T], size: int = 0) -> T:
        """Return the result of requests without retries. `size`: the bytes of the largest upload.

        MLflow's timeout starts again with each byte of an answer. So the requests have their own thread, and one that
        takes twice the timeout is abandoned.

        Raises:
            BackendUnavailable: a request takes too long.
        """
        request = _Request()

        def requests() -> T:
            self._calling.request = request
            with self.fail_fast(size):
                return function()

        # If the user set a number of retries, only the user knows how long a request may take.
        if not self.is_http or environment.original(_RETRIES) is not None:
            return requests()
        self._abandoned = [call for call in self._abandoned if not call.has_ended]
        if len(self._abandoned) >= _MAX_ABANDONED:
            raise BackendUnavailable("mlflow: the server has not completed earlier answers")
        limit = 2 * self._request_timeout(size)
        call = Call(requests, "mlflow-call")
        while not call.wait(min(_POLL, limit)):
            if request.age() >= limit:
                request.is_abandoned = True
                self._abandoned.append(call)
                raise BackendUnavailable(f"mlflow: the server's answer is not complete after {limit:g} s")
        return call.result()

    def retry_after(self) -> float | None:
        """Return the seconds to pause if the server throttles; else None."""
        try:
            ping(self._base.geturl())
        except BackendUnavailable as error:
            return error.retry_after
        return None

    def _variables(self, size: int) -> dict[str, str]:
        limits = {_RETRIES: "0", _REQUEST_TIMEOUT: str(self._request_timeout(size))}
        unset = {name: value for name, value in limits.items() if environment.original(name) is None}
        return unset | {_AUTH: self._name}

    def _request_timeout(self, size: int) -> int:
        set_by_user = environment.original(_REQUEST_TIMEOUT)
        if set_by_user is not None and set_by_user.isdigit():
            return int(set_by_user)
        return max(1, round(self._timeout + size / 1e6))  # assumes at least a megabyte per second

    def _leave(self) -> None:
        self._calling.window.close()
        del self._calling.window

    def __call__(self, request: Any) -> Any:
        """Sign a request. MLflow has read the environment, and reads it again for the next request."""
        window = getattr(self._calling, "window", None)
        if window is not None:
            window.close()
            current: _Request = getattr(self._calling, "request", None) or _Request()
            current.begin()
            request.register_hook("response", functools.partial(_read_answer, current, window))
        if self._headers and self._is_ours(request.url):
            request.headers.update(self._headers)
            return request
        return _default_auth(request)

    def _is_ours(self, url: str) -> bool:
        parts, path = urlsplit(url), self._base.path.rstrip("/") + "/"
        return (parts.scheme, _host(parts)) == (self._base.scheme, _host(self._base)) and parts.path.startswith(path)


class _Provider:
    """The entry in MLflow's registry of auth providers."""

    def __init__(self, name: str, access: Access) -> None:
        self._name, self._access = name, access

    def get_name(self) -> str:
        return self._name

    def get_auth(self) -> Access:
        return self._access


class _Request:
    """The request in progress on a thread. If abandoned, the thread sends no other: it might create a second run."""

    is_abandoned = False
    _began: float | None = None

    def begin(self) -> None:
        if self.is_abandoned:
            raise BackendUnavailable("mlflow: this request was abandoned")
        self._began = time.monotonic()

    def end(self) -> None:
        self._began = None

    def age(self) -> float:
        """Return its seconds so far; 0 if there is none."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began


def _read_answer(request: _Request, window: _Window, response: Any, *args: Any, **kwargs: Any) -> None:
    """Read the whole answer. MLflow reads the environment again before the next request."""
    _ = response.content
    request.end()
    window.open()


class _Window:
    """Set our values in the environment while MLflow reads it."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values, self._is_open = values, False

    def open(self) -> None:
        if not self._is_open:
            for name, value in self._values.items():
                environment.override(name, value)
        self._is_open = True

    def close(self) -> None:
        if self._is_open:
            for name in self._values:
                environment.restore(name)
        self._is_open = False


def _headers(config: MlflowConfig) -> dict[str, str]:
    headers = dict(config.headers or {})
    if config.username is not None:
        pair = f"{config.username}:{config.password or ''}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
    elif config.api_key is not None:
        headers["Authorization"] = f"Bearer {config.api_key}"
    return headers


def _host(parts: Any) -> tuple[str | None, int]:
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _default_auth(request: Any) -> Any:
    """Sign a request as without tracelet: by the user's own provider, the user in the URL, or .netrc."""
    from requests.auth import HTTPBasicAuth
    from requests.utils import get_auth_from_url, get_netrc_auth

    provider = environment.original(_AUTH)
    if provider:
        from mlflow.tracking.request_auth.registry import fetch_auth

        auth = fetch_auth(provider)
        auth = HTTPBasicAuth(*auth) if isinstance(auth, tuple) else auth
        return auth(request) if auth is not None else request
    from_url = get_auth_from_url(request.url)
    pair = from_url if any(from_url) else get_netrc_auth(request.url)
    return HTTPBasicAuth(*pair)(request) if pair else request
