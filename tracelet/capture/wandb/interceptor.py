"""Capture what the program logs to its own wandb runs, as records.

wandb's own call runs first and is not changed. `Run._log`, which every way to log a row calls, is wrapped, not `log`: a
program may hold a bound `log` of a run that it began earlier. Other methods are wrapped at their classes, and functions
of the module that are bound methods of an active run are bound again.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from threading import get_ident
from types import MethodType, ModuleType
from typing import Any

from tracelet.capture.import_hook import ImportWatcher
from tracelet.capture.patches import Patches
from tracelet.capture.series import SeriesNames
from tracelet.capture.wandb.calls import RunCalls
from tracelet.capture.wandb.rows import Recorder
from tracelet.guard import Guard
from tracelet.records import File, Record

Method = Callable[..., Any]
_PROPERTIES = ("tags", "name", "notes")


class WandbInterceptor:
    """Pass everything that the program logs to wandb to `submit`, from `install` to `uninstall`.

    Capture runs that began before and after, also in the modes offline and disabled, and wandb imported before or
    after. A call that raises is not recorded. `snapshot(path, name)` stores a file in the run's spool.
    """

    def __init__(
        self,
        submit: Callable[[Record], None],
        snapshot: Callable[[Path, str], File | None],
        series: SeriesNames,
        guard: Guard,
    ) -> None:
        self._guard = guard
        self._recorder = Recorder(submit, snapshot, series, guard)
        self._calls = RunCalls(self._recorder)
        self._patches = Patches()
        self._patch_each: dict[str, Callable[[ModuleType], None]] = {
            "wandb.sdk.wandb_config": self._patch_config,
            "wandb.sdk.wandb_summary": self._patch_summary,
            "wandb.sdk.lib.disabled": self._patch_disabled_summary,
            "wandb.util": self._patch_util,
            "wandb.sdk.wandb_run": self._patch_run,
            "wandb.sdk.lib.noop_run": self._patch_disabled_run,
        }
        self._watcher = ImportWatcher(self._patch_each)

    def install(self) -> None:
        self._watcher.install()
        for name, patch in self._patch_each.items():
            if (module := sys.modules.get(name)) is not None:
                patch(module)
        self._guard.call(self._meet_existing)

    def drain(self, deadline: float) -> bool:
        """Return True: records are submitted in the program's own calls."""
        return True

    def uninstall(self) -> None:
        for state in self._recorder.runs.states():
            self._guard.call(self._calls.submit_changed_files, state)
        self._recorder.is_on = False
        self._watcher.uninstall()
        self._patches.undo()
        self._guard.call(_bind_functions)

    def _meet_existing(self) -> None:
        """Record the parameters of active runs, and make the module's functions call the wrapped methods.

        A run in disabled mode begins with its first call: `wandb.run` may be one that has ended.
        """
        wandb = sys.modules.get("wandb")
        setup = sys.modules.get("wandb.sdk.wandb_setup")
        if wandb is None or setup is None:
            return
        service = getattr(setup, "_singleton", None)
        for run in [getattr(wandb, "run", None), *getattr(service, "_active_runs", ())]:
            if run is not None and not run.disabled and not getattr(run, "_is_finished", False):
                self._recorder.begin(run)
        _bind_functions()

    # The classes.

    def _patch_run(self, module: ModuleType) -> None:
        calls, run = self._calls, module.Run
        self._wrap(run, "_log", self._tee_log)
        for name, ours in (
            ("_on_start", calls.begin),
            ("_define_metric", calls.define_metric),
            ("_save", calls.saved),
            ("alert", calls.alert),
            ("_finish", calls.finish),
        ):
            self._wrap(run, name, functools.partial(self._follow, ours))
        self._wrap(run, "_log_artifact", functools.partial(self._tee_artifact, calls.read_artifact, calls.artifact))
        for name in _PROPERTIES:
            self._wrap(run, name, functools.partial(self._tee_property, name))

    def _patch_disabled_run(self, module: ModuleType) -> None:
        """Wrap the methods of a run in disabled mode, which do nothing."""
        calls, run = self._calls, module.NoopRun
        self._wrap(run, "log", self._tee_disabled_log)
        for name, ours in (
            ("__init__", calls.begin),
            ("define_metric", calls.define_metric),
            ("save", calls.saved_disabled),
            ("alert", calls.alert),
            ("finish", calls.finish),
        ):
            self._wrap(run, name, functools.partial(self._follow, ours))
        self._wrap(run, "log_artifact", functools.partial(self._tee_artifact, calls.read_artifact, calls.artifact))
        self._wrap(run, "log_model", functools.partial(self._tee_artifact, calls.read_model, calls.model))

    def _patch_config(self, module: ModuleType) -> None:
        for name in ("__setitem__", "__setattr__"):
            self._wrap(module.Config, name, functools.partial(self._follow, self._calls.config_item))
        for name in ("update", "setdefaults", "update_locked", "merge_locked"):
            self._wrap(module.Config, name, functools.partial(self._follow, self._calls.config))

    def _patch_summary(self, module: ModuleType) -> None:
        self._wrap(module.Summary, "_update", functools.partial(self._follow, self._calls.summary))

    def _patch_disabled_summary(self, module: ModuleType) -> None:
        for name, ours in (
            ("__setitem__", self._calls.disabled_item),
            ("__setattr__", self._calls.disabled_item),
            ("update", self._calls.disabled_update),
        ):
            # Some are those of `dict`.
            self._patches.wrap(module.SummaryDisabled, name, functools.partial(self._follow, ours), inherited=True)

    def _patch_util(self, module: ModuleType) -> None:
        self._wrap(module, "json_friendly", self._tee_json_friendly)

    def _wrap(self, owner: type | ModuleType, name: str, tee: Callable[[Any], Any]) -> None:
        if not self._patches.wrap(owner, name, tee):
            self._recorder.leave_out(f"a call of {name}", f"this wandb has no {owner.__name__}.{name}")

    # The wrappers. Each calls the original first, lets its exception pass, and runs our own lines in the guard.

    def _tee_log(self, original: Method) -> Method:
        return self._guard.surround(original, self._recorder.before, self._recorder.after)

    def _tee_disabled_log(self, original: Method) -> Method:
        @functools.wraps(original)
        def log(run: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
            threads = self._calls.logging
            threads.add(get_ident())
            try:
                result = original(run, data, *args, **kwargs)
            finally:
                threads.discard(get_ident())
            self._guard.call(self._after_disabled_log, run, data, args, kwargs)
            return result

        return log

    def _after_disabled_log(self, run: Any, data: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(zip(("step", "commit"), args, strict=False)) | kwargs
        self._recorder.after(run, self._recorder.before(run, data), given.get("step"), given.get("commit"))

    def _follow(self, ours: Method, original: Method) -> Method:
        """Return a wrapper that calls `original`, then `ours` with the object, the result and the arguments."""

        @functools.wraps(original)
        def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(owner, *args, **kwargs)
            if self._recorder.is_on:
                self._guard.call(functools.partial(ours, owner, result, *args, **kwargs))
            return result

        return wrapper

    def _tee_artifact(self, read_files: Method, ours: Method, original: Method) -> Method:
        @functools.wraps(original)
        def log_artifact(run: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._recorder.is_on:
                return original(run, *args, **kwargs)
            read = self._guard.call(functools.partial(read_files, *args, **kwargs))
            result = original(run, *args, **kwargs)
            self._guard.call(functools.partial(ours, run, read, result, *args, **kwargs))
            return result

        return log_artifact

    def _tee_property(self, name: str, original: property) -> property:
        setter = original.fset
        assert setter is not None

        @functools.wraps(setter)
        def set_value(run: Any, value: Any) -> None:
            setter(run, value)
            if self._recorder.is_on:
                self._guard.call(self._calls.attribute, run, name, value)

        return property(original.fget, set_value, original.fdel, original.__doc__)

    def _tee_json_friendly(self, original: Method) -> Method:
        """Keep the values that wandb reads from a device."""
        on_read = self._recorder.on_read

        @functools.wraps(original)
        def json_friendly(obj: Any, **kwargs: Any) -> Any:
            result = original(obj, **kwargs)
            on_read(obj, result[0])
            return result

        return json_friendly


def _bind_functions() -> None:
    """Make functions of the module `wandb` that are bound methods of a run bound methods of its present class."""
    wandb, run_module = sys.modules.get("wandb"), sys.modules.get("wandb.sdk.wandb_run")
    if wandb is None or run_module is None:
        return
    for name, bound in list(vars(wandb).items()):
        if isinstance(bound, MethodType) and isinstance(bound.__self__, run_module.Run):
            setattr(wandb, name, getattr(bound.__self__, name))
