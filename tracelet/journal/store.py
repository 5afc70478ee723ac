"""Store one run's records as an append-only log in SQLite, with a cursor per backend.

A row of `batches` is one MessagePack blob with a checksum and the first and last sequence number of its records. One
thread writes the file; each reader opens its own connection.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tracelet import forks
from tracelet.errors import JournalError, RunInUse
from tracelet.filesystem import make_private, on_network
from tracelet.journal.lock import has_lock, is_file, is_locked, lock_run
from tracelet.journal.recovery import copy_deleted, put_in_place, roll_back
from tracelet.journal.selection import Selection
from tracelet.journal.tables import FACT_TYPES, SCHEMA, Cursor, Owner, Rejection, StoredBatch, check_tables, decode
from tracelet.records import Record, RunInfo

FILE_NAME = "journal.db"
# Seconds after which a run on another host without a heartbeat counts as dead. The writer beats every 10 s.
_HEARTBEAT_TIMEOUT = 60.0
# Seconds that another host's clock may be ahead.
_MAX_CLOCK_SKEW = 86400.0
_VERSION = 1
_TABLE_NAMES = {"batches", "cursors", "rejections", "meta"}

# UnicodeDecodeError: the message of an sqlite3.Error quotes a damaged name.
_SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)

# CAST, also below: with a damaged type, SQLite would return text or nothing.
_LAST_OF_ROW = "max(first, coalesce(CAST(last AS INTEGER), 0))"
_LAST = f"SELECT coalesce((SELECT {_LAST_OF_ROW} FROM batches ORDER BY first DESC LIMIT 1), 0)"

_encode = msgspec.msgpack.Encoder().encode
_ALL = Selection()


class Journal:
    """Write a journal. Only one thread at a time may use it, and only one live process may write the file.

    `lock` is the descriptor of the run's lock, if this process inherited it.

    Raises:
        RunInUse: another live process writes this journal.
        JournalError: the file or its folder cannot be written.
    """

    def __init__(self, folder: Path, lock: int | None = None) -> None:
        self.path = folder / FILE_NAME
        with _using_sqlite("open", self.path), contextlib.ExitStack() as stack:
            make_private(folder)
            self.lock = stack.enter_context(lock_run(folder, lock))
            """The descriptor of the run's lock, which a child process can inherit."""
            self._db = self._connect()
            stack.callback(self._db.close)
            self._db.executescript(SCHEMA)
            self._put("version", _VERSION)
            self.last: int = self._db.execute(_LAST).fetchone()[0]
            self._alive = self._previous_life()
            self._stack = stack.pop_all()
        self.beat()

    def _connect(self) -> sqlite3.Connection:
        # check_same_thread: opened in the caller's thread, then used by the journal thread.
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10.0)
        try:
            os.chmod(self.path, 0o600)
            if on_network(self.path.parent):
                # A shared-memory WAL fails across hosts. A rollback journal with full syncs works, but is slower.
                db.executescript("PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=FULL")
            else:
                db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL")
            self._status = os.stat(self.path)
        except (sqlite3.Error, OSError):
            db.close()
            raise
        self._is_open = True
        return db

    def is_in_place(self) -> bool:
        """Return False if the journal or its lock was deleted, moved or replaced. Both are still open here."""
        return self._is_open and is_file(self.path, self._status) and has_lock(self.path.parent, self.lock)

    def restore(self) -> None:
        """Put the journal and its lock back in place, with all records: the open file still has them.

        Raises:
            RunInUse: another process, or another journal, has taken the place.
            JournalError: the folder cannot be written.
        """
        folder = self.path.parent
        with _using_sqlite("restore", self.path), contextlib.ExitStack() as stack:
            make_private(folder)
            lock = self.lock if has_lock(folder, self.lock) else stack.enter_context(lock_run(folder))
            if not self.path.exists():
                draft = copy_deleted(self._db, self.path)
                self._is_open = False
                self._db.close()
                put_in_place(draft, self.path)
                self._status = os.stat(self.path)
            if not is_file(self.path, self._status):
                raise RunInUse(f"another journal is in place of {self.path}")
            db = self._db if self._is_open else self._connect()
            stack.push(self._stack)
            stack.callback(db.close)
            self._db, self.lock, self._stack = db, lock, stack.pop_all()

    def append(self, records: Sequence[Record]) -> int:
        """Commit `records` as one batch and return the last sequence number."""
        data = _encode(records)
        last = self.last + len(records)
        with _using_sqlite("write", self.path):
            # One statement in autocommit mode: sqlite3 releases the GIL at every call, and beside a busy Python loop
            # each return costs a switch interval.
            self._db.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", (self.last + 1, last, zlib.crc32(data), data))
        self.last, self._alive = last, None
        return last

    def skip_to(self, last: int) -> None:
        """Mark the numbers up to `last` as empty: their records were delivered but never stored here."""
        with _using_sqlite("write", self.path):
            self._db.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", (self.last + 1, last, 0, b""))
        self.last = last

    def sync(self) -> None:
        """Run fsync. Until then a power cut may lose appended records; a kill of the process does not."""
        with _translated("write", self.path), contextlib.suppress(FileNotFoundError):
            # With synchronous=NORMAL, SQLite does this at checkpoints only. It holds no locks on this file.
            descriptor = os.open(f"{self.path}-wal", os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def put_cursor(self, backend: str, cursor: Cursor, rejections: Sequence[Rejection] = ()) -> None:
        with _using_sqlite("write", self.path):
            for rejection in rejections:
                self._db.execute(
                    "INSERT OR REPLACE INTO rejections VALUES (?, ?, ?, ?)",
                    (backend, rejection.seq, rejection.reason, _encode(rejection.record)),
                )
            self._db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (backend, _encode(cursor)))

    def put_info(self, info: RunInfo) -> None:
        self._put("info", info)

    def annotate(self, key: str, value: Any) -> None:
        """Store a fact about the run (plain data) beside its records."""
        self._put(key, value)

    def beat(self) -> None:
        """Update the heartbeat of this process. It is a sign of life of the run unless the process only delivers."""
        now = time.time()
        alive = now if self._alive is None else self._alive
        self._put("owner", {"host": os.uname().nodename, "pid": os.getpid(), "beat": now, "alive": alive})

    def _previous_life(self) -> float | None:
        """Return the last sign of life of earlier processes; None if there were none."""
        row = self._db.execute("SELECT CAST(value AS BLOB) FROM meta WHERE key = 'owner'").fetchone()
        with contextlib.suppress(msgspec.DecodeError):
            owner = {} if row is None else decode(Owner, row[0])
            return owner.get("alive", owner.get("beat"))
        return None

    def close(self) -> None:
        with _using_sqlite("close", self.path), self._stack:
            # Merge into one file that can be copied and read from read-only folders. Fails if a reader has it open.
            with contextlib.suppress(sqlite3.OperationalError):
                if self.is_in_place():  # it would remove the log of another journal in its place
                    self._db.execute("PRAGMA busy_timeout=0")
                    self._db.execute("PRAGMA journal_mode=DELETE")

    def _put(self, key: str, value: Any) -> None:
        with _using_sqlite("write", self.path):
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, _encode(value)))


