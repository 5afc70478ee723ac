"""Hold the newest batches in bounded memory while the disk is not writable. Deliveries read them from here."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from tracelet.errors import JournalError
from tracelet.journal.store import JournalReader
from tracelet.journal.tables import StoredBatch
from tracelet.records import Record


class OverflowBuffer:
    """Hold batches in order. The journal thread adds and removes them; delivery threads read them."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._batches: deque[tuple[StoredBatch, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        """Return the number of records."""
        with self._lock:
            return sum(batch.last - batch.first + 1 for batch, _ in self._batches)

    @property
    def is_full(self) -> bool:
        return self._bytes >= self._max_bytes

    def add(self, first: int, records: Sequence[Record], size: int) -> None:
        with self._lock:
            self._batches.append((StoredBatch(first, first + len(records) - 1, list(records)), size))
            self._bytes += size

    def oldest(self) -> StoredBatch | None:
        with self._lock:
            return self._batches[0][0] if self._batches else None

    def remove_oldest(self) -> None:
        with self._lock:
            self._bytes -= self._batches.popleft()[1]

    def covers(self, after: int) -> bool:
        """Return True if the buffer starts at or before the record after sequence number `after`."""
        with self._lock:
            return bool(self._batches) and self._batches[0][0].first <= after + 1

    def next_batch(self, after: int) -> StoredBatch | None:
        """Return the next batch; see `JournalReader.next_batch`."""
        with self._lock:
            for batch, _ in self._batches:
                if batch.last > after:
                    first = max(batch.first, after + 1)
                    return StoredBatch(first, batch.last, batch.records[first - batch.first :])
        return None

    def last(self) -> int:
        """Return the newest sequence number, or 0 if the buffer is empty."""
        with self._lock:
            return self._batches[-1][0].last if self._batches else 0

    def count_after(self, position: int) -> int:
        """Return the number of records after `position`."""
        with self._lock:
            return sum(max(0, batch.last - max(batch.first - 1, position)) for batch, _ in self._batches)


class RecordSource:
    """Read a run's records for one delivery: first the journal, then the overflow buffer. Use from one thread.

    Raises:
        JournalError: from `next_batch`, if the journal cannot be read at the moment.
    """

    def __init__(self, folder: Path, overflow: OverflowBuffer) -> None:
        self._folder, self._overflow = folder, overflow
        self._reader: JournalReader | None = None

    def __enter__(self) -> RecordSource:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()

    @property
    def reader(self) -> JournalReader:
        if self._reader is None:
            self._reader = JournalReader(self._folder)
        self._reader.follow()
        return self._reader

    def last(self) -> int:
        """Return the newest sequence number, or 0 if the journal cannot be read at the moment."""
        try:
            return self._overflow.last() or self.reader.last()
        except JournalError:
            return 0

    def next_batch(self, after: int) -> StoredBatch | None:
        """Return the records after sequence number `after`, up to the end of their batch."""
        if self._overflow.covers(after) and (batch := self._overflow.next_batch(after)):
            return batch
        try:
            return self.reader.next_batch(after)
        except JournalError:
            if self._overflow.covers(after):  # no journal yet, or the buffer has no newer records
                return None
            raise
