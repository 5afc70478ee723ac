"""Settings: arguments over `TRACELET_*` over a settings file over defaults. The only reader of our environment.

The file is `tracelet.toml` in the working directory, or the file that `TRACELET_CONFIG` names; its keys are the fields
of `Settings`. A key that nobody knows is an error, wherever it stands.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from tracelet.errors import ConfigurationError, meant_or_known

Mode: TypeAlias = Literal["online", "offline", "disabled"]
Events: TypeAlias = Literal["sync", "async", "off"]
DeliveryMode: TypeAlias = Literal["thread", "process"]
Source: TypeAlias = Literal["environment", "git", "git-diff", "system", "console"]

_PREFIX = "TRACELET_"
_FILE_VARIABLE = "TRACELET_CONFIG"
# Names of older releases and of people's habit; one field each.
_ALIASES = {"EXPERIMENT_NAME": "exp_name"}

_CHOICES = {"mode": get_args(Mode), "events": get_args(Events), "delivery": get_args(DeliveryMode)}
_TIMES = ("flush_timeout", "connect_timeout", "queue_timeout", "system_interval")
# Eleven days are as long as it takes: with infinity a clock can do no sums.
_LONGEST = 1e6
_TAKES = {key: f"use one of {', '.join(choices)}" for key, choices in _CHOICES.items()} | {
    **dict.fromkeys(_TIMES, "give a number of seconds"),
    **dict.fromkeys(("backend", "tags"), "give words, as a list or with commas between"),
    "collect": f"use {', '.join(get_args(Source))}, or none",
    "queue_bytes": "give a whole number of bytes",
    "wait": "give true or false",
}
# What may hold a credential is not told in an error.
_UNTOLD = ("api_key", "backend_url")
# `events=False`, and how the environment and a settings file spell it.
_SWITCHES = {"false": "off", "0": "off", "no": "off", "true": "sync", "1": "sync", "yes": "sync"}
_NOTHING, _ANYTHING = ("none", "off", "false", "0", "no"), ("on", "true", "1", "yes")
_USUAL: tuple[Source, ...] = ("environment", "git", "system")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set; each field is also a variable `TRACELET_<FIELD>` and a key of the settings file."""

    exp_name: str | None = None
    """Name of the run."""
    project: str | None = None
    """Project of the run; backends that have a default of their own keep it where none is given."""
    backend: tuple[str, ...] = ()
    """Names of the backends."""
    api_key: str | None = None
    """Credential of the one backend."""
    backend_url: str | None = None
    """Server of the one backend."""
    mode: Mode = "online"
    """`online`, `offline` (journal alone, no vendor imported, no socket) or `disabled` (nothing at all)."""
    events: Events = "sync"
    """Event files: `sync`, written as without us; `async`, media and histograms are encoded and written by a thread;
    `off` (also False), none at all."""
    delivery: DeliveryMode = "thread"
    """Where the backends work: in a `thread` of the program each, or together in a `process` beside it."""
    wait: bool = True
    """Whether `start_logging` waits for its backends, up to `connect_timeout`."""
    dir: str = "tracelet_runs"
    """Where run folders are made."""
    root_logdir: str | None = None
    """The directory whose writer has bare tags; default: the first writer's."""
    tags: tuple[str, ...] = ()
    """Words to find the run by."""
    notes: str | None = None
    """A sentence about the run."""
    group: str | None = None
    """Runs that belong together."""
    flush_timeout: float = 30.0
    """Seconds that the end of a run may wait for its backends."""
    connect_timeout: float = 10.0
    """Seconds that `start_logging` may wait for its backends."""
    queue_bytes: int = 256 * 2**20
    """Bytes that may wait in memory for the journal."""
    queue_timeout: float = 30.0
    """Seconds that a call may wait for room in that queue before its record is dropped."""
    collect: tuple[Source, ...] = _USUAL
    """What is collected besides what the program says; `none` (also False): nothing."""
    system_interval: float = 15.0
    """Seconds from one sample of the system's figures to the next."""

    def __repr__(self) -> str:
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        fields["api_key"] = "***" if self.api_key else None
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in fields.items())})"


