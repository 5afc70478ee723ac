"""Create the backends of a run from the arguments of `start_logging`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import msgspec

from tracelet.backends import (
    WEBHOOK,
    backend_class,
    check_installed,
    configured,
    filters,
    is_replaced,
    suggest_key,
    with_filter,
)
from tracelet.backends.base import Backend
from tracelet.errors import ConfigurationError
from tracelet.settings import Settings

_SHARED_KEYS = ("tags", "notes", "group")
"""Keys of `config` that belong to the run, not to a backend."""


def split_backends(backend: Any) -> tuple[list[str] | None, list[Backend]]:
    if backend is None:
        return None, []
    listed = list(backend) if isinstance(backend, Iterable) and not isinstance(backend, str) else [backend]
    names: list[str] = []
    objects: list[Backend] = []
    for item in listed:
        match item:
            case str():
                names += [name.strip() for name in item.split(",") if name.strip()]
            case Backend():
                objects.append(item)
            case _:
                raise ConfigurationError(f"backend must be names and Backend objects, got {item!r}")
    return names, objects


def backends_of(
    settings: Settings, objects: Sequence[Backend], config: Mapping[str, Any]
) -> tuple[Settings, list[Backend]]:
    """Return the backends that `settings` names, then `objects`; and the settings with the shared keys of `config`.

    Raises:
        ConfigurationError, UnknownBackend, MissingDependency: see `start_logging`.
    """
    if objects and settings.delivery == "process":
        raise ConfigurationError(
            f"delivery='process' needs names of backends, got the object {objects[0]!r}. "
            "Register its class with register_backend, or use delivery='thread'"
        )
    _check_distinct([*settings.backend, *(item.name for item in objects)])
    classes = {name: backend_class(name) for name in settings.backend}
    shared, backend_config = _split_config(config, [*classes, *(item.name for item in objects)])
    backend_config = _with_credentials(backend_config, settings, classes)
    if settings.alert_webhook is not None and all(item.name != WEBHOOK for item in objects):
        classes.setdefault(WEBHOOK, backend_class(WEBHOOK))
        backend_config[WEBHOOK] = {"alert_webhook": settings.alert_webhook} | backend_config.get(WEBHOOK, {})
    backends = [configured(cls, backend_config.get(name, {})) for name, cls in classes.items()]
    backends += [with_filter(item, backend_config.get(item.name, {})) for item in objects]
    if any(item.name == WEBHOOK and getattr(item.config, "alert_webhook", "") is None for item in backends):
        raise ConfigurationError("the webhook backend needs an address. Set alert_webhook or TRACELET_ALERT_WEBHOOK")
    settings = _with_shared(settings, shared)
    if any(map(is_replaced, classes)):  # the vendor's own package can only be imported elsewhere
        settings = msgspec.structs.replace(settings, delivery="process")
    if settings.mode == "online":
        for name in classes:
            check_installed(name)
    return settings, backends


def _split_config(config: Mapping[str, Any], names: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Split `config` into the run's shared keys and the keys of each backend.

    `config` is flat for one backend, or has one dict per backend name. A filter beside the names applies to every
    backend that does not set the same key.
    """
    if not isinstance(config, Mapping):
        raise ConfigurationError(f"config must be a dict, got {type(config).__name__}")
    shared = {key: value for key, value in config.items() if key in _SHARED_KEYS}
    remaining = {key: value for key, value in config.items() if key not in _SHARED_KEYS}
    if len(names) == 1 and names[0] not in remaining:
        return shared, {names[0]: remaining}
    common_filter = {key: remaining.pop(key) for key in filters.KEYS if names and key in remaining and key not in names}
    unknown = sorted(set(remaining) - set(names))
    if unknown:
        hint = suggest_key(str(unknown[0]), [*names, *_SHARED_KEYS, *(filters.KEYS if names else ())])
        raise ConfigurationError(
            f"config: {unknown[0]!r} is neither a backend of this run ({', '.join(names) or 'none'}) nor a shared key. "
            f"With several backends, config must have one dict for each, by its name. {hint}"
        )
    for name, value in remaining.items():
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"config[{name!r}] must be a dict of that backend's keys, got {value!r}")
    return shared, {name: common_filter | dict(remaining.get(name, {})) for name in names}


def _with_credentials(
    backend_config: dict[str, dict[str, Any]], settings: Settings, classes: Mapping[str, type[Backend]]
) -> dict[str, dict[str, Any]]:
    """Add `api_key` and `backend_url` to the config of the only backend."""
    for field in ("api_key", "backend_url"):
        value = getattr(settings, field)
        if value is None or not classes:
            continue
        if len(classes) > 1:
            raise ConfigurationError(
                f"{field} needs exactly one backend. With several, use config={{'<backend>': {{{field!r}: ...}}}}"
            )
        ((name, cls),) = classes.items()
        if field not in cls.Config.__struct_fields__:
            raise ConfigurationError(
                f"the {name} backend does not accept {field}. Remove the argument, TRACELET_{field.upper()}, or the "
                "key in the settings file"
            )
        backend_config = {**backend_config, name: {field: value} | backend_config.get(name, {})}
    return backend_config


def _check_distinct(names: Sequence[str]) -> None:
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ConfigurationError(f"backend {duplicates[0]!r} is given twice; name each backend once")


def _with_shared(settings: Settings, shared: Mapping[str, Any]) -> Settings:
    changes = dict(shared)
    if "tags" in changes:
        tags = changes["tags"]
        if not isinstance(tags, str | Sequence | Set):
            raise ConfigurationError(f"config['tags'] must be a list of tags, got {tags!r}")
        config_tags = [word.strip() for word in tags.split(",")] if isinstance(tags, str) else tags
        changes["tags"] = tuple(dict.fromkeys([*settings.tags, *map(str, config_tags)]))
    for key in ("notes", "group"):
        if not isinstance(changes.get(key), str | None):
            raise ConfigurationError(f"config[{key!r}] must be text, got {changes[key]!r}")
    return msgspec.structs.replace(settings, **changes)
