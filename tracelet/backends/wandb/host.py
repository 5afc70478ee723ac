"""What the program and wandb do in one process: its own calls on our run, hooks, captures and artifact objects."""

from __future__ import annotations

import contextlib
import operator
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tracelet import forks
from tracelet.backends.capabilities import AdoptedArtifact
from tracelet.backends.patches import wrapped
from tracelet.backends.wandb.errors import import_wandb, is_torn_down
from tracelet.backends.wandb.server import environment_settings
from tracelet.backends.wandb.values import AXIS, definable
from tracelet.guard import logger

# Values that an open row may hold, because the program cannot change them later.
_IMMUTABLE = (str, int, float, bool, type(None))
_NATIVE_CAPTURE = "WANDB_SYNC_TENSORBOARD"


class SharedRun:
    """Replace `log`, `finish` and `define_metric` of a run object and of `wandb`, until `undo`.

    Our rows advance wandb's own step, so wandb would drop a program's `log(..., step=e)`. Here `e` becomes the axis
    column instead. If wandb would hold a row open (`step=`, `commit=False`), this class holds it instead, because wandb
    would merge it with our next row.
    """

    def __init__(self, wandb: Any, run: Any, define: Callable[[str], None]) -> None:
        self._wandb, self._run, self._define = wandb, run, define
        self._row: dict[str, Any] | None = None
        self._step: int | None = None
        self._defined: list[str] = []
        self._lock = forks.new_lock()
        self._pid = os.getpid()
        self.log, self.define_metric = run.log, run.define_metric
        replacements: dict[str, Callable[..., Any]] = {
            "log": self._log,
            "finish": self._finish,
            "define_metric": self._define_metric,
        }
        with contextlib.ExitStack() as undo:
            for name, replacement in replacements.items():
                owners = [run, *([wandb] if getattr(wandb, name) == getattr(run, name) else [])]
                for owner in reversed(owners):
                    undo.enter_context(wrapped(owner, name, replacement))
            self.undo = undo.pop_all().close

    def commit(self) -> None:
        """Log the open row."""
        with self._lock:
            row, step = self._row, self._step
            self._row = self._step = None
            if row is None or self._pid != os.getpid():
                return
            if step is not None and AXIS not in row:
                for key in filter(self._undefined, _leaves(row)):
                    self._define(key)
                row[AXIS] = step
            self.log(row)

    def _log(self, _original: Any, data: Any, step: Any = None, commit: bool | None = None) -> None:
        valid = isinstance(data, Mapping) and all(isinstance(key, str) for key in data)
        if not valid or self._pid != os.getpid():  # wandb raises its own error; a fork has a copy of the open row
            self.log(data, step=step, commit=commit)
            return
        row_step = None if step is None else operator.index(step)
        with self._lock:
            if row_step is None and commit is not False and self._row is None:
                self.log(data, commit=commit)
                return
            if self._row is not None and row_step is not None and self._step not in (None, row_step):
                self.commit()
            self._row = {**(self._row or {}), **data}
            self._step = self._step if row_step is None else row_step
            complete = row_step is None if commit is None else commit
            holdable = (*_IMMUTABLE, self._wandb.data_types.WBValue)
            if complete or not all(isinstance(value, holdable) for value in data.values()):
                self.commit()

    def _finish(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.commit()
        return original(*args, **kwargs)

    def _define_metric(self, _original: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        self._defined.append(name)
        return self.define_metric(name, *args, **kwargs)

    def _undefined(self, key: str) -> bool:
        """Check if the program has not defined the axis of this key itself."""
        defined = any(key.startswith(name[:-1]) if name.endswith("*") else key == name for name in self._defined)
        return definable(key) and not defined


def _leaves(row: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in row.items():
        if isinstance(value, Mapping) and value and all(isinstance(inner, str) for inner in value):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


started: list[Any] = []
"""The open runs that tracelet started in this process."""


def active_run(wandb: Any) -> Any:
    """Return the program's active run; None if it has none. `wandb.run` stays set after `wandb.teardown`.

    A run that another backend object started is not the program's. A forked process inherits the run object of its
    parent, but cannot log to it.
    """
    run = wandb.run
    if run is None or is_torn_down(wandb, run):
        run = wandb.sdk.wandb_setup.singleton().most_recent_active_run
    is_of_program = not any(run is ours for ours in started)
    return run if is_of_program and getattr(run, "_init_pid", None) == os.getpid() else None


def exit_hooks_restorer() -> Callable[[], None]:
    """Return a function that removes the hooks of wandb's service from `sys`, if nobody else has replaced them."""
    original_exit, original_hook = sys.exit, sys.excepthook

    def restore() -> None:
        from wandb.sdk.lib.exit_hooks import ExitHooks

        if isinstance(getattr(sys.exit, "__self__", None), ExitHooks):
            sys.exit = original_exit
        if isinstance(getattr(sys.excepthook, "__self__", None), ExitHooks):
            sys.excepthook = original_hook

    return restore


def native_capture() -> str | None:
    """Return the variable and value if the environment or a settings file enables wandb's own capture; else None."""
    settings = environment_settings(import_wandb())
    return f"{_NATIVE_CAPTURE}={os.environ.get(_NATIVE_CAPTURE, 'true')}" if settings.sync_tensorboard else None


def warn_of_native_capture(wandb: Any) -> bool:
    """Log a warning and return True if the program has enabled wandb's own capture. Only the program can disable it."""
    if not getattr(wandb, "patched", {}).get("tensorboard"):
        return False
    logger.warning(
        "tracelet: wandb also captures TensorBoard, so this run receives each point twice. "
        "Remove sync_tensorboard=True and wandb.tensorboard.patch()"
    )
    return True


def adopt(obj: Any) -> AdoptedArtifact | None:
    """Convert a `wandb.Artifact` and its local files. The metadata contains its references."""
    wandb = sys.modules.get("wandb")
    if wandb is None or not isinstance(obj, wandb.Artifact):
        return None
    manifest = obj.manifest.entries
    metadata = dict(obj.metadata)
    if obj.description:
        metadata["description"] = obj.description
    references = {path: str(entry.ref) for path, entry in manifest.items() if entry.ref and not entry.local_path}
    if references:
        metadata["references"] = references
    return AdoptedArtifact(
        name=obj.name.partition(":")[0],
        files={str(path): str(entry.local_path) for path, entry in manifest.items() if entry.local_path},
        type=obj.type,
        metadata=metadata,
    )
