"""One journal to one backend: in order, once, whatever the backend does; and the others do not notice."""

import sqlite3
import threading
import time

import pytest
from backends.faults import Faulty, Gate, assert_balanced, journalled, raises, values
from support import BUSY

import tracelet
from tracelet.backends.base import Written
from tracelet.backends.memory import MemoryBackend
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.journal.store import JournalReader
from tracelet.records import Scalar, Text

HOOKS = ("open", "write", "durable", "flush", "close", "attach", "detach")


@pytest.fixture
def gate():
    """Hangs until the test ends."""
    gate = Gate()
    yield gate
    gate.open()


def log(experiment, count, start=0):
    for number in range(start, start + count):
        experiment.log_metric("loss", number, number)


def reopened(experiment, *backends):
    """The run goes on with other backends, and ends once they have everything."""
    again = tracelet.start_logging(run_id=experiment.run_id, backend=list(backends))
    assert again.flush(30)
    again.stop()
    return again.stats()


def warnings(caplog, part):
    return [record for record in caplog.records if part in record.getMessage()]


@pytest.mark.parametrize("hook", ["open", "write", "close"])
def test_a_backend_that_calls_exit_is_named(hook, caplog):
    """A vendor that calls sys.exit ends its own delivery, with its traceback; its records stay pending."""

    def leave(call):
        raise SystemExit(5)

    good = MemoryBackend()
    experiment = tracelet.start_logging(backend=[good, Faulty(**{hook: leave})])
    log(experiment, 10)
    experiment.flush(1)
    experiment.stop(timeout=10)
    assert list(range(10)) == values(good.records)
    assert_balanced(experiment.stats())
    assert "SystemExit: 5" in "".join(record.getMessage() for record in caplog.records)
    assert "stopped after an error" in experiment.stats().backends["faulty"].reason


def test_an_error_without_text_does_not_end_the_delivery(swallowed):
    """The message of a vendor's exception may raise as well."""

    class Mute(Exception):
        def __str__(self):
            raise ValueError("no text")

    def fail(call):
        if call == 1:
            raise Mute

    faulty = Faulty(write=fail)
    experiment = tracelet.start_logging(backend=faulty)
    log(experiment, 10)
    experiment.stop(timeout=30)  # `flush` does not wait for a backend that has failed
    assert list(range(10)) == values(faulty.records)
    swallowed.clear()


class Slow(MemoryBackend):
    """Takes 5 ms a record, and puts it into a store that others see too."""

    name = "slow"

    def __init__(self, store, seconds=0.005):
        super().__init__()
        self.records = store
        self.seconds = seconds

    def write(self, batch):
        for record in batch:
            time.sleep(self.seconds)
            self.records.append(record)


class Strict(MemoryBackend):
    """Refuses values above a limit: as one piece, singly, or with an exception that no backend may let out."""

    name = "strict"

    def __init__(self, manner, limit=1e6):
        super().__init__()
        self.manner, self.limit = manner, limit

    def write(self, batch):
        bad = [number for number, record in enumerate(batch) if record.value > self.limit]
        if bad and self.manner == "whole":
            raise RecordRejected("too big")
        if bad and self.manner == "single":
            self.records.extend(batch[: bad[0]])
            return Written(bad[0], RecordRejected("too big"))
        if bad:
            raise KeyError("too big")
        self.records.extend(batch)
        return None


class Knowing(MemoryBackend):
    """Returns from `open` the last number that an earlier process left in its store."""

    name = "knowing"

    def __init__(self, held):
        super().__init__()
        self.held = held

    def open(self, run):
        return self.held


class Counting(MemoryBackend):
    """Stores its records with their numbers, and returns the last number. Filtered and rejected records have none."""

    name, accepts = "counting", (Scalar,)

    def __init__(self, store):
        super().__init__()
        self.store = store

    def open(self, run):
        return self.durable()

    def durable(self):
        return max(self.store, default=0)

    def write(self, batch):
        for index, (number, record) in enumerate(zip(batch.numbers, batch, strict=True)):
            if record.value < 0:
                return Written(index, RecordRejected("negative"))
            assert number not in self.store
            self.store[number] = record.value
        return None


class ScalarsOnly(MemoryBackend):
    name, accepts = "scalars", (Scalar,)


