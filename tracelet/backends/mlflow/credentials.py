"""Find the credentials that MLflow may use, without importing it, so that they can be redacted."""

from __future__ import annotations

import configparser
import netrc
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tracelet.backends import environment
from tracelet.backends.mlflow.config import MlflowConfig

# MLflow's own variables, and those of artifact stores.
_VARIABLES = (
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "DATABRICKS_TOKEN",
    "DATABRICKS_CLIENT_SECRET",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
)
_FILE = Path("~/.mlflow/credentials")


def secrets(config: MlflowConfig, uri: str) -> Iterator[str]:
    """Yield secrets from the config, the environment, URLs, MLflow's credentials file, and ~/.netrc for `uri`."""
    for value in config.secrets():
        yield value
        yield value.rpartition(" ")[2]  # "Bearer ..."
    yield from filter(None, map(os.environ.get, _VARIABLES))
    for url in (uri, config.artifact_location, environment.original("MLFLOW_TRACKING_URI")):
        password = _host_and_password(url)[1]
        if password:
            yield from (password, unquote(password))
    yield from _from_files(_host_and_password(uri)[0])


def _host_and_password(url: str | None) -> tuple[str | None, str | None]:
    try:
        parts = urlsplit(url or "")
        return parts.hostname, parts.password
    except ValueError:
        return None, None


def _from_files(host: str | None) -> Iterator[str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(_FILE.expanduser(), encoding="utf-8")
        yield from filter(None, [parser.get("mlflow", "mlflow_tracking_password", fallback=None)])
    except (configparser.Error, UnicodeDecodeError, RuntimeError):  # RuntimeError: there is no home directory
        pass
    try:
        entry = netrc.netrc(os.environ.get("NETRC")).authenticators(host or "")
    except (OSError, netrc.NetrcParseError):
        return
    if entry is not None and entry[2]:
        yield entry[2]
