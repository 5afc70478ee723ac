"""Undo or prevent ClearML's changes to the process: hooks, handlers, prints, patches and variables."""

from __future__ import annotations

import argparse
import builtins
import contextlib
import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tracelet import forks
from tracelet.backends.environment import set_variable
from tracelet.guard import logger

_MASTER_NAMES = ("CLEARML_PROC_MASTER_ID", "TRAINS_PROC_MASTER_ID")
_PARSER_METHODS = ("parse_args", "parse_known_args", "add_subparsers", "_get_value")
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE", "SIGQUIT")
    if hasattr(signal, name)
)
_MAX_LINE = 300
ZIP_LIMIT = 256 * 2**20
"""Bytes of the largest offline session that is zipped. Beyond that, only the folder is kept, to save disk space."""


@contextlib.contextmanager
def restored_process() -> Iterator[None]:
    """Restore `sys.exit`, argparse and ClearML's variables after a `with` block.

    If other code replaced one of them after ClearML, its replacement stays.
    """
    imported = "clearml" in sys.modules
    parser = {name: vars(argparse.ArgumentParser).get(name) for name in _PARSER_METHODS}
    variables = {name: os.environ.get(name) for name in _MASTER_NAMES}
    exit_before = sys.exit
    try:
        yield
    finally:
        _restore_exit(exit_before)
        for name, value in variables.items():
            if os.environ.get(name, "").startswith(f"{os.getpid()}:"):
                set_variable(name, value)
        if not imported:
            _restore_parser(parser)


def _restore_exit(before: Any) -> None:
    """Restore `sys.exit`, which ClearML replaces at its first task."""
    owner: Any = getattr(sys.exit, "__self__", None)
    if _is_exit_hooks(owner) and not _is_exit_hooks(getattr(before, "__self__", None)):
        sys.exit = before
        owner._orig_exit = None  # so that a later task of the program installs its hook again


def _is_exit_hooks(owner: Any) -> bool:
    return type(owner).__module__.startswith("clearml.") and type(owner).__name__ == "ExitHooks"


def _restore_parser(before: dict[str, Any]) -> None:
    """Restore argparse, which the import of ClearML always patches."""
    patched = vars(argparse.ArgumentParser)
    for name, method in before.items():
        module = getattr(patched.get(name), "__module__", "")
        if method is not None and module.startswith("clearml."):
            setattr(argparse.ArgumentParser, name, method)
    if "_parse_args_patched" in patched:
        del argparse.ArgumentParser._parse_args_patched  # type: ignore[attr-defined]


def capture_arguments() -> None:
    """Patch argparse, so that ClearML captures arguments also in a second run of the process."""
    from clearml.binding.args import patch_argparse

    patch_argparse()


@contextlib.contextmanager
def kept_hooks() -> Iterator[None]:
    """Keep the current hooks and handlers while ClearML closes a task.

    ClearML would restore those from the start of the task, and discard later ones.
    """
    hook = sys.excepthook
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS} if main else {}
    try:
        yield
    finally:
        if not _is_exit_hooks(getattr(hook, "__self__", None)):
            sys.excepthook = hook
        for number, handler in handlers.items():
            if handler is not None and not _is_exit_hooks(getattr(handler, "__self__", None)):
                signal.signal(number, handler)


@contextlib.contextmanager
def kept_random_state(clearml: Any) -> Iterator[None]:
    """Stop `Task.init` from seeding the global generators of random, numpy and torch with 1337."""
    is_set, before = "_random_seed" in vars(clearml.Task), clearml.Task._random_seed
    clearml.Task._random_seed = None
    try:
        yield
    finally:
        if is_set:
            clearml.Task._random_seed = before
        else:
            del clearml.Task._random_seed


@contextlib.contextmanager
def report_by_thread(clearml: Any) -> Iterator[None]:
    """Make tasks send events by a thread. With ClearML's subprocess, the end of a run takes 5 to 11 seconds.

    A task reads this attribute of its class again later, so keep the block open until the task has ended.
    """
    name = "_report_subprocess_enabled"
    is_set, before = name in vars(clearml.Task), getattr(clearml.Task, name)
    setattr(clearml.Task, name, False)
    try:
        yield
    finally:
        if is_set:
            setattr(clearml.Task, name, before)
        else:
            delattr(clearml.Task, name)


@contextlib.contextmanager
def one_edit_lock(clearml: Any) -> Iterator[None]:
    """Let the threads of a new task share its lock: each could create one for the same file, and wait for ever."""
    name, creating = "_edit_lock", forks.new_lock()
    original = getattr(clearml.Task, name)
    file_locks: dict[str, Any] = {}

    def get(task: Any) -> Any:
        with creating:
            lock = original.fget(task)
            if hasattr(lock, "filename") and file_locks.setdefault(lock.filename, lock) is not lock:
                lock = file_locks[lock.filename]  # Task.init has forgotten it
                original.fset(task, lock)
        return lock

    setattr(clearml.Task, name, property(get, original.fset))
    try:
        yield
    finally:
        delattr(clearml.Task, name)  # the original is its base class's


