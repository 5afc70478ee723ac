"""Check if MLflow is available, without a run."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from tracelet.backends.capabilities import Probe
from tracelet.backends.mlflow.config import MlflowConfig
from tracelet.backends.mlflow.errors import is_auth_error, translated
from tracelet.backends.mlflow.requests import Access
from tracelet.backends.mlflow.store import Store, check
from tracelet.errors import BackendUnavailable
from tracelet.redaction import redacted_url

_TIMEOUT = 3.0


def probe(store: Store, config: MlflowConfig) -> Probe:
    """Request one experiment from a server, with the credentials of a run; check if a database file is writable."""
    try:
        check(store)
    except BackendUnavailable as error:
        missing = importlib.util.find_spec("mlflow") is None
        return Probe(False, _text(error), reachable=False if store.is_http and not missing else None)
    if not store.is_http:
        return _probe_file(store)
    access = Access(store.uri, config, timeout=_TIMEOUT)
    try:
        with translated(tuple(config.secrets())):
            _request_experiment(store.uri, access)
    except BackendUnavailable as error:
        signed_in = False if is_auth_error(error.__cause__) else None
        return Probe(False, f"{redacted_url(store.uri)}: {_text(error)}", reachable=True, signed_in=signed_in)
    return Probe(True, redacted_url(store.uri), reachable=True, signed_in=True)


def _request_experiment(uri: str, access: Access) -> None:
    from mlflow.tracking import MlflowClient

    access.open()
    try:
        access.call(lambda: MlflowClient(uri).search_experiments(max_results=1))
    finally:
        access.close()


def _probe_file(store: Store) -> Probe:
    path = store.database or Path(store.uri)
    existing = next((candidate for candidate in (path, *path.parents) if candidate.exists()), None)
    if existing is not None and not os.access(existing, os.W_OK):
        return Probe(False, f"{existing} is not writable")
    return Probe(True, redacted_url(store.uri))


def _text(error: BackendUnavailable) -> str:
    return error.reason.removeprefix("mlflow: ")
