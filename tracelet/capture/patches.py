"""Wrap attributes of classes and modules, and restore them, even if another tool wrapped them in between."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

_INHERITED = object()


class Patches:
    """The applied patches and their originals."""

    def __init__(self) -> None:
        self._wrapped: list[tuple[type | ModuleType, str, Any, Any]] = []

    def wrap(self, owner: type | ModuleType, name: str, tee: Callable[[Any], Any], *, inherited: bool = False) -> bool:
        """Replace `owner.name` by `tee(owner.name)`, once per attribute and only if `owner` itself defines it.

        With `inherited`, also if a base class defines it. Return False if there is no such attribute.
        """
        original = vars(owner).get(name, _INHERITED)
        value = getattr(owner, name, None) if inherited and original is _INHERITED else original
        if value is None or value is _INHERITED:
            return False
        if not any(wrapper is value for _, _, _, wrapper in self._wrapped):
            wrapper = tee(value)
            setattr(owner, name, wrapper)
            self._wrapped.append((owner, name, original, wrapper))
        return True

    def undo(self) -> None:
        """Restore the originals. If another tool wrapped an attribute later, its wrapper stays and still calls ours."""
        while self._wrapped:
            owner, name, original, wrapper = self._wrapped.pop()
            if vars(owner).get(name) is not wrapper:
                continue
            if original is _INHERITED:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
