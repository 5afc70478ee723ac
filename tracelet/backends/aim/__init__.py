"""Write runs to Aim."""

from tracelet.backends.aim.adapter import AimBackend
from tracelet.backends.aim.config import AimConfig

__all__ = ["AimBackend", "AimConfig"]