def test_everything_arrives_once_in_order(memory, experiment):
    """Ten thousand points, in the order of the calls."""
    log(experiment, 10_000)
    assert experiment.flush(30)
    assert list(range(10_000)) == values(memory.records)


def test_a_slow_backend_delays_the_end_by_the_timeout_only(tmp_path):
    """20 000 records at 5 ms: stop(2) returns within 2.5 s; what was not delivered is delivered by the next start, and
    nothing twice."""
    total, store = 20_000, []
    experiment = tracelet.start_logging(backend=Slow(store))
    log(experiment, total)

    began = time.monotonic()
    tracelet.stop_logging(timeout=2)
    took = time.monotonic() - began

    assert took <= 2.5
    stats = experiment.stats()
    assert_balanced(stats)
    slow = stats.backends["slow"]
    assert (total, 0, 0) == (stats.submitted, slow.rejected, slow.dropped)
    assert 0 < slow.delivered < total
    assert total == slow.delivered + slow.pending

    after = reopened(experiment, Slow(store, seconds=0))
    assert list(range(total)) == values(store)
    assert (total, 0) == (after.backends["slow"].delivered, after.backends["slow"].pending)


@pytest.mark.parametrize("error", [BackendUnavailable("down"), ValueError("a defect")], ids=["unavailable", "defect"])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_backend_that_raises_harms_nobody(hook, error, memory, swallowed, caplog):
    """Calls return, the other backend has everything, the books balance, each warning is said once."""
    faulty = Faulty(**{hook: raises(error)})
    experiment = tracelet.start_logging(backend=[faulty, memory])
    log(experiment, 100)
    experiment.flush(0.3)
    experiment.stop(timeout=1)
    swallowed.clear()

    assert list(range(100)) == values(memory.records)
    stats = experiment.stats()
    assert_balanced(stats)
    assert 100 == stats.backends["memory"].delivered
    said = [record.getMessage() for record in caplog.records]
    assert sorted(set(said)) == sorted(said)
    if hook not in ("open", "write"):
        assert list(range(100)) == values(faulty.records)
    if hook in ("flush", "close", "attach", "detach"):
        assert 100 == stats.backends["faulty"].delivered
    if hook == "durable":  # a backend that cannot say which records are durable has confirmed none
        assert 100 == stats.backends["faulty"].pending


@pytest.mark.parametrize("hook", ["open", "write", "durable", "flush", "close"])
def test_a_backend_that_hangs_harms_nobody(hook, gate, memory):
    """Start, calls and stop return in time, the other backend has everything, the books balance."""
    began = time.monotonic()
    experiment = tracelet.start_logging(backend=[memory, Faulty(**{hook: gate})], connect_timeout=0.3)
    log(experiment, 100)
    confirmed = experiment.flush(0.3)
    if hook != "flush":  # records that are confirmed already need no flush, so that one may never be asked for
        assert (hook != "write") == confirmed
    experiment.stop(timeout=1)

    assert time.monotonic() - began < 3 + BUSY
    assert list(range(100)) == values(memory.records)
    assert_balanced(experiment.stats())
    assert 100 == experiment.stats().backends["memory"].delivered


def test_order_survives_an_outage():
    """A backend that is away three times, once in the middle of a batch, has everything once, in order."""

    class Flaky(Faulty):
        def write(self, batch):
            self.calls["write"] += 1
            if self.calls["write"] <= 2:
                raise BackendUnavailable("away")
            if self.calls["write"] == 3:
                self.records.append(batch[0])
                return Written(1, BackendUnavailable("away again"))
            self.records.extend(batch)
            return None

    flaky = Flaky()
    experiment = tracelet.start_logging(backend=flaky)
    log(experiment, 1000)
    deadline = time.monotonic() + 30
    while experiment.stats().backends["faulty"].pending and time.monotonic() < deadline:
        experiment.get_backend("faulty")
        experiment.flush(1)
    assert list(range(1000)) == values(flaky.records)
    assert "connected" == experiment.stats().backends["faulty"].state


def state_of(experiment, name):
    status = experiment.stats().backends[name]
    return status.state, status.reason


def test_an_outage_at_the_start_is_made_up_for():
    """A backend that cannot be opened at first gets what was said meanwhile."""
    faulty = Faulty(open=raises(BackendUnavailable("no network"), calls=2))
    experiment = tracelet.start_logging(backend=faulty)
    assert ("waiting", "no network") == state_of(experiment, "faulty")
    log(experiment, 100)
    deadline = time.monotonic() + 30
    while experiment.stats().backends["faulty"].state != "connected" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert experiment.flush(30)
    assert list(range(100)) == values(faulty.records)


