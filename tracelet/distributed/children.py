"""Recognise processes that a program starts itself. They are no ranks, although they inherit a rank's variables."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_RANK_VARIABLE, _RUN_VARIABLE = "TRACELET_RANK_PROCESS", "TRACELET_PARENT_RUN"


def mark_rank() -> None:
    """Note in the environment that this process, and none of its children, has the rank of its variables."""
    os.environ[_RANK_VARIABLE] = str(os.getpid())


def is_child_of_rank() -> bool:
    """Return True in a process that a marked rank has started or forked."""
    return os.environ.get(_RANK_VARIABLE, str(os.getpid())) != str(os.getpid())


def offer_run(folder: Path) -> None:
    """Let the children of this process join the run in `folder`."""
    os.environ[_RUN_VARIABLE] = f"{os.getpid()}:{folder}"


def withdraw_run() -> None:
    """Let no child of this process join its run any more."""
    if offered_run() is None:
        os.environ.pop(_RUN_VARIABLE, None)


def offered_run() -> Path | None:
    """Return the folder of the run that an ancestor of this process offers, or None."""
    pid, _, folder = os.environ.get(_RUN_VARIABLE, "").partition(":")
    return Path(folder) if pid != str(os.getpid()) and os.path.isdir(folder) else None


def is_worker() -> bool:
    """Return True in a process that multiprocessing started."""
    if "__mp_main__" in sys.modules:  # the main module's name in a spawned one
        return True
    # Always imported in a forked one. In another process, a thread may be importing it now.
    parent_process = getattr(sys.modules.get("multiprocessing.process"), "parent_process", None)
    return parent_process is not None and parent_process() is not None


def imports_main_again() -> bool:
    """Return True while a process that multiprocessing or joblib spawned imports the program's main module.

    Code above `if __name__ == "__main__"` runs there too. multiprocessing marks the time in `_inheriting`.
    """
    # Always imported in such a process. In another one, a thread may be importing it now.
    current_process = getattr(sys.modules.get("multiprocessing.process"), "current_process", None)
    return current_process is not None and bool(getattr(current_process(), "_inheriting", False))
