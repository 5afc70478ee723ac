"""The names of wandb's variables, and functions to set them."""

from __future__ import annotations

import os

API_KEY, BASE_URL, DIR, MODE = "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_DIR", "WANDB_MODE"
DISABLED, ENTITY, NAME, NOTES = "WANDB_DISABLED", "WANDB_ENTITY", "WANDB_NAME", "WANDB_NOTES"
PROJECT, RESUME, RUN_GROUP, RUN_ID = "WANDB_PROJECT", "WANDB_RESUME", "WANDB_RUN_GROUP", "WANDB_RUN_ID"
JOB_TYPE, SILENT, TAGS = "WANDB_JOB_TYPE", "WANDB_SILENT", "WANDB_TAGS"


def get_project(default: str | None = None) -> str | None:
    return os.environ.get(PROJECT, default)


def get_entity(default: str | None = None) -> str | None:
    return os.environ.get(ENTITY, default)


def set_project(value: str) -> None:
    os.environ[PROJECT] = value or "uncategorized"


def set_entity(value: str) -> None:
    os.environ[ENTITY] = value
