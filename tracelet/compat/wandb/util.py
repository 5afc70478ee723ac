"""Helpers of `wandb.util` that programs and frameworks use."""

from __future__ import annotations

import importlib
import json
import re
from types import ModuleType
from typing import Any

from tracelet.capture.values import to_plain
from tracelet.compat.wandb.errors import Error
from tracelet.runs.folders import random_letters


def generate_id(length: int = 8) -> str:
    """Return random lower-case letters and digits."""
    return random_letters(length)


def make_artifact_name_safe(name: str) -> str:
    """Return a name with only letters, digits, `-`, `_` and `.`, of 128 characters at most."""
    clean = re.sub(r"[^a-zA-Z0-9_\-.]", "_", name)
    return clean if len(clean) <= 128 else f"{clean[:63]}..{clean[-63:]}"


def to_json(obj: Any) -> str:
    """Return a value as JSON."""
    return json.dumps(to_plain(obj))


def json_friendly(obj: Any) -> tuple[Any, bool]:
    """Return a value in JSON's types, and True if it was converted."""
    plain = to_plain(obj)
    return plain, plain is not obj


def get_module(name: str, required: str | None = None, lazy: bool = True) -> ModuleType | None:
    """Import a module. If it is missing, return None, or raise the message `required`."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if required:
            raise Error(required) from None
        return None
