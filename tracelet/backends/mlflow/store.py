"""Which store, and what the program's own MLflow stood at when the backend was made."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tracelet.backends import environment
from tracelet.backends.addresses import redacted
from tracelet.backends.http import THROTTLED, retry_after_seconds
from tracelet.backends.mlflow.config import MlflowConfig
from tracelet.errors import BackendUnavailable

NOT_INSTALLED = 'not installed: pip install "tracelet[mlflow]"'
_NO_SQL = (
    "this MLflow (mlflow-skinny) has no SQL store: pip install mlflow, or name a tracking server "
    "(backend_url or MLFLOW_TRACKING_URI)"
)
_PROBE_TIMEOUT = 3.0
_DATABASES = ("sqlite", "mysql", "postgresql", "mssql")


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """`uri` is absolute. `run_id`: the run that the program had begun (`active`), or that MLFLOW_RUN_ID names;
    `experiment_id`, `experiment_name`: the experiment that it had chosen.
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
        """The file of a SQLite store."""
        found = _SQLITE.fullmatch(self.uri)
        return Path(found[2]) if found and found[2].startswith("/") else None


def look(config: MlflowConfig) -> Store:
    """Taken when the backend is made: the program may change its working directory before the run is opened."""
    default = absolute("sqlite:///mlflow.db")
    env = environment.before("MLFLOW_TRACKING_URI")
    mlflow: Any = sys.modules.get("mlflow")
    if mlflow is not None and hasattr(mlflow, "active_run"):  # not one that another thread is importing
        active, experiment = mlflow.active_run(), mlflow.tracking.fluent._active_experiment_id
        # Where nobody chose one, older MLflow has its file store: not for us, unless the program's run is in it.
        chosen = mlflow.is_tracking_uri_set() or active is not None
        current = absolute(mlflow.get_tracking_uri()) if chosen else default
    else:
        current, active, experiment = absolute(env) if env else default, None, None
    wanted = config.backend_url or config.tracking_uri
    uri = absolute(wanted) if wanted else current
    if uri != current:  # what the program had chosen is in another store
        return Store(uri=uri)
    return Store(
        uri=uri,
        run_id=active.info.run_id if active else environment.before("MLFLOW_RUN_ID"),
        active=active is not None,
        experiment_id=experiment or environment.before("MLFLOW_EXPERIMENT_ID"),
        experiment_name=None if experiment else environment.before("MLFLOW_EXPERIMENT_NAME"),
    )


_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]+)(\?.*)?")


def absolute(uri: str) -> str:
    """A tracking URI that means the same from every working directory."""
    found = _SQLITE.fullmatch(uri)
    if found:
        return f"{found[1]}{Path(found[2]).absolute() if found[2] != ':memory:' else found[2]}{found[3] or ''}"
    if "://" in uri or uri.startswith(("file:", "databricks", "uc")) or not uri:
        return uri.rstrip("/") if uri.startswith("http") else uri
    return str(Path(uri).absolute())


def check(place: Store) -> None:
    """Whether there is anything to connect to: MLflow itself would ask a dead host for minutes.

    Raises:
        BackendUnavailable: what is missing, and what to do.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise BackendUnavailable(f"mlflow: {NOT_INSTALLED}")
    if place.uri.split(":")[0].split("+")[0] in _DATABASES and importlib.util.find_spec("sqlalchemy") is None:
        raise BackendUnavailable(f"mlflow: {_NO_SQL}")
    if place.is_http:
        knock(place.uri)


def knock(uri: str) -> None:
    """Ask the server whether it is there; any answer will do, but one that wants to be left alone.

    Raises:
        BackendUnavailable: it is not, and what is wrong with it.
    """
    import urllib.error  # here: an HTTP client takes as long to import as the rest of the backend
    import urllib.request

    parts = urlsplit(uri)
    port = f":{parts.port}" if parts.port else ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    trouble, wait = None, None
    try:
        with urllib.request.urlopen(f"{parts.scheme}://{host}{port}{parts.path}/health", timeout=_PROBE_TIMEOUT):
            return
    except urllib.error.HTTPError as error:
        with error:
            if error.code in THROTTLED:
                trouble, wait = f"{error.code} {error.reason}", retry_after_seconds(error.headers.get("Retry-After"))
    except urllib.error.URLError as error:
        # A certificate is MLflow's to judge (MLFLOW_TRACKING_INSECURE_TLS, ...).
        trouble = None if "CERTIFICATE" in str(error.reason) else str(error.reason)
    except (OSError, ValueError) as error:
        trouble = "no answer in time" if isinstance(error, socket.timeout) else str(error)
    if trouble is not None:
        raise BackendUnavailable(f"mlflow: {redacted(uri)} does not answer: {trouble}", retry_after=wait)


def prepare(place: Store) -> None:
    """Make a new SQLite store, the artifacts of its default experiment beside it and not where the program stands.

    Aside, and put in place in one step: a kill in the middle leaves no half-made tables, and of several ranks one wins.
    """
    path = place.database
    if path is None or path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        store = SqlAlchemyStore(f"sqlite:///{draft}", str(artifacts_beside(path)))
        store.engine.dispose()
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        for made in path.parent.glob(f"{draft.name}*"):
            made.unlink()


def artifacts_beside(database: Path) -> Path:
    return database.parent / "mlruns"
