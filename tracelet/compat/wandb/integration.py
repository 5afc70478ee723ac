"""`wandb.integration`: what wandb itself has for Lightning and Stable-Baselines3."""

from __future__ import annotations

from tracelet.compat.wandb import lightning_integration as lightning

__all__ = ["lightning"]
