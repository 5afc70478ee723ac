"""The vendors' own run objects, by name and typed: `experiment.mlflow_run` and its siblings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import aim
    import clearml
    import mlflow.entities
    import wandb


class NativeRuns:
    """Each is None where the run has no such backend, or where that backend is not connected (yet, or any more)."""

    def _native(self, name: str) -> Any:
        raise NotImplementedError

    @property
    def wandb_run(self) -> wandb.Run | None:
        """The run in Weights & Biases."""
        return cast("wandb.Run | None", self._native("wandb"))

    @property
    def mlflow_run(self) -> mlflow.entities.Run | None:
        """The run in MLflow, as it was when it was opened; `.info.run_id` leads to what it holds now."""
        return cast("mlflow.entities.Run | None", self._native("mlflow"))

    @property
    def clearml_task(self) -> clearml.Task | None:
        """The task in ClearML."""
        return cast("clearml.Task | None", self._native("clearml"))

    @property
    def aim_run(self) -> aim.Run | None:
        """The run in Aim."""
        return cast("aim.Run | None", self._native("aim"))
