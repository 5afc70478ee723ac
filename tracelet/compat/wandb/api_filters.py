"""Select and sort runs by conditions in the form of MongoDB, as `Api.runs` takes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tracelet.compat.wandb.errors import UnsupportedError

if TYPE_CHECKING:
    from tracelet.compat.wandb.api_runs import Run

_MISSING = object()
_FIELDS: dict[str, Callable[[Run], Any]] = {
    "display_name": lambda run: run.name,
    "displayName": lambda run: run.name,
    "name": lambda run: run.id,  # as on wandb's server
    "id": lambda run: run.id,
    "group": lambda run: run.group,
    "job_type": lambda run: run.job_type,
    "jobType": lambda run: run.job_type,
    "tags": lambda run: run.tags,
    "state": lambda run: run.state,
    "notes": lambda run: run.notes,
    "project": lambda run: run.project,
    "entity": lambda run: run.entity,
    "created_at": lambda run: run.created_at,
    "createdAt": lambda run: run.created_at,
}


def matches(run: Run, filters: Mapping[str, Any] | None) -> bool:
    """Return True if a run fulfils all conditions.

    Raises:
        UnsupportedError: an operator or a field is unknown.
    """
    return all(_fulfils(run, key, condition) for key, condition in (filters or {}).items())


def check_filters(filters: Mapping[str, Any] | None) -> None:
    """Check operators and fields before any run is read.

    Raises:
        UnsupportedError: an operator or a field is unknown.
    """
    for key, condition in (filters or {}).items():
        if key in ("$and", "$or", "$nor"):
            for part in condition:
                check_filters(part)
        elif key == "$not":
            check_filters(condition)
        elif key.startswith("$"):
            raise _unknown_operator(key)
        else:
            _check_field(key)
            if _is_operators(condition):
                _check_operators(condition)


def sort_key(order: str) -> tuple[Callable[[Run], tuple[int, Any]], bool]:
    """Return a key function for an order such as `-created_at`, and True if it is descending.

    Raises:
        UnsupportedError: the field is unknown.
    """
    field = order.lstrip("+-")
    _check_field(field)
    is_descending = order.startswith("-")
    if field in ("created_at", "createdAt"):  # more exact than its text
        return lambda run: _ordered(run._info.created), is_descending
    return lambda run: _ordered(_lookup(run, field)), is_descending


def _fulfils(run: Run, key: str, condition: Any) -> bool:
    match key:
        case "$and":
            return all(matches(run, part) for part in condition)
        case "$or":
            return any(matches(run, part) for part in condition)
        case "$nor":
            return not any(matches(run, part) for part in condition)
        case "$not":
            return not matches(run, condition)
    value = _lookup(run, key)
    if _is_operators(condition):
        return all(_operators(value, operator, operand) for operator, operand in condition.items())
    return _equals(value, condition)


def _operators(value: Any, operator: str, operand: Any) -> bool:
    match operator:
        case "$eq":
            return _equals(value, operand)
        case "$ne":
            return not _equals(value, operand)
        case "$in":
            return any(_equals(value, item) for item in operand)
        case "$nin":
            return not any(_equals(value, item) for item in operand)
        case "$exists":
            return (value is not _MISSING) == bool(operand)
        case "$regex":
            listed = value if isinstance(value, list) else [value]
            return any(isinstance(item, str) and re.search(operand, item) is not None for item in listed)
        case "$not":
            return not all(_operators(value, inner, inner_operand) for inner, inner_operand in operand.items())
        case _:
            return _is_comparable(value, operand) and _COMPARE[operator](value, operand)


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": lambda value, operand: value > operand,
    "$gte": lambda value, operand: value >= operand,
    "$lt": lambda value, operand: value < operand,
    "$lte": lambda value, operand: value <= operand,
}
_OPERATORS = ("$eq", "$ne", "$in", "$nin", "$exists", "$regex", "$not", *_COMPARE)


def _is_operators(condition: Any) -> bool:
    return isinstance(condition, Mapping) and any(str(key).startswith("$") for key in condition)


def _check_operators(condition: Mapping[str, Any]) -> None:
    for operator, operand in condition.items():
        if operator not in _OPERATORS:
            raise _unknown_operator(operator)
        if operator == "$not":
            _check_operators(operand)


def _unknown_operator(operator: str) -> UnsupportedError:
    known = ", ".join(("$and", "$or", "$nor", *_OPERATORS))
    return UnsupportedError(f"filters: operator {operator!r} is not supported; use one of {known}, or Python")


def _check_field(field: str) -> None:
    if field not in _FIELDS and not field.startswith(("config.", "summary_metrics.", "summary.")):
        known = ", ".join(("config.NAME", "summary_metrics.NAME", *_FIELDS))
        raise UnsupportedError(f"field {field!r} is not supported; use one of {known}")


def _equals(value: Any, operand: Any) -> bool:
    """Compare as MongoDB: a list equals each of its items, and a missing field equals None."""
    if value is _MISSING:
        return operand is None
    if isinstance(value, list) and not isinstance(operand, list):
        return any(_equals(item, operand) for item in value)
    if isinstance(value, bool) != isinstance(operand, bool):  # in Python, True == 1
        return False
    return bool(value == operand)


def _is_comparable(value: Any, operand: Any) -> bool:
    if isinstance(value, bool) or isinstance(operand, bool):
        return isinstance(value, bool) and isinstance(operand, bool)
    numbers = isinstance(value, int | float) and isinstance(operand, int | float)
    return numbers or (isinstance(value, str) and isinstance(operand, str))


def _lookup(run: Run, field: str) -> Any:
    source, _, path = field.partition(".")
    if not path:
        return _FIELDS[field](run)
    values: Any = run.config if source == "config" else run.summary
    return _at(values, path, () if source != "config" else (".value",))


def _at(values: Any, path: str, suffixes: tuple[str, ...]) -> Any:
    """Return the value at a dotted path. Names may have dots, and wandb's filters a trailing `.value`."""
    if isinstance(values, Mapping):
        if path in values:
            return values[path]
        for index, char in enumerate(path):
            if char == "." and path[:index] in values:
                found = _at(values[path[:index]], path[index + 1 :], ())
                if found is not _MISSING:
                    return found
    for suffix in suffixes:
        if path.endswith(suffix):
            return _at(values, path.removesuffix(suffix), ())
    return _MISSING


def _ordered(value: Any) -> tuple[int, Any]:
    """Return a key by which values of any type can be sorted. Missing values and NaN come first."""
    match value:
        case bool() | int() | float() if value == value:
            return 1, value
        case str():
            return 2, value
        case list() | dict():
            return 3, str(value)
        case _:
            return 0, 0