@pytest.mark.parametrize("manner", ["whole", "single"])
def test_one_bad_record_among_a_thousand(manner):
    """999 are delivered; the bad one is kept in the journal with the reason, also if the vendor names no culprit."""
    strict = Strict(manner)
    experiment = tracelet.start_logging(backend=strict)
    log(experiment, 600)
    experiment.log_metric("loss", 1e9, 600)
    log(experiment, 399, start=601)
    assert experiment.flush(30)
    experiment.stop()

    assert [number for number in range(1000) if number != 600] == values(strict.records)
    stats = experiment.stats().backends["strict"]
    assert (999, 1, 0) == (stats.delivered, stats.rejected, stats.pending)
    with JournalReader(experiment.folder) as reader:
        (kept,) = reader.rejections("strict")
    assert (601, "too big", 1e9) == (kept.seq, kept.reason, kept.record.value)


def test_a_defect_of_a_backend_rejects_no_record(swallowed):
    """An exception that no backend may let out may be an outage: what comes before its record is delivered, and the
    rest as soon as it is gone."""
    strict = Strict("defect")
    experiment = tracelet.start_logging(backend=strict)
    log(experiment, 50)
    experiment.log_metric("loss", 1e9, 50)
    log(experiment, 49, start=51)
    deadline = time.monotonic() + 60
    while len(strict.records) < 50 and time.monotonic() < deadline:
        experiment.flush(0.1)
    assert list(range(50)) == values(strict.records)
    attempts = len(swallowed)
    while len(swallowed) < attempts + 2 and time.monotonic() < deadline:  # alone, it is tried again and again
        experiment.flush(0.1)
    assert ("waiting", "KeyError: 'too big'") == state_of(experiment, "strict")
    strict.limit = 1e12
    experiment.stop(timeout=30)

    assert {KeyError} == {type(error) for error in swallowed}
    swallowed.clear()
    assert [*range(50), 1e9, *range(51, 100)] == values(strict.records)
    stats = experiment.stats().backends["strict"]
    assert (100, 0, 0) == (stats.delivered, stats.rejected, stats.pending)


def test_an_outage_that_nobody_knows_rejects_no_record(swallowed, monkeypatch):
    """A vendor that fails with an unknown exception for many attempts has everything afterwards, once and in order."""
    for name in ("FIRST", "_LONGEST"):
        monkeypatch.setattr(f"tracelet.delivery.backoff.{name}", 0.001)
    faulty = Faulty(write=raises(RuntimeError("unknown"), calls=30))
    experiment = tracelet.start_logging(backend=faulty)
    log(experiment, 100)
    experiment.stop(timeout=30)

    assert 30 == len(swallowed)
    swallowed.clear()
    assert list(range(100)) == values(faulty.records)
    assert (100, 0) == (experiment.stats().backends["faulty"].delivered, experiment.stats().backends["faulty"].rejected)


class Reopening(MemoryBackend):
    """Replaces its run object while it writes, as a vendor's that has died."""

    name = "reopening"
    native = "first"

    def write(self, batch):
        super().write(batch)
        self.native = f"run {len(self.records)}"


def test_a_run_that_a_backend_reopens_is_still_ended_before_the_vendor(monkeypatch):
    """A vendor's exit hook that came with the new run object is behind ours again."""
    registered = []
    monkeypatch.setattr("tracelet.experiment.exit.ExitHandler.register_last", lambda self: registered.append(1))
    experiment = tracelet.start_logging(backend=Reopening())
    before = len(registered)
    log(experiment, 1)
    assert experiment.flush(30)
    assert len(registered) > before


def test_rejections_of_one_cause_are_said_once(caplog):
    """A hundred refused records are one line on the screen, and a hundred in the journal."""
    experiment = tracelet.start_logging(backend=Strict("single", limit=-1))
    log(experiment, 100)
    assert experiment.flush(30)
    experiment.stop()
    assert 1 == len(warnings(caplog, "rejected a record"))
    with JournalReader(experiment.folder) as reader:
        assert list(range(1, 101)) == [one.seq for one in reader.rejections("strict")]


