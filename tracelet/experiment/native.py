"""Provide the vendors' run objects with types: `experiment.mlflow_run` and similar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import aim
    import clearml
    import mlflow.entities
    import wandb


class NativeRuns:
    """Provide each vendor's run object. It is None if the run lacks that backend, or the backend is not connected."""

    def _native(self, name: str) -> Any:
        raise NotImplementedError

    @property
    def wandb_run(self) -> wandb.Run | None:
        """The run in Weights & Biases."""
        return cast("wandb.Run | None", self._native("wandb"))

    @property
    def mlflow_run(self) -> mlflow.entities.Run | None:
        """The run in MLflow, as it was when opened. Use `.info.run_id` to read its current state."""
        return cast("mlflow.entities.Run | None", self._native("mlflow"))

    @property
    def clearml_task(self) -> clearml.Task | None:
        """The task in ClearML."""
        return cast("clearml.Task | None", self._native("clearml"))

    @property
    def aim_run(self) -> aim.Run | None:
        """The run in Aim."""
        return cast("aim.Run | None", self._native("aim"))
