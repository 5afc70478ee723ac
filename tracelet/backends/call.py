"""Call a vendor's client that has no deadline of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Call(Generic[T]):
    """A call on a daemon thread of its own, so that it can be abandoned. `error` is what it raised."""

    def __init__(self, function: Callable[[], T], name: str) -> None:
        self._function, self._ended = function, threading.Event()
        self._value: Any = None
        self.error: BaseException | None = None
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except RuntimeError:  # Python 3.12 starts no thread while the program ends
            self._run()

    def _run(self) -> None:
        with self:
            self._value = self._function()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        self.error = error
        self._ended.set()
        return True

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the call. Return False if it takes longer."""
        return self._ended.wait(max(0.0, seconds))

    def result(self) -> T:
        """Return the result of a call that has ended, or raise its error."""
        if self.error is not None:
            raise self.error
        value: T = self._value
        return value


def call_within(seconds: float, name: str, function: Callable[[], T]) -> T:
    """Return `function()`; raise TimeoutError if it takes longer. A socket's timeout starts again with each byte."""
    call = Call(function, name)
    if not call.wait(seconds):
        raise TimeoutError(f"the answer is not complete after {seconds:g} s")
    return call.result()
