"""Describe a replaced package to `importlib.metadata`. It is imported only for that: its import is slow."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any


class _Replaced(importlib.metadata.Distribution):
    def __init__(self, name: str, version: str) -> None:
        self._files = {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            "top_level.txt": f"{name}\n",
        }

    def read_text(self, filename: str) -> str | None:
        return self._files.get(filename)

    def locate_file(self, path: Any) -> Any:
        return Path(path)


def distribution(name: str, version: str) -> importlib.metadata.Distribution:
    return _Replaced(name, version)
