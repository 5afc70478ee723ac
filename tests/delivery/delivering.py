"""A model of delivery: one journal, one backend, and everything that can happen to disk, process, network and store."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tracelet.backends.base import Backend
from tracelet.delivery import thread as delivery_module
from tracelet.delivery import throttle as pace_module
from tracelet.delivery.thread import Delivery
from tracelet.errors import BackendUnavailable, JournalError, RecordRejected
from tracelet.guard import Guard
from tracelet.journal import writer as keeper_module
from tracelet.journal.store import Cursor, JournalReader
from tracelet.journal.writer import JournalWriter
from tracelet.records import RunInfo, Scalar, Text
from tracelet.redaction import Secrets

MEMORY = 600
"""Bytes that may wait for the disk: some thirty records."""
PATIENCE = 20.0
FOREVER = 2**30


@contextlib.contextmanager
def quick():
    """Waits and portions so small that much happens in an example."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_RETRY_FIRST", 0.001), ("_RETRY_MOST", 0.001), ("_SETTLE_EVERY", 0.002)):
            patch.setattr(delivery_module, name, value)
        for name, value in (("_REST", 0.0), ("_REST_BEHIND", 0.0), ("_PORTION_FIRST", 3), ("_PORTION_MOST", 8)):
            patch.setattr(pace_module, name, value)
        patch.setattr(keeper_module, "_TRY_EVERY", 0.0)
        speak = threading.excepthook
        patch.setattr(threading, "excepthook", lambda args: args.exc_type is SystemExit or speak(args))
        yield


class Store:
    """What a vendor has: a log of records and of the numbers it holds with them. It outlives the process.

    Of the log, `server` items have arrived, and `kept` survive a kill of the process. The difference is a recording of
    the vendor's own, made while its server is away.
    """

    def __init__(self, *, knows, lags, whole):
        self.knows, self.lags, self.whole = knows, lags, whole
        self.lock = threading.RLock()
        self.log = []
        self.kept = self.server = 0
        self.up, self.offline_reason = True, False
        self.stumbles = None
        self.dies = None
        self.dead = False

    def number(self, length):
        return self.log[length - 1][1] if length else 0

    def add(self, *items):
        self.log += items
        if not self.lags:
            self.catch_up()

    def catch_up(self):
        self.kept = len(self.log)
        if not self.offline_reason:
            self.server = self.kept

    def lose(self, items):
        """The end of what is there is gone."""
        self.kept = max(0, self.kept - items)
        self.server = min(self.server, self.kept)
        del self.log[self.kept :]

    def ids(self):
        return [item for item, _ in self.log[: self.kept] if item is not None]

    def held_ids(self):
        return [item for item, _ in self.log[: self.server] if item is not None]


class ModelBackend(Backend):
    """The adapter of `Store`. It dies, as its process does, with SystemExit: a thread ends on it without a word."""

    name, accepts = "model", (Scalar,)

    def __init__(self, store):
        super().__init__()
        self.store = store
        self.spoke = False

    def _meet(self):
        if self.store.dead:
            raise SystemExit
        if not self.store.up:
            raise BackendUnavailable("down")

    def open(self, run):
        self._meet()

    def write(self, batch):
        store = self.store
        with store.lock:
            self._meet()
            for at, record in enumerate(batch):
                if store.dies == at:
                    store.dead = True
                    raise SystemExit
                if store.stumbles == at:
                    store.stumbles = None
                    raise BackendUnavailable("stumbled", written=at)
                if record.tag == "refused":
                    if store.whole and at == 0 and len(batch) > 1:
                        raise RecordRejected("no", whole=True)
                    raise RecordRejected("no", written=at)
                store.add((record.value, record.step))

    def on_written(self, batch):
        with self.store.lock:
            self.spoke = True
            self.store.add((None, batch.last))

    def flush(self):
        with self.store.lock:
            self._meet()
            self.store.catch_up()

    def durable_seq(self):
        with self.store.lock:
            if self.store.dead:
                raise SystemExit
            return self.store.number(self.store.server) if self.store.knows or self.spoke else None

    def resume_after(self):
        with self.store.lock:
            return self.store.number(self.store.kept) if self.store.knows else None

    @property
    def offline_reason(self):
        return "no network" if self.store.offline_reason else None

    def close(self, status, exit_code):
        with self.store.lock:
            self._meet()
            self.store.catch_up()


