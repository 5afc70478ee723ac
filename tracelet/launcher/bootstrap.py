"""Start the run in the program's interpreter, just before the first line of the main module.

Until then the interpreter is importing `site`: start no thread, and import no module that a file next to the program
may shadow. A profile function detects the moment. It sees a few calls, and is removed before the first line.
"""

from __future__ import annotations

import os
import sys

from tracelet.launcher import PLAN, PYTHONPATH_BEFORE
from tracelet.replacing import install_inherited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any


_contexts: list[Any] = []
"""Holds the context of the program until its end."""


def arrange() -> None:
    """Restore the program's environment, and start the run at its first line. Replace what `--replace` says."""
    plan = os.environ.pop(PLAN, None)
    before = os.environ.pop(PYTHONPATH_BEFORE, None)
    if plan is None:
        install_inherited()
        return
    if before is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = before
    install_inherited()
    first_line = FirstLine(lambda: begin(plan))
    if sys.argv[0] == "-m":
        first_line.await_module(_module(sys.orig_argv[len(sys.orig_argv) - len(sys.argv)]))
    else:
        first_line.watch()


def _module(argument: str) -> str:
    """Return the module's name from an argument of python: `pkg.train`, or `-umpkg.train`."""
    return argument.partition("m")[2] if argument.startswith("-") else argument


class FirstLine:
    """Call `begin` in the frame of the main module, before its first line."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin
        self._module = ""
        self._profile: Any = None

    def await_module(self, name: str) -> None:
        """Start watching when the module `name` is searched for: its parent packages may import for seconds."""
        self._module = name
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Start watching at the search for the module. Return None, so that the other finders resolve it."""
        if name in (self._module, f"{self._module}.__main__"):
            self.watch()

    def watch(self) -> None:
        if sys.getprofile() != self._on_profile_event:
            self._profile = sys.getprofile()
            sys.setprofile(self._on_profile_event)

    def _on_profile_event(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call" or frame.f_code.co_name != "<module>":
            return
        main = sys.modules.get("__main__")
        if main is not None and frame.f_globals is main.__dict__:
            sys.setprofile(self._profile)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            self._begin()
        elif "__path__" in frame.f_globals and frame.f_globals.get("__name__") == self._module:
            sys.setprofile(self._profile)  # a package: the search for its `__main__` follows


def begin(plan: str) -> None:
    """Start the run. Print a `TraceletError` as one line on stderr, and exit with code 2 before the program starts."""
    import ast
    import logging

    from tracelet.api import get_active_experiment, start_logging
    from tracelet.errors import TraceletError
    from tracelet.settings import context

    if get_active_experiment() is not None:  # a parent package of the module started its own run
        return
    options = ast.literal_eval(plan)
    arguments = options["arguments"]
    verbose = options["verbose"]
    if verbose is None:
        verbose = sys.stderr is not None and sys.stderr.isatty()
    if not verbose:
        logging.getLogger("tracelet").setLevel(logging.WARNING)
    try:
        if options["replace"]:  # the program starts its runs itself
            opened = context(**arguments)
            opened.__enter__()
            _contexts.append(opened)
            return
        start_logging(**arguments)
    except TraceletError as error:
        if sys.stderr is not None:
            sys.stderr.write(f"tracelet run: {' '.join(str(error).split())}\n")
        raise SystemExit(2) from None
