"""Begin a run: `init`, and which run is the current one."""

from __future__ import annotations

import contextlib
import copyreg
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

from tracelet import api
from tracelet import settings as tracelet_settings
from tracelet.compat.wandb import artifacts
from tracelet.compat.wandb import config_object as configuration
from tracelet.compat.wandb.errors import UnsupportedError, UsageError
from tracelet.compat.wandb.run_object import Run
from tracelet.compat.wandb.settings import Settings, as_dict, resolved
from tracelet.compat.wandb.stored_state import state_of
from tracelet.errors import ConfigurationError, RunNotFound
from tracelet.experiment import Experiment
from tracelet.experiment.silent import SilentExperiment
from tracelet.guard import logger, shown, translated
from tracelet.runs.folders import all_runs, check_run_id
from tracelet.runs.summary import summarise

_REINIT = {
    None: "return_previous",
    "default": "return_previous",
    False: "return_previous",
    True: "finish_previous",
    "return_previous": "return_previous",
    "finish_previous": "finish_previous",
    "create_new": "create_new",
}
_RESUME = {None: None, False: None, "allow": None, True: None, "auto": None, "must": True, "never": False}

_used: WeakSet[Experiment] = WeakSet()
"""The experiments of `start_logging` that a run has used."""
_open: list[Run] = []
"""The runs that are not finished, in order of their begin."""
on_finish: list[Callable[[Run], None]] = []
"""Called when a run has finished."""


def open_runs() -> list[Run]:
    """Return the runs that are not finished, in order of their begin."""
    return list(_open)


def begin(arguments: Mapping[str, Any]) -> Run:
    """Begin a run, or return the current one as `reinit` says. `arguments` are those of `init`."""
    settings = as_dict(arguments.get("settings"))
    found = resolved(arguments, settings)
    if found["reinit"] not in _REINIT:
        raise UsageError(f"reinit must be one of {', '.join(map(shown, _REINIT))}, got {shown(found['reinit'])}")
    if found["resume"] not in _RESUME:
        raise UsageError(f"resume must be one of {', '.join(map(shown, _RESUME))}, got {shown(found['resume'])}")
    for name in ("resume_from", "fork_from"):
        if arguments.get(name) is not None:
            raise UnsupportedError(
                f"{name}: a run cannot begin at a step of another. Resume it as a whole: resume='allow'"
            )
    if found["id"] is not None:
        translated(lambda: check_run_id(str(found["id"])), lambda error: UsageError(f"init: {error}"))
    reinit = _REINIT[found["reinit"]]
    enabled = [run for run in _open if not run.disabled]
    if enabled and reinit == "return_previous":
        return enabled[0]
    if reinit == "finish_previous":
        for run in list(_open):
            run.finish()
    values = configuration.parsed(
        arguments.get("config"), arguments.get("config_include_keys"), arguments.get("config_exclude_keys")
    )
    run = _begin(
        found,
        Settings(**settings, **{key: value for key, value in found.items() if key not in settings}),
        bool(arguments.get("sync_tensorboard") or arguments.get("tensorboard")),
    )
    _open.append(run)
    may_change = bool(arguments.get("allow_val_change")) or run.resumed
    with contextlib.ExitStack() as on_error:
        on_error.callback(run.finish, 1)  # nobody else would have this run to finish it
        run.config.setdefaults(configuration.defaults())
        run.config.update(values, allow_val_change=may_change)
        on_error.pop_all()
    return run


