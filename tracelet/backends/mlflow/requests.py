"""Sign in our requests to the tracking server, and make them fail after seconds instead of minutes.

Both use MLflow's request auth provider. MLflow calls it for each request, in the thread of the request, and passes the
URL, so only our server receives the credentials. MLflow reads its retries and timeouts (245 s for a closed port, 1207 s
for a silent one) from the environment at the start of each request. Our values are set only for that moment, so the
program's own calls keep MLflow's values.
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
from tracelet.backends.mlflow.store import ping
from tracelet.errors import BackendUnavailable

_AUTH = "MLFLOW_TRACKING_AUTH"
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

    def retry_after(self) -> float | None:
        """Return the seconds to pause if the server throttles; else None."""
        try:
            ping(self._base.geturl())
        except BackendUnavailable as error:
            return error.retry_after
        return None

    def _variables(self, size: int) -> dict[str, str]:
        timeout = max(1, round(self._timeout + size / 1e6))  # assumes at least a megabyte per second
        limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout)}
        unset = {name: value for name, value in limits.items() if environment.original(name) is None}
        return unset | {_AUTH: self._name}

    def _leave(self) -> None:
        self._calling.window.close()
        del self._calling.window

    def __call__(self, request: Any) -> Any:
        """Sign a request. MLflow has read the environment, and reads it again for the next request."""
        window = getattr(self._calling, "window", None)
        if window is not None:
            window.close()
            request.register_hook("response", lambda response, *args, **kwargs: window.open())
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
