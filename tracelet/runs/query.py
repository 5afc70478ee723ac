"""Select and sort runs by expressions such as `params.lr < 1e-3 and status == "finished"`.

Python's own parser reads an expression; then every node is checked against a short list, and interpreted here. There
are no calls and no attributes of objects: `params.lr` is the name of a parameter.
"""

from __future__ import annotations

import ast
import datetime
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from tracelet.errors import ConfigurationError, JournalError, suggest
from tracelet.guard import logger
from tracelet.runs.comparison import MISSING, Absent

_MAX_LENGTH, _MAX_DEPTH = 2000, 40
_GROUPS = ("params", "summary")
_FIELDS = (
    *("backends", "created", "duration", "exit_code", "group", "id", "name", "notes", "params", "project", "records"),
    *("status", "summary", "tags"),
)
_ALIASES = {"run_id": "id", "started": "created"}
"""The names that `--json` has for fields."""
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, container: item in container,
    ast.NotIn: lambda item, container: item not in container,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_HELP = (
    "Compare fields with <, <=, ==, !=, >, >=, in; join with and, or, not; quote texts. "
    'Example: params.lr < 1e-3 and "best" in tags'
)


class Fields(Protocol):
    """A run, as expressions see it."""

    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def summary(self) -> Mapping[str, Any]: ...


Run = TypeVar("Run", bound=Fields)


class QueryError(ConfigurationError):
    """An expression is invalid. The message shows where."""

    def __init__(self, option: str, text: str, reason: str, node: ast.AST | None = None, offset: int = 0) -> None:
        if node is not None:  # ast counts bytes
            offset = len(text.encode()[: getattr(node, "col_offset", 0)].decode(errors="ignore"))
        super().__init__(f"{option}: {reason}\n  {text}\n  {' ' * offset}^")


class Condition:
    """An expression that is true or false for a run.

    A comparison with a field that the run lacks is false, as is one of values that have no order.

    Raises:
        QueryError: the expression is invalid.
    """

    def __init__(self, text: str) -> None:
        text = _one_line(text)
        self._root = _parse("where", text)
        _check("where", text, self._root)
        self.columns = [Column(ast.get_source_segment(text, node) or "", node) for node in _parts_of_groups(self._root)]
        """The parameters and summary metrics in the expression."""

    def matches(self, run: Fields) -> bool:
        value = _value(self._root, run)
        return value is not MISSING and bool(value)


class Column:
    """One field of a run, such as `params.lr` or `summary["val/loss"]`."""

    def __init__(self, text: str, node: ast.expr) -> None:
        self.text, self._node = text, node

    def value(self, run: Fields) -> Any:
        """Return the value; `MISSING` if the run has none."""
        return _value(self._node, run)


class Order(Generic[Run]):
    """Fields to sort by, separated by commas; "-" before one means descending. Runs without a field come last.

    Raises:
        QueryError: a field is invalid.
    """

    def __init__(self, text: str) -> None:
        text = _one_line(text)
        self._keys = []
        for node in _listed("sort", text):
            is_descending = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
            field = node.operand if isinstance(node, ast.UnaryOp) and is_descending else node
            self._keys.append((_column("sort", text, field), is_descending))

    @property
    def columns(self) -> list[Column]:
        return [column for column, _ in self._keys]

    def sorted(self, runs: Iterable[Run]) -> list[Run]:
        found = list(runs)
        for column, is_descending in reversed(self._keys):
            keyed = [(_sort_key(column.value(run)), run) for run in found]
            present = [item for item in keyed if item[0] is not None]
            present.sort(key=lambda item: item[0] or (), reverse=is_descending)
            found = [run for _, run in present] + [run for key, run in keyed if key is None]
        return found


def columns(text: str) -> list[Column]:
    """Return the fields in a list that is separated by commas.

    Raises:
        QueryError: a field is invalid.
    """
    text = _one_line(text)
    return [_column("columns", text, node) for node in _listed("columns", text)]


def _one_line(text: str) -> str:
    return " ".join(text.split("\n")).strip()


def _parse(option: str, text: str) -> ast.expr:
    if len(text) > _MAX_LENGTH:
        raise ConfigurationError(f"{option} must have at most {_MAX_LENGTH} characters, got {len(text)}")
    if not text:
        raise ConfigurationError(f"{option} is empty. {_HELP}")
    try:
        root = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        offset = error.offset - 1 if error.offset else len(text)  # 0 is the end
        raise QueryError(option, text, f"{error.msg}. {_HELP}", offset=offset) from error
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte; nested too deeply
        raise ConfigurationError(f"{option}: cannot read the expression: {error}") from error
    for node in ast.walk(root):
        if isinstance(node, ast.Name):
            node.id = _ALIASES.get(node.id, node.id)
    return root


def _listed(option: str, text: str) -> Sequence[ast.expr]:
    node = _parse(option, text)
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _column(option: str, text: str, node: ast.expr) -> Column:
    if not isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        raise _unsupported(option, text, node)
    _check(option, text, node)
    return Column(ast.get_source_segment(text, node) or "", node)


