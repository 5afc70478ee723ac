"""How our requests reach the tracking server: signed in, and given up after seconds instead of minutes.

MLflow's own door for both is its request auth provider: it is asked for each request, in the thread that makes it, and
sees where it goes. So credentials reach our server only. And MLflow reads its retries and timeouts (245 s for a closed
port, 1207 s for a silent one) from the environment at the beginning of each request: our values stand there for that
moment alone, so that a call of the program, which has MLflow's patience, does not meet them.
"""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from tracelet.backends import environment
from tracelet.backends.mlflow.config import MlflowConfig
from tracelet.backends.mlflow.store import knock
from tracelet.errors import BackendUnavailable

_AUTH = "MLFLOW_TRACKING_AUTH"
_QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


class Access:
    """From `open` to `close`, for the server at `uri`; a database or a folder has nothing to do with it."""

    def __init__(self, uri: str, config: MlflowConfig, timeout: float | None = None) -> None:
        self._base = urlsplit(uri)
        self._headers = _headers(config)
        self._timeout = config.timeout if timeout is None else timeout
        self._name = f"tracelet-{id(self)}"
        self._calling = threading.local()
        self._undo = contextlib.ExitStack()

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
        """The program's own calls to our server carry the credentials of our `config`, where it has any."""
        with environment.borrowed(_AUTH, self._name) if self._headers else contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def impatient(self, size: int = 0) -> Iterator[None]:
        """Requests of this thread inside the block are tried once; `size`: the bytes of the largest upload."""
        with contextlib.ExitStack() as undo:
            for name, value in _QUIET.items():
                if environment.before(name) is None:
                    undo.enter_context(environment.borrowed(name, value))
            if self.is_http and not hasattr(self._calling, "window"):
                self._calling.window = _Window(self._wanted(size))
                undo.callback(self._leave)
                self._calling.window.open()
            yield

    def wait(self) -> float | None:
        """For how long a server that throttles wants to be left alone."""
        try:
            knock(self._base.geturl())
        except BackendUnavailable as error:
            return error.retry_after
        return None

    def _wanted(self, size: int) -> dict[str, str]:
        timeout = max(1, round(self._timeout + size / 1e6))  # a megabyte a second is slow
        wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout)}
        return {name: value for name, value in wanted.items() if environment.before(name) is None} | {_AUTH: self._name}

    def _leave(self) -> None:
        self._calling.window.close()
        del self._calling.window

    def __call__(self, request: Any) -> Any:
        """Sign a request; by now MLflow has read its environment, and reads it again for the next one."""
        window = getattr(self._calling, "window", None)
        if window is not None:
            window.close()
            request.register_hook("response", lambda response, *args, **kwargs: window.open())
        if self._headers and self._is_ours(request.url):
            request.headers.update(self._headers)
            return request
        return _as_before(request)

    def _is_ours(self, url: str) -> bool:
        parts, path = urlsplit(url), self._base.path.rstrip("/") + "/"
        return (parts.scheme, _host(parts)) == (self._base.scheme, _host(self._base)) and parts.path.startswith(path)


class _Provider:
    """What MLflow's registry keeps."""

    def __init__(self, name: str, access: Access) -> None:
        self._name, self._access = name, access

    def get_name(self) -> str:
        return self._name

    def get_auth(self) -> Access:
        return self._access


class _Window:
    """The moment in which MLflow reads our values from the environment."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values, self._is_open = values, False

    def open(self) -> None:
        if not self._is_open:
            for name, value in self._values.items():
                environment.borrow(name, value)
        self._is_open = True

    def close(self) -> None:
        if self._is_open:
            for name in self._values:
                environment.give_back(name)
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


def _as_before(request: Any) -> Any:
    """What would have happened to the request without us: the user's own provider, the address's user, or .netrc."""
    from requests.auth import HTTPBasicAuth
    from requests.utils import get_auth_from_url, get_netrc_auth

    theirs = environment.before(_AUTH)
    if theirs:
        from mlflow.tracking.request_auth.registry import fetch_auth

        auth = fetch_auth(theirs)
        auth = HTTPBasicAuth(*auth) if isinstance(auth, tuple) else auth
        return auth(request) if auth is not None else request
    told = get_auth_from_url(request.url)
    pair = told if any(told) else get_netrc_auth(request.url)
    return HTTPBasicAuth(*pair)(request) if pair else request
