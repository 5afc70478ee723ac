"""The one broad `except` of the package, and the ledger of what was lost and why.

Everything of ours that runs inside a call of the host program, or on a thread of ours, runs through `Guard.call`: it
never raises, it counts by cause, and it speaks once per cause.
"""

from __future__ import annotations

import functools
import logging
import traceback
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, TypeVar

from tracelet.errors import BackendError

logger = logging.getLogger("tracelet")

T = TypeVar("T")


def _stay_silent(error: BaseException) -> None:
    return


# The test suite puts a collector here, so that nothing is swallowed unseen.
observer: Callable[[BaseException], None] = _stay_silent


def _as_it_is(text: str) -> str:
    return text


def translated(function: Callable[[], T], words: Callable[[Exception], Exception]) -> T:
    """`function()`, which runs code that is neither ours nor the program's: what it raises is told as `words` say."""
    try:
        return function()
    except Exception as error:
        raise words(error) from error


class Guard:
    """What one experiment swallowed or dropped, by cause. `hide` takes credentials out of what is said."""

    def __init__(self, hide: Callable[[str], str] = _as_it_is) -> None:
        self.hide = hide
        # Appended to from any thread, also in signal handlers and finalisers: a deque append takes no lock of ours.
        self._events: deque[str] = deque()
        self._counts: Counter[str] = Counter()
        self._said: set[str] = set()

    def call(self, function: Callable[..., T], *args: Any) -> T | None:
        """`function(*args)`; an exception is counted and said once, and gives None."""
        try:
            return function(*args)
        except BackendError as error:  # what an adapter may let out is trouble, and no defect
            name = getattr(function, "__qualname__", repr(function))
            self.say(f"{name} {error}", "tracelet: %s: %s", name, error)
            return None
        except Exception as error:
            self.swallowed(error, function)
            return None

    def follow(self, host: Callable[..., T], ours: Callable[..., None]) -> Callable[..., T]:
        """`host` with `ours` after it, on the same arguments: `call` without its two frames, for the hottest path.

        `host` takes one argument and three more, the last two of which may be left out, as `FileWriter.add_event` does.
        """
        swallowed = self.swallowed

        @functools.wraps(host)
        def followed(one: Any, event: Any, step: Any = None, walltime: Any = None) -> T:
            result = host(one, event, step, walltime)
            try:
                ours(one, event, step, walltime)
            except Exception as error:
                swallowed(error, ours)
            return result

        return followed

    def attempt(self, function: Callable[..., object], *args: Any) -> Exception | None:
        """`function(*args)`; gives the exception it ended with. What no adapter may let out is counted and said."""
        try:
            function(*args)
        except BackendError as error:
            return error
        except Exception as error:
            self.swallowed(error, function)
            return error
        return None

    def swallowed(self, error: BaseException, where: Callable[..., Any]) -> None:
        name = getattr(where, "__qualname__", repr(where))
        cause = f"error in {name}: {type(error).__name__}"
        self.count(cause)
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self.say(cause, "tracelet: %s: %s (training is not affected; reported once)\n%s", cause, error, trace)
        observer(error)

    def count(self, cause: str) -> None:
        self._events.append(cause)
        if len(self._events) > 1000:
            self._fold()

    def say(self, cause: str, message: str, *args: object, level: int = logging.WARNING) -> None:
        """Log once per cause."""
        if cause not in self._said:
            self._said.add(cause)
            logger.log(level, "%s", self.hide(message % args if args else message))

    def counts(self) -> dict[str, int]:
        self._fold()
        return dict(self._counts)

    def _fold(self) -> None:
        while self._events:
            try:
                self._counts[self._events.popleft()] += 1
            except IndexError:  # another thread folded the last one
                return
