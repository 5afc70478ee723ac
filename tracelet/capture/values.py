"""Convert values of the program to plain data, on the caller's thread, without keeping references to them."""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from tracelet.errors import TraceletError
from tracelet.guard import attempted, described, shown, translated

_INT64 = 2**63
_SCALARS = frozenset((type(None), bool, float, int, str))


def to_plain(value: Any) -> Any:
    """Convert a value to str, int, float, bool, None, or lists and dicts of these; any other type to its `str`.

    An int beyond 64 bits becomes its decimal text, a 0-d array or tensor its number. A value inside itself becomes
    "...", and one whose own methods raise the name of its class.

    Raises:
        TraceletError: the value is nested deeper than Python's recursion limit.
    """
    try:
        return _item(value, ())
    except RecursionError as error:
        raise TraceletError(f"this {type(value).__name__} is nested too deeply") from error


def _item(value: Any, parents: tuple[int, ...]) -> Any:
    if type(value) in _SCALARS:
        return _to_plain(value, parents)
    return attempted(partial(_to_plain, value, parents), partial(to_text, value), keep=(RecursionError,))


def _to_plain(value: Any, parents: tuple[int, ...]) -> Any:
    """Convert a value; `parents` has the `id` of each value that contains it."""
    match value:
        case None | bool():
            return value
        case float():
            return float(value)  # numpy.float64 is a subclass, which msgspec cannot encode
        case enum.Enum():
            return _to_plain(value.value, parents)
        case int():
            return int(value) if -_INT64 <= value < _INT64 else _digits(int(value))
        case str():
            return _escaped(value)
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case os.PathLike():
            return _to_plain(os.fspath(value), parents)
        case type():  # its methods are for its instances
            return to_text(value)
    if id(value) in parents:
        return "..."
    within = (*parents, id(value))
    match value:
        case Mapping():
            return {to_text(key): _item(item, within) for key, item in value.items()}
        case list() | tuple():
            return [_item(item, within) for item in value]
        case set() | frozenset():
            return sorted((_item(item, within) for item in value), key=repr)
    # Detected without importing dataclasses and argparse, which would slow down every start.
    if hasattr(value, "__dataclass_fields__"):
        fields = value.__dataclass_fields__
        return {name: _item(getattr(value, name), within) for name in fields if hasattr(value, name)}
    if "argparse" in sys.modules and isinstance(value, sys.modules["argparse"].Namespace):
        return _to_plain(vars(value), within)
    # numpy, torch, jax: any type that converts itself to a list or a number
    for method in ("tolist", "item"):
        # torch raises for a sparse tensor, or one without values
        converted = attempted(partial(_called, value, method), lambda: value, keep=(RecursionError,))
        if type(converted) is not type(value):  # numpy.longdouble converts to itself
            return _to_plain(converted, within)
    return to_text(value)


def _called(value: Any, method: str) -> Any:
    convert = getattr(value, method, None)
    return convert() if callable(convert) else value


def params(values: Any) -> dict[str, Any]:
    """Flatten nested parameters to dotted names; lists stay lists. For a duplicate name, keep the last value."""
    converted = to_plain(values)
    if not isinstance(converted, dict):
        raise TraceletError(
            f"log_params: parameters must be a dict, dataclass or Namespace, got {type(values).__name__}"
        )
    flat: dict[str, Any] = {}
    _flatten("", converted, flat)
    return flat


def number(value: Any) -> float:
    """Convert a number, or an array or tensor of one element, to float64."""
    if type(value) is float:
        return value
    if isinstance(value, str | bytes):
        raise TypeError("text is not a number")
    item = getattr(value, "item", None)
    return float(item() if callable(item) else value)


def integer_step(step: Any) -> int | None:
    """Convert a step to an int.

    Raises:
        TraceletError: the step is not a whole number, or exceeds 64 bits.
    """
    if type(step) is int and -_INT64 <= step < _INT64:
        return step
    if isinstance(step, str | bytes):
        raise TraceletError(f"step must be a whole number, got the text {step!r}. Pass int(step)")
    number = translated(partial(_called, step, "item"), partial(_step_error, step))
    whole = cut_step(number)
    if isinstance(number, float) and number != whole:
        raise TraceletError(f"step must be a whole number, got {shown(number)}. Pass int(step) or round(step)")
    return whole


def cut_step(step: Any) -> int | None:
    """Convert a step with `int(step)`, as TensorBoard does.

    Raises:
        TraceletError: the step is not a number, or exceeds 64 bits.
    """
    if step is None:
        return None
    whole = step if type(step) is int else translated(partial(int, step), partial(_step_error, step))
    if not -_INT64 <= whole < _INT64:
        raise TraceletError(f"step must fit into 64 bits, got {shown(whole)}")
    return whole


def _step_error(step: Any, error: Exception) -> TraceletError:
    return TraceletError(f"step must be a whole number, got {shown(step)}: {described(error)}")


def _flatten(prefix: str, values: Mapping[str, Any], flat: dict[str, Any]) -> None:
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping) and value:
            _flatten(name, value, flat)
        else:
            flat[name] = value


def to_text(value: Any) -> str:
    """Return the `str` of a value, or the name of its class if `str` raises."""
    return attempted(lambda: _escaped(str(value)), lambda: type(value).__name__)


def _digits(whole: int) -> str:
    try:
        return str(whole)
    except ValueError:  # Python limits the digits of decimal text, but not of hexadecimal
        return hex(whole)


def _escaped(text: str) -> str:
    """Escape lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
