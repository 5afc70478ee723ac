"""Configuration of the MLflow backend."""

from __future__ import annotations

import msgspec

from tracelet.redaction import redacted_url

_SECRET_KEYS = ("api_key", "password", "headers")


class MlflowConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of MLflow beside the run itself. If a key is omitted, MLflow's own default (MLFLOW_...) applies."""

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

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if name not in _SECRET_KEYS}
        shown |= {name: redacted_url(shown[name]) for name in ("backend_url", "tracking_uri") if shown[name]}
        shown |= {name: "***" for name in _SECRET_KEYS if getattr(self, name) is not None}
        return f"MlflowConfig({', '.join(f'{name}={value!r}' for name, value in shown.items() if value)})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("", repr(self))]

    @property
    def secrets(self) -> list[str]:
        """Values that must not appear in any displayed text."""
        values = [self.api_key, self.password, *(self.headers or {}).values()]
        return [value for value in values if value]


PERSISTENT_KEYS = tuple(name for name in MlflowConfig.__struct_fields__ if name not in _SECRET_KEYS)
