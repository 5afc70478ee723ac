"""Load settings from arguments, `context`, `TRACELET_*` variables, a settings file and defaults, in this order.

The file is `tracelet.toml` in the working directory, or the one in `TRACELET_CONFIG`. Its keys are the fields of
`Settings`. Unknown keys and variables are errors. No other module reads `TRACELET_*` variables.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from tracelet import replacing
from tracelet.errors import ConfigurationError, suggest

Mode: TypeAlias = Literal["online", "offline", "disabled"]
Events: TypeAlias = Literal["sync", "async", "off"]
DeliveryMode: TypeAlias = Literal["thread", "process"]
RunMode: TypeAlias = Literal["auto", "new", "shared"]
RankScope: TypeAlias = Literal["global", "worker"]
Children: TypeAlias = Literal["silent", "join"]
Source: TypeAlias = Literal["environment", "git", "git-diff", "system", "console"]
Capture: TypeAlias = Literal["tensorboard", "wandb"]

_PREFIX = "TRACELET_"
_FILE_VARIABLE, _CONTEXT_VARIABLE = "TRACELET_CONFIG", "TRACELET_CONTEXT"
# Variables that are no settings: also the marks of `distributed.children`.
_OTHER_VARIABLES = (
    _FILE_VARIABLE,
    _CONTEXT_VARIABLE,
    "TRACELET_RANK_PROCESS",
    "TRACELET_PARENT_RUN",
    replacing.VARIABLE,
)
# Other names of fields: from older releases, or common elsewhere.
_ALIASES = {"EXPERIMENT_NAME": "exp_name"}

_CHOICES = {
    "mode": get_args(Mode),
    "events": get_args(Events),
    "delivery": get_args(DeliveryMode),
    "run_mode": get_args(RunMode),
    "rank_scope": get_args(RankScope),
    "children": get_args(Children),
}
_TIMES = ("flush_timeout", "connect_timeout", "queue_timeout", "system_interval")
# Seconds; eleven days stand for infinity, which the standard library's waits do not accept.
_MAX_SECONDS = 1e6
_EXPECTED = {key: f"one of {', '.join(choices)}" for key, choices in _CHOICES.items()} | {
    **dict.fromkeys(_TIMES, "a number of seconds"),
    **dict.fromkeys(("backend", "tags"), "a list of strings or a comma-separated string"),
    "collect": f"some of {', '.join(get_args(Source))}, or none",
    "capture": f"some of {', '.join(get_args(Capture))}, or none",
    "queue_bytes": "a whole number of bytes",
    "wait": "true or false",
}
# Values that may hold a credential: error messages omit them.
_SECRET = ("api_key", "backend_url", "alert_webhook")
# Credentials as a whole: no `repr` shows them, and no other process gets them.
CREDENTIALS = ("api_key", "alert_webhook")
# `events=False` and `events=True`, also as the environment and a settings file spell them.
_EVENTS_VALUES = {"false": "off", "0": "off", "no": "off", "true": "sync", "1": "sync", "yes": "sync"}
_NONE, _ALL = ("none", "off", "false", "0", "no"), ("on", "true", "1", "yes")
# The context of this thread or task, and that of the parent process. The variable changes afterwards, for children.
_context: ContextVar[Mapping[str, Any] | None] = ContextVar("tracelet_context", default=None)
_parents_context = os.environ.get(_CONTEXT_VARIABLE)
_open_contexts: list[str] = []
_DEFAULT_SOURCES: tuple[Source, ...] = ("environment", "git", "system")
_DEFAULT_CAPTURE: tuple[Capture, ...] = ("tensorboard",)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold all settings. Each field is also a variable `TRACELET_<FIELD>` and a key of the settings file."""

    exp_name: str | None = None
    """Name of the run."""
    project: str | None = None
    """Project of the run. If None, backends use their own default."""
    backend: tuple[str, ...] = ()
    """Names of the backends."""
    api_key: str | None = None
    """Credential, if there is only one backend."""
    backend_url: str | None = None
    """Server, if there is only one backend."""
    alert_webhook: str | None = None
    """Address that gets a message for each alert. It is a credential."""
    mode: Mode = "online"
    """`online`, `offline` (journal only, no vendor imported, no socket) or `disabled` (do nothing)."""
    events: Events = "sync"
    """How to write event files. `sync`: as without tracelet. `async`: a thread encodes and writes media and histograms.
    `off` (also False): not at all."""
    delivery: DeliveryMode = "thread"
    """Run each backend on a `thread` of the program, or all of them in a separate `process`."""
    run_id: str | None = None
    """Id of a new run, or of a run to resume. In a distributed job it is the id that the ranks agree on."""
    run_mode: RunMode = "auto"
    """The runs of a distributed job. `auto`: one, of rank 0; the other ranks are silent. `new`: one for each rank.
    `shared`: one, to which all ranks log."""
    rank_scope: RankScope = "global"
    """The ranks that belong together. `global`: all. `worker`: those of one node."""
    children: Children = "silent"
    """Processes that the program starts. `silent`: they do not log to its run. `join`: they do, each with a journal."""
    wait: bool = True
    """If True, `start_logging` waits for its backends, up to `connect_timeout`."""
    dir: str = "tracelet_runs"
    """The folder for run folders."""
    root_logdir: str | None = None
    """The log directory whose tags have no prefix. If None, the first writer sets it."""
    tags: tuple[str, ...] = ()
    """Tags of the run."""
    notes: str | None = None
    """Description of the run."""
    group: str | None = None
    """Name of a group of related runs."""
    flush_timeout: float = 30.0
    """Maximum seconds to wait for the backends at the end of a run."""
    connect_timeout: float = 10.0
    """Maximum seconds that `start_logging` waits for its backends."""
    queue_bytes: int = 256 * 2**20
    """Maximum bytes of the queue to the journal."""
    queue_timeout: float = 30.0
    """Maximum seconds that a call waits for room in the queue. Then its record is dropped."""
    collect: tuple[Source, ...] = _DEFAULT_SOURCES
    """Collectors to run. `none` (also False): no collectors."""
    capture: tuple[Capture, ...] = _DEFAULT_CAPTURE
    """Libraries whose calls are captured. `none` (also False): no calls."""
    system_interval: float = 15.0
    """Seconds between two samples of the system metrics."""

    def __repr__(self) -> str:
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        fields |= {key: "***" for key in CREDENTIALS if fields[key]}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in fields.items())})"


