"""Stand for another object, with some attributes of one's own."""

from __future__ import annotations

from typing import Any


class Proxy:
    """Pass the attributes that the class lacks to `original`. A copy is a copy of `original`, or fails as that does."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __getattr__(self, name: str) -> Any:
        if name == "_original":  # an object whose `__init__` did not run
            raise AttributeError(name)
        return getattr(self._original, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._original.__reduce_ex__(protocol)
