"""Keeps one run's records: in the journal, and in memory for as long as the disk does not take them."""

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
from tracelet.journal.spool import Spool
from tracelet.journal.store import Cursor, Journal, Rejection
from tracelet.records import Record, RunInfo, Scalar
from tracelet.redaction import Secrets

_TRY_EVERY = 0.25
# A power cut costs what the disk was not told to write down; a kill of the process costs nothing of it.
_SYNC_EVERY = 5.0

_size = msgspec.msgpack.Encoder().encode


class JournalWriter:
    """The journal's writer. Made in the caller's thread; used by the journal's thread alone, but for `tail`.

    `settled()` is the number up to which every backend has the records, None where there are no backends.

    Raises:
        RunInUse: another live process writes this journal.
        JournalError: an earlier run's journal cannot be opened. That of a new run may come later: until then, records
            are in memory alone.
    """

    def __init__(
        self,
        folder: Path,
        info: RunInfo,
        guard: Guard,
        most_bytes: int,
        settled: Callable[[], int | None],
        secrets: Secrets,
        lock: int | None = None,
    ) -> None:
        self.tail = OverflowBuffer(most_bytes)
        self._folder, self._info, self._guard, self._settled = folder, info, guard, settled
        self._spool, self._secrets = Spool(folder / "files"), secrets
        self._lock = lock
        self._journal: Journal | None = None
        self._facts: dict[str, Any] = {}
        self._cursors: dict[str, tuple[Cursor, list[Rejection]]] = {}
        self._told = threading.Lock()
        self._tried = self._synced = time.monotonic()
        self._dirty = False
        self.last = 0
        try:
            self._open()
        except RunInUse:
            raise
        except JournalError as error:
            if info.resumed:
                raise
            self._say(error)

    def _open(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(self._folder, self._lock)
            self._journal.put_info(self._info)
            if not self._info.resumed:
                self._journal.annotate("status", "running")
            self._journal.sync()  # a power cut in the first seconds leaves a run that can be read
            self.last = max(self.last, self._journal.last)
        return self._journal

    @property
    def lock(self) -> int | None:
        """The descriptor by which the run is held; None while there is no journal."""
        return None if self._journal is None else self._journal.lock

    def append(self, records: Sequence[Record]) -> None:
        """Keep a batch.

        Raises:
            JournalError: neither the disk nor the memory set aside takes it; nothing of it was kept.
            ValueError, TypeError, OverflowError: one of the records has no encoding; nothing was kept.
        """
        if self._caught_up():
            try:
                journal = self._open()
                keep = self._keep
                # One pass: beside a busy loop, each step of this thread is the loop's loss.
                self.last = journal.append([one if one.__class__ is Scalar else keep(one) for one in records])
                self._dirty = True
                return
            except JournalError as error:
                self._say(error)
        records = [self._secrets.clean(one) for one in records]
        size = len(_size(records))
        self._make_room()
        if self.tail.is_full:
            raise JournalError(f"cannot write {self._folder}: the disk takes nothing, and the memory set aside is full")
        self.tail.add(self.last + 1, records, size)
        self.last += len(records)

    def _keep(self, record: Record) -> Record:
        return self._spool.keep(self._secrets.clean(record))

    def catch_up(self) -> None:
        """Try the disk again, where it is time to."""
        self._caught_up()

    def _caught_up(self, *, now: bool = False) -> bool:
        """Whether everything so far is in the journal; tried again from time to time while it is not."""
        if self._journal is not None and self.tail.oldest() is None:
            return True
        if not now and time.monotonic() - self._tried < _TRY_EVERY:
            return False
        self._tried = time.monotonic()
        try:
            journal = self._open()
            while batch := self.tail.oldest():
                if journal.last < batch.first - 1:
                    journal.skip_to(batch.first - 1)
                # First there, then no longer here: a reader finds it in one of the two.
                journal.append([self._keep(one) for one in batch.records])
                self._dirty = True
                self.tail.remove_oldest()
        except JournalError as error:
            self._say(error)
            return False
        return True

    def _make_room(self) -> None:
        """Let go of what every backend has: it is not lost, though no journal kept it."""
        while self.tail.is_full and (batch := self.tail.oldest()):
            settled = self._settled()
            if settled is None or batch.last > settled:
                return
            self.tail.remove_oldest()
            for _ in batch.records:
                self._guard.count("delivered, but not kept in the journal: the disk took nothing")

    def _say(self, error: JournalError) -> None:
        self._guard.say(
            f"journal {error}",
            "tracelet: %s. The run goes on; records wait in memory for the disk, and backends get them from there",
            error,
        )

    # What is said about the run.

    def annotate(self, key: str, value: Any) -> None:
        """Keep a fact about the run with the next `write_notes`. From any thread."""
        self._facts[key] = value

    def set_cursor(self, name: str, cursor: Cursor, rejections: Sequence[Rejection]) -> None:
        """Keep a backend's cursor with the next `write_notes`. From any thread."""
        with self._told:
            earlier = self._cursors[name][1] if name in self._cursors else []
            self._cursors[name] = (cursor, [*earlier, *rejections])

    def write_notes(self) -> None:
        """Write what was said since; what cannot be written stays for the next time.

        Raises:
            JournalError: the disk.
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
            with self._told:
                name, (cursor, rejections) = self._cursors.popitem()
            try:
                journal.put_cursor(name, cursor, rejections)
            except JournalError:
                with self._told:
                    newer, more = self._cursors.get(name, (cursor, []))
                    self._cursors[name] = (newer, [*rejections, *more])
                raise

    def beat(self) -> None:
        """Say that this process is alive."""
        if self._journal is not None:
            self._journal.beat()

    def sync(self) -> None:
        """Have the disk write down what it took, every few seconds."""
        if self._dirty and self._journal is not None and time.monotonic() - self._synced >= _SYNC_EVERY:
            self._journal.sync()
            self._dirty, self._synced = False, time.monotonic()

    def close(self) -> None:
        """Try the disk once more, and let go of it; what it did not take stays in `tail`."""
        self._guard.call(self._caught_up_now)
        if self._journal is not None:
            self._journal.close()

    def _caught_up_now(self) -> None:
        if self._caught_up(now=True):
            self.write_notes()
