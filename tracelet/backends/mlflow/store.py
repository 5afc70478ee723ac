"""Find the tracking store, and read the state of the program's own MLflow when the backend is created."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tracelet.backends import environment
from tracelet.backends.http import THROTTLED, request
from tracelet.backends.mlflow.config import MlflowConfig
from tracelet.errors import BackendUnavailable
from tracelet.forks import free_in_child
from tracelet.redaction import redacted_url

NOT_INSTALLED = 'not installed: pip install "tracelet[mlflow]"'
_NO_SQL = (
    "this MLflow (mlflow-skinny) has no SQL store: pip install mlflow, or name a tracking server "
    "(backend_url or MLFLOW_TRACKING_URI)"
)
_PROBE_TIMEOUT = 3.0
_DATABASES = ("sqlite", "mysql", "postgresql", "mssql")


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
        return self.uri.startswith(("http://", "https://"))

    @property
    def database(self) -> Path | None:
        """The file of a SQLite store; None for any other."""
        match = _SQLITE.fullmatch(self.uri)
        return Path(match[2]) if match and match[2].startswith("/") else None


def resolve(config: MlflowConfig) -> Store:
    """Return the store. Call it early, because the program may change its working directory before the run opens."""
    default = absolute("sqlite:///mlflow.db")
    env = environment.original("MLFLOW_TRACKING_URI")
    mlflow: Any = sys.modules.get("mlflow")
    if mlflow is not None and hasattr(mlflow, "active_run"):  # otherwise another thread is still importing it
        active, experiment = mlflow.active_run(), mlflow.tracking.fluent._active_experiment_id
        # If no URI is set, older releases use their file store. Ignore it unless the program's run is in it.
        is_set = mlflow.is_tracking_uri_set() or active is not None
        current = absolute(mlflow.get_tracking_uri()) if is_set else default
    else:
        current, active, experiment = absolute(env) if env else default, None, None
    configured = config.backend_url or config.tracking_uri
    uri = absolute(configured) if configured else current
    if uri != current:  # the program's run and experiment are in another store
        return Store(uri=uri)
    return Store(
        uri=uri,
        run_id=active.info.run_id if active else environment.original("MLFLOW_RUN_ID"),
        active=active is not None,
        experiment_id=experiment or environment.original("MLFLOW_EXPERIMENT_ID"),
        experiment_name=None if experiment else environment.original("MLFLOW_EXPERIMENT_NAME"),
    )


_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]+)(\?.*)?")


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
        raise BackendUnavailable(f"mlflow: {NOT_INSTALLED}")
    if store.uri.split(":")[0].split("+")[0] in _DATABASES and importlib.util.find_spec("sqlalchemy") is None:
        raise BackendUnavailable(f"mlflow: {_NO_SQL}")
    if store.is_http:
        ping(store.uri)


def ping(uri: str) -> None:
    """Check that the server answers, with any status except a throttling one.

    Raises:
        BackendUnavailable: the server does not answer, or throttles.
    """
    import urllib.error  # here: loads slowly

    parts = urlsplit(uri)
    port = f":{parts.port}" if parts.port else ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    reason, retry_after = None, None
    try:
        response = request(f"{parts.scheme}://{host}{port}{parts.path}/health", _PROBE_TIMEOUT)
        if response.status in THROTTLED:
            reason, retry_after = f"{response.status} {response.reason}", response.retry_after
    except urllib.error.URLError as error:
        # MLflow checks certificates itself (MLFLOW_TRACKING_INSECURE_TLS, ...).
        reason = None if "CERTIFICATE" in str(error.reason) else str(error.reason)
    except (OSError, ValueError) as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
    if reason is not None:
        raise BackendUnavailable(f"mlflow: {redacted_url(uri)} does not answer: {reason}", retry_after=retry_after)


def prepare(store: Store) -> None:
    """Create a missing SQLite store, with the artifacts of its default experiment beside it.

    MLflow's default is the working directory. The file is linked to its path in one step: a kill leaves no incomplete
    tables, and only one of several ranks creates it.
    """
    path = store.database
    if path is None or path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with _building():
            tables = SqlAlchemyStore(f"sqlite:///{draft}", str(artifacts_beside(path)))
        tables.engine.dispose()
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        for leftover in path.parent.glob(f"{draft.name}*"):
            leftover.unlink()


def _building() -> contextlib.AbstractContextManager[Any]:
    """Take MLflow's own lock: alembic's state is global, and the program may be creating a store at this moment."""
    from mlflow.tracking._tracking_service import registry

    lock = getattr(registry, "_building_store_lock", None)  # older releases have none
    return contextlib.nullcontext() if lock is None else free_in_child(lock)


def artifacts_beside(database: Path) -> Path:
    return database.parent / "mlruns"