@contextlib.contextmanager
def reduced_output(clearml: Any) -> Iterator[None]:
    """Suppress ClearML's prints from this thread and its resource monitor, and archives beyond `ZIP_LIMIT`."""
    thread_id, original_print = threading.get_ident(), builtins.print
    task: Any = sys.modules[clearml.Task.__module__]
    logger: Any = sys.modules[clearml.Logger.__module__]
    zip_file = task.ZipFile

    def print_of_others(*args: Any, **options: Any) -> None:
        if threading.get_ident() != thread_id and not _is_monitor(threading.current_thread()):
            original_print(*args, **options)

    def limited_zip_file(path: str, *args: Any, **options: Any) -> Any:
        if folder_size(Path(path).with_suffix("")) > ZIP_LIMIT:
            raise OSError(f"{path} would be too large")  # ClearML continues, as if the disk were full
        return zip_file(path, *args, **options)

    for module in (task, logger):
        module.print = print_of_others
    task.ZipFile = limited_zip_file
    try:
        yield
    finally:
        for module in (task, logger):
            del module.print
        task.ZipFile = zip_file


@contextlib.contextmanager
def logs_on_stderr() -> Iterator[None]:
    """Move ClearML's log lines from standard output to standard error."""
    from clearml.debugging.log import LoggerRoot

    logger = LoggerRoot.get_base_logger()
    handlers = [handler for handler in logger.handlers if getattr(handler, "stream", None) is sys.stdout]
    stdout, stderr = sys.stdout, sys.stderr
    for handler in handlers:
        handler.setStream(stderr)
        handler.addFilter(_shorten)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_shorten)
            if handler.stream is stderr:
                handler.setStream(stdout)


def _shorten(record: logging.LogRecord) -> bool:
    """Shorten a log line: for a failed request ClearML logs every field, including uncommitted changes."""
    message = record.getMessage()
    if len(message) > _MAX_LINE:
        record.msg, record.args = f"{message[:_MAX_LINE]} ...", None
    return True


@contextlib.contextmanager
def no_update_check() -> Iterator[None]:
    """Disable ClearML's check for a newer version, which is made even in an offline session."""
    from clearml.utilities.check_updates import CheckPackageUpdates

    before = CheckPackageUpdates._package_version_checked
    CheckPackageUpdates._package_version_checked = True
    try:
        yield
    finally:
        CheckPackageUpdates._package_version_checked = before


def called_from_main(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `function` so that the main file seems to call it: ClearML stores the caller's file as the task's code."""
    main = getattr(sys.modules.get("__main__"), "__file__", None) or "<string>"

    def caller(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    caller.__code__ = caller.__code__.replace(co_filename=main)
    return caller


def _is_monitor(thread: threading.Thread) -> bool:
    worker = getattr(getattr(thread, "_target", None), "__self__", None)
    return type(worker).__name__ == "ResourceMonitor"


def folder_size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class SharedTask:
    """Share the run's task with the program from `attach` to `detach`.

    The program's `Task.init` returns this task. ClearML's own TensorBoard capture is off: the journal has each record.
    """

    def __init__(self, clearml: Any, task: Any) -> None:
        self._clearml, self._task = clearml, task
        self._undo: contextlib.ExitStack | None = None

    def attach(self) -> None:
        if self._undo is None:
            with contextlib.ExitStack() as undo:
                undo.enter_context(_wrapped(self._clearml.Task, "init", self._init))
                undo.enter_context(_silent_capture())
                self._undo = undo.pop_all()

    def detach(self) -> None:
        if self._undo is not None:
            self._undo.close()
            self._undo = None

    def _init(self, original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Return the run's task. ClearML allows one task per process, and would raise for another name or type."""
        if self._clearml.Task.current_task() is not self._task:  # the program closed it, and creates its own
            return original(*args, **options)
        names = ("project_name", "task_name", "task_type")
        wanted = dict(zip(names, args, strict=False)) | {name: options[name] for name in names if name in options}
        logger.info("clearml: Task.init(%s) returns the task of this run, %s", _format(wanted), self._task.id)
        tags = options.get("tags", args[3] if len(args) > 3 else None)
        if tags:
            self._task.add_tags(tags)
        return original(project_name=None, task_name=None, task_type=None)


def _format(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items() if value is not None)


@contextlib.contextmanager
def _wrapped(cls: Any, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    """Replace a class method by `replacement(original, ...)`. Restore it unless other code has wrapped it since."""
    before, original = vars(cls)[name], getattr(cls, name)
    is_active = True

    @functools.wraps(original.__func__)
    def call(_cls: Any, *args: Any, **options: Any) -> Any:
        return replacement(original, *args, **options) if is_active else original(*args, **options)

    wrapper = classmethod(call)
    setattr(cls, name, wrapper)
    try:
        yield
    finally:
        is_active = False
        if vars(cls)[name] is wrapper:
            setattr(cls, name, before)


@contextlib.contextmanager
def _silent_capture() -> Iterator[None]:
    """Disable ClearML's capture of torch's and tensorboardX's writers. Its other captures continue."""
    from clearml.binding.frameworks.tensorflow_bind import EventTrainsWriter

    original = EventTrainsWriter.add_event

    @functools.wraps(original)
    def silent(*_: Any, **__: Any) -> None:
        return

    EventTrainsWriter.add_event = silent
    try:
        yield
    finally:
        if EventTrainsWriter.add_event is silent:
            EventTrainsWriter.add_event = original
