"""What a collector gives, and how it is told to hurry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

Left: TypeAlias = Callable[[], float]
"""Seconds that a collector may still take; it may drop at any moment, when the run ends."""

Measure: TypeAlias = Callable[[], Mapping[str, float]]
"""Reads a few figures, by their names, at one moment."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What one collector read: facts about the run by their subject, and whole files by their names."""

    facts: dict[str, dict[str, Any]] = {}
    files: dict[str, bytes] = {}
    secrets: list[str] = []
    """Credentials that were met on the way, and must not be seen anywhere."""
