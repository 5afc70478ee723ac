"""The table of exceptions: each one of a vendor means that the vendor is unavailable, or that it rejects a record.

Only a listed class can reject a record. Classes are listed by name, so that nothing is imported to compare them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Literal, TypeAlias

from tracelet.errors import BackendError, BackendUnavailable, RecordRejected
from tracelet.redaction import redacted_url

Verdict: TypeAlias = Literal["unavailable", "rejected"]

UNAVAILABLE: Verdict = "unavailable"
REJECTED: Verdict = "rejected"

_COMMON: Mapping[str, Verdict] = {
    "builtins.OSError": UNAVAILABLE,
    "builtins.FileNotFoundError": REJECTED,  # a payload was deleted
    "builtins.ImportError": UNAVAILABLE,
    "builtins.MemoryError": UNAVAILABLE,
    "requests.exceptions.RequestException": UNAVAILABLE,  # its JSONDecodeError is a ValueError too
    # The classes that Python and Pillow raise for a value that cannot be converted.
    "builtins.ArithmeticError": REJECTED,
    "builtins.EOFError": REJECTED,
    "builtins.LookupError": REJECTED,
    "builtins.RecursionError": REJECTED,
    "builtins.SyntaxError": REJECTED,
    "builtins.TypeError": REJECTED,
    "builtins.ValueError": REJECTED,
    "PIL.UnidentifiedImageError": REJECTED,
    "PIL.Image.DecompressionBombError": REJECTED,
}
# In a vendor's code, their cause may be its state, or a server's answer that it cannot parse.
_AMBIGUOUS = ("builtins.LookupError", "builtins.UnicodeDecodeError", "json.decoder.JSONDecodeError")


def verdict(error: BaseException, vendor: str, table: Mapping[str, Verdict]) -> Verdict | None:
    """Return the meaning of an exception for a record that was being written; None if it is not the vendor's.

    `table` has the vendor's own classes; any other class or exception from package `vendor` means unavailable.
    """
    names = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in type(error).__mro__}
    is_vendors = _passed_through(vendor, error.__traceback__)
    for name, cls in names.items():
        if is_vendors and name in _AMBIGUOUS:
            return UNAVAILABLE
        if name in table or name in _COMMON:
            return table.get(name) or _COMMON[name]
        if cls.__module__.partition(".")[0] == vendor:
            return UNAVAILABLE
    return UNAVAILABLE if is_vendors else None


def _passed_through(package: str, trace: TracebackType | None) -> bool:
    """Check if an exception was raised in, or below, a function of `package`."""
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] == package:
            return True
        trace = trace.tb_next
    return False


class Translated:
    """A `with` block that raises `translate(error)` in place of an exception, or the exception itself if it is None."""

    def __init__(self, translate: Callable[[Exception], Exception | None]) -> None:
        self._translate = translate

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        translation = self._translate(error) if isinstance(error, Exception) else None
        if translation is not None:
            raise translation from error


def translated(
    vendor: str,
    table: Mapping[str, Verdict],
    *,
    record: bool = False,
    text: Callable[[Exception], str] = str,
    package: str | None = None,
    lost: Callable[[Exception], str | None] = lambda error: None,
) -> Translated:
    """Raise only the two errors of a backend within a `with` block.

    `record`: the block writes one record, or one of several, which may be invalid. `text` describes an exception;
    `lost` does if the vendor's run must be opened again. `package` is the vendor's, if it is not called `vendor`.
    """

    def translate(error: Exception) -> BackendError | None:
        meaning = None if isinstance(error, BackendError) else verdict(error, package or vendor, table)
        if meaning is None:
            return None
        reason = lost(error)
        if reason is not None:
            return BackendUnavailable(f"{vendor}: {reason}", reopen=True)
        reason = redacted_url(text(error) or type(error).__name__)
        return (RecordRejected if meaning == REJECTED and record else BackendUnavailable)(f"{vendor}: {reason}")

    return Translated(translate)
