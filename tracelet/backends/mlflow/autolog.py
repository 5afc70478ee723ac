"""Keep MLflow's own TensorBoard capture (`mlflow.pytorch.autolog`) from writing to our run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tracelet.proxy import Proxy

_CAPTURE_MODULE = "mlflow.pytorch._pytorch_autolog"


class AutologSilencer:
    """Hide the active run from MLflow's patched writers while it is `run_id`, from `install` to `undo`.

    The patches call `mlflow.active_run()` for every event, before and after `autolog()`. No other part of autolog uses
    this module, so the module gets its own `mlflow` object.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id: str | None = run_id
        self._module: Any = None
        self._original: Any = None
        self._proxy: _Proxy | None = None

    def install(self) -> None:
        from mlflow.utils.import_hooks import register_post_import_hook

        if _CAPTURE_MODULE in sys.modules:
            self._replace(sys.modules[_CAPTURE_MODULE])
        else:  # `autolog()` may come later; importing the module now would import torch
            register_post_import_hook(self._replace, _CAPTURE_MODULE, overwrite=False)

    def undo(self) -> None:
        self._run_id = None
        module, self._module = self._module, None
        if module is not None and module.mlflow is self._proxy:
            module.mlflow = self._original

    def _replace(self, module: Any) -> None:
        if self._run_id is not None and self._module is None:
            self._module, self._original = module, module.mlflow
            self._proxy = module.mlflow = _Proxy(self._original, self.active_run)

    def active_run(self) -> Any:
        run = self._original.active_run()
        return None if run is not None and run.info.run_id == self._run_id else run


class _Proxy(Proxy):
    """`mlflow` with another `active_run`."""

    def __init__(self, mlflow: Any, active_run: Callable[[], Any]) -> None:
        super().__init__(mlflow)
        self.active_run = active_run
