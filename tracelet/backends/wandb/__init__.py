"""Weights & Biases."""

from tracelet.backends.wandb.adapter import WandbBackend
from tracelet.backends.wandb.config import WandbConfig

__all__ = ["WandbBackend", "WandbConfig"]
