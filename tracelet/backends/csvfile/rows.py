"""Read back the text files of the csv backend, and write tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from tracelet import records as r
from tracelet.errors import RecordRejected
from tracelet.filesystem import create


def read_rows(path: Path, width: int) -> Iterator[list[str]]:
    """Yield the rows below the header, none if the file is missing. Skip other lines, which somebody added."""
    if path.exists():
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            next(rows, None)
            yield from (row for row in rows if len(row) == width)


def write_table(record: r.Table, source: str, target: Path) -> None:
    """Write the table in `source` (see `records.Table`) as CSV. A nested value becomes JSON.

    Raises:
        RecordRejected: the file is missing, or has no columns and rows.
    """
    try:
        table = json.loads(Path(source).read_bytes())
        columns, rows = table["columns"], [[_cell(value) for value in row] for row in table["rows"]]
    except FileNotFoundError as error:
        raise RecordRejected(f"csv: table {record.tag!r}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RecordRejected(f"csv: table {record.tag!r} must have columns and rows: {error}") from error
    with create(target, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        out = csv.writer(file)
        out.writerow(columns)
        out.writerows(rows)


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
