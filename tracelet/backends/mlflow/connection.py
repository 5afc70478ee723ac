"""Find the tracking store, check it, sign in our requests to it, and make them fail after seconds.

MLflow waits 245 s for a closed port and 1207 s for a silent one. Its settings for that are environment variables, which
the program's own calls share. So its function for one HTTP request is wrapped instead.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from tracelet.backends import environment
from tracelet.backends.call import Call
from tracelet.backends.http import THROTTLED, request, retry_after_seconds
from tracelet.backends.mlflow.config import MlflowConfig, gateway_headers
from tracelet.backends.patches import wrapped
from tracelet.errors import BackendUnavailable
from tracelet.forks import free_in_child
from tracelet.redaction import redacted_url

T = TypeVar("T")

_NO_SQL = (
    "this MLflow (mlflow-skinny) has no SQL store: pip install mlflow, or name a tracking server "
    "(backend_url or MLFLOW_TRACKING_URI)"
)
PROBE_TIMEOUT = 3.0
_HTTP, _DATABASES = ("http://", "https://"), ("sqlite", "mysql", "postgresql", "mssql")
_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]+)(\?.*)?")
_RETRIES, _REQUEST_TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
_QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
_POLL, _MAX_ABANDONED = 0.5, 3


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """A tracking store and the program's own choices in it. `uri` is absolute.

    `run_id` is the program's running run (`active`), or the run in MLFLOW_RUN_ID. `experiment_id` and
    `experiment_name` are the program's experiment.
    """

    uri: str
    run_id: str | None = None
    active: bool = False
    experiment_id: str | None = None
    experiment_name: str | None = None

    @property
    def is_http(self) -> bool:
        return self.uri.startswith(_HTTP)

    @property
    def database(self) -> Path | None:
        """The file of a SQLite store; None for any other."""
        match = _SQLITE.fullmatch(self.uri)
        return Path(match[2]) if match and match[2].startswith("/") else None

    @property
    def artifacts(self) -> Path | None:
        """The folder for artifacts beside a SQLite file. MLflow's own default is the current working directory."""
        return self.database and self.database.parent / "mlruns"


class Replaced(msgspec.Struct, frozen=True):
    """The program's own tracking URI and experiment, while those of our active run are in their place."""

    run_id: str
    run_uri: str
    run_experiment_id: str
    uri: str | None
    experiment_id: str | None


replaced: list[Replaced] = []


def resolve(config: MlflowConfig) -> Store:
    """Return the store. Call it early, because the program may change its working directory before the run opens.

    A run that another run of ours made active is not the program's.
    """
    default, variable = absolute("sqlite:///mlflow.db"), environment.original("MLFLOW_TRACKING_URI")
    current, active, experiment = absolute(variable) if variable else default, None, None
    mlflow: Any = sys.modules.get("mlflow")
    if mlflow is not None and hasattr(mlflow, "active_run"):  # otherwise another thread is still importing it
        active, experiment = mlflow.active_run(), mlflow.tracking.fluent._active_experiment_id
        ours = replaced[0] if replaced else None
        if ours is not None and active is not None and active.info.run_id == ours.run_id:
            active = None
        if ours is not None and experiment == ours.run_experiment_id:
            experiment = ours.experiment_id
        if ours is not None and active is None and mlflow.get_tracking_uri() == ours.run_uri:
            current = absolute(ours.uri) if ours.uri else current
        # If no URI is set, MLflow may use a file store of the working directory, if the program's run is in it.
        elif mlflow.is_tracking_uri_set() or active is not None:
            current = absolute(mlflow.get_tracking_uri())
        else:
            current = default
    configured = config.backend_url or config.tracking_uri
    uri = absolute(configured) if configured else current
    if uri != current:  # the program's run and experiment are in another store
        return Store(uri=uri, run_id=config.run_id)
    return Store(
        uri=uri,
        run_id=config.run_id or (active.info.run_id if active else os.environ.get("MLFLOW_RUN_ID")),
        active=active is not None and config.run_id in (None, active.info.run_id),
        experiment_id=experiment or environment.original("MLFLOW_EXPERIMENT_ID"),
        experiment_name=None if experiment else os.environ.get("MLFLOW_EXPERIMENT_NAME"),
    )


def absolute(uri: str) -> str:
    """Make the path in a tracking URI absolute."""
    match = _SQLITE.fullmatch(uri)
    if match:
        return f"{match[1]}{Path(match[2]).absolute() if match[2] != ':memory:' else match[2]}{match[3] or ''}"
    if "://" in uri or uri.startswith(("file:", "databricks", "uc")) or not uri:
        return uri.rstrip("/") if uri.startswith("http") else uri
    return str(Path(uri).absolute())


