"""`events="async"`: make the library's calls later, in order, on a tracelet thread."""

from __future__ import annotations

import functools
import os
import threading
import time
from queue import SimpleQueue
from types import ModuleType
from typing import Any

from tracelet.capture.patches import Patches
from tracelet.capture.tensorboard.arguments import DEFERRABLE, Copier
from tracelet.capture.tensorboard.calls import FigureContext
from tracelet.capture.tensorboard.event_modes import Method, Mode, ModeContext
from tracelet.capture.tensorboard.unmodified import is_of
from tracelet.guard import Guard

_MAX_CALLS = 1000
# Time limit at the end of a run for the call in progress: a thread cannot be stopped from outside.
_LAST_CALL_SECONDS = 0.5


class AsyncEvents(Mode):
    """Return from calls once their values are copied; make a call at once, in order, if the library might reject it."""

    def __init__(self, context: ModeContext) -> None:
        self._running_calls, self._unmodified, self._guard = context.running_calls, context.unmodified, context.guard
        self._calls = _CallQueue(context.guard, context.queue_bytes)

    def start(self) -> None:
        self._calls.start()

    def patch(self, module: ModuleType, patches: Patches) -> None:
        for name in ("flush", "close"):
            owner = next(cls for cls in module.EventFileWriter.__mro__ if name in vars(cls))
            patches.wrap(owner, name, self._after_writer_calls)
        patches.wrap(module.FileWriter, "use_metadata", self._after_all_calls)  # tensorboardX: a `with` block

    def wrap(self, module: ModuleType, original: Method, tee: Method) -> Method:
        rule = DEFERRABLE.get(original.__name__)
        if rule is None or not is_of(module, original):
            return tee
        copier = Copier(original, rule, is_torch=not hasattr(module.FileWriter, "use_metadata"))
        calls, prepare, guard = self._calls, self._prepare, self._guard

        @functools.wraps(original)
        def later(writer: Any, *args: Any, **kwargs: Any) -> Any:
            if not calls.can_defer():
                return tee(writer, *args, **kwargs)
            call, is_certain = guard.call(prepare, copier, tee, writer, args, kwargs) or (None, False)
            if call is not None and is_certain and calls.put(call):
                return None
            calls.wait(writer)
            return tee(writer, *args, **kwargs) if call is None else tee(*call.args)

        return later

    def drain(self, deadline: float) -> bool:
        return self._calls.drain(deadline)

    def end(self) -> None:
        self._calls.end()

    def _prepare(
        self, copier: Copier, tee: Method, writer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[_Call | None, bool]:
        """Return the call with copied values (None if not deferrable), and if the library will accept it."""
        outer = self._running_calls.get(threading.get_ident())
        # Defer only a call of the program itself, or the image of its add_figure.
        if not (outer is None or isinstance(outer, FigureContext)) or not self._unmodified.applies_to(writer):
            return None, False
        event_writer = writer.file_writer.event_writer
        copied = copier.copy(writer, args, kwargs, self._calls.has_room)
        if copied is None:
            return None, False
        return _Call(tee, copied.args, event_writer, copied.size), copied.is_certain

    def _after_writer_calls(self, original: Method) -> Method:
        """Wrap a method of an event writer that needs a complete file."""

        @functools.wraps(original)
        def after(event_writer: Any, *args: Any, **kwargs: Any) -> Any:
            self._calls.wait(event_writer)
            return original(event_writer, *args, **kwargs)

        return after

    def _after_all_calls(self, original: Method) -> Method:
        @functools.wraps(original)
        def after(*args: Any, **kwargs: Any) -> Any:
            self._calls.wait()
            return original(*args, **kwargs)

        return after


class _Call:
    """A deferred call with its own copy of the values, for the event file of `event_writer`."""

    __slots__ = ("args", "done", "event_writer", "method", "size")

    def __init__(self, method: Method, args: tuple[Any, ...], event_writer: Any, size: int) -> None:
        self.method, self.args, self.event_writer, self.size = method, args, event_writer, size
        self.done = threading.Event()


class _CallQueue:
    """Queue deferred calls and make them on one thread. No lock: a signal handler may run at any moment."""

    def __init__(self, guard: Guard, max_bytes: int) -> None:
        self._guard, self._max_bytes = guard, max_bytes
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._pending: dict[_Call, None] = {}  # in order; each operation on it is atomic in the interpreter
        self._thread = threading.Thread(target=self._make_calls, name="tracelet-events", daemon=True)
        self._process = 0
        self._ended = False

    def start(self) -> None:
        self._process = os.getpid()
        self._thread.start()

    def can_defer(self) -> bool:
        """Return False on the thread itself, in a forked child (which has no such thread) and after `end`."""
        return not self._ended and self._process == os.getpid() and threading.get_ident() != self._thread.ident

    def has_room(self, size: int) -> bool:
        """Block until the queue has room for `size` bytes; False if `size` exceeds the whole limit."""
        if size > self._max_bytes:
            return False
        while pending := list(self._pending):
            if len(pending) < _MAX_CALLS and sum(call.size for call in pending) + size <= self._max_bytes:
                break
            pending[0].done.wait()
        return True

    def put(self, call: _Call) -> bool:
        """Queue a call; False if the run ended in the meantime, and the call will not be made."""
        self._pending[call] = None
        self._queue.put(call)
        return not (self._ended and self._remove(call))

    def wait(self, writer: Any = None) -> None:
        """Block until the queued calls are made: those of a writer or event writer, or all."""
        if self._pending and self.can_defer():
            for call in list(self._pending):
                if writer is None or writer is call.event_writer or writer is call.args[0]:
                    call.done.wait()

    def drain(self, deadline: float) -> bool:
        """Block until the queued calls are made; False if `deadline` passes first."""
        if not self.can_defer():
            return True
        return all(call.done.wait(max(0.0, deadline - time.monotonic())) for call in list(self._pending))

    def end(self) -> None:
        """Stop the thread; drop, count and log the pending calls."""
        self._ended = True
        if self._process == os.getpid():
            self._queue.put(None)
            if threading.get_ident() != self._thread.ident:
                self._thread.join(_LAST_CALL_SECONDS)
            self._drop_pending()

    def _make_calls(self) -> None:
        try:
            while (call := self._queue.get()) is not None and not self._ended:
                try:
                    self._guard.isolate(call.method, *call.args)
                finally:
                    self._remove(call)
                    call.done.set()
                    del call  # free its copies now, not when the next call arrives
        finally:
            self._ended = True
            self._drop_pending()

    def _remove(self, call: _Call) -> bool:
        return self._pending.pop(call, call) is None

    def _drop_pending(self) -> None:
        for call in list(self._pending):
            if self._remove(call):
                name = call.method.__name__
                self._guard.count(f"dropped: deferred {name} was not made before the time limit")
                self._guard.log_once(
                    "dropped: deferred calls",
                    "tracelet: dropped deferred calls (events='async'): they were not made before the time limit. "
                    "Their images, audio and histograms are in no event file and no backend",
                )
                call.done.set()
