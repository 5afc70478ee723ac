"""Find patches of the writers by other tools in this process, without importing, calling or changing anything."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from types import CellType, FunctionType, MethodType
from typing import Any

import msgspec

_MODULES = (
    "torch.utils.tensorboard.writer",
    "tensorboardX.writer",
    "tensorboardX.event_file_writer",
    "tensorboardX.record_writer",
    "tensorboard.summary.writer.event_file_writer",
    "tensorboard.summary.writer.record_writer",
)
_CLASSES = ("SummaryWriter", "FileWriter", "DummyFileWriter", "EventFileWriter", "RecordWriter")
_OWN = {"torch", "tensorboard", "tensorboardX", "tensorflow", "tracelet"}
_MAX_STEPS = 200


class OtherPatch(msgspec.Struct, frozen=True, order=True):
    """A patch by another tool. `where`: the patched class or method; `by`: the module of its current code."""

    where: str
    by: str


def other_patches() -> list[OtherPatch]:
    """Return the patches by other tools in the writers of torch, tensorboardX and TensorBoard.

    Such a tool may send each record a second time to the backend of a run.
    """
    patches: set[OtherPatch] = set()
    for name in _MODULES:
        for attribute in _CLASSES:
            cls = getattr(sys.modules.get(name), attribute, None)
            if isinstance(cls, type):
                patches.update(_patches_of_class(f"{name}.{attribute}", cls))
    return sorted(patches)


def _patches_of_class(where: str, cls: type) -> Iterator[OtherPatch]:
    if _is_foreign(cls.__module__):  # the class itself was replaced
        yield OtherPatch(where, cls.__module__)
        return
    for name, value in vars(cls).items():
        for module in _code_modules(value):
            if _is_foreign(module):
                yield OtherPatch(f"{where}.{name}", module)


def _code_modules(value: Any) -> Iterator[str]:
    """Yield the modules of a method's code and of all functions that it visibly wraps."""
    todo, seen = [value], 0
    while todo and seen < _MAX_STEPS:
        item, seen = todo.pop(), seen + 1
        match item:
            case FunctionType(__closure__=cells):
                yield str(item.__globals__.get("__name__", "?"))
                todo += [content for cell in cells or () for content in _contents(cell)]
                todo += [vars(item)["__wrapped__"]] if "__wrapped__" in vars(item) else []
            case MethodType(__func__=function):
                todo.append(function)
            case functools.partial(func=function, args=args, keywords=keywords):
                todo += [function, *args, *keywords.values()]
            case staticmethod() | classmethod():
                todo.append(item.__func__)
            case _ if type(item).__module__.partition(".")[0] == "wrapt":  # stores the wrapped function in two fields
                todo += [item.__wrapped__, item._self_wrapper]
            case _ if callable(item) and not isinstance(item, type):
                yield type(item).__module__


def _contents(cell: CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # not filled yet
        return []


def _is_foreign(module: str) -> bool:
    top = module.partition(".")[0]
    return top not in _OWN and (top == "__main__" or top not in sys.stdlib_module_names)
