"""Configuration of the MLflow backend, and the credentials that MLflow finds elsewhere, without importing it."""

from __future__ import annotations

import configparser
import contextlib
import netrc
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from tracelet.backends.base import BackendConfig
from tracelet.redaction import passwords_in_url

# MLflow's own variables, and those of artifact stores.
_SECRET_VARIABLES = re.compile(
    "MLFLOW_TRACKING_(TOKEN|PASSWORD)|DATABRICKS_(TOKEN|CLIENT_SECRET)|AWS_(SECRET_ACCESS_KEY|SESSION_TOKEN)|"
    "AZURE_STORAGE_(ACCESS_KEY|CONNECTION_STRING)|AMSC_API_KEY|AM_SC_API_KEY"
)
_CREDENTIALS_FILE = Path("~/.mlflow/credentials")


class MlflowConfig(BackendConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of MLflow beside the run itself. If a key is omitted, MLflow's own default (MLFLOW_...) applies.

    `timeout` is in seconds per request. `layout="ezpz"`: names and files as the tracker of ezpz gives them; see
    `layout.EzpzLayout`.
    """

    secret_keys = ("api_key", "password", "headers")
    address_keys = ("backend_url", "tracking_uri", "artifact_location")

    backend_url: str | None = None
    tracking_uri: str | None = None
    experiment_name: str | None = None
    experiment_id: str | None = None
    run_id: str | None = None
    run_name: str | None = None
    tags: dict[str, str] | list[str] | None = None
    description: str | None = None
    artifact_location: str | None = None
    nested: bool = False
    parent_run_id: str | None = None
    api_key: str | None = None
    username: str | None = None
    password: str | None = None
    headers: dict[str, str] | None = None
    timeout: float = 10.0
    layout: Literal["ezpz"] | None = None

    def secrets(self) -> Iterator[str]:
        """Yield values that must not appear in any displayed text."""
        yield from super().secrets()
        for value in (self.headers or {}).values():
            yield value
            yield value.rpartition(" ")[2]  # "Bearer ..."

    def persistent(self) -> dict[str, Any]:
        """Return the values that the journal may store, with an absolute path of the store."""
        from tracelet.backends.mlflow.connection import absolute

        values = super().persistent()
        return values | {key: absolute(values[key]) for key in ("backend_url", "tracking_uri") if values[key]}


def gateway_headers() -> dict[str, str]:
    """Return the header of a gateway before the server, if MLflow itself has no token.

    A header provider of MLflow (`mlflow.request_header_provider`) does not get the address of the request, and would
    send the key to every server that the program uses.
    """
    if os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {}
    key = os.environ.get("AMSC_API_KEY") or os.environ.get("AM_SC_API_KEY")
    return {"X-Api-Key": key} if key else {}


def secrets_outside(uri: str) -> Iterator[str]:
    """Yield secrets from the environment, the store's `uri`, MLflow's credentials file, and ~/.netrc."""
    yield from (value for name, value in os.environ.items() if value and _SECRET_VARIABLES.fullmatch(name))
    for address in (uri, os.environ.get("MLFLOW_TRACKING_URI")):
        yield from passwords_in_url(address)
    parser = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error, UnicodeDecodeError, RuntimeError):  # there may be no home directory
        parser.read(_CREDENTIALS_FILE.expanduser(), encoding="utf-8")
        yield from filter(None, [parser.get("mlflow", "mlflow_tracking_password", fallback=None)])
    with contextlib.suppress(OSError, ValueError, netrc.NetrcParseError):
        entry = netrc.netrc(os.environ.get("NETRC")).authenticators(urlsplit(uri).hostname or "")
        if entry is not None and entry[2]:
            yield entry[2]
