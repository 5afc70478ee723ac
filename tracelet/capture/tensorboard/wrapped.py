"""Check that a method replaced after we wrapped it still calls our wrapper."""

from __future__ import annotations

import functools
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

_MAX_STEPS = 200


class PatchCheck:
    """Check our wrapper on `add_event` of a writer module's FileWriter class.

    A tool that wraps ours still calls it. A tool that restores an older method silently drops ours: MLflow's autolog
    does so each time it is enabled, disabled or configured.
    """

    def __init__(self, module: ModuleType) -> None:
        self.module, self.writer, self.file_writer = module, module.SummaryWriter, module.FileWriter
        self._event_class = module.Event
        self.current = self._ours = self.file_writer.add_event

    def reset(self) -> None:
        self.current = self._ours = self.file_writer.add_event

    def is_lost(self) -> bool:
        """Check if our wrapper was dropped; call this if `file_writer.add_event` is not `current`."""
        self.current = self.file_writer.add_event
        return not _contains(self.current, self._ours) and not self._calls_ours()

    def _calls_ours(self) -> bool:
        """Send an empty event to no file, and check if our wrapper receives it."""
        null_writer = _NullEventWriter()
        probe = self.file_writer.__new__(self.file_writer)
        probe.event_writer, probe._default_metadata = null_writer, {}  # the latter is tensorboardX's
        probe.add_event(self._event_class())
        return null_writer.was_called


class _NullEventWriter:
    """An event writer without output; only our wrapper calls `get_logdir`."""

    def __init__(self) -> None:
        self.was_called = False

    def add_event(self, event: Any) -> None:
        """Drop the event."""

    def get_logdir(self) -> str:
        self.was_called = True
        return ""


def _contains(outer: Any, inner: Any) -> bool:
    """Check if a wrapper visibly contains `inner`, without calling anything."""
    todo, seen = [outer], 0
    while todo and seen < _MAX_STEPS:
        item, seen = todo.pop(), seen + 1
        match item:
            case _ if item is inner:
                return True
            case FunctionType(__closure__=cells):
                todo += [content for cell in cells or () for content in _contents(cell)]
            case MethodType(__func__=function):
                todo.append(function)
            case functools.partial(func=function, args=args, keywords=keywords):
                todo += [function, *args, *keywords.values()]
    return False


def _contents(cell: CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # not filled yet
        return []