def test_a_kind_without_a_place_is_counted():
    """Records of a kind that the backend does not accept are filtered, and the flush is complete."""
    backend = ScalarsOnly()
    experiment = tracelet.start_logging(backend=backend)
    for step in range(10):
        experiment.log_text("note", "hello", step)
        experiment.log_metric("loss", step, step)
    assert experiment.flush(30)
    stats = experiment.stats()
    assert_balanced(stats)
    assert (10, 10, 0) == (
        stats.backends["scalars"].delivered,
        stats.backends["scalars"].filtered,
        stats.backends["scalars"].pending,
    )


def test_flush_says_whether_everything_is_held(gate):
    """True when all that was said before is confirmed; False when the time is over."""
    faulty = Faulty()
    experiment = tracelet.start_logging(backend=faulty)
    log(experiment, 10)
    assert experiment.flush(30)
    faulty.faults["write"] = gate
    log(experiment, 10)
    began = time.monotonic()
    assert not experiment.flush(0.2)
    assert time.monotonic() - began < 2 + BUSY
    gate._opened.set()
    assert experiment.flush(30)
    assert 20 == len(faulty.records)


def test_a_stuck_backend_does_not_delay_the_calls(gate):
    """While a backend hangs, ten thousand calls take no longer than the snapshot and the queue need."""
    experiment = tracelet.start_logging(backend=Faulty(write=gate))
    experiment.log_metric("loss", 0, 0)
    assert gate.reached.wait(30)
    began = time.monotonic()
    log(experiment, 10_000)
    assert time.monotonic() - began < 5 + BUSY
    assert 0 == experiment.stats().waited
    experiment.stop(timeout=0.2)
    assert 10_001 == len(journalled(experiment.folder))


def test_a_backend_added_later_gets_the_run_from_its_beginning(memory, experiment):
    """A second backend is a reader of the same journal with a cursor of its own."""
    log(experiment, 100)
    experiment.stop()
    late = ScalarsOnly()
    stats = reopened(experiment, late)
    assert list(range(100)) == values(late.records)
    assert 100 == stats.backends["scalars"].delivered


def test_what_is_delivered_is_not_delivered_again(memory, experiment):
    """Starting the run again goes on after the cursor."""
    log(experiment, 100)
    experiment.stop()
    again = MemoryBackend()
    following = tracelet.start_logging(run_id=experiment.run_id, backend=again)
    log(following, 20, start=100)
    assert following.flush(30)
    assert list(range(100, 120)) == values(again.records)
    assert again.run.resumed
    assert 120 == following.stats().backends["memory"].delivered


def test_what_the_store_holds_is_not_sent_again():
    """A backend that can be asked how far its store is gets the rest alone, though the cursor was never written."""
    experiment = tracelet.start_logging()
    log(experiment, 100)
    experiment.stop()
    knowing = Knowing(held=60)
    stats = reopened(experiment, knowing)
    assert list(range(60, 100)) == values(knowing.records)
    assert (100, 0) == (stats.backends["knowing"].delivered, stats.backends["knowing"].pending)


def test_damage_in_the_journal_is_counted_and_named(caplog):
    """A batch whose bytes are wrong is counted as rejected; the batches around it arrive."""
    experiment = tracelet.start_logging()
    for _ in range(3):
        log(experiment, 10)
        assert experiment.flush(10)
    experiment.stop()
    db = sqlite3.connect(experiment.folder / "journal.db")
    with db:
        db.execute("UPDATE batches SET data = zeroblob(length(data)) WHERE first = 11")
    db.close()

    memory = MemoryBackend()
    stats = reopened(experiment, memory)
    assert 2 * list(range(10)) == values(memory.records)
    assert_balanced(stats)
    assert (20, 10, 0) == (
        stats.backends["memory"].delivered,
        stats.backends["memory"].rejected,
        stats.backends["memory"].pending,
    )
    assert 1 == len(warnings(caplog, "records 11 to 20 are damaged"))


def test_close_gets_the_status_of_the_run(memory):
    """`close` is told how the program ended."""
    experiment = tracelet.start_logging(backend=memory)
    experiment.stop(status="failed", exit_code=3)
    assert ("failed", 3) == (memory.status, memory.exit_code)


