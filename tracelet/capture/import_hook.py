"""Call a function when a module is imported or reloaded, without importing it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from tracelet.proxy import Proxy

if TYPE_CHECKING:  # at run time it would import half the standard library
    from importlib.abc import Loader


class ImportWatcher:
    """Call `after[name](module)` each time module `name` is executed, from `install` to `uninstall`."""

    def __init__(self, after: dict[str, Callable[[ModuleType], None]]) -> None:
        self._after = after

    def install(self) -> None:
        sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._after:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = cast("Loader", _Loader(spec.loader, self._after[fullname]))
                return spec
        return None


class _Loader(Proxy):
    """Wrap the module's own loader; call `after` when it has executed the module."""

    def __init__(self, loader: Any, after: Callable[[ModuleType], None]) -> None:
        super().__init__(loader)
        self._after = after

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._original.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        # Restore first: a module that reads its own loader while it runs must get the real one.
        if module.__spec__ is not None:
            module.__spec__.loader = self._original
        module.__loader__ = self._original
        self._original.exec_module(module)
        self._after(module)
