"""Effects on the program's process: its fluent calls (`mlflow.log_figure`, `mlflow.start_run`, ...) go to our run."""

from __future__ import annotations

import contextlib
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tracelet.backends import environment
from tracelet.backends.mlflow.connection import Access, Replaced, replaced
from tracelet.backends.patches import patched, wrapped
from tracelet.proxy import Proxy

_URI, _EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"
_LOGGERS = ("alembic", "mlflow", None)
_CAPTURE_MODULE = "mlflow.pytorch._pytorch_autolog"


class Fluent:
    """Make our run active from `attach`, in the program's thread, until `detach`, in any thread.

    MLflow's fluent state is the thread's stack of active runs, the tracking URI and the experiment. MLflow has no other
    API to set them, and none to restore them from another thread.
    """

    def __init__(self, uri: str, run: Any, access: Access, *, is_primary: bool) -> None:
        self._uri, self._run, self._access, self._is_primary = uri, run, access, is_primary
        self._run_id, self._experiment_id = run.info.run_id, run.info.experiment_id
        self._undo = contextlib.ExitStack()
        self._mlflow: Any = None
        self._fluent: Any = None
        self._stack: list[Any] = []
        self._returned = False
        self._program_experiment: str | None = None
        self._lock = threading.Lock()

    def attach(self) -> None:
        import mlflow
        from mlflow.tracking import fluent
        from mlflow.tracking._tracking_service import utils

        self._mlflow, self._fluent = mlflow, fluent
        with contextlib.ExitStack() as undo:
            undo.enter_context(_autolog_silenced(self._run_id))
            self._stack = fluent._active_run_stack.get()
            if not self._stack:  # otherwise the program has an active run, which stays as it is
                program = utils._tracking_uri, fluent._active_experiment_id
                state = Replaced(self._run_id, self._uri, self._experiment_id, *program)
                replaced.append(state)
                undo.callback(replaced.remove, state)
                if mlflow.get_tracking_uri() != self._uri:
                    undo.callback(utils.reset)  # of the traces, as in `mlflow.set_tracking_uri`
                    undo.enter_context(patched(utils, "_tracking_uri", self._uri))
                    undo.enter_context(environment.overridden(_URI, self._uri))
                    utils.reset()
                self._program_experiment = fluent._active_experiment_id  # ours is for runs nested in our run
                undo.enter_context(patched(fluent, "_active_experiment_id", self._experiment_id))
                undo.enter_context(environment.overridden(_EXPERIMENT, self._experiment_id))
                if self._is_primary:
                    with self._access.fail_fast():
                        fluent.start_run(run_id=self._run_id)
                else:  # `start_run` would make a run that rank 0 has ended a running one again
                    self._stack.append(fluent.ActiveRun(self._run))
                undo.callback(self._deactivate)
                for module in (mlflow, fluent):
                    undo.enter_context(wrapped(module, "start_run", self._start_run))
            self._undo = undo.pop_all()

    def detach(self) -> None:
        with self._lock:
            self._undo.close()

    def _deactivate(self) -> None:
        """Remove our run from the stack of the thread, because MLflow's exit hook would mark it as finished."""
        self._returned = True
        self._stack[:] = [run for run in self._stack if run.info.run_id != self._run_id]
        self._end_monitor()

    def _end_monitor(self) -> None:
        monitor = self._fluent.run_id_to_system_metrics_monitor.pop(self._run_id, None)
        if monitor is not None:
            monitor.finish()

    def _start_run(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make the program's first `start_run` return our run. The original would raise because a run is active.

        While the program starts a run of its own, ours is not active. MLflow rejects a run id if the active experiment
        is not the run's own.
        """
        arguments = inspect.signature(original).bind(*args, **kwargs).arguments
        is_our_experiment = self._fluent._active_experiment_id == self._experiment_id
        with contextlib.ExitStack() as undo:
            if is_our_experiment and arguments.get("run_id") not in (None, self._run_id):
                undo.enter_context(patched(self._fluent, "_active_experiment_id", self._program_experiment))
            if not self._is_only_ours() or arguments.get("nested"):
                return original(*args, **kwargs)
            undo.callback(self._stack.insert, 0, self._stack.pop())
            if not self._fits_ours(arguments):
                return original(*args, **kwargs)
            self._end_monitor()
            settings = {name: value for name, value in arguments.items() if name not in ("run_id", "experiment_id")}
            with patched(self._fluent, "_active_experiment_id", self._experiment_id):
                run = original(run_id=self._run_id, **settings)  # with the program's name, tags and description
            self._returned = True
            undo.pop_all()
            return run

    def _is_only_ours(self) -> bool:
        """Check if only our run is active in this thread, and `start_run` has not returned it yet."""
        stack = self._fluent._active_run_stack.get()
        ours = [run.info.run_id for run in stack] == [self._run_id]
        return not self._returned and stack is self._stack and ours

    def _fits_ours(self, arguments: dict[str, Any]) -> bool:
        experiment = str(arguments.get("experiment_id") or self._experiment_id)
        fits = experiment == self._experiment_id and arguments.get("run_id") in (None, self._run_id)
        return fits and arguments.get("parent_run_id") is None and self._mlflow.get_tracking_uri() == self._uri


@contextlib.contextmanager
def _autolog_silenced(run_id: str) -> Iterator[None]:
    """Hide our active run from MLflow's own TensorBoard capture (`mlflow.pytorch.autolog`), which would write to it.

    The patched writers call `mlflow.active_run()` for every event, before and after `autolog()`. No other part of
    autolog uses this module, so the module gets its own `mlflow` object.
    """
    from mlflow.utils.import_hooks import register_post_import_hook

    with contextlib.ExitStack() as undo:
        active = [run_id]
        undo.callback(active.clear)

        def hide(module: Any) -> None:
            if active:
                undo.enter_context(patched(module, "mlflow", _OtherRuns(module.mlflow, run_id)))

        if _CAPTURE_MODULE in sys.modules:
            hide(sys.modules[_CAPTURE_MODULE])
        else:  # `autolog()` may come later; importing the module now would import torch
            register_post_import_hook(hide, _CAPTURE_MODULE, overwrite=False)
        yield


class _OtherRuns(Proxy):
    """`mlflow`, whose `active_run` returns any run but ours."""

    def __init__(self, mlflow: Any, run_id: str) -> None:
        super().__init__(mlflow)
        self._run_id = run_id

    def active_run(self) -> Any:
        run = self._original.active_run()
        return None if run is not None and run.info.run_id == self._run_id else run


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Suppress INFO lines of this thread in the handlers of the program's logging."""
    thread = threading.get_ident()

    def accepts(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno > logging.INFO

    with contextlib.ExitStack() as undo:
        for handler in [handler for name in _LOGGERS for handler in logging.getLogger(name).handlers]:
            handler.addFilter(accepts)
            undo.callback(handler.removeFilter, accepts)
        yield
