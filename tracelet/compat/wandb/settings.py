"""Read the arguments of `init` together with wandb's variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tracelet.compat.wandb.errors import UsageError
from tracelet.guard import shown

MODES = ("online", "offline", "disabled", "shared")
_TRUE = ("1", "true", "yes", "on")
_VARIABLES = {
    "entity": "WANDB_ENTITY",
    "project": "WANDB_PROJECT",
    "name": "WANDB_NAME",
    "notes": "WANDB_NOTES",
    "tags": "WANDB_TAGS",
    "id": "WANDB_RUN_ID",
    "group": "WANDB_RUN_GROUP",
    "job_type": "WANDB_JOB_TYPE",
    "resume": "WANDB_RESUME",
    "mode": "WANDB_MODE",
    "dir": "WANDB_DIR",
}
_OF_SETTINGS = {
    "entity": "entity",
    "project": "project",
    "name": "run_name",
    "notes": "run_notes",
    "tags": "run_tags",
    "id": "run_id",
    "group": "run_group",
    "job_type": "run_job_type",
    "resume": "resume",
    "mode": "mode",
    "dir": "root_dir",
    "reinit": "reinit",
}
"""The arguments of `init`, and the fields of `Settings` for them."""


class Settings:
    """Hold settings by name. Those with a meaning here are the arguments of `init`; others are kept as they are."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def update(self, values: Any = None, **more: Any) -> None:
        self.__dict__.update({**as_dict(values), **more})

    entity: Any
    mode: Any

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None

    def __iter__(self) -> Any:
        return iter(self.__dict__.items())

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


def as_dict(settings: Any) -> dict[str, Any]:
    match settings:
        case None:
            return {}
        case Mapping():
            return dict(settings)
        case Settings():
            return settings.to_dict()
    raise UsageError(f"settings must be a dict or wandb.Settings, got {shown(settings)}")


def resolved(arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return each argument of `init`: as given, else from `settings`, else from its variable, else None.

    Raises:
        UsageError: the mode is unknown.
    """
    found = {}
    for name, field in _OF_SETTINGS.items():
        value = arguments.get(name)
        if value is None:
            value = settings.get(field)
        if value is None and name in _VARIABLES:
            value = os.environ.get(_VARIABLES[name]) or None
        found[name] = value
    found["mode"] = _mode(found["mode"])
    found["tags"] = _tags(found["tags"])
    return found


def _mode(mode: Any) -> str:
    if (os.environ.get("WANDB_DISABLED") or "").lower() in _TRUE:
        return "disabled"
    if mode is None or mode in ("run", "dryrun"):
        return "offline" if mode == "dryrun" else "online"
    if mode not in MODES:
        raise UsageError(f"mode must be one of {', '.join(MODES)}, got {shown(mode)}")
    return str(mode)


def _tags(tags: Any) -> tuple[str, ...]:
    if tags is None:
        return ()
    words = tags.split(",") if isinstance(tags, str) else tags
    return tuple(dict.fromkeys(str(word).strip() for word in words if str(word).strip()))