class DeliveryModel(RuleBasedStateMachine):
    """Each record gets an id of its own; `said` has the (id, tag) behind every sequence number of the journal."""

    @initialize(knows=st.booleans(), lags=st.booleans(), whole=st.booleans())
    def begin(self, knows, lags, whole):
        self.place = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.folder = Path(self.place.name)
        self.store = Store(knows=knows, lags=lags, whole=whole)
        self.said, self.count = [], 0
        self.on_disk = 0
        self.full = False
        self.holes = set()
        self.gone = set()  # neither disk nor memory has them any more; the store may
        self.often = Counter()  # the store does not know itself, and the cursor was not written before a kill
        self.unsure = set()  # refused in the last moment of a process: nobody knows it any more
        self.start()

    # The process.

    def start(self):
        self.guard = Guard()
        resumed = bool((self.folder / "journal.db").exists())
        info = RunInfo(run_id="r", project=None, name=None, folder=str(self.folder), resumed=resumed)
        self.keeper = JournalWriter(self.folder, info, self.guard, MEMORY, lambda: self.delivery.position, Secrets())
        self.full = False
        with JournalReader(self.folder) as reader:
            cursor = reader.cursors().get("model", Cursor())
        self.delivery = Delivery(
            ModelBackend(self.store),
            self.folder,
            info,
            cursor,
            self.keeper.tail,
            began=self.keeper.last,
            report=self.keeper.set_cursor,
            guard=self.guard,
            opened=lambda: None,
        )
        self.delivery.start()

    def end_process(self):
        """Only what is on the disk goes on; what stands in the store goes on as far as the store keeps it."""
        with JournalReader(self.folder) as reader:
            last, cursors = reader.last(), reader.cursors()
            refused = {one.seq for one in reader.rejections("model")}
        self.keeper._journal._stack.close()
        assert self.on_disk <= last <= len(self.said)
        self.gone |= {number for number, _ in self.said[last:]}
        del self.said[last:]
        self.on_disk = last
        store = self.store
        store.dead, store.dies, store.stumbles = False, None, None
        del store.log[store.kept :]
        position = cursors.get("model", Cursor()).position
        settled = [number for number, tag in self.said[position:] if tag == "loss"]
        if not store.knows:
            found = Counter(store.ids())
            self.often |= Counter({number: found[number] + 1 for number in settled if number in found})
        held = max(position, store.number(store.kept)) if store.knows else position
        self.unsure |= {
            seq for seq, (_, tag) in enumerate(self.said[:held], 1) if tag == "refused" and seq not in refused
        }

    # What a program, a machine and a vendor do.

    @rule(tags=st.lists(st.sampled_from(["loss", "loss", "loss", "refused", "text"]), min_size=1, max_size=12))
    def say(self, tags):
        records, said = [], []
        for tag in tags:
            self.count += 1
            seq = len(self.said) + len(said) + 1
            one = Text("note", "x", seq, 1.0) if tag == "text" else Scalar(tag, float(self.count), seq, 1.0)
            records.append(one)
            said.append((self.count, tag))
        try:
            self.keeper.append(records)
        except JournalError:
            assert self.full
            assert self.keeper.tail.is_full
            return
        self.said += said
        self.delivery.wake()
        self.look_at_the_disk()

    def look_at_the_disk(self):
        oldest = self.keeper.tail.oldest()
        if oldest is None:
            self.on_disk = len(self.said)
            return
        with JournalReader(self.folder) as reader:
            self.on_disk = reader.last()
        self.holes |= set(range(self.on_disk + 1, oldest.first))

    @rule()
    def note(self):
        with contextlib.suppress(JournalError):
            self.keeper.write_notes()

    @rule()
    def go_down(self):
        self.store.up = False

    @rule()
    def come_up(self):
        self.store.up = True

    @rule(at=st.integers(0, 4))
    def stumble(self, at):
        self.store.stumbles = at

    @rule()
    def fill_the_disk(self):
        (pages,) = self.keeper._journal._db.execute("PRAGMA page_count").fetchone()
        self.keeper._journal._db.execute(f"PRAGMA max_page_count={pages}")
        self.full = True

    @rule()
    def free_the_disk(self):
        self.keeper._journal._db.execute(f"PRAGMA max_page_count={FOREVER}")
        self.full = False
        self.keeper.catch_up()
        assert None is self.keeper.tail.oldest()
        self.look_at_the_disk()

    @precondition(lambda self: self.store.offline_reason)
    @rule()
    def server_answers(self):
        """The vendor hands its recording over."""
        with self.store.lock:
            self.store.offline_reason = False
            self.store.server = self.store.kept
        self.delivery.wake()

    @rule(at=st.none() | st.integers(0, 4), loses=st.integers(0, 6), offline_reason=st.booleans())
    def crash(self, at, loses, offline_reason):
        """Killed at once, or in the middle of the next write; meanwhile the store may lose what it had."""
        with self.store.lock:
            self.store.dies, self.store.dead = at, at is None
        if at is not None:
            self.say(["loss"] * (at + 1))
            self.delivery.wait_confirmed(len(self.said), time.monotonic() + 0.01)
            self.store.dead = True
        self.delivery.wake()
        assert self.delivery.wait_ended(time.monotonic() + PATIENCE)
        self.end_process()
        self.meanwhile(loses, offline_reason)
        self.start()

    @rule(loses=st.integers(0, 6), offline_reason=st.booleans(), upload_offline=st.booleans())
    def stop_and_start(self, loses, offline_reason, upload_offline):
        """The program ends as it should, and the run is opened again later."""
        patience = PATIENCE if self.store.up else 0.01
        self.delivery.finish("finished", 0, time.monotonic() + patience)
        assert self.delivery.wait_ended(time.monotonic() + PATIENCE)
        self.keeper.close()
        if self.store.up and self.delivery.was_open:
            assert self.store.number(self.store.server) >= self.delivery.position
        if upload_offline and self.store.offline_reason:
            self.server_answers()
        self.end_process()
        self.meanwhile(loses, offline_reason)
        self.start()

    def meanwhile(self, loses, offline_reason):
        if self.store.knows:
            self.store.lose(loses)
            self.store.offline_reason = offline_reason

    @precondition(lambda self: self.store.up and not self.store.offline_reason)
    @rule()
    def settle(self):
        """Whatever was before: what was said is there now."""
        deadline = time.monotonic() + PATIENCE
        while not self.delivery.was_open:  # until it is, its cursor is what an earlier process knew
            self.delivery.wait_opened(deadline)
            assert time.monotonic() < deadline
        assert self.delivery.wait_confirmed(len(self.said), deadline)
        stats = self.delivery.stats(len(self.said), 0)
        tags = Counter(tag for seq, (_, tag) in enumerate(self.said, 1))
        assert 0 == stats.pending
        assert len(self.said) == stats.delivered + stats.rejected + stats.filtered
        if not self.holes and not self.unsure:
            assert (tags["loss"], tags["refused"], tags["text"]) == (stats.delivered, stats.rejected, stats.filtered)
        self.compare()

    def compare(self):
        """The store against what was said: once, and in order."""
        found = Counter(self.store.held_ids())
        for seq, (number, tag) in enumerate(self.said, 1):
            if tag == "loss" and seq not in self.holes:
                assert 1 <= found[number] <= max(1, self.often[number]), (seq, number)
            elif tag != "loss":
                assert 0 == found[number]
        once = [number for number in dict.fromkeys(self.store.held_ids()) if number not in self.gone]
        assert sorted(once) == once
        assert set(once) <= {number for number, _ in self.said}

    @invariant()
    def nothing_is_claimed_that_is_not_held(self):
        if not hasattr(self, "delivery"):
            return
        with self.store.lock:
            cursor, held = self.delivery.cursor, set(self.store.held_ids())
        assert cursor.position == cursor.delivered + cursor.filtered + cursor.rejected
        stats = self.delivery.stats(len(self.said), 0)
        assert 0 <= stats.pending <= len(self.said)
        if self.delivery.was_open:
            for seq, (number, tag) in enumerate(self.said[: cursor.position], 1):
                assert tag != "loss" or number in held or seq in self.holes

    def teardown(self):
        if not hasattr(self, "delivery"):
            return
        try:
            self.free_the_disk()
            self.come_up()
            if self.store.offline_reason:
                self.server_answers()
            self.settle()
            self.keeper.write_notes()
            with JournalReader(self.folder) as reader:
                assert self.delivery.position == reader.cursors().get("model", Cursor()).position
                refused = {one.seq for one in reader.rejections("model")}
            expected = {seq for seq, (_, tag) in enumerate(self.said, 1) if tag == "refused"} - self.holes
            assert expected - self.unsure <= refused <= expected
        finally:
            with self.store.lock:
                self.store.dead = True
            self.delivery.wake()
            self.delivery.wait_ended(time.monotonic() + PATIENCE)
            self.keeper._journal._stack.close()
            self.place.cleanup()
