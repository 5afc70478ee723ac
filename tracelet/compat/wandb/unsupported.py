"""Answer methods that need a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from tracelet.compat.wandb.errors import UnsupportedError


def unsupported(owner: str, name: str, alternatives: Mapping[str, str]) -> Callable[..., NoReturn]:
    """Return a method that raises UnsupportedError with the alternative.

    Raises:
        AttributeError: there is no such method.
    """
    if name not in alternatives:
        raise AttributeError(f"{owner} has no attribute {name!r}")

    def raise_unsupported(*args: Any, **kwargs: Any) -> NoReturn:
        raise UnsupportedError(f"{owner}.{name}: {alternatives[name]}")

    return raise_unsupported
