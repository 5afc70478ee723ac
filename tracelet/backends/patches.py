"""Replace attributes of a vendor's modules, classes and objects for a while."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

_MISSING = object()


@contextlib.contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute within a `with` block. Afterwards restore it, unless other code has replaced it since."""
    before = vars(owner).get(name, _MISSING)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if vars(owner).get(name) is value:
            if before is _MISSING:  # it was that of a base class, or of an object's class
                delattr(owner, name)
            else:
                setattr(owner, name, before)


@contextlib.contextmanager
def wrapped(owner: Any, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    """Make calls of `owner.name(...)` call `replacement(original, ...)` within a `with` block.

    `owner` is a module, an object, or a class with a class method or a function. Code that kept the wrapper calls the
    original afterwards.
    """
    original, is_active = getattr(owner, name), True
    is_method = isinstance(vars(owner).get(name), classmethod)

    @functools.wraps(original)
    def wrapper(*args: Any, **options: Any) -> Any:
        return replacement(original, *args, **options) if is_active else original(*args, **options)

    def call(_cls: Any, *args: Any, **options: Any) -> Any:
        return wrapper(*args, **options)

    # With the class as its first parameter, as `inspect.signature` expects.
    with patched(owner, name, classmethod(functools.wraps(original.__func__)(call)) if is_method else wrapper):
        try:
            yield
        finally:
            is_active = False
