"""start_logging, stop_logging, get_active_experiment: the package's one module-level state."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import msgspec

from tracelet import settings as settings_module
from tracelet.backends import backend_class, check_installed, configured, filters, with_filter
from tracelet.backends.base import Backend
from tracelet.capture.values import plain
from tracelet.errors import ConfigurationError, RunNotFound, meant_or_known
from tracelet.experiment.experiment import Experiment, secrets_in_use
from tracelet.journal.store import JournalReader
from tracelet.records import RunInfo
from tracelet.runs.folders import check_run_id, find_run, new_run_id, run_folder
from tracelet.settings import DeliveryMode, Events, Mode, Settings, Source

logger = logging.getLogger("tracelet")

SHARED_KEYS = ("tags", "notes", "group")
"""Keys of `config` that belong to the run, whatever its backends."""

_active: Experiment | None = None
_starting = threading.RLock()


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
) -> Experiment:
    """Begin a run: from now on, everything told to a SummaryWriter is carried to the run's journal and backends.

    A run that is still active is stopped first. Every argument may be left out; `TRACELET_<ARGUMENT>` and
    `tracelet.toml` are asked next (see `tracelet.settings`).

    Args:
        exp_name: The run's name.
        project: The run's project. Left out, a backend's own default holds (`WANDB_PROJECT`, ...).
        backend: A name, a comma list of names, or a list of names and `Backend` objects. None: the journal alone.
        api_key: The one backend's credential. It is never stored.
        backend_url: The one backend's server.
        config: The backend's own keys; with several backends one dict for each under its name. `tags`, `notes` and
            `group` may stand beside those, and so may `include`, `exclude`, `kinds`, `exclude_kinds` and `every`, which
            say what of the run backends get.
        mode: `online`; `offline`: journal alone, no vendor imported, no socket opened; `disabled`: nothing at all.
        root_logdir: The log directory whose tags have no prefix. Left out, it is the first writer's.
        run_id: The id of a run to begin, or of one in `dir` to go on with.
        resume: True: go on with the run `run_id`, in the same runs of its backends, and refuse to begin a new one.
            False: refuse to go on with an earlier one. Left out, the run is gone on with if it is there.
        dir: Where run folders are made (default `tracelet_runs`).
        flush_timeout: Seconds that the end of the run may wait for its backends (default 30).
        connect_timeout: Seconds that this call may wait for its backends (default 10).
        wait: False: return at once; the backends' packages are imported, and their runs begun, behind this call. The
            program's own calls of a vendor's functions then do not land in our run.
        delivery: `thread` (default): each backend works on a thread of this process. `process`: all of them in a
            process beside it, which takes nothing from this one's interpreter, outlives its death and finishes its
            run; `native`, `wandb.run` and a vendor's own calls are then not to be had.
        events: `sync` (default): event files are written as without tracelet. `async`: `add_image`, `add_figure`,
            `add_video`, `add_audio` and `add_histogram` return once their values are copied. False: writers made from
            now on write no event files at all.
        collect: What is collected besides: some of `environment`, `git`, `git-diff`, `system` and `console` (default:
            environment, git, system). False: nothing.
        system_interval: Seconds from one sample of the system's figures to the next (default 15).

    Raises:
        ConfigurationError: an argument, variable or key that nobody knows, or that does not fit.
        UnknownBackend: a backend's name that nobody knows.
        MissingDependency: a backend's package is not installed.
        RunNotFound: `resume=True`, and there is no run `run_id`.
        RunInUse: another process is writing the run `run_id`.
        JournalError: the journal of the run to go on with cannot be opened. A new run goes on without one: backends
            get it from memory, and what could not be kept is counted.
    """
    global _active
    names, objects = _split_backends(backend)
    settings = settings_module.load(
        {
            "exp_name": exp_name,
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
            f"delivery='process' takes backends by their names: {objects[0]!r} is an object of this process. "
            "Register its class with register_backend, or use delivery='thread'"
        )
    _check_distinct([*settings.backend, *(one.name for one in objects)])
    classes = {name: backend_class(name) for name in settings.backend}
    shared, own = _split_config(config or {}, [*classes, *(one.name for one in objects)])
    own = _with_credentials(own, settings, classes)
    backends = [configured(cls, own.get(name, {})) for name, cls in classes.items()]
    backends += [with_filter(one, own.get(one.name, {})) for one in objects]
    settings = _with_shared(settings, shared)
    if settings.mode == "online":
        for name in classes:
            check_installed(name)
    info = _run_info(_with_clean_project(settings, backends), run_id, resume)
    with _starting:
        if _active is not None:
            logger.info("tracelet: the run %s is stopped, since another one starts", _active.run_id)
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
            _active = experiment
        return experiment


def stop_logging(timeout: float | None = None) -> None:
    """Deliver what waits, for at most `timeout` seconds (default: `flush_timeout`), and end the active run, if any."""
    if _active is not None:
        _active.stop(timeout)


def get_active_experiment() -> Experiment | None:
    """The run that `start_logging` began and nothing has stopped."""
    return _active


def _forget(experiment: Experiment) -> None:
    global _active
    if _active is experiment:
        _active = None


def _split_backends(backend: Any) -> tuple[list[str] | None, list[Backend]]:
    if backend is None:
        return None, []
    listed = list(backend) if isinstance(backend, Iterable) and not isinstance(backend, str) else [backend]
    names: list[str] = []
    objects: list[Backend] = []
    for one in listed:
        match one:
            case str():
                names += [name.strip() for name in one.split(",") if name.strip()]
            case Backend():
                objects.append(one)
            case _:
                raise ConfigurationError(f"backend= takes names and Backend objects, not {one!r}")
    return names, objects


def _split_config(config: Mapping[str, Any], names: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """`config` as the run's shared keys and each backend's own: flat for one backend, keyed by name for any number.

    A filter beside the names is every backend's, key by key, where it has none of its own.
    """
    if not isinstance(config, Mapping):
        raise ConfigurationError(f"config is a dict, not {type(config).__name__}")
    shared = {key: value for key, value in config.items() if key in SHARED_KEYS}
    rest = {key: value for key, value in config.items() if key not in SHARED_KEYS}
    if len(names) == 1 and names[0] not in rest:
        return shared, {names[0]: rest}
    common = {key: rest.pop(key) for key in filters.KEYS if names and key in rest and key not in names}
    unknown = sorted(set(rest) - set(names))
    if unknown:
        near = meant_or_known(str(unknown[0]), [*names, *SHARED_KEYS, *(filters.KEYS if names else ())])
        raise ConfigurationError(
            f"config: {unknown[0]!r} is neither a backend of this run ({', '.join(names) or 'none'}) nor one of the "
            f"shared keys. With several backends, config has one dict for each by its name. {near}"
        )
    for name, value in rest.items():
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"config[{name!r}] is a dict of that backend's keys, not {value!r}")
    return shared, {name: common | dict(rest.get(name, {})) for name in names}


def _with_credentials(
    own: dict[str, dict[str, Any]], settings: Settings, classes: Mapping[str, type[Backend]]
) -> dict[str, dict[str, Any]]:
    """`api_key` and `backend_url` are the one backend's keys of those names."""
    for field in ("api_key", "backend_url"):
        value = getattr(settings, field)
        if value is None or not classes:
            continue
        if len(classes) > 1:
            raise ConfigurationError(
                f"{field} fits one backend only; with several, say config={{'<backend>': {{{field!r}: ...}}}}"
            )
        ((name, cls),) = classes.items()
        if field not in cls.Config.__struct_fields__:
            raise ConfigurationError(
                f"the {name} backend takes no {field}. It comes from the argument of that name, from "
                f"TRACELET_{field.upper()}, or from the settings file"
            )
        own = {**own, name: {field: value} | own.get(name, {})}
    return own