def _check(option: str, text: str, node: ast.expr, depth: int = 0) -> None:
    """Check that the interpreter knows the node and those in it."""
    if depth > _MAX_DEPTH:
        raise QueryError(option, text, f"the expression is nested more than {_MAX_DEPTH} deep", node)
    parts: Sequence[ast.expr] = ()
    match node:
        case ast.BoolOp(values=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            pass
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=operand):
            parts = [operand]
        case ast.Compare(left=left, comparators=others):
            parts = [left, *others]
        case ast.Constant(value=str() | int() | float() | None):
            pass
        case ast.Name(id=name):
            if name not in _FIELDS:
                raise QueryError(option, text, _unknown(name), node)
        case ast.Attribute() | ast.Subscript():
            if _path(node) is None:
                raise _unsupported(option, text, node)
        case _:
            raise _unsupported(option, text, node)
    for part in parts:
        _check(option, text, part, depth + 1)


def _unknown(name: str) -> str:
    return f"there is no field {name!r}. {suggest(name, _FIELDS)}. A parameter is params.{name}"


def _unsupported(option: str, text: str, node: ast.expr) -> QueryError:
    if isinstance(node, ast.BinOp | ast.Call):
        reason = 'calls and arithmetic are not supported. Quote a name with a slash: summary["val/loss"]'
    elif isinstance(node, ast.Attribute | ast.Subscript):
        root = next((inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)), "")
        if root and root not in _FIELDS:
            return QueryError(option, text, _unknown(root), node)
        reason = 'only params and summary have parts: params.lr, summary["val/loss"]'
    else:
        reason = f"this is not supported. {_HELP}"
    return QueryError(option, text, reason, node)


def _path(node: ast.expr) -> tuple[str, str] | None:
    """Return the group and the name of `params.a.b` and `params["a.b"]`; None if it is neither."""
    match node:
        case ast.Attribute(value=ast.Name(id=group), attr=name) if group in _GROUPS:
            return group, name
        case ast.Subscript(value=ast.Name(id=group), slice=ast.Constant(value=str(name))) if group in _GROUPS:
            return group, name
        case ast.Attribute(value=inner, attr=name):
            outer = _path(inner)
            return None if outer is None else (outer[0], f"{outer[1]}.{name}")
        case _:
            return None


def _parts_of_groups(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Attribute | ast.Subscript):
        yield node
    else:
        for child in ast.iter_child_nodes(node):
            yield from _parts_of_groups(child)


def _value(node: ast.expr, run: Fields) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return _field(run, name)
        case ast.Attribute() | ast.Subscript():
            group, name = _path(node) or ("", "")
            values = _field(run, group)
            return values if values is MISSING else values.get(name, MISSING)
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_is_true(part, run) for part in parts)
        case ast.BoolOp(values=parts):
            return any(_is_true(part, run) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _is_true(operand, run)
        case ast.UnaryOp(op=op, operand=operand):
            value = _value(operand, run)
            if not isinstance(value, int | float):
                return MISSING
            return -value if isinstance(op, ast.USub) else value
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return [_value(part, run) for part in parts]
        case ast.Compare(left=left, ops=ops, comparators=others):
            pairs = zip(ops, [left, *others], others, strict=False)
            return all(_compare(op, before, after, run) for op, before, after in pairs)
    raise AssertionError(f"unreachable: {ast.dump(node)} was checked")


def _field(run: Fields, name: str) -> Any:
    """Return a field; `MISSING`, with a warning, if the journal that had it is removed or cannot be read."""
    try:
        return getattr(run, name)
    except JournalError as error:
        logger.warning("tracelet: the %s of a run are unknown: %s", name, error)
        return MISSING


def _is_true(node: ast.expr, run: Fields) -> bool:
    value = _value(node, run)
    return value is not MISSING and bool(value)


def _compare(op: ast.cmpop, left: ast.expr, right: ast.expr, run: Fields) -> bool:
    values = [_value(left, run), _value(right, run)]
    if any(value is MISSING for value in values):
        return False
    for index, other in ((0, right), (1, left)):
        if isinstance(other, ast.Name) and other.id == "created" and isinstance(values[index], str):
            values[index] = _timestamp(values[index])
    try:
        return bool(_COMPARE[type(op)](*values))
    except TypeError:  # 1 < "a", or 1 in 2
        return False


def _timestamp(text: str) -> float | str:
    """Return the Unix time of a local date such as 2026-01-31 or 2026-01-31T14:25. A text without one stays."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return text


def _sort_key(value: Any) -> tuple[int, Any] | None:
    """Return a key that orders values of any type; None for a missing value or NaN."""
    match value:
        case Absent() | None:
            return None
        case int() | float():
            return None if value != value else (0, value)
        case str():
            return (1, value)
        case _:
            return (2, str(value))
