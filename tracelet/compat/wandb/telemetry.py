"""`wandb.sdk.lib.telemetry`, which tells wandb nothing here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any


class _Anything(SimpleNamespace):
    """An object that takes any attribute, and has any."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything()


@contextlib.contextmanager
def context(run: Any = None, obj: Any = None) -> Iterator[Any]:
    """Yield an object for the features that a framework uses."""
    yield _Anything()