def _check_distinct(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"backend {twice[0]!r} is named twice; each carries one copy of the run")


def _with_shared(settings: Settings, shared: Mapping[str, Any]) -> Settings:
    changes = dict(shared)
    if "tags" in changes:
        given = changes["tags"]
        if not isinstance(given, str | Sequence | Set):
            raise ConfigurationError(f"config['tags'] is a list of words, not {given!r}")
        more = [word.strip() for word in given.split(",")] if isinstance(given, str) else given
        changes["tags"] = tuple(dict.fromkeys([*settings.tags, *map(str, more)]))
    for key in ("notes", "group"):
        if not isinstance(changes.get(key), str | None):
            raise ConfigurationError(f"config[{key!r}] is a text, not {changes[key]!r}")
    return msgspec.structs.replace(settings, **changes)


def _with_clean_project(settings: Settings, backends: Sequence[Backend]) -> Settings:
    """The project is the name of a folder: no credential is to stand there, as in `--project p-$TRACELET_API_KEY`."""
    if settings.project is None:
        return settings
    return msgspec.structs.replace(settings, project=secrets_in_use(settings, backends).hide(settings.project))


def _run_info(settings: Settings, run_id: str | None, resume: bool | None) -> RunInfo:
    try:
        base = Path(settings.dir).absolute()
    except FileNotFoundError:
        raise ConfigurationError(
            f"the working directory was deleted, so dir {settings.dir!r} has no place: give an absolute dir"
        ) from None
    if resume and run_id is None:
        raise ConfigurationError("resume=True goes on with an earlier run: say which by run_id=")
    if run_id is not None:
        folder = base / "*" / check_run_id(run_id)
        if any(base.glob(f"*/{folder.name}/journal.db")):
            found = find_run(base, run_id)
            if resume is False:
                raise ConfigurationError(
                    f"run_id {run_id!r} is an earlier run in {found}; with resume=False it is kept"
                )
            with JournalReader(found) as reader:
                return msgspec.structs.replace(reader.info(), folder=str(found), resumed=True)
    if resume:
        raise RunNotFound(f"resume=True, and there is no run {run_id!r} under {base} (see `tracelet runs`)")
    new = run_id or new_run_id()
    return RunInfo(
        run_id=new,
        project=plain(settings.project),
        name=plain(settings.exp_name),
        folder=str(run_folder(base, settings.project, new)),
        tags=tuple(plain(settings.tags)),
        notes=plain(settings.notes),
        group=plain(settings.group),
        created=time.time(),
        program=next(iter(sys.argv), None),
    )


def _ensure_visible() -> None:
    """Where the program set no logging up, our few lines go to stderr, as Python's own warnings do."""
    if not logger.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        if logger.level == logging.NOTSET:  # a level that the program set stays
            logger.setLevel(logging.INFO)
        logger.propagate = False
    elif logger.level == logging.NOTSET and logger.getEffectiveLevel() > logging.WARNING:
        logger.setLevel(logging.WARNING)  # a program that lets errors alone through is told of trouble all the same
