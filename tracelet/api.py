"""Define start_logging, stop_logging and get_active_experiment, with the package's only module-level state."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import msgspec

from tracelet import forks
from tracelet import settings as settings_module
from tracelet.backends import (
    backend_class,
    check_installed,
    configured,
    filters,
    secrets_in_use,
    suggest_key,
    with_filter,
)
from tracelet.backends.base import Backend
from tracelet.capture.values import to_plain
from tracelet.errors import ConfigurationError, RunNotFound
from tracelet.experiment.experiment import Experiment
from tracelet.guard import logger, shown
from tracelet.journal.store import JournalReader, is_empty
from tracelet.records import RunInfo
from tracelet.runs.folders import check_run_id, find_run, new_run_id, run_folder
from tracelet.settings import DeliveryMode, Events, Mode, Settings, Source

SHARED_KEYS = ("tags", "notes", "group")
"""Keys of `config` that belong to the run, not to a backend."""

_active: Experiment | None = None
_active_pid = 0
"""The process that started it. In a forked child, `_active` is the parent's run."""
_starting = forks.new_lock()


def start_logging(
    exp_name: str | None = None,
    project: str | None = None,
    backend: str | Backend | Sequence[str | Backend] | None = None,
    api_key: str | None = None,
    backend_url: str | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    mode: Mode | None = None,
    tags: Sequence[str] | None = None,
    notes: str | None = None,
    group: str | None = None,
    root_logdir: str | os.PathLike[str] | None = None,
    run_id: str | None = None,
    resume: bool | None = None,
    dir: str | os.PathLike[str] | None = None,
    flush_timeout: float | None = None,
    connect_timeout: float | None = None,
    wait: bool | None = None,
    delivery: DeliveryMode | None = None,
    events: Events | bool | None = None,
    collect: Sequence[Source] | str | bool | None = None,
    system_interval: float | None = None,
    name: str | None = None,
) -> Experiment:
    """Start a run. From now on, everything logged to a SummaryWriter also goes to the run's journal and backends.

    If a run is active, it is stopped first. All arguments are optional; if omitted, the variable
    `TRACELET_<ARGUMENT>` and then `tracelet.toml` are used (see `tracelet.settings`).

    Args:
        exp_name: The run's name.
        project: The run's project. If omitted, the backend's own default is used (`WANDB_PROJECT`, ...).
        backend: A name, a comma-separated list of names, or a list of names and `Backend` objects. None: journal only.
        api_key: The credential, if there is only one backend. It is never stored.
        backend_url: The server, if there is only one backend.
        config: The backend's own keys. With several backends, one dict for each, by its name. `tags`, `notes` and
            `group` may also be given here, and the filters `include`, `exclude`, `kinds`, `exclude_kinds` and `every`.
        mode: `online`; `offline`: journal only, no vendor imported, no socket opened; `disabled`: do nothing.
        tags: Tags of the run. A resumed run gets those that it lacks.
        notes: A description of the run. A resumed run keeps its own, and its name and group.
        group: The name of a group of related runs.
        root_logdir: The log directory whose tags have no prefix. If omitted, the first writer sets it.
        run_id: The id of a new run, or of an existing run in `dir` to resume.
        resume: True: resume the run `run_id`, also in its backends; fail if it does not exist. False: fail if it
            exists. If omitted, resume the run if it exists.
        dir: The folder for run folders (default `tracelet_runs`).
        flush_timeout: Maximum seconds to wait for the backends at the end of the run (default 30).
        connect_timeout: Maximum seconds to wait for the backends in this call (default 10).
        wait: False: return immediately, and import and connect the backends in the background. The program's own calls
            of a vendor's functions then do not use this run. A fork waits for the imports.
        delivery: `thread` (default): each backend runs on a thread of this process. `process`: all backends run in a
            separate process. It does not slow this interpreter, and finishes the run if this process dies. `native`,
            `wandb.run` and the vendor's own calls are not available.
        events: `sync` (default): event files are written as without tracelet. `async`: `add_image`, `add_figure`,
            `add_video`, `add_audio` and `add_histogram` return once their values are copied. False: new writers write
            no event files.
        collect: Collectors to run: some of `environment`, `git`, `git-diff`, `system` and `console` (default:
            environment, git, system). False: none.
        system_interval: Seconds between two samples of the system metrics (default 15).
        name: The same as `exp_name`.

    Raises:
        ConfigurationError: an argument, variable or key is unknown or invalid.
        UnknownBackend: the name of a backend is unknown.
        MissingDependency: a backend's package is not installed.
        RunNotFound: `resume=True`, but there is no run `run_id`.
        RunInUse: another process is writing the run `run_id`.
        JournalError: the journal of the resumed run cannot be opened. A new run does not raise: it delivers from
            memory, and counts records that could not be stored.
    """
    global _active, _active_pid
    names, objects = _split_backends(backend)
    settings = settings_module.load(
        {
            "exp_name": _one_name(exp_name, name),
            "project": project,
            "backend": names,
            "api_key": api_key,
            "backend_url": backend_url,
            "mode": mode,
            "dir": dir,
            "root_logdir": root_logdir,
            "tags": list(tags) if isinstance(tags, Iterable) and not isinstance(tags, str | Mapping) else tags,
            "notes": notes,
            "group": group,
            "flush_timeout": flush_timeout,
            "connect_timeout": connect_timeout,
            "wait": wait,
            "delivery": delivery,
            "events": events,
            "collect": collect,
            "system_interval": system_interval,
        }
    )
    if objects and settings.delivery == "process":
        raise ConfigurationError(
            f"delivery='process' needs names of backends, got the object {objects[0]!r}. "
            "Register its class with register_backend, or use delivery='thread'"
        )
    _check_distinct([*settings.backend, *(item.name for item in objects)])
    classes = {name: backend_class(name) for name in settings.backend}
    shared, backend_config = _split_config(config or {}, [*classes, *(item.name for item in objects)])
    backend_config = _with_credentials(backend_config, settings, classes)
    backends = [configured(cls, backend_config.get(name, {})) for name, cls in classes.items()]
    backends += [with_filter(item, backend_config.get(item.name, {})) for item in objects]
    settings = _with_shared(settings, shared)
    if settings.mode == "online":
        for name in classes:
            check_installed(name)
    info = _run_info(_with_clean_project(settings, backends), run_id, resume)
    with _starting:
        if _active is not None:
            if get_active_experiment() is not None:
                logger.info("tracelet: stopping run %s, because a new run starts", _active.run_id)
            _active.stop()
        online = settings.mode == "online"
        _ensure_visible()
        experiment = Experiment(
            settings,
            info,
            backends if online else (),
            expected=() if online else backends,
            on_stop=_forget,
        )
        if settings.mode != "disabled":
            _active, _active_pid = experiment, os.getpid()
        if info.resumed:
            experiment.add_tags(*(tag for tag in settings.tags if tag.strip() and tag not in info.tags))
        return experiment


