"""Wrap attributes of classes and modules, and restore them, even if another tool wrapped them in between."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any


class Patches:
    """The applied patches and their originals."""

    def __init__(self) -> None:
        self._wrapped: list[tuple[type | ModuleType, str, Any, Any]] = []

    def wrap(self, owner: type | ModuleType, name: str, tee: Callable[[Any], Any]) -> None:
        """Replace `owner.name` by `tee(owner.name)`, once per attribute and only if `owner` itself defines it."""
        original = vars(owner).get(name)
        if original is None or any(wrapper is original for _, _, _, wrapper in self._wrapped):
            return
        wrapper = tee(original)
        setattr(owner, name, wrapper)
        self._wrapped.append((owner, name, original, wrapper))

    def undo(self) -> None:
        """Restore the originals. If another tool wrapped an attribute later, its wrapper stays and still calls ours."""
        while self._wrapped:
            owner, name, original, wrapper = self._wrapped.pop()
            if vars(owner).get(name) is wrapper:
                setattr(owner, name, original)