class JournalReader:
    """Read the journal in a run's folder, live or not. Use from one thread.

    Raises:
        JournalError: there is no readable journal.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder) / FILE_NAME
        self._is_checked = False
        with _using_sqlite("open", self.path):
            if not self.path.is_file():  # opening a named pipe would wait for its writer
                raise JournalError(f"cannot open {self.path}: no such file. Pass a run's folder, got {str(folder)!r}")
            roll_back(self.path)
            self._db = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=10.0)
            self._status = os.stat(self.path)
            with contextlib.suppress(*_SQLITE_ERRORS):
                # Open the log as well, before the files are deleted: SQLite finds it by name, at the first statement.
                self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with forks.delayed():
            self._db.close()

    def _select(self, statement: str, *values: Any) -> list[Any]:
        with _using_sqlite("read", self.path):
            if not self._is_checked:
                check_tables(self._db)
                self._is_checked = True
            return self._db.execute(statement, values).fetchall()

    def follow(self) -> None:
        """Read the file that `Journal.restore` has put in place, if any. The deleted one can be read until then."""
        if is_file(self.path, self._status) or not self.path.exists():
            return
        with contextlib.suppress(JournalError), JournalReader(self.path.parent) as found:
            if found.info().created == self.info().created and found.last() >= self.last():  # not another run's
                self._db, found._db = found._db, self._db
            self._status = found._status

    def next_batch(self, after: int, select: Selection = _ALL) -> StoredBatch | None:
        """Return the records after sequence number `after`, up to the end of their batch, or None if there are none.

        `select` leaves out the other ones; the numbers of the batch stay.
        """
        rows = self._select(
            # Start at the batch that holds the record: `last` has no index, and a day's run has a million batches.
            f"SELECT first, {_LAST_OF_ROW}, checksum, CAST(data AS BLOB) FROM batches "
            f"WHERE {_LAST_OF_ROW} > ?1 AND first >= "
            "(SELECT coalesce(max(first), 0) FROM batches WHERE first <= ?1 + 1) ORDER BY first LIMIT 1",
            after,
        )
        if not rows:
            return None
        first, last, checksum, data = rows[0]
        begin = after + 1
        if first > begin:
            return _missing(begin, first - 1)
        if data and zlib.crc32(data) == checksum:
            try:
                count, records = select.decode(data, begin - first)
            except msgspec.DecodeError as error:
                return self._damaged(begin, first, last, f"are damaged ({error})")
            last = first + count - 1  # the checksum covers the records, not the number `last`
            if begin <= last:
                return StoredBatch(begin, last, records)
            next_first = self._next_first(first)
            return None if next_first is None else _missing(begin, max(begin, next_first - 1))
        return self._damaged(
            begin, first, last, "are damaged (checksum)" if data else "were never stored: the disk was not writable"
        )

    def _damaged(self, begin: int, first: int, last: int, reason: str) -> StoredBatch:
        next_first = self._next_first(first)  # the `last` of a damaged row may be wrong
        last = last if next_first is None else min(last, next_first - 1)
        return StoredBatch(begin, max(begin, last), [], f"records {first} to {last} {reason}")

    def _next_first(self, first: int) -> int | None:
        """Return the first number of the next batch. If keys are damaged, their order is unreliable too."""
        ((next_first,),) = self._select("SELECT min(first) FROM batches WHERE first > ?", first)
        return None if next_first is None else int(next_first)

    def records(self) -> Iterator[Record]:
        """Yield every undamaged record of the journal, in order."""
        position = 0
        while batch := self.next_batch(position):
            yield from batch.records
            position = batch.last

    def last(self) -> int:
        return int(self._select(_LAST)[0][0])

    def cursors(self) -> dict[str, Cursor]:
        rows = self._select("SELECT backend, CAST(data AS BLOB) FROM cursors ORDER BY backend")
        with _translated("read", self.path):
            return {backend: decode(Cursor, data) for backend, data in rows}

    def rejections(self, backend: str) -> list[Rejection]:
        rows = self._select(
            "SELECT seq, reason, CAST(data AS BLOB) FROM rejections WHERE backend = ? ORDER BY seq", backend
        )
        with _translated("read", self.path):
            return [Rejection(seq, reason, decode(Record, data)) for seq, reason, data in rows]

    def info(self) -> RunInfo:
        rows = self._select("SELECT CAST(value AS BLOB) FROM meta WHERE key = 'info'")
        if not rows:
            raise JournalError(f"{self.path}: the run has no description; its process died at the start")
        with _translated("read", self.path):
            info: RunInfo = decode(RunInfo, rows[0][0])
            return info

    def facts(self) -> dict[str, Any]:
        """Return the annotated facts: `root`, `status`, `exit_code`, `ended`, `owner`, ..."""
        rows = self._select("SELECT key, CAST(value AS BLOB) FROM meta WHERE key NOT IN ('info', 'version')")
        with _translated("read", self.path):
            return {key: decode(FACT_TYPES.get(key.split(" ")[0], Any), value) for key, value in rows}

    def ended(self) -> float | None:
        """Return the time of the run's end or, if it recorded none, of its last sign of life. None if it is unknown."""
        facts = self.facts()
        ended: float | None = facts.get("ended")
        if facts.get("status", "running") != "running":
            return ended
        owner: Owner = facts.get("owner", {})
        beat = owner.get("alive", owner.get("beat"))
        rows = self._select("SELECT first FROM batches ORDER BY first DESC LIMIT 1")
        batch = self.next_batch(rows[0][0] - 1) if rows else None
        if beat is None or batch is None:
            return beat
        # A program may log any wall time; one far from the heartbeat is not the time of its call.
        times = [record.wall_time for record in batch.records]
        return max((time for time in times if 0 <= time - beat <= _HEARTBEAT_TIMEOUT), default=beat)


