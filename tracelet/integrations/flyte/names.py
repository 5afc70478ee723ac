"""Arguments of a decorated task: which there are, where each comes from, and what `start_logging` gets of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from tracelet.api import start_logging
from tracelet.backends.base import Backend
from tracelet.backends.wandb import WandbConfig
from tracelet.errors import ConfigurationError, suggest
from tracelet.guard import logger, shown
from tracelet.settings import RankScope, RunMode, load

RUN_MODES, RANK_SCOPES = get_args(RunMode), get_args(RankScope)
WANDB = "wandb"

_NEUTRAL = {"config": "backend_config", "mode": "start_mode", "dir": "start_dir", "resume": "start_resume"}
"""Arguments that `start_logging` and `wandb.init` both have, with another meaning: the names of the former ones."""
_START = frozenset(inspect.signature(start_logging).parameters) - frozenset(_NEUTRAL)
_OWN = frozenset(WandbConfig.__struct_fields__) - frozenset(
    ("api_key", "backend_url", "name", "tags", "notes", "group")
)
"""Arguments that only wandb has a use for."""
_IGNORED = frozenset(
    ("start_resume", "reinit", "anonymous", "force", "magic", "monitor_gym", "sync_tensorboard", "tensorboard")
)
"""Arguments of `wandb.init` about what Flyte and tracelet determine here."""
_STEPS = ("fork_from", "resume_from")
_PARAMS = ("config", "config_include_keys", "config_exclude_keys", "allow_val_change")
"""Arguments about the run's parameters. Those of a task that goes on with a run may always change."""
_OTHERS = frozenset(("id", "host", "entity", "download_logs", *_PARAMS, *_STEPS, *_NEUTRAL.values()))
_KNOWN = _START | _OWN | _IGNORED | _OTHERS


def canonical(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `track` or `run_config` by the names that they have beside those of `wandb.init`."""
    return {_NEUTRAL.get(name, name): value for name, value in arguments.items()}


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise ConfigurationError unless the value is one of the choices, or None."""
    if value is not None and value not in choices:
        raise ConfigurationError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}")


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for an argument that is unknown, or a mode that is."""
    check_choice("run_mode", arguments.get("run_mode"), RUN_MODES)
    check_choice("rank_scope", arguments.get("rank_scope"), RANK_SCOPES)
    for name in _STEPS:
        if arguments.get(name) is not None:
            raise ConfigurationError(f"{name} is not supported: a run cannot begin at a step of another")
    unknown = next((name for name in arguments if name not in _KNOWN), None)
    if unknown is not None:
        hint = suggest(unknown, sorted((_KNOWN - frozenset(_NEUTRAL.values())) | frozenset(_NEUTRAL)))
        raise ConfigurationError(f"unknown argument {unknown!r}. {hint}")
    if ignored := sorted(_IGNORED & arguments.keys()):
        names = ", ".join(name.removeprefix("start_") for name in ignored)
        logger.warning("tracelet: %s is ignored: Flyte determines when the run of a task begins", names)


def merged(decorator: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a task. Those of its decorator win over those of the context."""
    return {**context, **{name: value for name, value in decorator.items() if value is not None}}


def backend_names(backend: Any, default: str | None) -> tuple[tuple[str, ...], list[Backend]]:
    """Return the names of a run's backends, and the objects among them.

    Without an argument, tracelet's settings count, and then the default.
    """
    listed = [backend] if isinstance(backend, str | Backend) else list(backend or ())
    objects = [item for item in listed if isinstance(item, Backend)]
    named = ",".join(item for item in listed if not isinstance(item, Backend))
    names = tuple(name.strip() for name in named.split(",") if name.strip())
    if not names and not objects:
        names = load({}).backend or ((default,) if default else ())
    return names, objects


def start_arguments(options: Mapping[str, Any], names: Sequence[str], objects: Sequence[Backend]) -> dict[str, Any]:
    """Return the arguments of `start_logging` without those of the run's identity (`run_id`, `run_mode`, ...).

    Args:
        options: The arguments of the task.
        names: The names of the run's backends.
        objects: Further backends.
    """
    arguments: dict[str, Any] = {"backend": [*names, *objects]}
    own: dict[str, Any] = {}
    outside = ("backend", "id", "run_id", "run_mode", "rank_scope", "backend_config", "download_logs", *_PARAMS)
    for name, value in options.items():
        if value is None or name in outside or name in _IGNORED:
            continue
        if name == "host":
            own["backend_url"] = value
        elif name == "settings":
            own["settings"] = settings_dict(value)
        elif name in _NEUTRAL and WANDB not in names:
            if name in ("mode", "dir"):  # they have a meaning for every backend
                arguments[name] = value
        elif name in _OWN:
            own[name] = value
        elif name in _NEUTRAL.values():
            arguments[name.removeprefix("start_")] = value
        elif name == "name":
            arguments.setdefault("exp_name", value)
        else:
            arguments[name] = value
    config = dict(options.get("backend_config") or {})
    if WANDB in names and own:
        own = {**config.get(WANDB, {}), **own}
        is_flat = not objects and names == (WANDB,) and WANDB not in config
        config = {**config, **own} if is_flat else {**config, WANDB: own}
    elif "backend_url" in own:
        arguments.setdefault("backend_url", own["backend_url"])
    return {**arguments, "config": config} if config else arguments


def settings_dict(settings: Any) -> dict[str, Any]:
    """Return a copy of wandb's settings as a dict of what was set in them. The object itself never changes."""
    if isinstance(settings, Mapping):
        return dict(settings)
    given = getattr(settings, "model_fields_set", None)
    if given is None:
        raise ConfigurationError(f"settings must be a dict or wandb.Settings, got {shown(settings)}")
    return {name: getattr(settings, name) for name in sorted(given)}