def _begin(found: dict[str, Any], settings: Settings, captures_tensorboard: bool) -> Run:
    if found["mode"] == "disabled":
        settings.update(id=found["id"] or os.urandom(4).hex())
        return Run(SilentExperiment(tracelet_settings.load({})), settings, owned=False, on_finish=_forget)
    active = api.get_active_experiment()
    if active is not None and active not in _used and not _open:
        _used.add(active)
        _warn_of_ignored(active, found)
        active.add_tags(*found["tags"])
        return Run(active, settings, owned=False, on_finish=_forget)
    origin = active if active is not None and active in _used else None
    arguments = _arguments(found)
    if not captures_tensorboard:
        arguments["capture"] = []
    try:
        if origin is None and not any(not run.disabled for run in _open):
            experiment = api.start_logging(**arguments)
        else:  # a vendor has one run per process
            arguments.setdefault("delivery", "process")
            with api.beside_active_run():
                experiment = api.start_like(origin, **arguments)
    except RunNotFound as error:
        raise UsageError(f"resume='must': {error}") from error
    except ConfigurationError as error:
        if "exists" in str(error) and found["resume"] == "never":
            raise UsageError(f"resume='never': {error}") from error
        raise
    _used.add(experiment)
    earlier = state_of(experiment.folder) if experiment and experiment._info.resumed else None
    for fact in ("entity", "job_type"):
        if found[fact] and experiment._orchestrator is not None:
            experiment._orchestrator.annotate(fact, found[fact])
    return Run(experiment, settings, owned=True, earlier=earlier, on_finish=_forget)


def _arguments(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `start_logging`."""
    names = tracelet_settings.load({}).backend
    resume = _RESUME[found["resume"]]
    run_id = found["id"]
    base = Path(found["dir"]) / "tracelet_runs" if found["dir"] and "TRACELET_DIR" not in os.environ else None
    if found["resume"] == "auto" and run_id is None:
        run_id = _last_unfinished(base or tracelet_settings.load({}).dir)
    arguments: dict[str, Any] = {
        "exp_name": found["name"],
        "project": found["project"],
        "tags": list(found["tags"]) or None,
        "notes": found["notes"],
        "group": found["group"],
        "run_id": run_id,
        "resume": resume if run_id is not None else None,
        "dir": base,
    }
    if "wandb" in names:
        arguments["config"] = _config(found, names, tracelet_settings.config_in_context() or {})
    return {key: value for key, value in arguments.items() if value is not None}


def _config(found: Mapping[str, Any], names: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `config` of backends with what `init` says to wandb itself. `given` is that of the context."""
    own = {name: found[name] for name in ("entity", "job_type") if found[name] is not None}
    if found["mode"] != "online":
        own["mode"] = found["mode"]
    if len(names) == 1 and "wandb" not in given:  # flat
        return {**given, **own}
    return {**given, "wandb": {**given.get("wandb", {}), **own}}


def _last_unfinished(base: str | os.PathLike[str]) -> str | None:
    """Return the id of the newest run in the folder if it did not finish."""
    folders = all_runs(Path(base))
    if not folders:
        return None
    summary = summarise(folders[-1])
    return None if summary.status == "finished" else folders[-1].name


def _warn_of_ignored(active: Experiment, found: Mapping[str, Any]) -> None:
    of_active = {"project": active.project, "name": active.name, "id": active.run_id}
    ignored = [
        f"{name}={found[name]!r}"
        for name, value in of_active.items()
        if found[name] is not None and found[name] != value
    ]
    if ignored:
        logger.warning(
            "tracelet: wandb.init uses run %s, which start_logging began, and ignores %s",
            active.run_id,
            ", ".join(ignored),
        )


def _forget(run: Run) -> None:
    if run in _open:
        _open.remove(run)
    for call in on_finish:
        call(run)


def _of_id(run_id: str) -> Run:
    """Return an open run, for `copy` and `pickle`; one that logs nothing where there is no such run."""
    known = next((run for run in _open if run.id == run_id), None)
    if known is not None:
        return known
    logger.warning("tracelet: wandb: run %s is not open in this process. Its calls here are ignored", run_id)
    return Run(SilentExperiment(tracelet_settings.load({})), Settings(id=run_id, mode="disabled"), owned=False)


copyreg.pickle(Run, lambda run: (_of_id, (run.id,)))


def restore(name: str, run_path: str, replace: bool, root: str | None) -> Any:
    """Return a saved file of a local run, open for reading."""
    return artifacts.restore(name, run_path, replace, root, base=Path(tracelet_settings.load({}).dir))
