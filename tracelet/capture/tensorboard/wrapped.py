"""Whether a method that somebody changed after us still leads to us."""

from __future__ import annotations

import functools
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

_MOST_STEPS = 200


class PatchCheck:
    """Watches `add_event` of a writer module's FileWriter class, which we wrapped.

    Who wraps ours passes on to it. Who puts back what stood there before us drops it without a word: MLflow's autolog
    does, each time it is switched on, off or set anew.
    """

    def __init__(self, module: ModuleType) -> None:
        self.module, self.writer, self.file_writer = module, module.SummaryWriter, module.FileWriter
        self._event_class = module.Event
        self.known = self._ours = self.file_writer.add_event

    def mended(self) -> None:
        self.known = self._ours = self.file_writer.add_event

    def is_lost(self) -> bool:
        """Asked where `file_writer.add_event` is not `known`."""
        self.known = self.file_writer.add_event
        return not _holds(self.known, self._ours) and not self._leads_to_us()

    def _leads_to_us(self) -> bool:
        """Tried out with an event that says nothing, to no file."""
        nowhere = _Nowhere()
        probe = self.file_writer.__new__(self.file_writer)
        probe.event_writer, probe._default_metadata = nowhere, {}  # the latter is tensorboardX's
        probe.add_event(self._event_class())
        return nowhere.asked


class _Nowhere:
    """An event writer that writes nothing; only we ask it where it writes."""

    def __init__(self) -> None:
        self.asked = False

    def add_event(self, event: Any) -> None:
        """Dropped."""

    def get_logdir(self) -> str:
        self.asked = True
        return ""


def _holds(outer: Any, inner: Any) -> bool:
    """Whether a wrapper visibly has `inner` inside: nobody needs to be called to know that."""
    todo, seen = [outer], 0
    while todo and seen < _MOST_STEPS:
        one, seen = todo.pop(), seen + 1
        match one:
            case _ if one is inner:
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
