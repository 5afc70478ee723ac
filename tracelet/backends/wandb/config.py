"""Configuration of the wandb backend."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tracelet.redaction import redacted_url


class WandbConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of `wandb.init` beside the run itself. If a key is omitted, wandb's own default (WANDB_...) applies."""

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

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in PERSISTENT_KEYS}
        shown["backend_url"] = self.backend_url and redacted_url(self.backend_url)
        shown |= {name: "***" for name in _SECRET_KEYS if getattr(self, name) is not None}
        return f"WandbConfig({', '.join(f'{name}={value!r}' for name, value in shown.items() if value is not None)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("", repr(self))]


# `settings` may contain an API key, or a header with one.
_SECRET_KEYS = ("api_key", "settings")
PERSISTENT_KEYS = tuple(name for name in WandbConfig.__struct_fields__ if name not in _SECRET_KEYS)
