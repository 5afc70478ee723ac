"""The package's only broad `except`, and its counts of errors and lost records.

Run all tracelet code through `Guard.call` if it runs inside a call of the host program or on a tracelet thread. The
guard never raises, counts by cause, and logs each cause once.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, TypeVar

from tracelet.errors import BackendError

T = TypeVar("T")

_MAX_SHOWN = 200
"""Characters of a value in an error message."""


# Parts of an error text that differ at each attempt: addresses of objects, digests, names of temporary files, and
# numbers except short ones, such as a status.
_CHANGING = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8}[0-9a-f-]*|(?<=[/-])(?:tmp|new-|tracelet-)\w{8}|\d+\.\d+|\d{4,}")


def _ignore(error: BaseException) -> None:
    return


# The test suite replaces this with a collector, so that every swallowed error fails a test.
observer: Callable[[BaseException], None] = _ignore


def _unchanged(text: str) -> str:
    return text


def translated(
    function: Callable[[], T], to_error: Callable[[Exception], Exception], *, keep: tuple[type[Exception], ...] = ()
) -> T:
    """Call `function`, which runs third-party code, and convert any exception but those in `keep` with `to_error`."""
    try:
        return function()
    except keep:
        raise
    except Exception as error:
        raise to_error(error) from error


def attempted(function: Callable[[], T], fallback: Callable[[], T], *, keep: tuple[type[Exception], ...] = ()) -> T:
    """Return `function()`, which runs third-party code. If it raises, return `fallback()`; raise those in `keep`."""
    try:
        return function()
    except keep:
        raise
    except Exception:
        return fallback()


def shown(value: object) -> str:
    """Return the start of a value's `repr` for an error message, or its type if `repr` raises."""
    return attempted(lambda: repr(value), lambda: f"<{type(value).__name__}>")[:_MAX_SHOWN]


def described(error: BaseException) -> str:
    """Return the type and the text of an exception, whose `__str__` may raise."""
    return f"{type(error).__name__}: {_text(error)}"


def _text(value: object) -> str:
    return attempted(lambda: str(value), lambda: f"<{type(value).__name__}>")


def _ends_program(error: BaseException) -> bool:
    """Return True for Ctrl-C and `sys.exit` on the main thread. On another thread they would only end the thread."""
    return not isinstance(error, Exception) and threading.current_thread() is threading.main_thread()


class GuardedLogger:
    """Log to the logger `tracelet`. The program's own handlers and filters may raise; the caller does not notice."""

    def log(self, level: int, message: str, *args: object) -> None:
        try:
            logging.getLogger("tracelet").log(level, message, *args)
        except BaseException as error:
            if _ends_program(error):
                raise

    def info(self, message: str, *args: object) -> None:
        self.log(logging.INFO, message, *args)

    def warning(self, message: str, *args: object) -> None:
        self.log(logging.WARNING, message, *args)


logger = GuardedLogger()


class Guard:
    """Swallow exceptions and count losses for one experiment. `hide` removes credentials from log lines."""

    def __init__(self, hide: Callable[[str], str] = _unchanged) -> None:
        self.hide = hide
        # Signal handlers and finalisers append too, from any thread: a deque needs no lock.
        self._events: deque[str] = deque()
        self._counts: Counter[str] = Counter()
        self._logged: set[str] = set()

    def call(self, function: Callable[..., T], *args: Any) -> T | None:
        """Return `function(*args)`. If it raises, count the error, log it once, and return None."""
        try:
            return function(*args)
        except BackendError as error:  # a documented failure, not a defect: logged, not counted
            name = getattr(function, "__qualname__", type(function).__name__)
            self.log_once(f"{name} {error}", "tracelet: %s: %s", name, error)
            return None
        except Exception as error:
            self.swallowed(error, function)
            return None

    def isolate(self, function: Callable[..., T], *args: Any) -> T | None:
        """Do as `call` on a tracelet thread, and also stop SystemExit, which would end the thread without a word."""
        try:
            return self.call(function, *args)
        except BaseException as error:
            self.swallowed(error, function)
            return None

    def follow(self, host: Callable[..., T], ours: Callable[..., None]) -> Callable[..., T]:
        """Return a wrapper that calls `host`, then `ours` with the same arguments.

        This is `call` without its two frames, for the hottest path. `host` has the signature of
        `FileWriter.add_event`.
        """
        swallowed = self.swallowed

        @functools.wraps(host)
        def wrapper(writer: Any, event: Any, step: Any = None, walltime: Any = None) -> T:
            result = host(writer, event, step, walltime)
            try:
                ours(writer, event, step, walltime)
            except Exception as error:
                swallowed(error, ours)
            return result

        return wrapper

    def surround(
        self, host: Callable[..., T], before: Callable[[Any, Any], Any], after: Callable[..., None]
    ) -> Callable[..., T]:
        """Return a wrapper that calls `before`, `host`, and `after` with the data that `before` returned.

        Like `follow`, for a host with the parameters run, data, step and commit. `before` copies the part of the data
        that `host` changes. If `host` raises, `after` is not called.
        """
        swallowed = self.swallowed

        @functools.wraps(host)
        def wrapper(run: Any, data: Any, step: Any = None, commit: Any = None) -> T:
            copied = data
            try:
                copied = before(run, data)
            except Exception as error:
                swallowed(error, before)
            result = host(run, data, step, commit)
            try:
                after(run, copied, step, commit)
            except Exception as error:
                swallowed(error, after)
            return result

        return wrapper

    def attempt(self, function: Callable[..., object], *args: Any) -> Exception | None:
        """Call `function(*args)` and return the exception it raised, or None. Count and log all but `BackendError`."""
        return self.outcome(function, *args)[1]

    def outcome(self, function: Callable[..., T], *args: Any) -> tuple[T | None, Exception | None]:
        """Do as `attempt`, and also return the result; None after an exception."""
        try:
            return function(*args), None
        except BackendError as error:
            return None, error
        except Exception as error:
            self.swallowed(error, function)
            return None, error

    def swallowed(self, error: BaseException, function: Callable[..., Any]) -> None:
        """Count an error that `function` raised, and log it with its traceback once per cause."""
        function = getattr(function, "func", function)  # of a functools.partial
        name = getattr(function, "__qualname__", type(function).__name__)
        cause = f"error in {name}: {type(error).__name__}"
        self.count(cause)
        trace = "".join(attempted(lambda: traceback.format_exception(type(error), error, error.__traceback__), list))
        self.log_once(cause, "tracelet: %s: %s (training is not affected; reported once)\n%s", cause, error, trace)
        if isinstance(error, Exception):  # SystemExit comes from a vendor or the program, never from tracelet
            observer(error)

    def count(self, cause: str) -> None:
        """Add one to the count of `cause`. Takes no lock."""
        self._events.append(cause)
        if len(self._events) > 1000:
            self._fold()

    def log_once(self, cause: str, message: str, *args: object, level: int = logging.WARNING) -> None:
        """Log a message, unless one was logged for the same cause before, apart from what changes at each attempt."""
        cause = _CHANGING.sub("*", cause)
        if cause not in self._logged:
            self._logged.add(cause)
            plain = tuple(value if isinstance(value, int | float) else _text(value) for value in args)
            logger.log(level, "%s", self.hide(message % plain if plain else message))

    def counts(self) -> dict[str, int]:
        """Return the count of each cause."""
        self._fold()
        return dict(self._counts)

    def _fold(self) -> None:
        while self._events:
            try:
                self._counts[self._events.popleft()] += 1
            except IndexError:  # another thread took the last event
                return
