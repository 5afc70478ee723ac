"""One process's append-only log in SQLite, and a cursor per backend. Knows no backend.

A row of `batches` is one MessagePack blob with the first and last sequence number of the records inside and a
checksum. One thread writes the file; readers open connections of their own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TypedDict

import msgspec

from tracelet.errors import JournalError, RunInUse
from tracelet.filesystem import on_network
from tracelet.records import Record, RunInfo

try:
    import fcntl
except ImportError:  # Windows: the lock file is opened without sharing instead
    fcntl = None  # type: ignore[assignment]

FILE_NAME = "journal.db"
_LOCK_NAME = "journal.lock"
_LOCK_PATIENCE = 0.3
_HEARTBEAT_HOLDS = 60.0
_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, checksum INTEGER NOT NULL,
                                    data BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS cursors (backend TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS rejections (backend TEXT NOT NULL, seq INTEGER NOT NULL, reason TEXT NOT NULL,
                                       data BLOB NOT NULL, PRIMARY KEY (backend, seq)) STRICT;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
"""

_LAST = "SELECT coalesce((SELECT last FROM batches ORDER BY first DESC LIMIT 1), 0)"

_encode = msgspec.msgpack.Encoder().encode


@functools.cache
def _decoder(wanted: Any) -> msgspec.msgpack.Decoder[Any]:
    """Made where something is first read: it looks at every kind of record, which would take a start milliseconds."""
    return msgspec.msgpack.Decoder(wanted)


class Cursor(msgspec.Struct, kw_only=True):
    """How far a backend is: every record up to `position` is settled, in one of the three ways counted."""

    position: int = 0
    delivered: int = 0
    filtered: int = 0
    rejected: int = 0
    filtered_by: dict[str, int] = {}
    """Of the filtered, how many by which key of `config`."""


class Rejection(msgspec.Struct, frozen=True):
    """A record that a backend will never take, and the vendor's reason."""

    seq: int
    reason: str
    record: Record


class StoredBatch(NamedTuple):
    """Records with the sequence numbers `first` to `last`; `damaged` says why there are none."""

    first: int
    last: int
    records: list[Record]
    damaged: str | None = None


class _Owner(TypedDict, total=False):
    host: str
    pid: int
    beat: float


# What is read of the facts is of these kinds, or its row is damaged; of "trouble csv", the first word counts.
_KINDS: dict[str, Any] = {
    "owner": _Owner,
    "status": str,
    "ended": float | None,
    "exit_code": int | None,
    "trouble": str | None,
    "url": str | None,
    "config": dict[str, Any],
    "git": dict[str, Any],
    "environment": dict[str, Any],
}


