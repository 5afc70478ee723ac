"""What `config` may say, and what of it is secret."""

from __future__ import annotations

import msgspec

from tracelet.backends.addresses import redacted

_SECRET = ("api_key", "password", "headers")


class MlflowConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What MLflow should be told beyond the run itself; a key left out keeps MLflow's own meaning (MLFLOW_...)."""

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
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if name not in _SECRET}
        shown |= {name: redacted(shown[name]) for name in ("backend_url", "tracking_uri") if shown[name]}
        shown |= {name: "***" for name in _SECRET if getattr(self, name) is not None}
        return f"MlflowConfig({', '.join(f'{name}={value!r}' for name, value in shown.items() if value)})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("", repr(self))]

    @property
    def secrets(self) -> list[str]:
        """Words that may stand in no text that is shown."""
        told = [self.api_key, self.password, *(self.headers or {}).values()]
        return [word for word in told if word]


KEPT = tuple(name for name in MlflowConfig.__struct_fields__ if name not in _SECRET)
