"""`events="async"`: calls of the host that are made later, in order, on a thread of ours."""

from __future__ import annotations

import functools
import os
import threading
import time
from queue import SimpleQueue
from types import ModuleType
from typing import Any

from tracelet.capture.tensorboard.arguments import DEFERRABLE, Copier
from tracelet.capture.tensorboard.calls import FigureContext
from tracelet.capture.tensorboard.event_modes import Method, Mode, ModeContext
from tracelet.capture.tensorboard.patches import Patches
from tracelet.capture.tensorboard.unmodified import is_of
from tracelet.guard import Guard

_MOST_CALLS = 1000
# What the call that is being made when the run ends may still take: a thread cannot be ended from outside.
_LAST_CALL_SECONDS = 0.5


class AsyncEvents(Mode):
    """Calls return once their values are copied; what the host might refuse is made at once, in its turn."""

    def __init__(self, around: ModeContext) -> None:
        self._claims, self._untouched, self._guard = around.claims, around.untouched, around.guard
        self._calls = _Calls(around.guard, around.queue_bytes)

    def start(self) -> None:
        self._calls.start()

    def patch(self, module: ModuleType, patches: Patches) -> None:
        for name in ("flush", "close"):
            owner = next(one for one in module.EventFileWriter.__mro__ if name in vars(one))
            patches.wrap(owner, name, self._after_its_calls)
        patches.wrap(module.FileWriter, "use_metadata", self._after_all_calls)  # tensorboardX's values for a block

    def wrap(self, module: ModuleType, original: Method, tee: Method) -> Method:
        rule = DEFERRABLE.get(original.__name__)
        if rule is None or not is_of(module, original):
            return tee
        copier = Copier(original, rule, is_torch=not hasattr(module.FileWriter, "use_metadata"))
        calls, prepare, guard = self._calls, self._prepare, self._guard

        @functools.wraps(original)
        def later(writer: Any, *args: Any, **kwargs: Any) -> Any:
            if not calls.are_taken():
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
        """The call with copied values, if it may be made later, and whether the host certainly takes them."""
        outer = self._claims.get(threading.get_ident())
        # A call of the program itself, or the picture of its add_figure.
        if not (outer is None or isinstance(outer, FigureContext)) or not self._untouched.holds_for(writer):
            return None, False
        event_writer = writer.file_writer.event_writer
        copied = copier.copy(writer, args, kwargs, self._calls.have_room)
        if copied is None:
            return None, False
        return _Call(tee, copied.args, event_writer, copied.size), copied.is_certain

    def _after_its_calls(self, original: Method) -> Method:
        """A method of an event writer, for which its file must be complete."""

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
    """A call with its own copies of the values, for the event file behind `event_writer`."""

    __slots__ = ("args", "done", "event_writer", "method", "size")

    def __init__(self, method: Method, args: tuple[Any, ...], event_writer: Any, size: int) -> None:
        self.method, self.args, self.event_writer, self.size = method, args, event_writer, size
        self.done = threading.Event()


class _Calls:
    """The calls that wait, and the thread that makes them. No lock: a signal handler may come at any moment."""

    def __init__(self, guard: Guard, most_bytes: int) -> None:
        self._guard, self._most_bytes = guard, most_bytes
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._waiting: dict[_Call, None] = {}  # in order; each step on it is one of the interpreter's
        self._thread = threading.Thread(target=self._make_calls, name="tracelet-events", daemon=True)
        self._process = 0
        self._ended = False

    def start(self) -> None:
        self._process = os.getpid()
        self._thread.start()

    def are_taken(self) -> bool:
        """Not on the thread itself, nor in a forked child, which has no such thread, nor after the end."""
        return not self._ended and self._process == os.getpid() and threading.get_ident() != self._thread.ident

    def have_room(self, size: int) -> bool:
        """Wait until copies of `size` bytes may wait as well; False for more than ever may."""
        if size > self._most_bytes:
            return False
        while waiting := list(self._waiting):
            if len(waiting) < _MOST_CALLS and sum(call.size for call in waiting) + size <= self._most_bytes:
                break
            waiting[0].done.wait()
        return True

    def put(self, call: _Call) -> bool:
        """Whether the call will be made; False where the run ended in the meantime."""
        self._waiting[call] = None
        self._queue.put(call)
        return not (self._ended and self._take_back(call))

    def wait(self, of: Any = None) -> None:
        """Until the calls put before, of this writer or event writer or of all, are made."""
        if self._waiting and self.are_taken():
            for call in list(self._waiting):
                if of is None or of is call.event_writer or of is call.args[0]:
                    call.done.wait()

    def drain(self, deadline: float) -> bool:
        """Whether all calls put before are made before `deadline`."""
        if not self.are_taken():
            return True
        return all(call.done.wait(max(0.0, deadline - time.monotonic())) for call in list(self._waiting))

    def end(self) -> None:
        """End the thread. What still waits is dropped, counted and said."""
        self._ended = True
        if self._process == os.getpid():
            self._queue.put(None)
            if threading.get_ident() != self._thread.ident:
                self._thread.join(_LAST_CALL_SECONDS)
            self._drop_rest()

    def _make_calls(self) -> None:
        try:
            while (call := self._queue.get()) is not None and not self._ended:
                try:
                    self._guard.call(call.method, *call.args)
                finally:
                    self._take_back(call)
                    call.done.set()
                    del call  # its copies go now, not when the next call comes
        finally:
            self._ended = True
            self._drop_rest()

    def _take_back(self, call: _Call) -> bool:
        return self._waiting.pop(call, call) is None

    def _drop_rest(self) -> None:
        for call in list(self._waiting):
            if self._take_back(call):
                name = call.method.__name__
                self._guard.count(f"dropped: {name} was not yet made when the time was up")
                self._guard.log_once(
                    "dropped: deferred calls",
                    "tracelet: the time was up before all deferred calls (events='async') were made: "
                    "the pictures, sounds and histograms left are in no event file and no backend",
                )
                call.done.set()