class Journal:
    """The writer: made and used by one thread at a time, one live writer a file.

    `lock` is the descriptor of a run's lock that this process inherited from one that had it.

    Raises:
        RunInUse: another live process writes this journal.
        JournalError: the file or its folder cannot be written.
    """

    def __init__(self, folder: Path, lock: int | None = None) -> None:
        self.path = folder / FILE_NAME
        with _translated("open", self.path), contextlib.ExitStack() as stack:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock = stack.enter_context(_lock(folder / _LOCK_NAME, lock))
            """The descriptor by which this process, and one that inherits it, holds the run."""
            # check_same_thread: the orchestrator opens it in the caller's thread and hands it to the journal thread.
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10.0)
            stack.callback(self._db.close)
            os.chmod(self.path, 0o600)
            if on_network(folder):
                # A shared-memory WAL does not work across hosts; a rollback journal with full syncs does, slower.
                self._db.execute("PRAGMA journal_mode=TRUNCATE")
                self._db.execute("PRAGMA synchronous=FULL")
            else:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
            self._put("version", _VERSION)
            self.last: int = self._db.execute(_LAST).fetchone()[0]
            self._stack = stack.pop_all()
        self.beat()

    def append(self, records: Sequence[Record]) -> int:
        """Commit `records` as one batch; gives the sequence number of the last."""
        data = _encode(records)
        last = self.last + len(records)
        with _translated("write", self.path):
            # One statement in autocommit mode: sqlite3 gives up the interpreter at every call, and beside a busy
            # Python loop each return costs a switch interval.
            self._db.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", (self.last + 1, last, zlib.crc32(data), data))
        self.last = last
        return last

    def skip_to(self, last: int) -> None:
        """Leave the numbers up to `last` without records: they were delivered, and never kept here."""
        with _translated("write", self.path):
            self._db.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", (self.last + 1, last, 0, b""))
        self.last = last

    def sync(self) -> None:
        """Have the disk write down what was appended; until then a power cut may cost it, though no kill does."""
        with _translated("write", self.path), contextlib.suppress(FileNotFoundError):
            # SQLite itself does this at a checkpoint only (synchronous=NORMAL); its locks are not on this file.
            number = os.open(f"{self.path}-wal", os.O_RDWR)
            try:
                os.fsync(number)
            finally:
                os.close(number)

    def put_cursor(self, backend: str, cursor: Cursor, rejections: Sequence[Rejection] = ()) -> None:
        with _translated("write", self.path):
            for one in rejections:
                self._db.execute(
                    "INSERT OR REPLACE INTO rejections VALUES (?, ?, ?, ?)",
                    (backend, one.seq, one.reason, _encode(one.record)),
                )
            self._db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (backend, _encode(cursor)))

    def put_info(self, info: RunInfo) -> None:
        self._put("info", info)

    def annotate(self, key: str, value: Any) -> None:
        """Keep a fact about the run (plain data) beside its records."""
        self._put(key, value)

    def beat(self) -> None:
        """Say that this process is alive."""
        self._put("owner", {"host": os.uname().nodename, "pid": os.getpid(), "beat": time.time()})

    def close(self) -> None:
        with _translated("close", self.path), self._stack:
            # One file again, which can be copied, and read where nothing may be written. Not while somebody reads it.
            with contextlib.suppress(sqlite3.OperationalError):
                self._db.execute("PRAGMA busy_timeout=0")
                self._db.execute("PRAGMA journal_mode=DELETE")

    def _put(self, key: str, value: Any) -> None:
        with _translated("write", self.path):
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, _encode(value)))


