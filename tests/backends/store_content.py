"""Define the result of the tests' readers of stores."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tracelet.testing import Stored
from tracelet.testing.contract import Point


@dataclass(kw_only=True)
class StoreContent(Stored):
    """Hold the content of a store. Every field is readable, unlike in `Stored`."""

    scalars: list[Point] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    texts: list[tuple[str, int, str]] = field(default_factory=list)
    images: dict[tuple[str, int], bytes] = field(default_factory=dict)
    histograms: list[tuple[str, int, tuple[float, ...], tuple[float, ...]]] = field(default_factory=list)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    alerts: list[tuple[str, str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
