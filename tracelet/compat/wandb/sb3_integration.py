"""`wandb.integration.sb3`: the callback for Stable-Baselines3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from tracelet.compat import wandb
from tracelet.compat.wandb.errors import Error


class WandbCallback(BaseCallback):
    """Log the algorithm's settings, its gradients, and the model.

    Args:
        verbose: As in Stable-Baselines3.
        model_save_path: The folder in which the model is saved as `model.zip`, at the end of the training.
        model_save_freq: Also save it each so many calls.
        gradient_save_freq: Log gradients each so many passes.
        log: `gradients`, `parameters` or `all`.
    """

    def __init__(
        self,
        verbose: int = 0,
        model_save_path: str | None = None,
        model_save_freq: int = 0,
        gradient_save_freq: int = 0,
        log: str | None = "all",
    ) -> None:
        super().__init__(verbose)
        if wandb.run is None:
            raise Error("WandbCallback needs a run: call wandb.init() first")
        if model_save_freq and model_save_path is None:
            raise Error("WandbCallback: model_save_freq needs model_save_path")
        self.model_save_path, self.model_save_freq = model_save_path, model_save_freq
        self.gradient_save_freq, self.log = gradient_save_freq, log
        if model_save_path is not None:
            Path(model_save_path).mkdir(parents=True, exist_ok=True)

    def _init_callback(self) -> None:
        values: dict[str, Any] = {"algo": type(self.model).__name__}
        for name, value in vars(self.model).items():
            if name not in wandb.config:
                values[name] = value if type(value) in (float, int, str) else str(value)
        if self.gradient_save_freq > 0:
            wandb.watch(self.model.policy, log=self.log, log_freq=self.gradient_save_freq)
        wandb.config.setdefaults(values)

    def _on_step(self) -> bool:
        if self.model_save_freq and self.n_calls % self.model_save_freq == 0:
            self.save_model()
        return True

    def _on_training_end(self) -> None:
        if self.model_save_path is not None:
            self.save_model()

    def save_model(self) -> None:
        assert self.model_save_path is not None
        path = Path(self.model_save_path) / "model.zip"
        self.model.save(path)
        wandb.save(path, base_path=self.model_save_path)
