"""The program's own fluent calls (`mlflow.log_figure`, `mlflow.start_run`, ...) land in our run."""

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
    """From `attach`, in the program's thread, to `detach`, in any.

    MLflow's fluent state is the thread's stack of active runs, the tracking URI and the experiment; it offers no other
    way to say what stands there, and none to put it back from another thread.
    """

    def __init__(self, uri: str, target: Target, access: Access) -> None:
        self._uri, self._target, self._access = uri, target, access
        self._undo = contextlib.ExitStack()
        self._stack: list[Any] = []
        self._given = False
        self._chosen: str | None = None
        self._lock = threading.Lock()

    def attach(self) -> None:
        from mlflow.tracking import fluent

        with contextlib.ExitStack() as undo:
            muted = AutologSilencer(self._target.id)
            muted.install()
            undo.callback(muted.undo)
            self._stack = fluent._active_run_stack.get()
            if not self._stack:  # else the program has a run, and it is that one or none of our affair
                undo.enter_context(self._access.for_program())
                undo.callback(self._point_there())
                undo.callback(self._choose_experiment())
                with self._access.impatient():
                    fluent.start_run(run_id=self._target.id)
                undo.callback(self._let_go)
                undo.callback(self._stand_for(fluent))
            self._undo = undo.pop_all()

    def detach(self) -> None:
        with self._lock:
            self._undo.close()

    def _point_there(self) -> Callable[[], None]:
        import mlflow
        from mlflow.tracking._tracking_service import utils

        before, variable = utils._tracking_uri, environment.before(_URI)
        if mlflow.get_tracking_uri() == self._uri:
            return lambda: None
        mlflow.set_tracking_uri(self._uri)

        def restore() -> None:
            if utils._tracking_uri == self._uri:  # nobody chose another one since
                mlflow.set_tracking_uri(before)
                environment.put(_URI, variable)

        return restore

    def _choose_experiment(self) -> Callable[[], None]:
        """Runs that the program begins below ours are in our experiment."""
        from mlflow.tracking import fluent

        before, variable = fluent._active_experiment_id, environment.before(_EXPERIMENT)
        self._chosen = before
        ours = fluent._active_experiment_id = self._target.experiment_id
        environment.put(_EXPERIMENT, ours)

        def restore() -> None:
            if fluent._active_experiment_id == ours:
                fluent._active_experiment_id = before
                environment.put(_EXPERIMENT, variable)

        return restore

    def _let_go(self) -> None:
        """Our run is no longer active where it was made so; MLflow's exit hook would call it finished."""
        from mlflow.tracking import fluent

        self._given = True
        self._stack[:] = [run for run in self._stack if run.info.run_id != self._target.id]
        self._end_monitor(fluent)

    def _end_monitor(self, fluent: Any) -> None:
        monitor = fluent.run_id_to_system_metrics_monitor.pop(self._target.id, None)
        if monitor is not None:
            monitor.finish()

    def _stand_for(self, fluent: Any) -> Callable[[], None]:
        """`start_run` would raise, since ours is active: the program's first one is given ours."""
        import mlflow

        original = fluent.start_run
        parameters = inspect.signature(original)

        @functools.wraps(original)
        def start_run(*args: Any, **kwargs: Any) -> Any:
            with contextlib.ExitStack() as undo:
                wanted = parameters.bind(*args, **kwargs).arguments
                if wanted.get("run_id") not in (None, self._target.id):
                    undo.enter_context(self._experiment(fluent, self._chosen))
                if self._is_bare(fluent) and not wanted.get("nested"):
                    if self._means_ours(wanted):
                        return self._hand_out(fluent, original, wanted)
                    undo.enter_context(self._aside())
                return original(*args, **kwargs)

        owners = [module for module in (mlflow, fluent) if module.start_run is original]
        for module in owners:
            module.start_run = start_run

        def restore() -> None:
            for module in owners:
                if module.start_run is start_run:
                    module.start_run = original

        return restore

    def _is_bare(self, fluent: Any) -> bool:
        """Whether nothing is active in this thread but our run, which the program did not ask for yet."""
        stack = fluent._active_run_stack.get()
        ours = [run.info.run_id for run in stack] == [self._target.id]
        return not self._given and stack is self._stack and ours

    def _means_ours(self, wanted: dict[str, Any]) -> bool:
        import mlflow

        experiment = wanted.get("experiment_id")
        return (
            wanted.get("run_id") in (None, self._target.id)
            and (experiment is None or str(experiment) == self._target.experiment_id)
            and wanted.get("parent_run_id") is None
            and mlflow.get_tracking_uri() == self._uri
        )

    def _hand_out(self, fluent: Any, original: Callable[..., Any], wanted: dict[str, Any]) -> Any:
        """Our run with the name, tags and description that the program gave."""
        told = {name: value for name, value in wanted.items() if name not in ("run_id", "experiment_id")}
        active = self._stack.pop()
        self._end_monitor(fluent)
        try:
            with self._experiment(fluent, self._target.experiment_id):
                run = original(run_id=self._target.id, **told)
            self._given = True
        finally:
            if not self._given:
                self._stack.append(active)
        return run

    @contextlib.contextmanager
    def _experiment(self, fluent: Any, wanted: str | None) -> Iterator[None]:
        """MLflow refuses a run by its id where another experiment than its own is chosen."""
        found = fluent._active_experiment_id
        if wanted == self._target.experiment_id or found == self._target.experiment_id:
            fluent._active_experiment_id = wanted
        try:
            yield
        finally:
            fluent._active_experiment_id = found

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """The program begins a run of its own: ours is active again when that has ended."""
        active = self._stack.pop()
        try:
            yield
        finally:
            self._stack.insert(0, active)
