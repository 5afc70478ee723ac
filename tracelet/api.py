"""Define start_logging, stop_logging and get_active_experiment, with the package's only module-level state."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tracelet import forks
from tracelet import settings as settings_module
from tracelet.backends import secrets_in_use
from tracelet.backends.arguments import backends_of, split_backends
from tracelet.backends.base import Backend
from tracelet.distributed.children import (
    imports_main_again,
    is_child_of_rank,
    mark_rank,
    offer_run,
    offered_run,
    withdraw_run,
)
from tracelet.distributed.launchers import find_process
from tracelet.distributed.plan import Role, role_of
from tracelet.distributed.process import Job, Process
from tracelet.distributed.ray import find_job
from tracelet.errors import ConfigurationError, RunInUse
from tracelet.experiment.capturing import check_capture
from tracelet.experiment.dormant import DormantExperiment
from tracelet.experiment.experiment import Experiment
from tracelet.experiment.opening import child_of, run_info, settings_of_child
from tracelet.experiment.silent import SilentExperiment
from tracelet.guard import logger
from tracelet.records import RunInfo
from tracelet.settings import Capture, Children, DeliveryMode, Events, Mode, RankScope, RunMode, Settings, Source

_active: Experiment | None = None
_active_pid = 0
"""The process that started it. In a forked child, `_active` is the parent's run."""
_starting = forks.new_lock()
_CHILD_WARNING = (
    "tracelet: a process that multiprocessing spawned does not log to the run of its parent. To start a run there, "
    "call start_logging in the function that it runs, or set children='join' in the parent"
)
_runs_in_job: Counter[str] = Counter()
"""The runs that this process has started, by the id of its job. A worker of Ray Tune may run several trials."""
_OF_ONE_RUN = ("exp_name", "name", "tags", "notes", "run_id", "resume")


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
    capture: Sequence[Capture] | str | bool | None = None,
    run_mode: RunMode | None = None,
    rank_scope: RankScope | None = None,
    children: Children | None = None,
    alert_webhook: str | None = None,
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
        capture: Libraries whose calls are captured: some of `tensorboard` (default: torch's and tensorboardX's
            SummaryWriter) and `wandb` (the program's own wandb runs, which go on unchanged). False: none.
        run_mode: The runs of a distributed job. `auto` (default): one, of rank 0. The other ranks get a falsy
            experiment that does nothing. `new`: one for each rank, in one group. `shared`: one, to which all ranks
            log; names of the ranks after the first begin with `rank-N/`.
        rank_scope: `global` (default): all ranks belong together. `worker`: those of one node. `auto` and `shared` then
            make a run for each node, and `new` a group.
        children: Processes that the program starts. `silent` (default): they do not log to this run. `join`: they do,
            if they use this experiment or call `start_logging` without `run_id`. Names then begin with `child-N/`.
        alert_webhook: A webhook that gets the alerts: of Slack, Discord, or any server for JSON. It is never stored.
        name: The same as `exp_name`.

    Raises:
        ConfigurationError: an argument, variable or key is unknown or invalid.
        UnknownBackend: the name of a backend is unknown.
        MissingDependency: a backend's package is not installed.
        RunNotFound: `resume=True`, but there is no run `run_id`.
        RunInUse: another process is writing the run `run_id`.
        JournalError: the journal of a resumed run cannot be opened. A new run delivers from memory instead.
    """
    global _active, _active_pid
    given = {name: value for name, value in locals().items() if value is not None}
    names, objects = split_backends(backend)
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
            "capture": capture,
            "run_id": run_id,
            "run_mode": run_mode,
            "rank_scope": rank_scope,
            "children": children,
            "alert_webhook": alert_webhook,
        }
    )
    parent = offered_run() if settings.run_id is None and not resume and settings.mode != "disabled" else None
    if parent is None and imports_main_again():
        return _begin_silently(settings, warning=_CHILD_WARNING)
    is_child = parent is not None or is_child_of_rank()
    process = None if is_child else find_process()
    role = role_of(process, settings.run_mode, settings.rank_scope)
    if process is not None and role.is_silent:
        _ensure_visible()
        logger.info("tracelet: rank %d of %d does not log; another rank does", process.rank, process.world_size)
        return _begin_silently(settings)
    config = settings_module.config_in_context() if config is None else config
    settings, backends = backends_of(settings, objects, config or {})
    check_capture(settings.capture, [item.name for item in backends])
    settings = _with_clean_project(settings, backends)

    def create_backends() -> Sequence[Backend]:
        return backends_of(settings, (), config or {})[1]

    if parent is not None:
        first_join = partial(_rejoin, settings, create_backends, backends=backends)
        return _join(settings, parent, first_join, at_once=not imports_main_again())
    launched = process or (None if is_child else find_job())
    info = run_info(settings, resume, launched, role, _runs_in_job[_job_of(launched)])
    with _starting:
        _stop_active()
        _ensure_visible()
        rejoin = partial(_rejoin, settings, create_backends) if settings.children == "join" else None
        try:
            experiment = _begin(settings, info, backends, rejoin)
        except RunInUse:
            if launched is None or settings.run_id is not None:
                raise
            info = run_info(settings, resume, None, Role(), 0)  # another process was faster to take the job's run
            experiment = _begin(settings, info, backends, rejoin)
        if settings.mode != "disabled":
            _active, _active_pid = experiment, os.getpid()
            if process is not None:
                mark_rank()
            _runs_in_job[_job_of(launched)] += settings.run_id is None
            if rejoin is not None:
                offer_run(experiment.folder)
        experiment._given = given
        if info.resumed:
            experiment.add_tags(*(tag for tag in settings.tags if tag.strip() and tag not in info.tags))
        return experiment


def start_separate(
    arguments: Mapping[str, Any], backends: Sequence[Backend], role: Role | None = None, *, is_active: bool = False
) -> Experiment:
    """Start a run beside the active one, which stays. It captures no SummaryWriter: only its own methods log.

    Args:
        arguments: Those of `start_logging` that are settings. A process of a distributed job gets a run of its own.
        backends: Its backends.
        role: The part of this process in a run that several processes write.
        is_active: True: make it the active run, as `start_logging` does. There must be no other.

    Raises:
        ConfigurationError, RunInUse: see `start_logging`.
    """
    global _active, _active_pid
    settings = settings_module.load(arguments)
    if not is_active:
        settings = msgspec.structs.replace(settings, events="sync", capture=())
    settings = _with_clean_project(settings, backends)
    info = run_info(settings, None, None, role or Role(), 0)
    _ensure_visible()
    experiment = Experiment(settings, info, **_experiment_options(settings, backends))
    if is_active and settings.mode != "disabled":
        _active, _active_pid = experiment, os.getpid()
    return experiment


@contextlib.contextmanager
def beside_active_run() -> Iterator[None]:
    """Within this block, `start_logging` neither stops the active run nor replaces it as the active one."""
    global _active, _active_pid
    active = _active, _active_pid
    _active = None
    try:
        yield
    finally:
        if active[0] is not None and not active[0]._stopped.is_set():
            _active, _active_pid = active


def start_like(other: Experiment | None, **arguments: Any) -> Experiment:
    """Start a run with `arguments`, and those of the run `other` that are not about that run alone.

    Backends whose vendor has one run per process get a process of their own if another run is in use.
    """
    given = {} if other is None else other._given
    inherited = {name: value for name, value in given.items() if name not in _OF_ONE_RUN}
    if not isinstance(inherited.get("backend", ""), str):
        listed = inherited["backend"] if isinstance(inherited["backend"], Iterable) else [inherited["backend"]]
        inherited["backend"] = [one if isinstance(one, str) else type(one)(one.config) for one in listed]
        arguments.pop("delivery", None)  # objects cannot move to another process
    return start_logging(**{**inherited, **arguments})


def _job_of(launched: Process | Job | None) -> str:
    return launched.job_id if isinstance(launched, Job) else ""


def _begin(
    settings: Settings, info: RunInfo, backends: Sequence[Backend], rejoin: Callable[[Experiment], None] | None
) -> Experiment:
    return Experiment(settings, info, rejoin=rejoin, **_experiment_options(settings, backends))


def _experiment_options(settings: Settings, backends: Sequence[Backend]) -> dict[str, Any]:
    is_online = settings.mode == "online"
    return {
        "backends": backends if is_online else (),
        "expected": () if is_online else backends,
        "on_stop": _forget,
    }


def _join(settings: Settings, parent: Path, rejoin: Callable[[Experiment], None], *, at_once: bool) -> Experiment:
    """Start the experiment of a process that joins the run in `parent`, at once or when it logs."""
    global _active, _active_pid
    with _starting:
        _stop_active()
        _ensure_visible()
        _active = DormantExperiment(*settings_of_child(parent, settings), rejoin, on_stop=_forget)
        _active_pid = os.getpid()
        if at_once:
            _active._join()
        return _active


def _rejoin(
    settings: Settings,
    create_backends: Callable[[], Sequence[Backend]],
    experiment: Experiment,
    backends: Sequence[Backend] | None = None,
) -> None:
    """Start an experiment that a process inherited, or that is dormant, in this process and the same run.

    `backends` are those of a dormant one, which nobody has opened. Those of a parent belong to its own process.
    """
    global _active, _active_pid
    rejoin = partial(_rejoin, settings, create_backends)
    if settings.root_logdir is None:  # the parent's journal may not have it yet
        settings = msgspec.structs.replace(settings, root_logdir=experiment._root_logdir)
    settings, info = child_of(offered_run() or experiment.folder, settings)
    options = _experiment_options(settings, create_backends() if backends is None else backends)
    Experiment.__init__(experiment, settings, info, rejoin=rejoin, **options)
    _active, _active_pid = experiment, os.getpid()


def _begin_silently(settings: Settings, warning: str = "") -> Experiment:
    """Make a silent experiment the active one, and import no backend. Log the warning if it is used."""
    global _active, _active_pid
    with _starting:
        _stop_active()
        _active, _active_pid = SilentExperiment(settings, warning, on_stop=_forget), os.getpid()
        return _active


def _stop_active() -> None:
    if _active is not None:
        if get_active_experiment():
            logger.info("tracelet: stopping run %s, because a new run starts", _active.run_id)
        _active.stop()


def stop_logging(timeout: float | None = None) -> None:
    """Deliver pending records within `timeout` seconds (default: `flush_timeout`), and end the active run, if any."""
    if _active is not None:
        _active.stop(timeout)


def get_active_experiment() -> Experiment | None:
    """Return the active run, or None. A forked process has none until it starts its own.

    On a silent rank of a distributed job it is falsy, and its methods do nothing.
    """
    return _active if _active_pid == os.getpid() else None


def active_or_inherited() -> Experiment | None:
    """Return the active run; in a forked process without one, that of the parent, which ignores the child's records."""
    return _active


def _forget(experiment: Experiment) -> None:
    global _active
    if _active is experiment:
        _active = None
        withdraw_run()


def _one_name(exp_name: str | None, name: str | None) -> str | None:
    if None not in (exp_name, name) and exp_name != name:
        raise ConfigurationError(f"exp_name and name are the same argument, got {exp_name!r} and {name!r}; pass one")
    return name if exp_name is None else exp_name


def _with_clean_project(settings: Settings, backends: Sequence[Backend]) -> Settings:
    """Hide credentials in the project, a folder name, as in `--project p-$TRACELET_API_KEY`."""
    if settings.project is None:
        return settings
    return msgspec.structs.replace(settings, project=secrets_in_use(settings, backends).hide(settings.project))


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
