"""Call a custom backend on a thread of its own, so that a slow one does not delay the training and the others."""

from __future__ import annotations

import atexit
import inspect
import os
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from tracelet.compat.ezpz.base import Caller, TrackerBackend
from tracelet.guard import attempted

# Maximum seconds of a call. The rest of a longer one runs while the training continues.
_PATIENCE = 0.1
# Maximum seconds to wait for the remaining calls at the end.
FINISH_TIMEOUT = 30.0


class Worker:
    """Make the calls of one backend in order.

    A call returns once the backend has made it, or after 0.1 s. While the backend lags, calls return at once. `finish`
    returns at once too; `end` waits for it.
    """

    def __init__(self, backend: TrackerBackend) -> None:
        self.name = str(getattr(backend, "name", type(backend).__name__))
        self._backend, self._caller = backend, Caller()
        self.has_config = _takes_config(type(backend))
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._queue: SimpleQueue[tuple[Callable[[], None], threading.Event] | None] = SimpleQueue()
        self._last = threading.Event()
        self._last.set()

    def call(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Call a method of the backend. Dicts are copied: the training may change them after this returns."""
        args = tuple(dict(value) if isinstance(value, dict) else value for value in args)
        make = partial(self._caller.call, self.name, method, partial(self._make, method, args, kwargs))
        if threading.current_thread() is self._thread:  # the backend logs to its own tracker
            make()
            return
        is_lagging = not self._last.is_set()
        done = self._submit(make)
        if method != "finish" and not is_lagging:
            done.wait(_PATIENCE)

    def end(self, timeout: float = FINISH_TIMEOUT) -> None:
        """Wait for the remaining calls, and end the thread."""
        atexit.unregister(self._wait_at_exit)
        self._last.wait(timeout)
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            self._queue.put(None)
            if self._last.is_set():
                thread.join(timeout)

    def _make(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        getattr(self._backend, method)(*args, **kwargs)

    def _submit(self, make: Callable[[], None]) -> threading.Event:
        done = threading.Event()
        if self._thread is None or not self._thread.is_alive():
            self._start()
        self._last = done
        self._queue.put((make, done))
        return done

    def _start(self) -> None:
        if self._pid != os.getpid():  # a fork may have happened while the thread held the queue's lock
            self._pid, self._queue = os.getpid(), SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"tracelet-ezpz-{self.name}", daemon=True)
        self._thread.start()
        atexit.register(self._wait_at_exit)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            make, done = item
            try:
                make()
            finally:
                done.set()

    def _wait_at_exit(self) -> None:
        if self._pid == os.getpid():
            self._last.wait(FINISH_TIMEOUT)


def _takes_config(cls: type) -> bool:
    """Return whether `setup_tracker` passes the config to the constructor."""
    parameters: dict[str, inspect.Parameter] = attempted(lambda: dict(inspect.signature(cls).parameters), dict)
    return "config" in parameters or any(x.kind is x.VAR_KEYWORD for x in parameters.values())