def load(arguments: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of one run. Arguments that are None are ignored. A time may be infinite.

    Raises:
        ConfigurationError: unknown key, wrong type, or unreadable settings file.
    """
    in_context = _in_context() if environ is None else {}
    environ = os.environ if environ is None else environ
    values = _from_file(environ) | _from_environment(environ) | in_context
    values.pop("config", None)
    from_arguments = {key: value for key, value in arguments.items() if value is not None}

    def source(key: str) -> str:
        if key in from_arguments:
            return "as an argument"
        return "from tracelet.context" if key in in_context else f"from {origins(environ)[key]}"

    return _checked(values | from_arguments, source)


@contextlib.contextmanager
def context(**arguments: Any) -> Iterator[None]:
    """Set arguments for every `start_logging` in a `with` block, and in the processes that it starts.

    It holds for this thread or asynchronous task, and for functions it calls. An argument of `start_logging` wins over
    it, and it wins over variables and the settings file. Inside another context, both hold, and the inner one wins.
    Child processes get it without credentials and `run_id`; variables that they get besides win over it.

    Args:
        arguments: Those of `start_logging` that are settings, and `config`. All have to be plain values.

    Raises:
        ConfigurationError: an argument is unknown or invalid.
    """
    known = [*Settings.__struct_fields__, "config", "name"]
    unknown = next((key for key in arguments if key not in known), None)
    if unknown is not None:
        raise ConfigurationError(f"context: unknown argument {unknown!r}. {suggest(unknown, known)}")
    values = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in arguments.items()}
    values = {key: value for key, value in values.items() if value is not None}
    if "name" in values:
        values["exp_name"] = values.pop("name")
    load({key: value for key, value in values.items() if key != "config"})
    merged = _in_context() | values
    document = _document(merged)
    token = _context.set(merged)
    _open_contexts.append(document)
    os.environ[_CONTEXT_VARIABLE] = document
    try:
        yield
    finally:
        _open_contexts.remove(document)
        if _open_contexts:
            os.environ[_CONTEXT_VARIABLE] = _open_contexts[-1]
        elif _parents_context is None:
            os.environ.pop(_CONTEXT_VARIABLE, None)
        else:
            os.environ[_CONTEXT_VARIABLE] = _parents_context
        _context.reset(token)


def _document(values: Mapping[str, Any]) -> str:
    """Return the context for child processes, with the present variables: those that a child gets besides win.

    Credentials stay in this process, and so does the run's id: two processes cannot write one run.
    """
    passed = {key: value for key, value in values.items() if key not in (*CREDENTIALS, "run_id")}
    variables = {key: os.environ[variable] for key, variable in _variables(os.environ).items() if key in passed}
    try:
        return json.dumps({"values": _without_keys(passed), "variables": variables})
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"context: child processes get plain values only: {error}") from None


def _without_keys(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _without_keys(item) for key, item in value.items() if key not in CREDENTIALS}


def config_in_context() -> Mapping[str, Any] | None:
    """Return the `config` of the innermost `context` that has one."""
    return _in_context().get("config")


def _in_context() -> dict[str, Any]:
    found = _context.get()
    if found is not None:
        return dict(found)
    if _parents_context is None:
        return {}
    try:
        document = json.loads(_parents_context)
        variables = _variables(os.environ)
        return {
            key: value
            for key, value in document["values"].items()
            if key not in variables or os.environ[variables[key]] == document["variables"].get(key)
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigurationError(f"{_CONTEXT_VARIABLE} is not a document of tracelet.context: {error}") from None


def _checked(values: dict[str, Any], source: Callable[[str], str]) -> Settings:
    for key in ("backend", "tags"):
        if isinstance(values.get(key), str):
            values[key] = [word.strip() for word in values[key].split(",") if word.strip()]
    values = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in values.items()}
    events = values.get("events", "sync")
    values["events"] = _EVENTS_VALUES.get(str(events).lower(), events)
    for key, default in (("collect", _DEFAULT_SOURCES), ("capture", _DEFAULT_CAPTURE)):
        if key in values:
            values[key] = _choices(values[key], default)
    for key, value in values.items():
        if not _fits(key, value):
            got = "another type" if key in _SECRET else repr(value)
            raise ConfigurationError(f"{key} must be {_EXPECTED.get(key, 'text')}, got {got} {source(key)}")
    settings = msgspec.convert(values, Settings, strict=False)
    for key in ("flush_timeout", "connect_timeout", "queue_bytes", "queue_timeout"):
        if not getattr(settings, key) >= 0:
            raise ConfigurationError(f"{key} must be 0 or more, got {values[key]!r} {source(key)}")
    if not settings.system_interval > 0:
        got, origin = values["system_interval"], source("system_interval")
        raise ConfigurationError(f"system_interval must be more than 0 seconds, got {got!r} {origin}")
    return msgspec.structs.replace(settings, **{key: finite(getattr(settings, key)) for key in _TIMES})


def _fits(key: str, value: Any) -> bool:
    try:
        msgspec.convert({key: value}, Settings, strict=False)
    except msgspec.ValidationError:
        return False
    return True


def finite(seconds: float) -> float:
    """Return the seconds, limited to a finite maximum.

    Raises:
        ConfigurationError: the value is NaN.
    """
    if seconds != seconds:
        raise ConfigurationError("a timeout must be a number of seconds, got nan")
    return min(seconds, _MAX_SECONDS)


def _choices(value: Any, default: Sequence[str]) -> list[Any]:
    """Return the value as a list. It may be a list, a comma-separated text, a word for none or `default`, or a bool."""
    match value:
        case bool():
            return list(default) if value else []
        case str():
            names: list[Any] = [word.strip() for word in value.split(",") if word.strip()]
        case list() | tuple() | set() | frozenset():
            names = list(value)
        case _:
            names = [value]
    if len(names) == 1 and str(names[0]).lower() in _NONE:
        return []
    if len(names) == 1 and str(names[0]).lower() in _ALL:
        return list(default)
    return [name for index, name in enumerate(names) if name not in names[:index]]


def origins(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the origin of each setting that is not an argument: a variable, the settings file, or "default".

    Raises:
        ConfigurationError: see `load`.
    """
    environ = os.environ if environ is None else environ
    origin = dict.fromkeys(Settings.__struct_fields__, "default")
    origin |= dict.fromkeys(_from_file(environ), str(_file(environ)))
    return origin | _variables(environ)


def import_path() -> list[str]:
    """Return the entries of `sys.path` that Python uses: it ignores those that are not str, such as a `Path`."""
    return [str.__str__(entry) for entry in sys.path if isinstance(entry, str)]


def environment_without(names: Collection[str]) -> dict[str, str]:
    """Return this process's environment without the variables `names`, for a child process."""
    return {name: value for name, value in os.environ.items() if name not in names}


def environment_of(names: Collection[str]) -> dict[str, str]:
    """Return the variables `names` of this process's environment that are set."""
    return {name: os.environ[name] for name in names if name in os.environ}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    return {field: environ[variable] for field, variable in _variables(environ).items()}


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the name of the variable for each field that the environment sets."""
    variables: dict[str, str] = {}
    for variable, text in environ.items():
        if not variable.startswith(_PREFIX) or variable in _OTHER_VARIABLES or text == "":
            continue
        key = variable.removeprefix(_PREFIX)
        field = _ALIASES.get(key, key.lower())
        if field not in Settings.__struct_fields__:
            known = [*(name.upper() for name in Settings.__struct_fields__), *_ALIASES, "CONFIG"]
            raise ConfigurationError(f"unknown environment variable {variable}. {suggest(key, known, _PREFIX)}")
        variables[field] = variable
    return variables


def _file(environ: Mapping[str, str]) -> Path:
    return Path(environ.get(_FILE_VARIABLE) or "tracelet.toml")


def _from_file(environ: Mapping[str, str]) -> dict[str, Any]:
    path = _file(environ)
    if not environ.get(_FILE_VARIABLE) and not path.is_file():
        return {}
    if sys.version_info >= (3, 11):  # imported only if there is a file
        import tomllib
    else:
        import tomli as tomllib
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"settings file {path}: {error}") from error
    unknown = sorted(set(values) - set(Settings.__struct_fields__))
    if unknown:
        hint = suggest(unknown[0], Settings.__struct_fields__)
        raise ConfigurationError(f"settings file {path}: unknown key {unknown[0]!r}. {hint}")
    return values
