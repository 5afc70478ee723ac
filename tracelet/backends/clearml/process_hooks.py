"""What ClearML does to the process that its task lives in, and how that is undone or kept from the program."""

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

from tracelet.backends.clearml.environment import restore_variable

_logger = logging.getLogger("tracelet")

_MASTER_NAMES = ("CLEARML_PROC_MASTER_ID", "TRAINS_PROC_MASTER_ID")
_PARSER_METHODS = ("parse_args", "parse_known_args", "add_subparsers", "_get_value")
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE", "SIGQUIT")
    if hasattr(signal, name)
)
_LONGEST_LINE = 300
ZIP_LIMIT = 256 * 2**20
"""Bytes of an offline session beyond which it is not zipped: the folder serves as well, and is not there twice."""


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Afterwards `sys.exit`, `sys.excepthook`, signal handlers, argparse and ClearML's variables are as before.

    Where somebody else came after ClearML, theirs stays, and what is below it passes on.
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
                restore_variable(name, value)
        if not imported:
            _restore_parser(parser)


def _restore_exit(before: Any) -> None:
    """ClearML replaces `sys.exit` at its first task, and never puts it back."""
    owner: Any = getattr(sys.exit, "__self__", None)
    if _is_exit_hooks(owner) and not _is_exit_hooks(getattr(before, "__self__", None)):
        sys.exit = before
        owner._orig_exit = None  # so that the program's own later task finds its hook again


def _is_exit_hooks(owner: Any) -> bool:
    return type(owner).__module__.startswith("clearml.") and type(owner).__name__ == "ExitHooks"


def _restore_parser(before: dict[str, Any]) -> None:
    """Importing ClearML patches argparse, whatever a task wants."""
    patched = vars(argparse.ArgumentParser)
    for name, method in before.items():
        module = getattr(patched.get(name), "__module__", "")
        if method is not None and module.startswith("clearml."):
            setattr(argparse.ArgumentParser, name, method)
    if "_parse_args_patched" in patched:
        del argparse.ArgumentParser._parse_args_patched  # type: ignore[attr-defined]


def catch_arguments() -> None:
    """Let ClearML see what argparse parses, also in a second run of a process."""
    from clearml.binding.args import patch_argparse

    patch_argparse()


@contextlib.contextmanager
def hooks_kept() -> Iterator[None]:
    """While ClearML closes a task: it puts back hooks and handlers of the task's begin, whoever came since."""
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
    """`Task.init` seeds the global generators of random, numpy and torch with 1337; the training's are its own."""
    had, before = "_random_seed" in vars(clearml.Task), clearml.Task._random_seed
    clearml.Task._random_seed = None
    try:
        yield
    finally:
        if had:
            clearml.Task._random_seed = before
        else:
            del clearml.Task._random_seed


@contextlib.contextmanager
def in_this_process(clearml: Any) -> Iterator[None]:
    """Events of a new task are sent by a thread: with ClearML's sub-process the end of a run takes 5 to 11 seconds.

    While it lasts: tasks ask the class, not themselves.
    """
    name = "_report_subprocess_enabled"
    had, before = name in vars(clearml.Task), getattr(clearml.Task, name)
    setattr(clearml.Task, name, False)
    try:
        yield
    finally:
        if had:
            setattr(clearml.Task, name, before)
        else:
            delattr(clearml.Task, name)


@contextlib.contextmanager
def quiet(clearml: Any) -> Iterator[None]:
    """ClearML prints nothing on the program's standard output from this thread and from that of its resource monitor,
    and zips no session beyond the limit."""
    ours, say = threading.get_ident(), builtins.print
    task: Any = sys.modules[clearml.Task.__module__]
    logger: Any = sys.modules[clearml.Logger.__module__]
    zip_file = task.ZipFile

    def printed(*args: Any, **options: Any) -> None:
        if threading.get_ident() != ours and not _is_monitor(threading.current_thread()):
            say(*args, **options)

    def limited(path: str, *args: Any, **options: Any) -> Any:
        if folder_size(Path(path).with_suffix("")) > ZIP_LIMIT:
            raise OSError(f"{path} would be too large")  # which ClearML takes for a full disk, and goes on
        return zip_file(path, *args, **options)

    for module in (task, logger):
        module.print = printed
    task.ZipFile = limited
    try:
        yield
    finally:
        for module in (task, logger):
            del module.print
        task.ZipFile = zip_file


