"""Configuration of the wandb backend."""

from __future__ import annotations

from typing import Any, Literal

from tracelet.backends.base import BackendConfig


class WandbConfig(BackendConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of `wandb.init` beside the run itself. If a key is omitted, wandb's own default (WANDB_...) applies."""

    secret_keys = ("api_key", "settings")  # `settings` may contain an API key, or a header with one
    address_keys = ("backend_url",)
    path_keys = ("dir",)

    entity: str | None = None
    name: str | None = None
    tags: list[str] | None = None
    notes: str | None = None
    group: str | None = None
    job_type: str | None = None
    mode: Literal["online", "offline", "disabled", "shared"] | None = None
    save_code: bool | None = None
    resume: bool | Literal["allow", "must", "never", "auto"] | None = None
    dir: str | None = None
    api_key: str | None = None
    backend_url: str | None = None
    finish_timeout: float = 30.0
    settings: dict[str, Any] | None = None
