"""`install` and `uninstall`."""

from __future__ import annotations

from tracelet import replacing


def install() -> None:
    """Make `import wandb` mean this module, here and in processes that are started from here."""
    replacing.install("wandb")


def uninstall() -> None:
    """Undo `install`. A module that has imported this one keeps it."""
    replacing.uninstall("wandb")
