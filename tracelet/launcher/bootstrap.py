"""In the program's own interpreter: a run begins when the first line of the main module is about to run.

Until then nothing is imported here that a file beside the program may shadow, and no thread is started: the interpreter
is still importing `site`. A profile function tells the moment; it sees a few calls, and is gone before the first line.
"""

from __future__ import annotations

import os
import sys

from tracelet.launcher import PLAN, PYTHONPATH_BEFORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any


def arrange() -> None:
    """Put the environment back as the program is to see it, and wait for its first line."""
    plan = os.environ.pop(PLAN, None)
    before = os.environ.pop(PYTHONPATH_BEFORE, None)
    if plan is None:
        return
    if before is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = before
    first_line = FirstLine(lambda: begin(plan))
    if sys.argv[0] == "-m":
        first_line.await_module(_module(sys.orig_argv[len(sys.orig_argv) - len(sys.argv)]))
    else:
        first_line.watch()


def _module(word: str) -> str:
    """The name in python's own words: `pkg.train`, or `-umpkg.train` in one."""
    return word.partition("m")[2] if word.startswith("-") else word


class FirstLine:
    """Calls `begin` in the frame of the main module, before its first line."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin
        self._module = ""
        self._profile: Any = None

    def await_module(self, name: str) -> None:
        """Watch only once `name` is looked for: the packages around it may import for seconds."""
        self._module = name
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """The import system asks; the other finders answer."""
        if name in (self._module, f"{self._module}.__main__"):
            self.watch()

    def watch(self) -> None:
        if sys.getprofile() != self._saw:
            self._profile = sys.getprofile()
            sys.setprofile(self._saw)

    def _saw(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call" or frame.f_code.co_name != "<module>":
            return
        main = sys.modules.get("__main__")
        if main is not None and frame.f_globals is main.__dict__:
            sys.setprofile(self._profile)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            self._begin()
        elif "__path__" in frame.f_globals and frame.f_globals.get("__name__") == self._module:
            sys.setprofile(self._profile)  # a package: its `__main__` is looked for next


def begin(plan: str) -> None:
    """Begin the run; what the user can put right is one line on stderr and exit code 2, before the program's first."""
    import ast
    import logging

    from tracelet.api import get_active_experiment, start_logging
    from tracelet.errors import TraceletError

    if get_active_experiment() is not None:  # the package around the module began its own
        return
    told = ast.literal_eval(plan)
    verbose = told["verbose"]
    if verbose is None:
        verbose = sys.stderr is not None and sys.stderr.isatty()
    if not verbose:
        logging.getLogger("tracelet").setLevel(logging.WARNING)
    try:
        start_logging(**told["arguments"])
    except TraceletError as error:
        if sys.stderr is not None:
            sys.stderr.write(f"tracelet run: {' '.join(str(error).split())}\n")
        raise SystemExit(2) from None
