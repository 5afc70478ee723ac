"""The credentials that MLflow could use here, mlflow not imported: no text of ours may hold one."""

from __future__ import annotations

import configparser
import netrc
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tracelet.backends import environment
from tracelet.backends.mlflow.config import MlflowConfig

# MLflow's own, and those of the stores that it hands artifacts to.
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
    """Given, in the environment, in an address, in MLflow's file, in ~/.netrc for the server at `uri`."""
    for word in config.secrets:
        yield word
        yield word.rpartition(" ")[2]  # "Bearer ..."
    yield from filter(None, map(os.environ.get, _VARIABLES))
    for address in (uri, config.artifact_location, environment.before("MLFLOW_TRACKING_URI")):
        password = _parts(address)[1]
        if password:
            yield from (password, unquote(password))
    yield from _in_files(_parts(uri)[0])


def _parts(address: str | None) -> tuple[str | None, str | None]:
    """The host of an address, and the password in it."""
    try:
        parts = urlsplit(address or "")
        return parts.hostname, parts.password
    except ValueError:
        return None, None


def _in_files(host: str | None) -> Iterator[str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(_FILE.expanduser(), encoding="utf-8")
        yield from filter(None, [parser.get("mlflow", "mlflow_tracking_password", fallback=None)])
    except (configparser.Error, UnicodeDecodeError, RuntimeError):  # RuntimeError: nobody's home
        pass
    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(host or "")
    except (OSError, netrc.NetrcParseError):
        return
    if found is not None and found[2]:
        yield found[2]