def test_attach_and_detach_run_in_the_callers_thread():
    """What a vendor keeps per thread (MLflow's active run) is set and restored where the program runs."""
    seen = []
    faults = {hook: lambda _, hook=hook: seen.append((hook, threading.current_thread())) for hook in HOOKS}
    experiment = tracelet.start_logging(backend=Faulty(**faults))
    log(experiment, 1)
    experiment.stop()
    here = {hook for hook, thread in seen if thread is threading.current_thread()}
    assert {"attach", "detach"} == here


def test_a_backend_that_claims_to_have_written_too_much_goes_on(swallowed):
    """A count beyond the batch is a vendor adapter's mistake: the run goes on after the refused record."""

    class Boasting(Faulty):
        def write(self, batch):
            self.calls["write"] += 1
            if self.calls["write"] == 1:
                return Written(len(batch) + 5, RecordRejected("no"))
            return super().write(batch)

    boasting = Boasting()
    experiment = tracelet.start_logging(backend=boasting)
    log(experiment, 100)
    assert experiment.flush(30)
    experiment.log_text("note", "still here")
    assert experiment.flush(30)
    assert [Text] == [type(record) for record in boasting.of(Text)]
    assert_balanced(experiment.stats())


@pytest.mark.parametrize(
    ("count", "error", "stored"),
    [
        (-3, BackendUnavailable("away"), 0),
        (-1, RecordRejected("no"), 0),
        (2, BackendUnavailable("away"), 2),
        (10, BackendUnavailable("away"), 10),
        (15, BackendUnavailable("away"), 10),
        (10, RecordRejected("no"), 9),
        (15, RecordRejected("no"), 9),
    ],
)
def test_a_count_of_written_records_is_one_of_the_batch(count, error, stored, gate):
    """A count below 0 is 0, and one beyond the batch is all of it, or all but its rejected last record."""

    class Miscounting(Faulty):
        def write(self, batch):
            if self.calls["write"]:
                return super().write(batch)
            self._meet("write")
            self.records.extend(batch[:stored])
            return Written(count, error)

    miscounting = Miscounting(open=gate)
    experiment = tracelet.start_logging(backend=miscounting, connect_timeout=0.2)
    log(experiment, 10)
    experiment.flush(0.2)
    gate._opened.set()
    experiment.stop(timeout=30)

    rejected = [stored] if isinstance(error, RecordRejected) else []
    assert [number for number in range(10) if number not in rejected] == values(miscounting.records)
    stats = experiment.stats().backends["faulty"]
    assert (10 - len(rejected), len(rejected), 0) == (stats.delivered, stats.rejected, stats.pending)


@pytest.mark.parametrize(
    "nonsense",
    [10, True, "all of them", Written("1", BackendUnavailable("x")), Written(1, None), Written(1, KeyError())],
)
def test_a_write_that_returns_something_else_has_written_nothing(nonsense, swallowed):
    """It is a defect of the backend, under its name: no record counts as delivered or rejected for it."""

    class Odd(Faulty):
        def write(self, batch):
            if self.calls["write"] < 5:
                self._meet("write")
                return nonsense
            return super().write(batch)

    odd = Odd()
    experiment = tracelet.start_logging(backend=odd)
    log(experiment, 10)
    experiment.stop(timeout=30)

    assert {TypeError} == {type(error) for error in swallowed}
    swallowed.clear()
    assert 5 == experiment.stats().causes[f"error in {Odd.write.__qualname__}: TypeError"]
    assert list(range(10)) == values(odd.records)
    stats = experiment.stats().backends["faulty"]
    assert (10, 0, 0) == (stats.delivered, stats.rejected, stats.pending)


def test_records_that_leave_no_number_at_the_backend_are_settled(caplog):
    """Filtered and rejected records before the first accepted one and after the last do not stay pending, and cause
    no second delivery when the run is opened again."""
    store = {}
    experiment = tracelet.start_logging(backend=Counting(store))

    def unnumbered():
        for step in range(3):
            experiment.log_text("note", "x", step)
        experiment.log_metric("loss", -1, 0)
        experiment.log_text("note", "x", 4)

    unnumbered()
    assert experiment.flush(30)
    assert (0, 1, 4, 0) == outcome(experiment.stats())
    log(experiment, 10)
    unnumbered()
    assert experiment.flush(30)
    assert (10, 2, 8, 0) == outcome(experiment.stats())
    experiment.stop()
    assert "closed" == experiment.stats().backends["counting"].state
    for _ in range(2):
        assert (10, 2, 8, 0) == outcome(reopened(experiment, Counting(store)))
    assert dict(zip(range(6, 16), range(10), strict=True)) == store
    assert [] == warnings(caplog, "delivering the others again")


