"""Stop a forked child from sending its copy of the task's unsent events."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

from tracelet.forks import SigtermBlock

# Measured without this module: 1000 events became 1637, because the child sent its copy too.
_open_tasks: weakref.WeakSet[Any] = weakref.WeakSet()
_is_fork_hook_registered = False
_sigterm_block = SigtermBlock()


def patch_fork(task: Any) -> None:
    """Clear the queue of unsent events in forked children, until `unpatch_fork(task)`.

    A child that does not use the task exits as if there were none. A child that does use it can report as usual.
    """
    global _is_fork_hook_registered
    _open_tasks.add(task)
    if not _is_fork_hook_registered and hasattr(os, "register_at_fork"):  # after the hook of ClearML's first task
        os.register_at_fork(
            before=_before_fork, after_in_parent=_sigterm_block.restore, after_in_child=_release_in_child
        )
        _is_fork_hook_registered = True


def unpatch_fork(task: Any) -> None:
    """Undo `patch_fork(task)`."""
    _open_tasks.discard(task)


def _before_fork() -> None:
    if _open_tasks:
        _sigterm_block.block()


def _clear_queue() -> None:
    for task in list(_open_tasks):
        service = getattr(task._reporter, "_report_service", None)
        if service is not None:
            service._queue = type(service._queue)()
            service._queue_size = 0
            service._processing_events = []


def _release_in_child() -> None:
    """Remove ClearML's handlers in the child, where a Pool's worker could wait for ever after SIGTERM.

    Run ClearML's own `os._exit`, which takes 0.1 s, only if the child reported something.
    """
    for task in list(_open_tasks):
        task._remove_signal_hooks()
        task._remove_exception_hooks()
        service = getattr(task._reporter, "_report_service", None)
        original = getattr(os, "_org_exit", None)
        if service is not None and original is not None:
            os._exit = _exit_function(service, original, os._exit)
    _sigterm_block.restore()


def _exit_function(service: Any, original: Callable[[int], Any], flush_and_exit: Callable[[int], Any]) -> Any:
    def exit(status: int) -> Any:
        has_events = service._queue_size or service._processing_events or not service._queue.empty()
        return (flush_and_exit if has_events else original)(status)

    return exit


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_clear_queue)
