"""`wandb.sdk`: the modules that frameworks reach for."""

from __future__ import annotations

from tracelet.compat.wandb import artifacts, data_types
from tracelet.compat.wandb import config_object as wandb_config
from tracelet.compat.wandb import run_object as wandb_run
from tracelet.compat.wandb import sdk_lib as lib
from tracelet.compat.wandb import settings as wandb_settings
from tracelet.compat.wandb import summary_object as wandb_summary
from tracelet.compat.wandb.artifacts import Artifact
from tracelet.compat.wandb.config_object import Config
from tracelet.compat.wandb.run_object import Run
from tracelet.compat.wandb.settings import Settings

__all__ = [
    "Artifact",
    "Config",
    "Run",
    "Settings",
    "artifacts",
    "data_types",
    "lib",
    "wandb_config",
    "wandb_run",
    "wandb_settings",
    "wandb_summary",
]
