"""What `events` changes about the wrapping; this is `"sync"`, which changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeAlias

from tracelet.capture.series import SeriesNames
from tracelet.capture.tensorboard.patches import Patches
from tracelet.capture.tensorboard.unmodified import Unmodified
from tracelet.guard import Guard
from tracelet.records import Record

Method: TypeAlias = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class ModeContext:
    """What a mode needs of the interceptor."""

    submit: Callable[[Record], None]
    series: SeriesNames
    guard: Guard
    claims: Mapping[int, Any]
    untouched: Unmodified
    queue_bytes: int


class Mode:
    """`events="sync"`: the host's calls are made where the program makes them, and written to their files."""

    def __init__(self, around: ModeContext) -> None:
        """Of `submit` nothing may be kept after the end."""

    def start(self) -> None:
        """Before the first patch."""

    def patch(self, module: ModuleType, patches: Patches) -> None:
        """Wrap what only this mode wraps in a writer module."""

    def wrap(self, module: ModuleType, original: Method, tee: Method) -> Method:
        """What shall stand in `original`'s place; `tee` makes the host's call and records it."""
        return tee

    def drain(self, deadline: float) -> bool:
        """Whether the calls made before are in their event files, and their records submitted, before `deadline`."""
        return True

    def end(self) -> None:
        """From now on every wrapper passes on."""
