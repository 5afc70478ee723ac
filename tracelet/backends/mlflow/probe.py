"""Whether MLflow could be used here: asked without a run."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from tracelet.backends.addresses import redacted
from tracelet.backends.base import Probe
from tracelet.backends.mlflow.config import MlflowConfig
from tracelet.backends.mlflow.errors import asks_to_sign_in, translated
from tracelet.backends.mlflow.requests import Access
from tracelet.backends.mlflow.store import Store, check
from tracelet.errors import BackendUnavailable

_TIMEOUT = 3.0


def probe(place: Store, config: MlflowConfig) -> Probe:
    """A server is asked for one experiment, signed in as a run would be; of a database, whether it could be written."""
    try:
        check(place)
    except BackendUnavailable as error:
        missing = importlib.util.find_spec("mlflow") is None
        return Probe(False, _told(error), reachable=False if place.is_http and not missing else None)
    if not place.is_http:
        return _of_a_file(place)
    access = Access(place.uri, config, timeout=_TIMEOUT)
    try:
        with translated(config.secrets):
            _ask(place.uri, access)
    except BackendUnavailable as error:
        signed_in = False if asks_to_sign_in(error.__cause__) else None
        return Probe(False, f"{redacted(place.uri)}: {_told(error)}", reachable=True, signed_in=signed_in)
    return Probe(True, redacted(place.uri), reachable=True, signed_in=True)


def _ask(uri: str, access: Access) -> None:
    from mlflow.tracking import MlflowClient

    access.open()
    try:
        with access.impatient():
            MlflowClient(uri).search_experiments(max_results=1)
    finally:
        access.close()


def _of_a_file(place: Store) -> Probe:
    path = place.database or Path(place.uri)
    there = next((one for one in (path, *path.parents) if one.exists()), None)
    if there is not None and not os.access(there, os.W_OK):
        return Probe(False, f"{there} cannot be written")
    return Probe(True, redacted(place.uri))


def _told(error: BackendUnavailable) -> str:
    return error.reason.removeprefix("mlflow: ")
