"""Configuration of the MLflow backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tracelet.backends.base import BackendConfig


class MlflowConfig(BackendConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of MLflow beside the run itself. If a key is omitted, MLflow's own default (MLFLOW_...) applies."""

    secret_keys = ("api_key", "password", "headers")
    address_keys = ("backend_url", "tracking_uri", "artifact_location")

    backend_url: str | None = None
    tracking_uri: str | None = None
    experiment_name: str | None = None
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

    def secrets(self) -> Iterator[str]:
        """Yield values that must not appear in any displayed text."""
        yield from super().secrets()
        yield from filter(None, (self.headers or {}).values())

    def persistent(self) -> dict[str, Any]:
        """Return the values that the journal may store, with an absolute path of the store."""
        from tracelet.backends.mlflow.store import absolute

        values = super().persistent()
        return values | {key: absolute(values[key]) for key in ("backend_url", "tracking_uri") if values[key]}
