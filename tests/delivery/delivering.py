"""Model delivery: one journal, one backend, and every failure of disk, process, network and store."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tracelet.backends.base import Backend, Batch, Status, Written
from tracelet.backends.capabilities import OfflineRecording
from tracelet.delivery import backoff as backoff_module
from tracelet.delivery import thread as delivery_module
from tracelet.delivery import throttle as throttle_module
from tracelet.delivery.thread import Delivery
from tracelet.errors import BackendUnavailable, JournalError, RecordRejected
from tracelet.guard import Guard
from tracelet.journal import writer as writer_module
from tracelet.journal.store import Journal, JournalReader
from tracelet.journal.tables import Cursor
from tracelet.journal.writer import JournalWriter
from tracelet.records import Record, RunInfo, Scalar, Text
from tracelet.redaction import Secrets

MEMORY = 600
"""Size of the memory buffer in bytes: about thirty records."""
PATIENCE = 20.0
FOREVER = 2**30


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Shorten waits and batches, so that much happens in an example."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery_module, "_CONFIRM_EVERY", 0.002)
        for name in ("FIRST", "_LONGEST"):
            patch.setattr(backoff_module, name, 0.001)
        pauses = {"_PAUSE_FACTOR": 0.0, "_BACKLOG_PAUSE_FACTOR": 0.0}
        for name, value in (pauses | {"_FIRST_BATCH": 3, "_MAX_BATCH": 8}).items():
            patch.setattr(throttle_module, name, value)
        patch.setattr(writer_module, "_RETRY_EVERY", 0.0)
        log = threading.excepthook
        patch.setattr(threading, "excepthook", lambda args: args.exc_type is SystemExit or log(args))
        yield


class Store:
    """Model a vendor: a log of records, each with the sequence number stored beside it. It outlives the process.

    Filtered and rejected records leave no number in it. The first `uploaded` items of the log are at the server, and
    the first `durable` ones survive a kill of the process. The items between them are in the vendor's offline
    recording, made while its server is unavailable.
    """

    def __init__(self, *, reports_seq: bool, lags: bool, whole: bool) -> None:
        self.reports_seq, self.lags, self.whole = reports_seq, lags, whole
        self.lock = threading.RLock()
        self.log: list[tuple[float, int]] = []
        self.durable = self.uploaded = 0
        self.is_up, self.is_offline = True, False
        self.fails_at: int | None = None
        self.dies_at: int | None = None
        self.is_dead = False

    def number(self, length: int) -> int:
        """Return the sequence number of the last of `length` items."""
        return self.log[length - 1][1] if length else 0

    def add(self, item: tuple[float, int]) -> None:
        self.log.append(item)
        if not self.lags:
            self.catch_up()

    def catch_up(self) -> None:
        self.durable = len(self.log)
        if not self.is_offline:
            self.uploaded = self.durable

    def lose(self, items: int) -> None:
        """Remove the last items."""
        self.durable = max(0, self.durable - items)
        self.uploaded = min(self.uploaded, self.durable)
        del self.log[self.durable :]

    def durable_ids(self) -> list[float]:
        return [item for item, _ in self.log[: self.durable]]

    def uploaded_ids(self) -> list[float]:
        return [item for item, _ in self.log[: self.uploaded]]


class ModelBackend(Backend, OfflineRecording):
    """Write to a `Store`. When its process dies, it raises SystemExit, on which a thread ends without a message."""

    name, accepts = "model", (Scalar,)

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.start = len(store.log)

    def _check(self) -> None:
        if self.store.is_dead:
            raise SystemExit
        if not self.store.is_up:
            raise BackendUnavailable("down")

    def open(self, run: RunInfo) -> int | None:
        with self.store.lock:
            self._check()
            return self.store.number(self.store.durable) if self.store.reports_seq else None

    def write(self, batch: Batch) -> Written | None:
        store = self.store
        with store.lock:
            self._check()
            assert list(batch.numbers) == [record.step for record in batch if isinstance(record, Scalar)]
            if store.whole and any(isinstance(record, Scalar) and record.tag == "refused" for record in batch):
                raise RecordRejected("no")
            for index, (record, seq) in enumerate(zip(batch, batch.numbers, strict=True)):
                assert isinstance(record, Scalar)
                if store.dies_at == index:
                    store.is_dead = True
                    raise SystemExit
                if store.fails_at == index:
                    store.fails_at = None
                    return Written(index or -5, BackendUnavailable("failed"))
                if record.tag == "refused":
                    return Written(index, RecordRejected("no"))
                store.add((record.value, seq))
            if store.fails_at == len(batch):
                store.fails_at = None
                return Written(len(batch) + 5, BackendUnavailable("failed after the last record"))
        return None

    def flush(self) -> None:
        with self.store.lock:
            self._check()
            self.store.catch_up()

    def durable(self) -> int | None:
        with self.store.lock:
            if self.store.is_dead:
                raise SystemExit
            if self.store.reports_seq:
                return self.store.number(self.store.uploaded)
            if self.store.lags:  # it counts the records of this process only
                return self.store.number(self.store.uploaded) if self.store.uploaded > self.start else 0
            return None

    @property
    def offline_reason(self) -> str | None:
        return "no network" if self.store.is_offline else None

    def close(self, status: Status, exit_code: int) -> None:
        with self.store.lock:
            self._check()
            self.store.catch_up()


class DeliveryModel(RuleBasedStateMachine):
    """Log records with distinct ids; `logged` has the (id, tag) of every sequence number of the journal."""

    @initialize(reports_seq=st.booleans(), lags=st.booleans(), whole=st.booleans())
    def begin(self, reports_seq: bool, lags: bool, whole: bool) -> None:
        self.temporary = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.folder = Path(self.temporary.name)
        self.store = Store(reports_seq=reports_seq, lags=lags, whole=whole)
        self.logged: list[tuple[int, str]] = []
        self.count = 0
        self.on_disk = 0
        self.full = False
        self.holes: set[int] = set()
        self.lost: set[int] = set()  # ids that neither disk nor memory has; the store may
        # How often an id may be stored: a kill came before its cursor was written, and the store reports no number.
        self.most: Counter[int] = Counter()
        self.unknown: set[int] = set()  # numbers rejected at the end of a process, so that no rejection is stored
        self.start()

    # The process.

    def start(self) -> None:
        self.guard = Guard()
        resumed = bool((self.folder / "journal.db").exists())
        info = RunInfo(run_id="r", project=None, name=None, folder=str(self.folder), resumed=resumed)
        self.writer = JournalWriter(self.folder, info, self.guard, MEMORY, lambda: self.delivery.position, Secrets())
        self.full = False
        with JournalReader(self.folder) as reader:
            cursor = reader.cursors().get("model", Cursor())
        self.delivery = Delivery(
            ModelBackend(self.store),
            self.folder,
            info,
            cursor,
            self.writer.overflow,
            start_seq=self.writer.last,
            report=self.writer.set_cursor,
            guard=self.guard,
            on_open=lambda: None,
        )
        self.delivery.start()

    @property
    def journal(self) -> Journal:
        assert self.writer._journal is not None
        return self.writer._journal

    def end_process(self) -> None:
        """Keep the records on the disk, and the durable ones in the store."""
        with JournalReader(self.folder) as reader:
            last, cursors = reader.last(), reader.cursors()
            refused = {rejection.seq for rejection in reader.rejections("model")}
        self.journal._stack.close()
        assert self.on_disk <= last <= len(self.logged)
        self.lost |= {number for number, _ in self.logged[last:]}
        del self.logged[last:]
        self.on_disk = last
        store = self.store
        store.is_dead, store.dies_at, store.fails_at = False, None, None
        del store.log[store.durable :]
        position = cursors.get("model", Cursor()).position
        settled = [number for number, tag in self.logged[position:] if tag == "loss"]
        if not store.reports_seq:
            found = Counter(store.durable_ids())
            self.most |= Counter({number: found[number] + 1 for number in settled if number in found})
        held = max(position, store.number(store.durable)) if store.reports_seq else position
        self.unknown |= {
            seq for seq, (_, tag) in enumerate(self.logged[:held], 1) if tag == "refused" and seq not in refused
        }

    # Actions of the program, the machine and the vendor.

    @rule(tags=st.lists(st.sampled_from(["loss", "loss", "loss", "refused", "text"]), min_size=1, max_size=12))
    def log(self, tags: list[str]) -> None:
        records: list[Record] = []
        logged: list[tuple[int, str]] = []
        for tag in tags:
            self.count += 1
            seq = len(self.logged) + len(logged) + 1
            records.append(Text("note", "x", seq, 1.0) if tag == "text" else Scalar(tag, float(self.count), seq, 1.0))
            logged.append((self.count, tag))
        try:
            self.writer.append(records)
        except JournalError:
            assert self.full
            assert self.writer.overflow.is_full
            return
        self.logged += logged
        self.delivery.wake()
        self.read_disk()

    def read_disk(self) -> None:
        """Update the number of stored records and the holes."""
        oldest = self.writer.overflow.oldest()
        if oldest is None:
            self.on_disk = len(self.logged)
            return
        with JournalReader(self.folder) as reader:
            self.on_disk = reader.last()
        self.holes |= set(range(self.on_disk + 1, oldest.first))

    @rule()
    def write_facts(self) -> None:
        with contextlib.suppress(JournalError):
            self.writer.write_facts()

    @rule()
    def go_down(self) -> None:
        self.store.is_up = False

    @rule()
    def come_up(self) -> None:
        self.store.is_up = True

    @rule(index=st.integers(0, 4))
    def fail_in_batch(self, index: int) -> None:
        self.store.fails_at = index

    @rule()
    def fill_the_disk(self) -> None:
        (pages,) = self.journal._db.execute("PRAGMA page_count").fetchone()
        self.journal._db.execute(f"PRAGMA max_page_count={pages}")
        self.full = True

    @rule()
    def free_the_disk(self) -> None:
        self.journal._db.execute(f"PRAGMA max_page_count={FOREVER}")
        self.full = False
        self.writer.catch_up()
        assert None is self.writer.overflow.oldest()
        self.read_disk()

    @precondition(lambda self: self.store.is_offline)
    @rule()
    def upload(self) -> None:
        """Upload the vendor's offline recording."""
        with self.store.lock:
            self.store.is_offline = False
            self.store.uploaded = self.store.durable
        self.delivery.wake()

    @rule(index=st.none() | st.integers(0, 4), loses=st.integers(0, 6), is_offline=st.booleans())
    def crash(self, index: int | None, loses: int, is_offline: bool) -> None:
        """Kill the process at once, or at an index of its next batch. Afterwards the store may lose records."""
        with self.store.lock:
            self.store.dies_at, self.store.is_dead = index, index is None
        if index is not None:
            self.log(["loss"] * (index + 1))
            self.delivery.wait_confirmed(len(self.logged), time.monotonic() + 0.01)
            self.store.is_dead = True
        self.delivery.wake()
        assert self.delivery.wait_ended(time.monotonic() + PATIENCE)
        self.end_process()
        self.change_store(loses, is_offline)
        self.start()

    @rule(loses=st.integers(0, 6), is_offline=st.booleans(), uploads=st.booleans())
    def stop_and_start(self, loses: int, is_offline: bool, uploads: bool) -> None:
        """End the process normally, and resume the run later."""
        patience = PATIENCE if self.store.is_up else 0.01
        self.delivery.finish("finished", 0, time.monotonic() + patience)
        assert self.delivery.wait_ended(time.monotonic() + PATIENCE)
        self.writer.close()
        self.the_cursor_is_not_ahead_of_the_store()
        if uploads and self.store.is_offline:
            self.upload()
        self.end_process()
        self.change_store(loses, is_offline)
        self.start()

    def change_store(self, loses: int, is_offline: bool) -> None:
        if self.store.reports_seq:
            self.store.lose(loses)
            self.store.is_offline = is_offline

    @precondition(lambda self: self.store.is_up and not self.store.is_offline)
    @rule()
    def settle(self) -> None:
        """Deliver everything, whatever happened before."""
        deadline = time.monotonic() + PATIENCE
        while not self.delivery.was_open:  # until it is, its cursor is that of an earlier process
            self.delivery.wait_opened(deadline)
            assert time.monotonic() < deadline
        assert self.delivery.wait_confirmed(len(self.logged), deadline)
        stats = self.delivery.status(self.delivery.cursor, len(self.logged), 0)
        tags = Counter(tag for seq, (_, tag) in enumerate(self.logged, 1))
        assert 0 == stats.pending
        assert len(self.logged) == stats.delivered + stats.rejected + stats.filtered
        if not self.holes and not self.unknown:
            assert (tags["loss"], tags["refused"], tags["text"]) == (stats.delivered, stats.rejected, stats.filtered)
        self.compare()

    def compare(self) -> None:
        """Check that the store has the logged records once, and in order."""
        found = Counter(self.store.uploaded_ids())
        for seq, (number, tag) in enumerate(self.logged, 1):
            if tag == "loss" and seq not in self.holes:
                assert 1 <= found[number] <= max(1, self.most[number]), (seq, number)
            elif tag != "loss":
                assert 0 == found[number]
        once = [number for number in dict.fromkeys(self.store.uploaded_ids()) if number not in self.lost]
        assert sorted(once) == once
        assert set(once) <= {number for number, _ in self.logged}

    @invariant()
    def the_cursor_is_not_ahead_of_the_store(self) -> None:
        if not hasattr(self, "delivery"):
            return
        with self.store.lock:
            cursor, held = self.delivery.cursor, set(self.store.uploaded_ids())
        assert cursor.position == cursor.delivered + cursor.filtered + cursor.rejected
        stats = self.delivery.status(self.delivery.cursor, len(self.logged), 0)
        assert 0 <= stats.pending <= len(self.logged)
        if self.delivery.was_open:
            for seq, (number, tag) in enumerate(self.logged[: cursor.position], 1):
                assert tag != "loss" or number in held or seq in self.holes

    def teardown(self) -> None:
        if not hasattr(self, "delivery"):
            return
        try:
            self.free_the_disk()
            self.come_up()
            if self.store.is_offline:
                self.upload()
            self.settle()
            self.writer.write_facts()
            with JournalReader(self.folder) as reader:
                assert self.delivery.position == reader.cursors().get("model", Cursor()).position
                refused = {rejection.seq for rejection in reader.rejections("model")}
            expected = {seq for seq, (_, tag) in enumerate(self.logged, 1) if tag == "refused"} - self.holes
            assert expected - self.unknown <= refused <= expected
        finally:
            with self.store.lock:
                self.store.is_dead = True
            self.delivery.wake()
            self.delivery.wait_ended(time.monotonic() + PATIENCE)
            self.journal._stack.close()
            self.temporary.cleanup()
