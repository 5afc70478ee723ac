"""Define tables and histograms."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, ClassVar

from tracelet.capture import media
from tracelet.capture.values import to_plain
from tracelet.compat.wandb.base import Entry, Value, derives_from, to_array
from tracelet.compat.wandb.column_types import ANY, ColumnType, describe, merge, of_dtype, type_of
from tracelet.compat.wandb.errors import Error
from tracelet.guard import shown
from tracelet.records import Table as TableRecord

_LOG_MODES = ("IMMUTABLE", "MUTABLE", "INCREMENTAL")
_DEFAULT_COLUMNS = ("Input", "Output", "Expected")


class TableIndex(int):
    """The number of a row, with a link to its table."""

    _table: Table

    def get_row(self) -> dict[Any, Any]:
        return dict(zip(self._table.columns, self._table.data[self], strict=True))


class Table(Value):
    """A table. Cells are plain values, arrays, or other data types.

    All rows are logged, also beyond `MAX_ROWS`. A cell with a data type is logged as `<name>/<column>/<row>`, and the
    cell has this name.

    Raises:
        ValueError: a row has the wrong number of cells.
        TypeError: a cell does not have the type of its column, and `allow_mixed_types` is False.
    """

    MAX_ROWS: ClassVar[int] = 10_000
    MAX_ARTIFACT_ROWS: ClassVar[int] = 200_000

    _log_type = "table"

    def __init__(
        self,
        columns: list[Any] | None = None,
        data: Any = None,
        rows: Any = None,
        dataframe: Any = None,
        dtype: Any = None,
        optional: bool | list[bool] = True,
        allow_mixed_types: bool = False,
        log_mode: str | None = "IMMUTABLE",
    ) -> None:
        assert log_mode in _LOG_MODES, f"log_mode must be one of {', '.join(_LOG_MODES)}, got {log_mode!r}"
        self.log_mode = log_mode
        frame = data if derives_from(data, "pandas") and hasattr(data, "columns") else dataframe
        self.columns: list[Any] = list(_DEFAULT_COLUMNS if columns is None else columns)
        if frame is not None:
            self.columns = [name if type(name) in (str, int) else str(name) for name in frame.columns]
        assert columns is None or isinstance(columns, list), f"columns must be a list, got {columns!r}"
        assert all(type(column) in (str, int) for column in self.columns), "columns must be texts or ints"
        self.data: list[list[Any]] = []
        self._pk_col: Any = None
        self._fk_cols: set[Any] = set()
        self._logged_rows = 0
        self._types = self._initial_types(ANY if allow_mixed_types else dtype, optional)
        if frame is None:
            self._add_rows(data if data is not None else rows if rows is not None else [])
        else:
            self._add_rows(zip(*(frame.iloc[:, number].values for number in range(len(self.columns))), strict=True))

    def _initial_types(self, dtype: Any, optional: bool | list[bool]) -> dict[Any, ColumnType]:
        dtypes = dtype if isinstance(dtype, list) else [dtype] * len(self.columns)
        optionals = optional if isinstance(optional, list) else [optional] * len(self.columns)
        each = zip(self.columns, dtypes, optionals, strict=False)
        return {column: of_dtype(kind, may_be_none) for column, kind, may_be_none in each}

    def _add_rows(self, rows: Iterable[Iterable[Any]]) -> None:
        for row in rows:
            self.add_data(*row)

    def add_data(self, *data: Any) -> None:
        """Add a row."""
        if len(data) != len(self.columns):
            raise ValueError(f"this table has {len(self.columns)} columns, {self.columns}, got {len(data)} cells")
        types = {column: self._fitting(column, cell) for column, cell in zip(self.columns, data, strict=True)}
        self._types = types
        self.data.append(list(data))

    add_row = add_data

    def _fitting(self, column: Any, cell: Any) -> ColumnType:
        """Return the type of a column with one more cell, or raise TypeError if the cell does not fit."""
        merged = merge(self._types[column], type_of(cell))
        if merged is None:
            kind = self._types[column]
            expected = f"{kind.name} or None" if kind.optional else kind.name
            raise TypeError(
                f"a cell of column {column!r} must be of type {expected}, got {shown(cell)} of type "
                f"{type_of(cell).name}. Pass allow_mixed_types=True to allow any type"
            )
        return merged

    def add_column(self, name: str, data: Any, optional: bool = False) -> None:
        """Add a column; `data` has one cell for each row."""
        self._require_fixed_columns("add_column")
        assert isinstance(name, str), f"the name of a column must be a text, got {name!r}"
        assert name not in self.columns, f"column {name!r} exists"
        cells, is_first = list(data), not self.columns
        assert is_first or len(cells) == len(self.data), f"expected {len(self.data)} cells, got {len(cells)}"
        self._types[name] = ColumnType("unknown", optional=optional)
        try:
            for cell in cells:
                self._types[name] = self._fitting(name, cell)
        except TypeError:
            del self._types[name]
            raise
        if is_first:
            self.data = [[] for _ in cells]
        for row, cell in zip(self.data, cells, strict=True):
            row.append(cell)
        self.columns.append(name)

    def add_computed_columns(self, fn: Callable[[int, dict[Any, Any]], dict[str, Any]]) -> None:
        """Add the columns that `fn(index, row)` returns as a dict for each row."""
        self._require_fixed_columns("add_computed_columns")
        computed: dict[str, list[Any]] = {}
        for index, row in self.iterrows():
            for column, cell in fn(index, dict(zip(self.columns, row, strict=True))).items():
                computed.setdefault(column, []).append(cell)
        for column, cells in computed.items():
            self.add_column(column, cells)

    def _require_fixed_columns(self, method: str) -> None:
        if self.log_mode == "INCREMENTAL":
            raise Error(f"{method} needs a table with log_mode MUTABLE or IMMUTABLE, got INCREMENTAL")

    def cast(self, col_name: Any, dtype: Any, optional: bool = False) -> ColumnType:
        """Set the type of a column.

        Raises:
            TypeError: a cell does not have this type.
        """
        assert col_name in self.columns, f"no column {col_name!r}"
        before = self._types[col_name]
        self._types[col_name] = of_dtype(dtype, optional)
        try:
            for cell in self.get_column(col_name):
                self._types[col_name] = self._fitting(col_name, cell)
        except TypeError:
            self._types[col_name] = before
            raise
        return self._types[col_name]

    def get_column(self, name: Any, convert_to: str | None = None) -> Any:
        """Return the cells of a column as a list, or as an array with `convert_to="numpy"`."""
        assert name in self.columns, f"no column {name!r}"
        assert convert_to in (None, "numpy"), f"convert_to must be None or 'numpy', got {convert_to!r}"
        position = self.columns.index(name)
        cells = [row[position] for row in self.data]
        if convert_to is None:
            return cells
        return to_array([cell.to_data_array() if isinstance(cell, Value) else cell for cell in cells])

    def index_ref(self, index: int) -> TableIndex:
        """Return the number of a row, with a link to this table."""
        assert index < len(self.data), f"the table has {len(self.data)} rows, got {index}"
        reference = TableIndex(index)
        reference._table = self
        return reference

    def get_index(self) -> list[TableIndex]:
        """Return the numbers of all rows."""
        return [self.index_ref(index) for index in range(len(self.data))]

    def iterrows(self) -> Iterator[tuple[TableIndex, list[Any]]]:
        """Yield the number of each row, and the row."""
        for index, row in enumerate(self.data):
            yield self.index_ref(index), row

    def get_dataframe(self) -> Any:
        """Return the table as a DataFrame of pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise Error("Table.get_dataframe needs pandas. Run: pip install pandas") from error
        return pd.DataFrame.from_records(self.data, columns=self.columns)

    def set_pk(self, col_name: Any) -> None:
        """Name the column whose cells identify the rows."""
        assert col_name in self.columns, f"no column {col_name!r}"
        self._pk_col = col_name

    def set_fk(self, col_name: Any, table: Table, table_col: str) -> None:
        """Name a column whose cells are in a column of another table."""
        assert col_name in self.columns, f"no column {col_name!r}"
        assert table_col in table.columns, f"no column {table_col!r} in the other table"
        self._fk_cols.add(col_name)

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        first = self._logged_rows if self.log_mode == "INCREMENTAL" else 0
        self._logged_rows = len(self.data)
        media_cells: list[tuple[str, Value]] = []
        rows = [
            [
                _named(cell, f"{name}/{column}/{index}", media_cells)
                for column, cell in zip(self.columns, row, strict=True)
            ]
            for index, row in enumerate(self.data[first:], first)
        ]
        yield TableRecord(name, media.table([str(column) for column in self.columns], rows), step, wall_time)
        for path, value in media_cells:
            yield from value.records(path, step, wall_time)

    def summary(self) -> dict[str, Any]:
        kind = "incremental-table-file" if self.log_mode == "INCREMENTAL" else "table-file"
        return {"_type": kind, "ncols": len(self.columns), "nrows": len(self.data), "log_mode": self.log_mode}

    def described(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        files: dict[str, bytes] = {}
        types = {str(column): describe(kind) for column, kind in self._types.items()}
        return {
            "_type": self._log_type,
            "columns": self.columns,
            "data": [[_stored(cell, files) for cell in row] for row in self.data],
            "ncols": len(self.columns),
            "nrows": len(self.data),
            "column_types": {"wb_type": "typedDict", "params": {"type_map": types}},
            "log_mode": self.log_mode,
        }, files

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Table)
            and self.columns == other.columns
            and self._types == other._types
            and len(self.data) == len(other.data)
            and all(map(_equal, self.data, other.data))
        )

    __hash__ = object.__hash__


