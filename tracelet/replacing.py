"""Let `import NAME` find `tracelet.compat.NAME` instead, in this process and in the interpreters that it starts.

The facade is imported when the program imports it. A child interpreter learns of it by the variable `TRACELET_REPLACE`,
and runs `launcher/site/sitecustomize.py` at its start, which is first in its PYTHONPATH.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

VARIABLE = "TRACELET_REPLACE"
SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launcher", "site")

_finders: dict[str, Finder] = {}


def install(name: str) -> None:
    """Replace a package. A second call does nothing.

    Raises:
        ModuleNotFoundError: tracelet has no such facade.
    """
    if name in _finders:
        return
    if importlib.util.find_spec(f"tracelet.compat.{name}") is None:
        raise ModuleNotFoundError(f"tracelet has no module in place of {name!r}", name=name)
    finder = Finder(name)
    _finders[name] = finder
    sys.meta_path.insert(0, finder)
    os.environ[VARIABLE] = ",".join(_finders)
    path = os.environ.get("PYTHONPATH")
    if SITE not in (path or "").split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join([SITE, path] if path else [SITE])


def uninstall(name: str) -> None:
    """Let the package be found as before. Modules of it that were imported before `install` return."""
    finder = _finders.pop(name, None)
    if finder is None:
        return
    sys.meta_path.remove(finder)
    finder.restore()
    os.environ[VARIABLE] = ",".join(_finders)
    if not _finders:
        del os.environ[VARIABLE]
        rest = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part != SITE]
        os.environ["PYTHONPATH"] = os.pathsep.join(rest)
        if not any(rest):
            del os.environ["PYTHONPATH"]


def install_inherited() -> None:
    """Replace what the parent process replaced."""
    for name in os.environ.get(VARIABLE, "").split(","):
        if name:
            install(name)


def find_installed(name: str) -> ModuleSpec | None:
    """Return the spec of an installed package, also if it is replaced here."""
    finder = _finders.get(name)
    if finder is None:
        return importlib.util.find_spec(name)
    others = (other for other in sys.meta_path if other is not finder and hasattr(other, "find_spec"))
    return next((spec for other in others if (spec := other.find_spec(name, None)) is not None), None)


def is_replaced(name: str) -> bool:
    return name in _finders


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for a process in which nothing is replaced."""
    clean = {key: value for key, value in environment.items() if key != VARIABLE}
    if VARIABLE in environment and "PYTHONPATH" in clean:
        rest = [part for part in clean["PYTHONPATH"].split(os.pathsep) if part != SITE]
        clean["PYTHONPATH"] = os.pathsep.join(rest)
    return clean


class Finder:
    """Find the modules of one package, and its version."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._facade = f"tracelet.compat.{name}"
        self._earlier = {one: module for one, module in sys.modules.items() if self._is_of_package(one)}
        for one in self._earlier:
            del sys.modules[one]

    def _is_of_package(self, name: str) -> bool:
        return name == self._name or name.startswith(f"{self._name}.")

    def restore(self) -> None:
        """Put the modules from before into `sys.modules`."""
        for one in [one for one in sys.modules if self._is_of_package(one)]:
            del sys.modules[one]
        sys.modules.update(self._earlier)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self._is_of_package(fullname):
            return None
        aliases = importlib.import_module(f"{self._facade}.aliases")
        part = fullname[len(self._name) + 1 :]
        if part not in aliases.MODULES:
            raise ModuleNotFoundError(
                f"no module {fullname!r}: {self._name} is {self._facade} here, which has no such module", name=fullname
            )
        inner = aliases.MODULES[part]
        loader: Any = _Loader(f"{self._facade}.{inner}" if inner else self._facade)
        spec = ModuleSpec(fullname, loader, is_package=True)
        spec.submodule_search_locations = []
        return spec

    def find_distributions(self, context: Any = None) -> Iterator[Any]:
        """Yield the package for `importlib.metadata`, by which frameworks look for it."""
        if getattr(context, "name", None) in (None, self._name):
            from tracelet.replacing_metadata import distribution

            aliases = importlib.import_module(f"{self._facade}.aliases")
            yield distribution(self._name, aliases.VERSION)


class _Loader:
    """Load a module of the facade under another name. It is the same module object."""

    def __init__(self, target: str) -> None:
        self._target = target

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        target = importlib.import_module(self._target)
        if not hasattr(target, "__path__"):
            target.__path__ = []
        sys.modules[name] = target
