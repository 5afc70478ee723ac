"""MLflow's own listening to TensorBoard (`mlflow.pytorch.autolog`), and how it leaves our run alone."""

from __future__ import annotations

import sys
from typing import Any

_LISTENER = "mlflow.pytorch._pytorch_autolog"


class AutologSilencer:
    """From `install` to `undo`: MLflow's patches of the writers find no active run where that run is `run_id`.

    They ask `mlflow.active_run()` at every event, before and after `autolog()` alike, and the rest of autolog does not
    come through this module. So the module is shown an `mlflow` of its own.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id: str | None = run_id
        self._module: Any = None
        self._before: Any = None
        self._shown = _Shown(self)

    def install(self) -> None:
        from mlflow.utils.import_hooks import register_post_import_hook

        if _LISTENER in sys.modules:
            self._mute(sys.modules[_LISTENER])
        else:  # `autolog()` may come later; importing it now would import torch
            register_post_import_hook(self._mute, _LISTENER, overwrite=False)

    def undo(self) -> None:
        self._run_id = None
        module, self._module = self._module, None
        if module is not None and module.mlflow is self._shown:
            module.mlflow = self._before

    def _mute(self, module: Any) -> None:
        if self._run_id is not None and self._module is None:
            self._module, self._before = module, module.mlflow
            module.mlflow = self._shown

    def active_run(self) -> Any:
        run = self._before.active_run()
        return None if run is not None and run.info.run_id == self._run_id else run

    def others(self, name: str) -> Any:
        return getattr(self._before, name)


class _Shown:
    """`mlflow`, but for `active_run`."""

    def __init__(self, muted: AutologSilencer) -> None:
        self._muted = muted
        self.active_run = muted.active_run

    def __getattr__(self, name: str) -> Any:
        return self._muted.others(name)
