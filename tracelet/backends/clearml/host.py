"""Undo or prevent ClearML's changes to the process: hooks, handlers, prints, patches, variables and forks."""

from __future__ import annotations

import argparse
import builtins
import contextlib
import functools
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tracelet import forks
from tracelet.backends.environment import overridden, set_variable
from tracelet.backends.patches import patched, wrapped

MASTER_NAMES = ("CLEARML_PROC_MASTER_ID", "TRAINS_PROC_MASTER_ID")
_OFFLINE_NAMES = ("CLEARML_OFFLINE_MODE", "TRAINS_OFFLINE_MODE")
_YES = ("1", "true", "yes", "y", "t", "on")
_MAX_LINE = 300
# Bytes of the largest offline session that is zipped. Beyond that, only the folder is kept, to save disk space.
ZIP_LIMIT = 256 * 2**20


def imported() -> Any:
    """Import clearml, without its patches of argparse."""
    with patched(argparse.ArgumentParser, "_parse_args_patched", True):
        import clearml
    return clearml


@contextlib.contextmanager
def restored_process() -> Iterator[None]:
    """Restore `sys.exit` and ClearML's variables after a `with` block.

    If other code replaced one of them after ClearML, its replacement stays.
    """
    exit_before = sys.exit
    variables = {name: os.environ.get(name) for name in MASTER_NAMES}
    try:
        yield
    finally:
        owner: Any = getattr(sys.exit, "__self__", None)
        if _is_hook(sys.exit) and not _is_hook(exit_before):
            sys.exit = exit_before
            owner._orig_exit = None  # so that a later task of the program installs its hook again
        for name, value in variables.items():
            if os.environ.get(name, "").startswith(f"{os.getpid()}:"):
                set_variable(name, value)


def own_task_in_each_rank(module: Any) -> contextlib.AbstractContextManager[None]:
    """Let `Task.init` in a process of torchrun create a task, instead of waiting for the local rank 0's to join it."""
    return wrapped(module, "get_torch_local_rank", lambda local_rank: None if (rank := local_rank()) else rank)


def _is_hook(function: Any) -> bool:
    owner = type(getattr(function, "__self__", None))
    return owner.__module__.startswith("clearml.") and owner.__name__ == "ExitHooks"


@contextlib.contextmanager
def kept_hooks() -> Iterator[None]:
    """Keep the current hooks and handlers while ClearML closes a task.

    ClearML would restore those from the start of the task, and discard later ones.
    """
    hook, is_main = sys.excepthook, threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.valid_signals() if is_main else ())}
    try:
        yield
    finally:
        if not _is_hook(hook):
            sys.excepthook = hook
        for number, handler in handlers.items():
            if handler is not None and handler != signal.getsignal(number) and not _is_hook(handler):
                signal.signal(number, handler)


@contextlib.contextmanager
def one_edit_lock() -> Iterator[None]:
    """Let the threads of a new task share its lock: each could create one for the same file, and wait for ever."""
    from clearml.backend_interface.task import task as module

    locks, creating = {}, forks.new_lock()

    def shared_lock(original: Callable[..., Any], filename: str) -> Any:
        with creating:
            if filename not in locks:
                locks[filename] = original(filename=filename)
            return locks[filename]

    with wrapped(module, "FileRLock", shared_lock):
        yield


@contextlib.contextmanager
def quiet(clearml: Any) -> Iterator[None]:
    """Suppress ClearML's prints from this thread and its resource monitor, and move its log to standard error.

    Also limit archives to `ZIP_LIMIT`, and make tasks send events by a thread: with ClearML's subprocess, the end of a
    run takes 5 to 11 seconds. A task reads that attribute again later, so keep the block open until the task has ended.
    """
    from clearml.debugging.log import LoggerRoot

    thread_id, original_print = threading.get_ident(), builtins.print
    task_module = sys.modules[clearml.Task.__module__]

    def print_of_others(*args: Any, **options: Any) -> None:
        worker = getattr(getattr(threading.current_thread(), "_target", None), "__self__", None)
        if threading.get_ident() != thread_id and type(worker).__name__ != "ResourceMonitor":
            original_print(*args, **options)

    def zip_file(original: Callable[..., Any], path: str, *args: Any, **options: Any) -> Any:
        files = [file for file in Path(path).with_suffix("").rglob("*") if file.is_file()]
        if sum(file.stat().st_size for file in files) > ZIP_LIMIT:
            raise OSError(f"{path} would be too large")  # ClearML continues, as if the disk were full
        return original(path, *args, **options)

    with contextlib.ExitStack() as undo:
        for module in (task_module, sys.modules[clearml.Logger.__module__]):
            undo.enter_context(patched(module, "print", print_of_others))
        undo.enter_context(wrapped(task_module, "ZipFile", zip_file))
        undo.enter_context(patched(clearml.Task, "_report_subprocess_enabled", False))
        for handler in LoggerRoot.get_base_logger().handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                undo.enter_context(patched(handler, "stream", sys.stderr))
                # For a failed request ClearML logs every field, including uncommitted changes.
                undo.enter_context(wrapped(handler, "format", lambda original, record: original(record)[:_MAX_LINE]))
        yield


