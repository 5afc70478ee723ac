"""Who else changed the writers, in this process. Looks at what is imported; imports, calls and changes nothing."""

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
_MOST_STEPS = 200


class OtherPatch(msgspec.Struct, frozen=True, order=True):
    """`where`: the class or method that was changed; `by`: the module of the code that stands there now."""

    where: str
    by: str


def other_patches() -> list[OtherPatch]:
    """Whose code stands in the writers of torch, tensorboardX and TensorBoard, besides their own and ours.

    A tool that listens there itself may send every record a second time to where a run of ours sends it.
    """
    found: set[OtherPatch] = set()
    for name in _MODULES:
        for attribute in _CLASSES:
            cls = getattr(sys.modules.get(name), attribute, None)
            if isinstance(cls, type):
                found.update(_of_class(f"{name}.{attribute}", cls))
    return sorted(found)


def _of_class(where: str, cls: type) -> Iterator[OtherPatch]:
    if _is_foreign(cls.__module__):  # another class in its place
        yield OtherPatch(where, cls.__module__)
        return
    for name, value in vars(cls).items():
        for module in _makers(value):
            if _is_foreign(module):
                yield OtherPatch(f"{where}.{name}", module)


def _makers(value: Any) -> Iterator[str]:
    """The modules of a method's code, and of all that is visibly wrapped in it."""
    todo, seen = [value], 0
    while todo and seen < _MOST_STEPS:
        one, seen = todo.pop(), seen + 1
        match one:
            case FunctionType(__closure__=cells):
                yield str(one.__globals__.get("__name__", "?"))
                todo += [content for cell in cells or () for content in _contents(cell)]
                todo += [vars(one)["__wrapped__"]] if "__wrapped__" in vars(one) else []
            case MethodType(__func__=function):
                todo.append(function)
            case functools.partial(func=function, args=args, keywords=keywords):
                todo += [function, *args, *keywords.values()]
            case staticmethod() | classmethod():
                todo.append(one.__func__)
            case _ if type(one).__module__.partition(".")[0] == "wrapt":  # its makers keep what they wrap in two fields
                todo += [one.__wrapped__, one._self_wrapper]
            case _ if callable(one) and not isinstance(one, type):
                yield type(one).__module__


def _contents(cell: CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # not filled yet
        return []


def _is_foreign(module: str) -> bool:
    top = module.partition(".")[0]
    return top not in _OWN and (top == "__main__" or top not in sys.stdlib_module_names)
