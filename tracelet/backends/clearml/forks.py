"""What a forked child does with our task, whose unsent events it has a copy of."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

# A forked child has a copy of the events that wait to be sent, and sends them as well: measured, 1000 became 1637.

_forking: weakref.WeakSet[Any] = weakref.WeakSet()
_calmed: list[bool] = []


def keep_out_of_children(task: Any) -> None:
    """What waits to be sent is the parent's affair; a forked child that never speaks to the task ends as if there
    were none. One that does speak is heard, as ClearML does it."""
    _forking.add(task)
    if not _calmed and hasattr(os, "register_at_fork"):  # after ClearML's own, which its first task registers
        os.register_at_fork(after_in_child=_calm)
        _calmed.append(True)


def forget_children(task: Any) -> None:
    _forking.discard(task)


def _forget_queue() -> None:
    for task in list(_forking):
        service = getattr(task._reporter, "_report_service", None)
        if service is not None:
            service._queue = type(service._queue)()
            service._queue_size = 0
            service._processing_events = []


def _calm() -> None:
    """In the child: no handlers of ClearML's (a worker that a Pool ends by SIGTERM could wait for ever), and its
    tenth of a second and its ceremony at `os._exit` only where something was reported."""
    for task in list(_forking):
        task._remove_signal_hooks()
        task._remove_exception_hooks()
        service = getattr(task._reporter, "_report_service", None)
        original = getattr(os, "_org_exit", None)
        if service is not None and original is not None:
            os._exit = _leaving(service, original, os._exit)


def _leaving(service: Any, original: Callable[[int], Any], ceremony: Callable[[int], Any]) -> Any:
    def leave(status: int) -> Any:
        spoke = service._queue_size or service._processing_events or not service._queue.empty()
        return (ceremony if spoke else original)(status)

    return leave


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_queue)