def _named(cell: Any, path: str, found: list[tuple[str, Value]]) -> Any:
    """Return a cell with the name of each data type in it, and add these to `found`."""
    match cell:
        case Value():
            found.append((path, cell))
            return path
        case list() | tuple():
            return [_named(item, f"{path}/{number}", found) for number, item in enumerate(cell)]
        case dict():
            return {key: _named(item, f"{path}/{key}", found) for key, item in cell.items()}
    return cell


def _stored(cell: Any, files: dict[str, bytes]) -> Any:
    """Return a cell as in wandb's table files.

    Times are milliseconds since 1970, NaN is None, and a data type is its description.
    """
    match cell:
        case Value():
            described, own_files = cell.described()
            files.update(own_files)
            return described
        case datetime.datetime():
            if cell != cell:  # pandas.NaT
                return None
            zoned = cell if cell.tzinfo is not None else cell.replace(tzinfo=datetime.timezone.utc)
            return int(zoned.timestamp() * 1000)
        case datetime.date():
            return _stored(datetime.datetime(cell.year, cell.month, cell.day), files)
        case Decimal():
            return float(cell)
        case list() | tuple():
            return [_stored(item, files) for item in cell]
        case dict():
            return {key: _stored(item, files) for key, item in cell.items()}
    if type(cell).__name__ == "datetime64":
        return None if cell != cell else int(cell.astype("datetime64[ms]").astype(int))
    plain = to_plain(cell)
    if isinstance(plain, list):
        return [_stored(item, files) for item in plain]
    return None if isinstance(plain, float) and math.isnan(plain) else plain


def _equal(row: list[Any], other: list[Any]) -> bool:
    for cell, other_cell in zip(row, other, strict=True):
        same = cell == other_cell
        if not (same.all() if hasattr(same, "all") else same):
            return False
    return True
