"""Write one run's records to the journal, and hold them in memory while the disk is not writable."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tracelet.errors import JournalError, RunInUse
from tracelet.guard import Guard
from tracelet.journal.overflow import OverflowBuffer
from tracelet.journal.sizes import record_bytes
from tracelet.journal.spool import Spool
from tracelet.journal.store import Journal
from tracelet.journal.tables import Cursor, Rejection
from tracelet.records import Record, RunInfo, Scalar
from tracelet.redaction import Secrets

# Seconds between two attempts to write to a full disk.
_RETRY_EVERY = 0.25
# Seconds that the journal is missing before it is restored: its folder may just be being deleted.
_RESTORE_AFTER = 0.25
# Seconds between two fsyncs. A power cut loses the records since the last one; a kill of the process loses none.
_SYNC_EVERY = 5.0

_encode = msgspec.msgpack.Encoder().encode


class JournalWriter:
    """Write the journal. Created in the caller's thread; used by the journal thread alone, except `overflow`.

    `delivered_seq()` returns the sequence number up to which every backend has the records, or None without backends.

    Raises:
        RunInUse: another live process writes this journal.
        JournalError: the journal of a resumed run cannot be opened. A new run retries later and holds its records
            in memory until then.
    """

    def __init__(
        self,
        folder: Path,
        info: RunInfo,
        guard: Guard,
        max_bytes: int,
        delivered_seq: Callable[[], int | None],
        secrets: Secrets,
        lock: int | None = None,
    ) -> None:
        self.overflow = OverflowBuffer(max_bytes)
        self._folder, self._info, self._guard, self._delivered_seq = folder, info, guard, delivered_seq
        self._spool, self._secrets = Spool(folder / "files"), secrets
        self._lock = lock
        self._journal: Journal | None = None
        self._facts: dict[str, Any] = {}
        self._cursors: dict[str, tuple[Cursor, list[Rejection]]] = {}
        self._cursor_lock = threading.Lock()
        self._last_attempt = self._last_sync = time.monotonic()
        self._dirty = False
        self._missing_since: float | None = None
        self.last = 0
        try:
            self._open()
        except RunInUse:
            raise
        except JournalError as error:
            if info.resumed:
                raise
            self._log(error)

    def _open(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(self._folder, self._lock)
            self._journal.put_info(self._info)
            if not self._info.resumed:
                self._journal.annotate("status", "running")
            self._journal.sync()  # so that the run is readable after a power cut in its first seconds
            self.last = max(self.last, self._journal.last)
        return self._journal

    @property
    def lock(self) -> int | None:
        """The file descriptor of the run's lock; None while there is no journal."""
        return None if self._journal is None else self._journal.lock

    def append(self, records: Sequence[Record]) -> None:
        """Store a batch.

        Raises:
            JournalError: the disk is not writable and the memory buffer is full; nothing was stored.
            ValueError, TypeError, OverflowError: a record cannot be encoded; nothing was stored.
        """
        if self._catch_up():
            try:
                journal = self._open()
                store = self._store
                # One pass: each step of this thread slows a busy training loop.
                self.last = journal.append([item if item.__class__ is Scalar else store(item) for item in records])
                self._dirty = True
                return
            except JournalError as error:
                self._log(error)
        records = [self._secrets.clean(record) for record in records]
        _encode(records)  # raises if it can never be stored
        self._make_room()
        if self.overflow.is_full:
            raise JournalError(f"cannot write {self._folder}: the disk is full, and so is the memory buffer")
        self.overflow.add(self.last + 1, records, sum(map(record_bytes, records)))
        self.last += len(records)

    def _store(self, record: Record) -> Record:
        return self._spool.store(self._secrets.clean(record))

    def catch_up(self) -> None:
        """Retry the disk if the last attempt is long enough ago, and restore a deleted journal."""
        self._restore(_RESTORE_AFTER)
        self._catch_up()

    def _restore(self, after: float) -> None:
        """Restore the journal if it has been missing for `after` seconds. Its open file takes records until then."""
        if self._journal is None or self._journal.is_in_place():
            self._missing_since = None
            return
        if self._missing_since is None:
            self._missing_since = time.monotonic()
            self._guard.log_once(
                "deleted",
                "tracelet: the journal in %s was deleted or moved while its run is active; it is restored. "
                "Stop a run before you delete it",
                self._folder,
            )
        if time.monotonic() - self._missing_since < after:
            return
        try:
            self._journal.restore()
        except (RunInUse, JournalError) as error:
            self._missing_since = time.monotonic()
            self._guard.log_once(
                f"restore {error}",
                "tracelet: %s. Until the journal is restored, records are lost if the program ends before they are "
                "delivered",
                error,
            )
        else:
            self._missing_since = None
            self._dirty = True

    def count_lost(self, position: int) -> tuple[int, str]:
        """Return the number of records after `position` that no file has after `close`, and the reason."""
        if self._missing_since is not None:
            return max(0, self.last - position), "the journal was deleted, and could not be restored"
        return self.overflow.count_after(position), "the disk was not writable until the end"

    def _catch_up(self, *, now: bool = False) -> bool:
        """Move buffered records to the journal. Return True if all are stored. Retry at most every `_RETRY_EVERY`."""
        if self._journal is not None and self.overflow.oldest() is None:
            return True
        if not now and time.monotonic() - self._last_attempt < _RETRY_EVERY:
            return False
        self._last_attempt = time.monotonic()
        try:
            journal = self._open()
            while batch := self.overflow.oldest():
                if journal.last < batch.first - 1:
                    journal.skip_to(batch.first - 1)
                # Append before removing: a reader finds the batch in at least one of the two.
                journal.append([self._store(record) for record in batch.records])
                self._dirty = True
                self.overflow.remove_oldest()
        except JournalError as error:
            self._log(error)
            return False
        return True

    def _make_room(self) -> None:
        """Remove batches that every backend has: they are not lost, although the journal does not have them."""
        while self.overflow.is_full and (batch := self.overflow.oldest()):
            delivered_seq = self._delivered_seq()
            if delivered_seq is None or batch.last > delivered_seq:
                return
            self.overflow.remove_oldest()
            for _ in batch.records:
                self._guard.count("delivered, but not stored in the journal: the disk was not writable")

    def _log(self, error: JournalError) -> None:
        self._guard.log_once(
            f"journal {error}",
            "tracelet: %s. Logging continues; records stay in memory until the disk is writable, "
            "and are delivered from there",
            error,
        )

    # Facts and cursors.

    def annotate(self, key: str, value: Any) -> None:
        """Store a fact about the run with the next `write_facts`. May be called from any thread."""
        self._facts[key] = value

    def set_cursor(self, name: str, cursor: Cursor, rejections: Sequence[Rejection]) -> None:
        """Store a backend's cursor with the next `write_facts`. May be called from any thread."""
        with self._cursor_lock:
            previous = self._cursors[name][1] if name in self._cursors else []
            self._cursors[name] = (cursor, [*previous, *rejections])

    def write_facts(self) -> None:
        """Write new facts and cursors. Retry those that cannot be written at the next call.

        Raises:
            JournalError: the disk is not writable.
        """
        if not (self._facts or self._cursors):
            return
        journal = self._open()
        while self._facts:
            key, value = self._facts.popitem()
            try:
                journal.annotate(key, value)
            except JournalError:
                self._facts.setdefault(key, value)
                raise
        while self._cursors:
            with self._cursor_lock:
                name, (cursor, rejections) = self._cursors.popitem()
            try:
                journal.put_cursor(name, cursor, rejections)
            except JournalError:
                with self._cursor_lock:
                    later, later_rejections = self._cursors.get(name, (cursor, []))
                    self._cursors[name] = (later, [*rejections, *later_rejections])
                raise

    def beat(self) -> None:
        """Update the heartbeat of this process."""
        if self._journal is not None:
            self._journal.beat()

    def sync(self) -> None:
        """Run fsync if records were appended and the last one is `_SYNC_EVERY` ago."""
        if self._dirty and self._journal is not None and time.monotonic() - self._last_sync >= _SYNC_EVERY:
            self._journal.sync()
            self._dirty, self._last_sync = False, time.monotonic()

    def close(self) -> None:
        """Retry the disk a last time and close the journal. Unwritten records stay in `overflow`."""
        self._guard.call(self._restore, 0.0)
        self._guard.call(self._catch_up_now)
        if self._journal is not None:
            self._journal.close()

    def _catch_up_now(self) -> None:
        if self._catch_up(now=True):
            self.write_facts()