def stop_logging(timeout: float | None = None) -> None:
    """Deliver pending records within `timeout` seconds (default: `flush_timeout`), and end the active run, if any."""
    if _active is not None:
        _active.stop(timeout)


def get_active_experiment() -> Experiment | None:
    """Return the active run, or None. A forked process has none until it starts its own."""
    return _active if _active_pid == os.getpid() else None


def active_or_inherited() -> Experiment | None:
    """Return the active run; in a forked process without one, that of the parent, which ignores the child's records."""
    return _active


def _forget(experiment: Experiment) -> None:
    global _active
    if _active is experiment:
        _active = None


def _one_name(exp_name: str | None, name: str | None) -> str | None:
    if None not in (exp_name, name) and exp_name != name:
        raise ConfigurationError(f"exp_name and name are the same argument, got {exp_name!r} and {name!r}; pass one")
    return name if exp_name is None else exp_name


def _split_backends(backend: Any) -> tuple[list[str] | None, list[Backend]]:
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


def _split_config(config: Mapping[str, Any], names: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Split `config` into the run's shared keys and the keys of each backend.

    `config` is flat for one backend, or has one dict per backend name. A filter beside the names applies to every
    backend that does not set the same key.
    """
    if not isinstance(config, Mapping):
        raise ConfigurationError(f"config must be a dict, got {type(config).__name__}")
    shared = {key: value for key, value in config.items() if key in SHARED_KEYS}
    remaining = {key: value for key, value in config.items() if key not in SHARED_KEYS}
    if len(names) == 1 and names[0] not in remaining:
        return shared, {names[0]: remaining}
    common_filter = {key: remaining.pop(key) for key in filters.KEYS if names and key in remaining and key not in names}
    unknown = sorted(set(remaining) - set(names))
    if unknown:
        hint = suggest_key(str(unknown[0]), [*names, *SHARED_KEYS, *(filters.KEYS if names else ())])
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


def _with_clean_project(settings: Settings, backends: Sequence[Backend]) -> Settings:
    """Hide credentials in the project, a folder name, as in `--project p-$TRACELET_API_KEY`."""
    if settings.project is None:
        return settings
    return msgspec.structs.replace(settings, project=secrets_in_use(settings, backends).hide(settings.project))


def _run_info(settings: Settings, run_id: str | None, resume: bool | None) -> RunInfo:
    try:
        base = Path(settings.dir).absolute()
    except FileNotFoundError:
        raise ConfigurationError(
            f"the working directory was deleted: dir must be absolute, got {settings.dir!r}"
        ) from None
    if "\0" in str(base):
        raise ConfigurationError(f"dir must not contain a NUL character, got {settings.dir!r}")
    if not isinstance(run_id, str | None):
        raise ConfigurationError(f"run_id must be a str, got {shown(run_id)}")
    if resume and run_id is None:
        raise ConfigurationError("resume=True needs the run_id of an existing run")
    new, folder = to_plain(run_id) or new_run_id(), None
    if run_id is not None and any(base.glob(f"*/{check_run_id(run_id)}/journal.db")):
        folder = find_run(base, run_id)
        if not is_empty(folder):
            if resume is False:
                raise ConfigurationError(f"run_id {run_id!r} exists in {folder}; resume=False needs a new run_id")
            with JournalReader(folder) as reader:
                info = reader.info()
            _warn_of_ignored(settings, info)
            return msgspec.structs.replace(info, folder=str(folder), resumed=True)
    elif resume:
        raise RunNotFound(f"resume=True, but there is no run {run_id!r} under {base}. Run: tracelet runs")
    return RunInfo(
        run_id=new,
        project=to_plain(settings.project),
        name=to_plain(settings.exp_name),
        folder=str(folder or run_folder(base, settings.project, new)),
        tags=tuple(to_plain(settings.tags)),
        notes=to_plain(settings.notes),
        group=to_plain(settings.group),
        created=time.time(),
        program=str(sys.argv[0]) if sys.argv else None,
    )


def _warn_of_ignored(settings: Settings, info: RunInfo) -> None:
    """Log which arguments differ from the description of the resumed run, which stays."""
    wanted = {"name": settings.exp_name, "notes": settings.notes, "group": settings.group}
    ignored = [field for field, value in wanted.items() if value is not None and value != getattr(info, field)]
    if ignored:
        logger.warning("tracelet: run %s is resumed and keeps its own %s", info.run_id, " and ".join(ignored))


def _ensure_visible() -> None:
    """Log to stderr if the program did not configure logging, like Python's warnings."""
    ours = logging.getLogger("tracelet")
    if not ours.handlers and not logging.getLogger().handlers:
        ours.addHandler(_StderrHandler())
        if ours.level == logging.NOTSET:  # do not change the program's own level
            ours.setLevel(logging.INFO)
        ours.propagate = False
    elif ours.level == logging.NOTSET and ours.getEffectiveLevel() > logging.WARNING:
        ours.setLevel(logging.WARNING)  # show warnings even if the program logs errors only


class _StderrHandler(logging.Handler):
    """Print messages to the current `sys.stderr`: test runners and notebooks replace it, and close the earlier one."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr
        if stream is not None and not getattr(stream, "closed", False):
            stream.write(f"{record.getMessage()}\n")
            stream.flush()
