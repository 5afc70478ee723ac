"""The newest batches of a run in memory, while the disk does not take them. Bounded; deliveries read on from here."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from tracelet.errors import JournalError
from tracelet.journal.store import JournalReader, StoredBatch
from tracelet.records import Record


class OverflowBuffer:
    """Batches that wait for the disk, in order. Filled and emptied by the journal's thread, read by the deliveries."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._batches: deque[tuple[StoredBatch, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        """Records in it."""
        with self._lock:
            return sum(batch.last - batch.first + 1 for batch, _ in self._batches)

    @property
    def is_full(self) -> bool:
        return self._bytes >= self._most

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
        """Whether the record after sequence number `after` is here, or newer than everything."""
        with self._lock:
            return bool(self._batches) and self._batches[0][0].first <= after + 1

    def next_batch(self, after: int) -> StoredBatch | None:
        """As `JournalReader.next_batch`."""
        with self._lock:
            for batch, _ in self._batches:
                if batch.last > after:
                    begin = max(batch.first, after + 1)
                    return StoredBatch(begin, batch.last, batch.records[begin - batch.first :])
        return None

    def last(self) -> int:
        """The newest sequence number in it, or 0."""
        with self._lock:
            return self._batches[-1][0].last if self._batches else 0

    def count_after(self, position: int) -> int:
        """Records in it beyond a position."""
        with self._lock:
            return sum(max(0, batch.last - max(batch.first - 1, position)) for batch, _ in self._batches)


class RecordSource:
    """A run's records for one delivery: the journal's, then what is in memory alone. One thread each.

    Raises:
        JournalError: from `next_batch`; the journal cannot be read just now.
    """

    def __init__(self, folder: Path, tail: OverflowBuffer) -> None:
        self._folder, self._tail = folder, tail
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
        return self._reader

    def last(self) -> int:
        """The newest sequence number; 0 where nothing can be read just now."""
        try:
            return self._tail.last() or self.reader.last()
        except JournalError:
            return 0

    def next_batch(self, after: int) -> StoredBatch | None:
        """The records after sequence number `after`, up to the end of the batch that holds the first of them."""
        if self._tail.covers(after) and (batch := self._tail.next_batch(after)):
            return batch
        try:
            return self.reader.next_batch(after)
        except JournalError:
            if self._tail.covers(after):  # there never was a journal, or nothing but the tail is new
                return None
            raise
