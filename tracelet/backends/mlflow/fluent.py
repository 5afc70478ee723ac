"""Direct the program's own fluent calls (`mlflow.log_figure`, `mlflow.start_run`, ...) to our run."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tracelet.backends import environment
from tracelet.backends.mlflow.autolog import AutologSilencer
from tracelet.backends.mlflow.requests import Access
from tracelet.backends.mlflow.run import Target

_URI, _EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"


class Fluent:
    """Make our run active from `attach`, in the program's thread, until `detach`, in any thread.

    MLflow's fluent state is the thread's stack of active runs, the tracking URI and the experiment. MLflow has no other
    API to set them, and none to restore them from another thread.
    """

    def __init__(self, uri: str, target: Target, access: Access) -> None:
        self._uri, self._target, self._access = uri, target, access
        self._undo = contextlib.ExitStack()
        self._stack: list[Any] = []
        self._returned = False
        self._program_experiment: str | None = None
        self._lock = threading.Lock()

    def attach(self) -> None:
        from mlflow.tracking import fluent

        with contextlib.ExitStack() as undo:
            silencer = AutologSilencer(self._target.id)
            silencer.install()
            undo.callback(silencer.undo)
            self._stack = fluent._active_run_stack.get()
            if not self._stack:  # otherwise the program has an active run, which stays as it is
                undo.enter_context(self._access.for_program())
                undo.callback(self._set_uri())
                undo.callback(self._set_experiment())
                with self._access.fail_fast():
                    fluent.start_run(run_id=self._target.id)
                undo.callback(self._deactivate)
                undo.callback(self._replace_start_run(fluent))
            self._undo = undo.pop_all()

    def detach(self) -> None:
        with self._lock:
            self._undo.close()

    def _set_uri(self) -> Callable[[], None]:
        import mlflow
        from mlflow.tracking._tracking_service import utils

        previous, variable = utils._tracking_uri, environment.original(_URI)
        if mlflow.get_tracking_uri() == self._uri:
            return lambda: None
        mlflow.set_tracking_uri(self._uri)

        def restore() -> None:
            if utils._tracking_uri == self._uri:  # nobody has set another one since
                mlflow.set_tracking_uri(previous)
                environment.set_variable(_URI, variable)

        return restore

    def _set_experiment(self) -> Callable[[], None]:
        """Make our experiment active, for runs that the program nests in ours."""
        from mlflow.tracking import fluent

        previous, variable = fluent._active_experiment_id, environment.original(_EXPERIMENT)
        self._program_experiment = previous
        ours = fluent._active_experiment_id = self._target.experiment_id
        environment.set_variable(_EXPERIMENT, ours)

        def restore() -> None:
            if fluent._active_experiment_id == ours:
                fluent._active_experiment_id = previous
                environment.set_variable(_EXPERIMENT, variable)

        return restore

    def _deactivate(self) -> None:
        """Remove our run from the stack of the thread, because MLflow's exit hook would mark it as finished."""
        from mlflow.tracking import fluent

        self._returned = True
        self._stack[:] = [run for run in self._stack if run.info.run_id != self._target.id]
        self._end_monitor(fluent)

    def _end_monitor(self, fluent: Any) -> None:
        monitor = fluent.run_id_to_system_metrics_monitor.pop(self._target.id, None)
        if monitor is not None:
            monitor.finish()

    def _replace_start_run(self, fluent: Any) -> Callable[[], None]:
        """Make the program's first `start_run` return our run. The original would raise because a run is active."""
        import mlflow

        original = fluent.start_run
        parameters = inspect.signature(original)

        @functools.wraps(original)
        def start_run(*args: Any, **kwargs: Any) -> Any:
            with contextlib.ExitStack() as undo:
                arguments = parameters.bind(*args, **kwargs).arguments
                if arguments.get("run_id") not in (None, self._target.id):
                    undo.enter_context(self._experiment(fluent, self._program_experiment))
                if self._is_only_ours(fluent) and not arguments.get("nested"):
                    if self._fits_ours(arguments):
                        return self._return_ours(fluent, original, arguments)
                    undo.enter_context(self._set_aside())
                return original(*args, **kwargs)

        owners = [module for module in (mlflow, fluent) if module.start_run is original]
        for module in owners:
            module.start_run = start_run

        def restore() -> None:
            for module in owners:
                if module.start_run is start_run:
                    module.start_run = original

        return restore

    def _is_only_ours(self, fluent: Any) -> bool:
        """Check if only our run is active in this thread, and `start_run` has not returned it yet."""
        stack = fluent._active_run_stack.get()
        ours = [run.info.run_id for run in stack] == [self._target.id]
        return not self._returned and stack is self._stack and ours

    def _fits_ours(self, arguments: dict[str, Any]) -> bool:
        import mlflow

        experiment = arguments.get("experiment_id")
        return (
            arguments.get("run_id") in (None, self._target.id)
            and (experiment is None or str(experiment) == self._target.experiment_id)
            and arguments.get("parent_run_id") is None
            and mlflow.get_tracking_uri() == self._uri
        )

    def _return_ours(self, fluent: Any, original: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """Return our run, with the program's name, tags and description."""
        settings = {name: value for name, value in arguments.items() if name not in ("run_id", "experiment_id")}
        active = self._stack.pop()
        self._end_monitor(fluent)
        try:
            with self._experiment(fluent, self._target.experiment_id):
                run = original(run_id=self._target.id, **settings)
            self._returned = True
        finally:
            if not self._returned:
                self._stack.append(active)
        return run

    @contextlib.contextmanager
    def _experiment(self, fluent: Any, experiment_id: str | None) -> Iterator[None]:
        """Make an experiment active. MLflow rejects a run id if the active experiment is not the run's own."""
        previous = fluent._active_experiment_id
        if experiment_id == self._target.experiment_id or previous == self._target.experiment_id:
            fluent._active_experiment_id = experiment_id
        try:
            yield
        finally:
            fluent._active_experiment_id = previous

    @contextlib.contextmanager
    def _set_aside(self) -> Iterator[None]:
        """Deactivate our run while the program starts its own. It becomes active again when that run ends."""
        active = self._stack.pop()
        try:
            yield
        finally:
            self._stack.insert(0, active)
