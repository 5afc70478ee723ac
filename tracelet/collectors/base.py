"""Define the result of a collector and its time limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

TimeLeft: TypeAlias = Callable[[], float]
"""Returns the seconds left for a collector; the value may drop at any moment, when the run ends."""

Measure: TypeAlias = Callable[[], Mapping[str, float]]
"""Reads a few metrics at one moment, by name."""


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one collector: facts about the run by subject, and whole files by name."""

    facts: dict[str, dict[str, Any]] = {}
    files: dict[str, bytes] = {}
    secrets: list[str] = []
    """Credentials found while reading; they must be hidden everywhere."""
