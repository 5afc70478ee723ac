"""Run the program's exit callbacks before the end of a run, and those of vendors and the standard library after it.

`atexit` calls the callback that was registered last first, and has no list of them.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from tracelet.backends import vendor_packages
from tracelet.guard import attempted

# Standard modules whose callbacks take away what a run needs: loggers, temporary folders, child processes.
_LAST = frozenset(("logging", "tempfile", "weakref", "multiprocessing.util"))
_WRITERS = ("torch.utils.tensorboard.", "tensorboardX.")
_INSTALLED = ("site-packages", "dist-packages")
_LIBRARIES = ("torch", "tensorboardX")
_LOGGERS = {"tracelet", "SummaryWriter"}


class _Callback(NamedTuple):
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = MappingProxyType({})
    is_vendors: bool = False
    """It was registered on a thread of tracelet."""


class _Visitor:
    """Compare with each callback in `atexit.unregister`, and equal those at the positions to remove."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, remove: Collection[int] = ()) -> None:
        self.functions: list[Any] = []
        self._remove = remove

    def __eq__(self, function: object) -> bool:
        self.functions.append(function)
        return len(self.functions) - 1 in self._remove


class _Register:
    """Stands for `atexit.register` while somebody watches. Runs that overlap share it, so that none wraps another's."""

    _original: ClassVar[Any] = None
    _wrapper: ClassVar[Any] = None

    @classmethod
    def install(cls) -> None:
        original: Any = atexit.register

        @functools.wraps(original)
        def register(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            if _watching:
                is_vendors = threading.current_thread().name.startswith("tracelet-")
                callback = _Callback(func, args, kwargs, is_vendors)
                for watcher in list(_watching):
                    watcher._recorded.append(callback)
            return original(func, *args, **kwargs)

        cls._original, cls._wrapper = original, register
        atexit.register = register

    @classmethod
    def uninstall(cls) -> None:
        if atexit.register is cls._wrapper:
            atexit.register = cls._original


_watching: list[ExitCallbacks] = []


class ExitCallbacks:
    """From `watch` to `unwatch`, record the callbacks that are registered, with their threads."""

    def __init__(self) -> None:
        self._recorded: list[_Callback] = []

    def watch(self) -> None:
        if not _watching:
            _Register.install()
        _watching.append(self)

    def unwatch(self) -> None:
        self._recorded.clear()
        if self in _watching:
            _watching.remove(self)
            if not _watching:
                _Register.uninstall()

    def of_program(self, ours: Callable[[], None]) -> bool:
        """Return True if the program has exit callbacks that run after `ours`, and `run_before` can run them."""
        functions = attempted(_registered, list)
        return ours in functions and any(
            self._delayed(function) is None and _is_of_program(function)
            for function in functions[: functions.index(ours)]
        )

    @contextlib.contextmanager
    def run_before(self, ours: Callable[[], None]) -> Iterator[None]:
        """Run all callbacks before the block, but those of vendors after it. Call from the exit callback `ours`."""
        functions = _registered()
        first = functions.index(ours)
        removed = set(range(first, len(functions)))  # they have run
        delayed = []
        for position, function in enumerate(functions[:first]):
            if (callback := self._delayed(function)) is not None:
                removed.add(position)
                delayed.append(callback)
        atexit.unregister(_Visitor(removed))  # type: ignore[arg-type]
        original = atexit.unregister

        def unregister(func: Callable[..., Any], /) -> None:
            original(func)
            delayed[:] = [callback for callback in delayed if callback.function != func]

        atexit.unregister = unregister
        try:
            atexit._run_exitfuncs()
            yield
        finally:
            atexit.unregister = original
            # atexit has no callback left, so that it calls these next.
            for callback in delayed:
                atexit.register(callback.function, *callback.args, **callback.kwargs)

    def _delayed(self, function: Any) -> _Callback | None:
        """Return the callback to run after the end of the run; None if `function` is not one."""
        module = _module(function)
        is_last = module in _LAST or module.partition(".")[0] in vendor_packages()
        for callback in self._recorded:
            if callback.function is function:
                return callback if is_last or callback.is_vendors else None
        # The arguments of a callback from before the run are unknown: vendors' own have none.
        return _Callback(function) if is_last and _takes_nothing(function) else None


def _registered() -> list[Any]:
    """Return the functions in atexit, the earliest first; none if atexit also calls removed ones (Python 3.14)."""
    visitor = _Visitor()
    atexit.register(_marker)
    atexit.unregister(visitor)  # type: ignore[arg-type]
    atexit.unregister(_marker)
    # That version compares the latest first, and calls a copy of its list.
    return [] if visitor.functions[0] is _marker else visitor.functions[:-1]


def _marker() -> None:
    pass


def _is_of_program(function: Any) -> bool:
    """Return True if a callback may log: its package is not installed, or has imported tracelet or a SummaryWriter."""
    module = _module(function)
    root = module.partition(".")[0]
    if root in ("__main__", "tracelet", "contextlib") or module.startswith(_WRITERS):
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or root in sys.stdlib_module_names:
        return False
    return _may_log(root) if any(name in file for name in _INSTALLED) else True


def _may_log(root: str) -> bool:
    """Return True if a module of an installed package has imported tracelet or a SummaryWriter."""
    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == root]
    return root not in _LIBRARIES and any(_LOGGERS & getattr(module, "__dict__", {}).keys() for module in modules)


def _module(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(attempted(lambda: getattr(function, "__module__", None), lambda: None) or "")


def _takes_nothing(function: Any) -> bool:
    import inspect  # here: its import is slow

    return attempted(lambda: inspect.signature(function).bind() is not None, lambda: False)
