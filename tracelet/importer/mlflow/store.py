"""Open an MLflow store so that nothing in it can change."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from tracelet.backends.environment import overridden
from tracelet.backends.mlflow import connection
from tracelet.backends.mlflow.config import MlflowConfig
from tracelet.backends.mlflow.errors import translated
from tracelet.backends.mlflow.host import silenced
from tracelet.errors import ConfigurationError


class OpenStore(NamedTuple):
    """A client, and the root of a file store."""

    client: Any
    folder: Path | None


@contextlib.contextmanager
def opened(source: str) -> Iterator[OpenStore]:
    """Open a store for reading.

    MLflow itself creates missing databases, tables and folders. So a SQLite file is opened read-only, and a file store
    through a folder of links.

    Raises:
        ConfigurationError: there is no store at `source`.
        BackendUnavailable: the server does not answer, or MLflow cannot read the store.
    """
    with contextlib.ExitStack() as undo:
        path = _local_path(source)
        if path is None:
            store = connection.Store(uri=connection.absolute(source))
            connection.check(store)
            access = connection.Access(store.uri, MlflowConfig())
            access.open()
            undo.callback(access.close)
            undo.enter_context(access.fail_fast())
            uri = store.uri
        elif path.is_dir():
            undo.enter_context(overridden("MLFLOW_ALLOW_FILE_STORE", "true"))
            uri = Path(undo.enter_context(_links(path))).as_uri()
        else:
            # With the driver's name: MLflow makes the folder of a path behind `sqlite:///`, here one named `file:`.
            uri = f"sqlite+pysqlite:///file:{quote(str(path))}?mode=ro&uri=true"
        with translated(), silenced():
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri=uri)
        yield OpenStore(client, path if path is not None and path.is_dir() else None)


def _local_path(source: str) -> Path | None:
    """Return the folder or SQLite file of a store; None for a server or another database.

    Raises:
        ConfigurationError: it does not exist, or a folder is not a file store.
    """
    database = connection.Store(uri=connection.absolute(source)).database
    parts = urlsplit(source)
    if database is not None:
        path = database
    elif parts.scheme == "file":
        path = Path(unquote(parts.path))
    elif "://" in source or parts.scheme in ("databricks", "uc"):
        return None
    else:
        path = Path(source)
    path = path.absolute()
    if not path.exists():
        raise ConfigurationError(f"no MLflow store at {source}: {path} does not exist")
    if path.is_dir() and not any(path.glob("*/meta.yaml")):
        raise ConfigurationError(f"{path} is not a file store of MLflow: no experiment in it has a meta.yaml")
    return path


@contextlib.contextmanager
def _links(store: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="tracelet-") as folder:
        for child in store.iterdir():
            (Path(folder) / child.name).symlink_to(child)
        yield folder