def _missing(first: int, last: int) -> StoredBatch:
    return StoredBatch(first, last, [], f"records {first} to {last} are missing from the journal's file")


def is_live(folder: Path) -> bool:
    """Return True if a process still writes the run. Checks its lock on this host, its heartbeat from another host."""
    with JournalReader(folder) as reader:
        facts = reader.facts()
    owner = facts.get("owner", {})
    ended = facts.get("status", "running") != "running"
    is_beating = not ended and -_MAX_CLOCK_SKEW < time.time() - owner.get("beat", 0.0) < _HEARTBEAT_TIMEOUT
    locked = is_locked(folder) if owner.get("host") == os.uname().nodename else None
    return is_beating if locked is None else locked


def is_empty(folder: Path) -> bool:
    """Return True if the journal has no description and no record: its process died at the start, or on a full disk.

    Raises:
        JournalError: there is no readable journal.
    """
    with JournalReader(folder) as reader:
        with _using_sqlite("read", reader.path):
            tables = {name for (name,) in reader._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables >= _TABLE_NAMES:  # a kill between two of them
            return tables <= _TABLE_NAMES
        return not reader.last() and not reader._select("SELECT 1 FROM meta WHERE key = 'info'")


def is_journal(folder: Path) -> bool:
    """Return True if `journal.db` in `folder` has tracelet's tables; other programs may use that file name."""
    try:
        with JournalReader(folder) as reader:
            reader.last()
    except JournalError:
        return False
    return True


@contextlib.contextmanager
def _using_sqlite(verb: str, path: Path) -> Iterator[None]:
    with _translated(verb, path), forks.delayed():
        yield


@contextlib.contextmanager
def _translated(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (*_SQLITE_ERRORS, OSError, msgspec.DecodeError) as error:
        if isinstance(error, JournalError):
            raise
        raise JournalError(f"cannot {verb} {path}: {error}") from error