def outcome(stats):
    assert_balanced(stats)
    counts = stats.backends["counting"]
    return counts.delivered, counts.rejected, counts.filtered, counts.pending


def test_a_backend_that_counts_its_own_process_only_gets_nothing_again():
    """If `open` returns None, the journal's cursor is used, also where `durable` has begun at 0 again."""

    class Forgetful(Counting):
        def open(self, run):
            self.earlier = set(self.store)

        def durable(self):
            return max(set(self.store) - self.earlier, default=0)

    store = {}
    experiment = tracelet.start_logging(backend=Forgetful(store))
    log(experiment, 10)
    experiment.log_text("note", "x")
    experiment.stop()
    assert (10, 0, 1, 0) == outcome(reopened(experiment, Forgetful(store)))
    again = tracelet.start_logging(run_id=experiment.run_id, backend=Forgetful(store))
    again.log_text("note", "y")
    assert again.flush(30)
    log(again, 2)
    again.stop()
    assert (12, 0, 2, 0) == outcome(again.stats())
    assert 12 == len(store)


@pytest.mark.parametrize("last", ["filtered", "rejected"])
def test_a_last_record_without_a_number_is_settled_at_the_end(last):
    """Also if it is delivered in the last moment, before its rejection is in the journal."""
    experiment = tracelet.start_logging(backend=Counting({}))
    log(experiment, 10)
    experiment.log_metric("loss", -1, 0)
    if last == "filtered":
        experiment.log_text("note", "x")
    experiment.stop()
    assert (10, 1, last == "filtered", 0) == outcome(experiment.stats())


@pytest.mark.parametrize("kept", [0, 4, 9])
def test_only_lost_records_are_delivered_again(kept, caplog):
    """A store that lost records takes those again, and not the filtered and rejected ones around them."""
    store = {}
    experiment = tracelet.start_logging(backend=Counting(store))
    for step in range(10):
        experiment.log_metric("loss", step, step)
        experiment.log_text("note", "x", step)
        experiment.log_metric("loss", -1, step)
    experiment.stop()
    assert (10, 10, 10, 0) == outcome(experiment.stats())
    complete = dict(store)
    for number in list(complete)[kept:]:
        del store[number]
    last = max(store, default=0)

    assert (10, 10, 10, 0) == outcome(reopened(experiment, Counting(store)))
    assert complete == store
    assert 1 == len(warnings(caplog, f"has {last} of 30 records"))
    with JournalReader(experiment.folder) as reader:
        assert list(range(3, 31, 3)) == [rejection.seq for rejection in reader.rejections("counting")]


class Losing(MemoryBackend):
    """Has lost its last records when it is flushed or closed for the first time."""

    name = "losing"

    def __init__(self, hook):
        super().__init__()
        self._hook, self._is_lost = hook, False
        self.opened = self._flushed = 0

    def open(self, run):
        self.opened += 1
        super().open(run)
        self._flushed = len(self.records)
        return self._flushed

    def _meet(self, hook):
        if hook == self._hook and len(self.records) == 10 and not self._is_lost:
            self._is_lost = True
            del self.records[7:]
            raise BackendUnavailable("lost", reopen=True)

    def durable(self):
        return self._flushed

    def flush(self):
        self._meet("flush")
        self._flushed = len(self.records)

    def close(self, status, exit_code):
        self._meet("close")
        self._flushed = len(self.records)
        super().close(status, exit_code)


@pytest.mark.parametrize("hook", ["flush", "close"])
def test_a_backend_that_was_lost_is_opened_again(hook):
    """Whichever method notices it: what the store lacks is written again."""
    losing = Losing(hook)
    experiment = tracelet.start_logging(backend=losing)
    log(experiment, 10)
    if hook == "flush":
        assert experiment.flush(30)
    experiment.stop(timeout=30)

    assert (list(range(10)), 2) == (values(losing.records), losing.opened)
    stats = experiment.stats().backends["losing"]
    assert (10, 0, "closed") == (stats.delivered, stats.pending, stats.state)