def check(store: Store) -> None:
    """Check packages and the server first, because MLflow itself would retry a dead host for minutes.

    Raises:
        BackendUnavailable: a package is missing, or the server does not answer.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise BackendUnavailable('mlflow: not installed: pip install "tracelet[mlflow]"')
    if store.uri.split(":")[0].split("+")[0] in _DATABASES and importlib.util.find_spec("sqlalchemy") is None:
        raise BackendUnavailable(f"mlflow: {_NO_SQL}")
    if store.is_http:
        _ping(store.uri)


def _ping(uri: str) -> None:
    parts = urlsplit(uri)
    retry_after = None
    try:
        response = request(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}/health", PROBE_TIMEOUT)
        if response.status not in THROTTLED:
            return
        reason, retry_after = f"{response.status} {response.reason}", response.retry_after
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "reason", error))
        if "CERTIFICATE" in reason:  # MLflow checks certificates itself (MLFLOW_TRACKING_INSECURE_TLS, ...)
            return
    raise BackendUnavailable(f"mlflow: {redacted_url(uri)} does not answer: {reason}", retry_after=retry_after)


def prepare(store: Store) -> None:
    """Create a missing SQLite store, with the artifacts of its default experiment beside it.

    The file is linked to its path in one step: a kill leaves no incomplete tables, and only one of several ranks
    creates it.
    """
    from mlflow.tracking._tracking_service.registry import _building_store_lock

    free_in_child(_building_store_lock)  # held while a store is built, which takes seconds; a child may be forked then
    if not store.uri.startswith(_DATABASES):
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if (lock := getattr(SqlAlchemyStore, "_engine_map_lock", None)) is not None:
        free_in_child(lock)
    path = store.database
    if path is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        # MLflow's own lock: alembic's state is global, and the program may be creating a store at this moment.
        with _building_store_lock:
            tables = SqlAlchemyStore(f"sqlite:///{draft}", str(store.artifacts))
        tables.engine.dispose()
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        for leftover in path.parent.glob(f"{draft.name}*"):
            leftover.unlink()


class _Requests(msgspec.Struct):
    """The requests of one call, on one thread. If abandoned, the thread sends no other: it might create a second run.

    `timeout` is in seconds; `began` is the monotonic time at which the request in progress began.
    """

    timeout: int
    is_abandoned: bool = False
    began: float | None = None


class Access:
    """Control requests to the server at `uri` from `open` to `close`. Does nothing for a database or a folder.

    The program's own calls keep MLflow's patience. To our server, they carry the credentials of our `config` as well.
    """

    def __init__(self, uri: str, config: MlflowConfig, timeout: float | None = None) -> None:
        self._uri, self._is_http, self._headers = uri, uri.startswith(_HTTP), _headers(config)
        self._timeout = config.timeout if timeout is None else timeout
        self._calling = threading.local()
        self._undo = contextlib.ExitStack()
        self._abandoned: list[Call[Any]] = []

    def open(self) -> None:
        if self._is_http:
            from mlflow.utils import request_utils, rest_utils

            for module in (request_utils, rest_utils):
                self._undo.enter_context(wrapped(module, "_get_http_response_with_retries", self._send))

    def close(self) -> None:
        self._undo.close()

    @contextlib.contextmanager
    def fail_fast(self, current: _Requests | None = None) -> Iterator[None]:
        """Send requests of this thread without retries."""
        with contextlib.ExitStack() as undo:
            for name, value in _QUIET.items():
                if environment.original(name) is None:
                    undo.enter_context(environment.overridden(name, value))
            self._calling.requests = current or self._new_requests()
            undo.callback(delattr, self._calling, "requests")
            yield

    def call(self, function: Callable[[], T], size: int = 0) -> T:
        """Return the result of requests without retries. `size`: the bytes of the largest upload.

        MLflow's timeout starts again with each byte of an answer. So the requests have their own thread, and one that
        takes twice the timeout is abandoned.

        Raises:
            BackendUnavailable: a request takes too long.
        """
        current = self._new_requests(size)

        def run() -> T:
            with self.fail_fast(current):
                return function()

        # If the user set a number of retries, only the user knows how long a request may take.
        if not self._is_http or _RETRIES in os.environ:
            return run()
        self._abandoned = [call for call in self._abandoned if not call.has_ended]
        if len(self._abandoned) >= _MAX_ABANDONED:
            raise BackendUnavailable("mlflow: the server has not completed earlier answers")
        limit = 2 * current.timeout
        call = Call(run, "mlflow-call")
        while not call.wait(min(_POLL, limit)):
            began = current.began
            if began is not None and time.monotonic() - began >= limit:
                current.is_abandoned = True
                self._abandoned.append(call)
                raise BackendUnavailable(f"mlflow: the server's answer is not complete after {limit:g} s")
        return call.result()

    def _new_requests(self, size: int = 0) -> _Requests:
        by_user = os.environ.get(_REQUEST_TIMEOUT, "")
        # This assumes at least a megabyte per second.
        return _Requests(int(by_user) if by_user.isdigit() else max(1, round(self._timeout + size / 1e6)))

    def _send(self, original: Any, method: str, url: str, retries: int, *args: Any, **options: Any) -> Any:
        """Send a request of MLflow. `args`: backoff factor, jitter, codes to retry, whether a last error is raised."""
        if self._headers and url.startswith(f"{self._uri}/"):
            options["auth"] = self._sign
        current: _Requests | None = getattr(self._calling, "requests", None)
        if current is None:
            return original(method, url, retries, *args, **options)
        if current.is_abandoned:
            raise BackendUnavailable("mlflow: this request was abandoned")
        options["timeout"], current.began = current.timeout, time.monotonic()
        try:
            retries = retries if _RETRIES in os.environ else 0
            response = original(method, url, retries, *args[:3], raise_on_status=False, **options)
            _ = response.content  # the whole answer
        finally:
            current.began = None
        if response.status_code in THROTTLED:
            pause = retry_after_seconds(response.headers.get("Retry-After"))
            reason = f"mlflow: the server throttles: {response.status_code} {response.reason}"
            raise BackendUnavailable(reason, retry_after=pause)
        return response

    def _sign(self, request: Any) -> Any:
        request.headers.update(self._headers)
        return request


def _headers(config: MlflowConfig) -> dict[str, str]:
    headers = (gateway_headers() if config.layout == "ezpz" else {}) | dict(config.headers or {})
    if config.username is not None:
        pair = f"{config.username}:{config.password or ''}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
    elif config.api_key is not None:
        headers["Authorization"] = f"Bearer {config.api_key}"
    return headers
