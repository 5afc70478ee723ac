"""The tables of a journal, and the types of the values in them."""

from __future__ import annotations

import functools
import sqlite3
from typing import Any, NamedTuple, TypedDict

import msgspec

from tracelet.records import Record

SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, checksum INTEGER NOT NULL,
                                    data BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS cursors (backend TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS rejections (backend TEXT NOT NULL, seq INTEGER NOT NULL, reason TEXT NOT NULL,
                                       data BLOB NOT NULL, PRIMARY KEY (backend, seq)) STRICT;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
"""


# As SQLite stores them.
_TABLES = {" ".join(table.replace("IF NOT EXISTS ", "").split()) for table in SCHEMA.split(";") if table.strip()}


@functools.cache
def _decoder(cls: Any) -> msgspec.msgpack.Decoder[Any]:
    """Return a cached decoder. Built at first use: inspecting every record type takes milliseconds."""
    return msgspec.msgpack.Decoder(cls)


def decode(cls: Any, data: bytes) -> Any:
    """Decode a `cls`.

    Raises:
        DecodeError: `data` is damaged, of another type, not UTF-8, or nested too deeply.
    """
    try:
        return _decoder(cls).decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def check_tables(database: sqlite3.Connection) -> None:
    """Check that the tables are tracelet's: a view of the same name could be endless, and have values of any type.

    Raises:
        sqlite3.Error: it is no database, or has other tables.
    """
    stored = {" ".join(sql.split()) for (sql,) in database.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")}
    if not stored >= _TABLES:
        raise sqlite3.DatabaseError("it has not the tables of a tracelet journal")


class Cursor(msgspec.Struct, kw_only=True):
    """Count the records up to `position` for one backend: each is delivered, filtered or rejected."""

    position: int = 0
    delivered: int = 0
    filtered: int = 0
    rejected: int = 0
    filtered_by: dict[str, int] = {}
    """The filtered records, counted by the `config` key that excluded them."""


class Rejection(msgspec.Struct, frozen=True):
    """A record that a backend rejected for good, and the vendor's reason."""

    seq: int
    reason: str
    record: Record


class StoredBatch(NamedTuple):
    """Records with the sequence numbers `first` to `last`. If there are none, `damaged` is the reason."""

    first: int
    last: int
    records: list[Record]
    damaged: str | None = None


class Owner(TypedDict, total=False):
    """The process that wrote the journal last. `alive` is the run's last sign of life, `beat` the process's."""

    host: str
    pid: int
    beat: float
    alive: float


# A fact of another type means a damaged row. The first word of a key counts, as in "trouble csv".
FACT_TYPES: dict[str, Any] = {
    "owner": Owner,
    "status": str,
    "ended": float | None,
    "exit_code": int | None,
    "trouble": str | None,
    "url": str | None,
    "config": dict[str, Any],
    "scalars": str,
    "git": dict[str, Any],
    "environment": dict[str, Any],
}
