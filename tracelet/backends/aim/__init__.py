"""Aim."""

from tracelet.backends.aim.adapter import AimBackend, AimConfig

__all__ = ["AimBackend", "AimConfig"]