def load(arguments: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of one run. `arguments` that are None count as not given. A time may be infinite.

    Raises:
        ConfigurationError: an unknown key, a value of the wrong type, a settings file that cannot be read.
    """
    environ = os.environ if environ is None else environ
    values = _from_file(environ) | _from_environment(environ)
    given = {key: value for key, value in arguments.items() if value is not None}

    def source(key: str) -> str:
        return "as an argument" if key in given else f"from {origins(environ)[key]}"

    return _checked(values | given, source)


def _checked(values: dict[str, Any], source: Callable[[str], str]) -> Settings:
    for key in ("backend", "tags"):
        if isinstance(values.get(key), str):
            values[key] = [word.strip() for word in values[key].split(",") if word.strip()]
    values = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in values.items()}
    events = values.get("events", "sync")
    values["events"] = _SWITCHES.get(str(events).lower(), events)
    if "collect" in values:
        values["collect"] = _sources(values["collect"])
    for key, value in values.items():
        if not _fits(key, value):
            told = "" if key in _UNTOLD else f" {value!r}"
            raise ConfigurationError(f"{key}{told} {source(key)}: {_TAKES.get(key, 'give a text')}")
    settings = msgspec.convert(values, Settings, strict=False)
    for key in ("flush_timeout", "connect_timeout", "queue_bytes", "queue_timeout"):
        if not getattr(settings, key) >= 0:
            raise ConfigurationError(f"{key} {values[key]!r} {source(key)}: give 0 or more")
    if not settings.system_interval > 0:
        told = values["system_interval"]
        raise ConfigurationError(f"system_interval {told!r} {source('system_interval')}: give more than 0 seconds")
    return msgspec.structs.replace(settings, **{key: finite(getattr(settings, key)) for key in _TIMES})


def _fits(key: str, value: Any) -> bool:
    try:
        msgspec.convert({key: value}, Settings, strict=False)
    except msgspec.ValidationError:
        return False
    return True


def finite(seconds: float) -> float:
    """A time to wait that clocks can reckon with; infinity is as long as it takes.

    Raises:
        ConfigurationError: no number.
    """
    if seconds != seconds:
        raise ConfigurationError("a time to wait is a number of seconds, not nan")
    return min(seconds, _LONGEST)


def _sources(collect: Any) -> list[Any]:
    """`collect` as a list, from a list, a comma list, a word for nothing, or a bool."""
    match collect:
        case bool():
            return list(_USUAL) if collect else []
        case str():
            names: list[Any] = [word.strip() for word in collect.split(",") if word.strip()]
        case list() | tuple() | set() | frozenset():
            names = list(collect)
        case _:
            names = [collect]
    if len(names) == 1 and str(names[0]).lower() in _NOTHING:
        return []
    if len(names) == 1 and str(names[0]).lower() in _ANYTHING:
        return list(_USUAL)
    return [name for at, name in enumerate(names) if name not in names[:at]]


def origins(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Where each setting comes from that no argument says: a variable's name, the settings file, or "default".

    Raises:
        ConfigurationError: as `load`.
    """
    environ = os.environ if environ is None else environ
    found = dict.fromkeys(Settings.__struct_fields__, "default")
    found |= dict.fromkeys(_from_file(environ), str(_file(environ)))
    return found | _variables(environ)


def environment_without(names: Collection[str]) -> dict[str, str]:
    """This process's environment, for another of ours that must not have the variables `names`."""
    return {name: value for name, value in os.environ.items() if name not in names}


def environment_of(names: Collection[str]) -> dict[str, str]:
    """The variables `names` of this process's environment, those of them that are set."""
    return {name: os.environ[name] for name in names if name in os.environ}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    return {field: environ[variable] for field, variable in _variables(environ).items()}


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Each field that the environment sets, and the variable that does."""
    found: dict[str, str] = {}
    for variable, text in environ.items():
        if not variable.startswith(_PREFIX) or variable == _FILE_VARIABLE or text == "":
            continue
        key = variable.removeprefix(_PREFIX)
        field = _ALIASES.get(key, key.lower())
        if field not in Settings.__struct_fields__:
            known = [*(name.upper() for name in Settings.__struct_fields__), *_ALIASES, "CONFIG"]
            raise ConfigurationError(f"unknown environment variable {variable}. {meant_or_known(key, known, _PREFIX)}")
        found[field] = variable
    return found


def _file(environ: Mapping[str, str]) -> Path:
    return Path(environ.get(_FILE_VARIABLE) or "tracelet.toml")


def _from_file(environ: Mapping[str, str]) -> dict[str, Any]:
    path = _file(environ)
    if not environ.get(_FILE_VARIABLE) and not path.is_file():
        return {}
    if sys.version_info >= (3, 11):  # here: where no file is, nobody waits for the parser
        import tomllib
    else:
        import tomli as tomllib
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"settings file {path}: {error}") from error
    unknown = sorted(set(values) - set(Settings.__struct_fields__))
    if unknown:
        near = meant_or_known(unknown[0], Settings.__struct_fields__)
        raise ConfigurationError(f"settings file {path}: unknown key {unknown[0]!r}. {near}")
    return values
