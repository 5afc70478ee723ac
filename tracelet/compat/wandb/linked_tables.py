"""Define tables that join or group others, and tables whose columns have roles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tracelet.compat.wandb.base import Entry, Value
from tracelet.compat.wandb.errors import UnsupportedError
from tracelet.compat.wandb.tables import Table
from tracelet.guard import shown
from tracelet.records import Text


class JoinedTable(Value):
    """Two tables with the column, or the two columns, by which to join them.

    Raises:
        ValueError: a table or the key has another type.
    """

    _log_type = "joined-table"

    def __init__(self, table1: Any, table2: Any, join_key: str | list[str]) -> None:
        if not isinstance(join_key, str) and not (isinstance(join_key, list) and len(join_key) == 2):
            raise ValueError(f"join_key must be a text or a list of two texts, got {join_key!r}")
        for table in (table1, table2):
            is_entry = isinstance(table, str) and table.endswith(".table.json")
            if not is_entry and not isinstance(table, Table | PartitionedTable):
                raise ValueError(f"a table must be a wandb.Table or its path in an artifact, got {shown(table)}")
        self._table1, self._table2, self._join_key = table1, table2, join_key

    def _tables(self) -> dict[str, Any]:
        return {"table1": self._table1, "table2": self._table2}

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        named = {key: f"{name}/{key}" if isinstance(table, Value) else table for key, table in self._tables().items()}
        yield Text(name, json.dumps({**named, "join_key": self._join_key}), step, wall_time)
        for key, table in self._tables().items():
            if isinstance(table, Value):
                yield from table.records(f"{name}/{key}", step, wall_time)

    def files(self, stem: str) -> dict[str, bytes]:
        described: dict[str, Any] = {"_type": self._log_type, "join_key": self._join_key}
        files: dict[str, bytes] = {}
        for key, table in self._tables().items():
            described[key] = f"{stem}_{key}.{table._log_type}.json" if isinstance(table, Value) else table
            if isinstance(table, Value):
                files.update(table.files(f"{stem}_{key}"))
        return {f"{stem}.{self._log_type}.json": json.dumps(described, sort_keys=True).encode(), **files}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JoinedTable) and (self._tables(), self._join_key) == (other._tables(), other._join_key)

    __hash__ = object.__hash__


class PartitionedTable(Value):
    """A table whose parts are the tables in a folder of an artifact."""

    _log_type = "partitioned-table"

    def __init__(self, parts_path: str) -> None:
        self.parts_path = parts_path

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        yield Text(name, json.dumps(self.summary()), step, wall_time)

    def summary(self) -> dict[str, Any]:
        return {"_type": self._log_type, "parts_path": self.parts_path}

    def iterrows(self) -> Iterator[tuple[int, list[Any]]]:
        raise UnsupportedError("PartitionedTable.iterrows is not supported. Read the tables of the artifact instead")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PartitionedTable) and self.parts_path == other.parts_path

    __hash__ = object.__hash__


class EvalTable(Table):
    """A table with the roles of its columns. It is logged as a table, and its roles as a text."""

    _log_type = "eval-table"

    def __init__(
        self,
        columns: list[Any] | None = None,
        *args: Any,
        input_columns: list[str] | None = None,
        output_columns: list[str] | None = None,
        score_columns: list[str] | None = None,
        backend: str | None = None,
        unsupported_media_mode: str = "stub",
        **kwargs: Any,
    ) -> None:
        roles: Mapping[str, list[str] | None]
        roles = {"input_columns": input_columns, "output_columns": output_columns, "score_columns": score_columns}
        self._roles = {role: list(names or []) for role, names in roles.items()}
        if columns is None:
            columns = [name for names in self._roles.values() for name in names] or None
        super().__init__(columns, *args, **kwargs)

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        yield from super().records(name, step, wall_time)
        if any(self._roles.values()):
            yield Text(f"{name}/roles", json.dumps(self._roles), step, wall_time)
