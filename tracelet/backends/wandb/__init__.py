"""Weights & Biases."""

from tracelet.backends.wandb.adapter import WandbBackend, WandbConfig

__all__ = ["WandbBackend", "WandbConfig"]