class JournalReader:
    """A reader of a journal, live or not. One thread each.

    Raises:
        JournalError: there is no readable journal.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        with _translated("open", self.path):
            self._db = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=10.0)

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def next_batch(self, after: int) -> StoredBatch | None:
        """The records after sequence number `after`, up to the end of the batch that holds the first of them."""
        with _translated("read", self.path):
            row = self._db.execute(
                # From the batch that holds the record: `last` has no index, and a day's run has a million batches.
                # CAST: SQLite would make a text of data whose type is damaged, or fail at it.
                "SELECT first, last, checksum, CAST(data AS BLOB) FROM batches WHERE last > ?1 AND first >= "
                "(SELECT coalesce(max(first), 0) FROM batches WHERE first <= ?1 + 1) ORDER BY first LIMIT 1",
                (after,),
            ).fetchone()
        if row is None:
            return None
        first, last, checksum, data = row
        begin = after + 1
        if first > begin:
            return _missing(begin, first - 1)
        if data and zlib.crc32(data) == checksum:
            try:
                records = _decoder(list[Record]).decode(data)
            except msgspec.DecodeError as error:
                return self._lost(begin, first, last, f"are damaged ({error})")
            last = first + len(records) - 1  # the checksum vouches for these, and not for the number beside them
            if begin <= last:
                return StoredBatch(begin, last, records[begin - first :])
            following = self._following(first)
            return None if following is None else _missing(begin, max(begin, following - 1))
        return self._lost(
            begin, first, last, "are damaged (checksum)" if data else "were never kept: the disk took nothing"
        )

    def _lost(self, begin: int, first: int, last: int, how: str) -> StoredBatch:
        following = self._following(first)  # a damaged row may lie about its end
        last = last if following is None else min(last, following - 1)
        return StoredBatch(begin, max(begin, last), [], f"records {first} to {last} {how}")

    def _following(self, first: int) -> int | None:
        """Where the next batch begins; where keys are damaged, not even their order can be relied on."""
        with _translated("read", self.path):
            row = self._db.execute("SELECT min(first) FROM batches WHERE first > ?", (first,)).fetchone()
        return None if row[0] is None else int(row[0])

    def records(self) -> Iterator[Record]:
        """Every whole record of the journal, in order."""
        position = 0
        while batch := self.next_batch(position):
            yield from batch.records
            position = batch.last

    def last(self) -> int:
        with _translated("read", self.path):
            return int(self._db.execute(_LAST).fetchone()[0])

    def cursors(self) -> dict[str, Cursor]:
        with _translated("read", self.path):
            rows = self._db.execute("SELECT backend, CAST(data AS BLOB) FROM cursors ORDER BY backend").fetchall()
            return {backend: _decoder(Cursor).decode(data) for backend, data in rows}

    def rejections(self, backend: str) -> list[Rejection]:
        with _translated("read", self.path):
            rows = self._db.execute(
                "SELECT seq, reason, CAST(data AS BLOB) FROM rejections WHERE backend = ? ORDER BY seq", (backend,)
            ).fetchall()
            return [Rejection(seq, reason, _decoder(Record).decode(data)) for seq, reason, data in rows]

    def info(self) -> RunInfo:
        with _translated("read", self.path):
            row = self._db.execute("SELECT CAST(value AS BLOB) FROM meta WHERE key = 'info'").fetchone()
            if row is None:
                raise JournalError(f"{self.path}: the run was never described; its process died at the start")
            return msgspec.msgpack.decode(row[0], type=RunInfo)

    def facts(self) -> dict[str, Any]:
        """What was annotated: `root`, `status`, `exit_code`, `ended`, `owner`, ..."""
        with _translated("read", self.path):
            rows = self._db.execute(
                "SELECT key, CAST(value AS BLOB) FROM meta WHERE key NOT IN ('info', 'version')"
            ).fetchall()
            return {key: _decoder(_KINDS.get(key.split(" ")[0], Any)).decode(value) for key, value in rows}


def _missing(first: int, last: int) -> StoredBatch:
    return StoredBatch(first, last, [], f"records {first} to {last} are missing from the journal's file")


def is_live(folder: Path) -> bool:
    """Whether a process still writes the run in `folder`: its lock on this host, its heartbeat from another."""
    with JournalReader(folder) as reader:
        facts = reader.facts()
    owner = facts.get("owner", {})
    ended = facts.get("status", "running") != "running"
    beating = not ended and bool(time.time() - owner.get("beat", 0.0) < _HEARTBEAT_HOLDS)
    if fcntl is None or owner.get("host") != os.uname().nodename:
        return beating
    try:
        with open(folder / _LOCK_NAME, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:  # somebody else's run, or a file system without locks
        return beating


def is_journal(folder: Path) -> bool:
    """Whether the journal in `folder` has our tables, whatever is in them: anybody may call a file `journal.db`."""
    try:
        with JournalReader(folder) as reader, _translated("read", reader.path):
            found = {name for (name,) in reader._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except JournalError:
        return False
    return {"batches", "cursors", "meta"} <= found


def alone(folder: Path) -> contextlib.AbstractContextManager[int]:
    """While held, no process writes the run in `folder`.

    Raises:
        RunInUse: one does.
        OSError: the folder cannot be written.
    """
    return _lock(folder / _LOCK_NAME)


@contextlib.contextmanager
def _lock(path: Path, held: int | None = None) -> Iterator[int]:
    """Hold the run's lock file; the operating system lets go of it when the process ends, however it ends."""
    with open(path if held is None else held, "ab") as file:
        deadline = time.monotonic() + _LOCK_PATIENCE
        while not _locked(file):
            if time.monotonic() > deadline:
                raise RunInUse(
                    f"another process writes the run in {path.parent}; wait for its end or start another run"
                )
            time.sleep(0.01)  # `is_live` holds it for a moment
        yield file.fileno()


def _locked(file: IO[bytes]) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network file system without locks: the heartbeat alone says who writes
        return True
    return True


@contextlib.contextmanager
def _translated(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, msgspec.DecodeError) as error:
        if isinstance(error, JournalError):
            raise
        raise JournalError(f"cannot {verb} {path}: {error}") from error
