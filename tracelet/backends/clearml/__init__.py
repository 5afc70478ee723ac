"""ClearML."""

from tracelet.backends.clearml.adapter import ClearmlBackend, ClearmlConfig

__all__ = ["ClearmlBackend", "ClearmlConfig"]
