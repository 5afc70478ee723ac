"""ClearML."""

from tracelet.backends.clearml.adapter import ClearmlBackend
from tracelet.backends.clearml.config import ClearmlConfig

__all__ = ["ClearmlBackend", "ClearmlConfig"]
