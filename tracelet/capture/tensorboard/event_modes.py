"""Define the modes of the `events` option; the base class is `"sync"`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeAlias

from tracelet.capture.patches import Patches
from tracelet.capture.tensorboard.directories import WriterDirectories
from tracelet.capture.tensorboard.unmodified import Unmodified
from tracelet.guard import Guard
from tracelet.records import Record

Method: TypeAlias = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class ModeContext:
    """The interceptor's objects that a mode uses."""

    submit: Callable[[Record], None]
    directories: WriterDirectories
    guard: Guard
    running_calls: Mapping[int, Any]
    unmodified: Unmodified
    queue_bytes: int


class Mode:
    """`events="sync"`: make the library's calls at once, and let them write their files."""

    def __init__(self, context: ModeContext) -> None:
        """Keep no reference to `submit` after `end`."""

    def start(self) -> None:
        """Start; called before the first patch."""

    def patch(self, module: ModuleType, patches: Patches) -> None:
        """Apply this mode's own patches to a writer module."""

    def wrap(self, module: ModuleType, original: Method, tee: Method) -> Method:
        """Return the replacement of `original`; `tee` makes the library's call and records it."""
        return tee

    def drain(self, deadline: float) -> bool:
        """Wait until earlier calls are written and their records submitted; False if `deadline` passes first."""
        return True

    def end(self) -> None:
        """Stop; from now on each wrapper only calls the original."""