@contextlib.contextmanager
def logs_on_stderr() -> Iterator[None]:
    """ClearML's log lines leave the program's standard output alone; what they say is not lost."""
    from clearml.debugging.log import LoggerRoot

    logger = LoggerRoot.get_base_logger()
    handlers = [one for one in logger.handlers if getattr(one, "stream", None) is sys.stdout]
    before, ours = sys.stdout, sys.stderr
    for handler in handlers:
        handler.setStream(ours)
        handler.addFilter(_shorten)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_shorten)
            if handler.stream is ours:
                handler.setStream(before)


def _shorten(record: logging.LogRecord) -> bool:
    """Of a request that failed ClearML tells every field, the program's uncommitted changes among them."""
    message = record.getMessage()
    if len(message) > _LONGEST_LINE:
        record.msg, record.args = f"{message[:_LONGEST_LINE]} ...", None
    return True


@contextlib.contextmanager
def no_update_check() -> Iterator[None]:
    """ClearML asks its maker for a newer version, in a session that is to be offline too."""
    from clearml.utilities.check_updates import CheckPackageUpdates

    before = CheckPackageUpdates._package_version_checked
    CheckPackageUpdates._package_version_checked = True
    try:
        yield
    finally:
        CheckPackageUpdates._package_version_checked = before


def called_by_the_program(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, as if the program's main file called it: ClearML takes the caller's file for the code of the task."""
    main = getattr(sys.modules.get("__main__"), "__file__", None) or "<string>"

    def caller(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    caller.__code__ = caller.__code__.replace(co_filename=main)
    return caller


def _is_monitor(thread: threading.Thread) -> bool:
    worker = getattr(getattr(thread, "_target", None), "__self__", None)
    return type(worker).__name__ == "ResourceMonitor"


def folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class ProgramTask:
    """From `attach` to `detach`: `Task.init` of the program gives the task that is there, and ClearML's own TensorBoard
    capture is silent, since each record comes by way of the journal already."""

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
        """ClearML allows one task a process, and would refuse another name or type."""
        if self._clearml.Task.current_task() is not self._task:  # the program closed it: a task of its own
            return original(*args, **options)
        names = ("project_name", "task_name", "task_type")
        wanted = dict(zip(names, args, strict=False)) | {name: options[name] for name in names if name in options}
        _logger.info("clearml: Task.init(%s) gives the task of this run, %s", _shown(wanted), self._task.id)
        tags = options.get("tags", args[3] if len(args) > 3 else None)
        if tags:
            self._task.add_tags(tags)
        return original(project_name=None, task_name=None, task_type=None)


def _shown(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items() if value is not None)


@contextlib.contextmanager
def _wrapped(cls: Any, name: str, ours: Callable[..., Any]) -> Iterator[None]:
    """A class method that goes through `ours(original, ...)`; put back unless somebody wrapped it after."""
    before, original = vars(cls)[name], getattr(cls, name)
    live = True

    @functools.wraps(original.__func__)
    def standing(_cls: Any, *args: Any, **options: Any) -> Any:
        return ours(original, *args, **options) if live else original(*args, **options)

    wrapper = classmethod(standing)
    setattr(cls, name, wrapper)
    try:
        yield
    finally:
        live = False
        if vars(cls)[name] is wrapper:
            setattr(cls, name, before)


@contextlib.contextmanager
def _silent_capture() -> Iterator[None]:
    """ClearML's capture of torch's and tensorboardX's writers takes no event; its other captures go on."""
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