def called_from_main(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `function` so that the main file seems to call it: ClearML stores the caller's file as the task's code."""
    main = getattr(sys.modules.get("__main__"), "__file__", None) or "<string>"

    def caller(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    caller.__code__ = caller.__code__.replace(co_filename=main)
    return caller


def wants_offline(clearml: Any, mode: str | None) -> bool:
    """Return whether a new task is an offline session."""
    if mode is not None:
        return mode == "offline"
    by_variable = any(os.environ.get(name, "").strip().lower() in _YES for name in _OFFLINE_NAMES)
    return by_variable or bool(clearml.Task.is_offline())


@contextlib.contextmanager
def offline_mode(wanted: bool) -> Iterator[None]:
    """Switch ClearML to offline sessions, or to servers, within a `with` block.

    `Task.set_offline(False)` is no alternative: it makes every session of the process sign in to a server.
    """
    from clearml.backend_api import Session
    from clearml.backend_interface.base import InterfaceBase
    from clearml.utilities.check_updates import CheckPackageUpdates

    with contextlib.ExitStack() as undo:
        for name in _OFFLINE_NAMES:
            undo.enter_context(overridden(name, str(int(wanted))))
        undo.callback(setattr, InterfaceBase, "_default_session", InterfaceBase._default_session)
        if bool(InterfaceBase._offline_mode) != wanted:  # it is signed in only if it was created online
            InterfaceBase._default_session = None
        for owner in (InterfaceBase, Session):
            undo.enter_context(patched(owner, "_offline_mode", wanted))
        if wanted:  # ClearML would ask its server for a newer version
            undo.enter_context(patched(CheckPackageUpdates, "_package_version_checked", True))
        yield


@contextlib.contextmanager
def shared_task(clearml: Any, task: Any) -> Iterator[None]:
    """Make the program's `Task.init` return the run's task, within a `with` block.

    ClearML's own capture of TensorBoard's writers is off: the journal has each record. Its other captures continue.
    """
    from clearml.binding.frameworks.tensorflow_bind import EventTrainsWriter

    def init(original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        # ClearML allows one task per process, and would raise for another name or type.
        if clearml.Task.current_task() is not task:  # the program closed it, and creates its own
            return original(*args, **options)
        if tags := options.get("tags", args[3] if len(args) > 3 else None):
            task.add_tags(tags)
        return original(project_name=None, task_name=None, task_type=None)

    with wrapped(clearml.Task, "init", init), wrapped(EventTrainsWriter, "add_event", lambda *_, **__: None):
        yield


# Forks. Measured without this: 1000 events became 1637, because a forked child sent its copy of the unsent events too.
_open_tasks: weakref.WeakSet[Any] = weakref.WeakSet()
_sigterm_block = forks.SigtermBlock()


@contextlib.contextmanager
def fork_safe(task: Any) -> Iterator[None]:
    """Clear the queue of unsent events in children that are forked within a `with` block.

    A child that does not use the task exits as if there were none. A child that does use it can report as usual.
    """
    _register_fork_hook()
    _open_tasks.add(task)
    try:
        yield
    finally:
        _open_tasks.discard(task)


@functools.cache
def _register_fork_hook() -> None:
    if hasattr(os, "register_at_fork"):  # after the hook of ClearML's first task
        os.register_at_fork(before=_before_fork, after_in_parent=_sigterm_block.restore, after_in_child=_free_child)


def _before_fork() -> None:
    if _open_tasks:
        _sigterm_block.block()


def _clear_queue() -> None:
    for service in filter(None, [task._reporter._report_service for task in list(_open_tasks)]):
        service._queue, service._queue_size, service._processing_events = type(service._queue)(), 0, []


def _free_child() -> None:
    """Remove ClearML's handlers in the child, where a Pool's worker could wait for ever after SIGTERM.

    Run ClearML's own `os._exit`, which takes 0.1 s, only if the child reported something.
    """
    for task in list(_open_tasks):
        task._remove_signal_hooks()
        task._remove_exception_hooks()
        service, original = task._reporter._report_service, getattr(os, "_org_exit", None)
        if service is not None and original is not None:
            os._exit = _exit_function(service, original, os._exit)
    _sigterm_block.restore()


def _exit_function(service: Any, original: Callable[[int], Any], flush_and_exit: Callable[[int], Any]) -> Any:
    def exit(status: int) -> Any:
        has_events = service._queue_size or service._processing_events or not service._queue.empty()
        return (flush_and_exit if has_events else original)(status)

    return exit


forks.after_in_child(_clear_queue)
