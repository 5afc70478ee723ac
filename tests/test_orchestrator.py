"""Queue, journal thread and end: nothing is lost unsaid, memory is bounded, every wait has a deadline."""

import gc
import itertools
import os
import signal
import threading
import time
import tracemalloc

import pytest
from backends.faults import Faulty, Gate, assert_balanced, journalled, values
from support import BUSY, until

import tracelet
from tracelet.backends.memory import MemoryBackend
from tracelet.journal.store import JournalReader
from tracelet.records import Scalar


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def small_queue(monkeypatch):
    """Room for ten records, and a call waits half a second at most."""
    monkeypatch.setenv("TRACELET_QUEUE_BYTES", str(10 * 256))
    monkeypatch.setenv("TRACELET_QUEUE_TIMEOUT", "0.5")


def warnings(caplog, part):
    return [record for record in caplog.records if part in record.getMessage()]


def within(seconds, function, *args):
    """Run on a thread of its own; a deadlock fails the test instead of stopping the suite."""
    failures = []

    def run():
        try:
            function(*args)
        except BaseException as error:  # noqa: BLE001 - told on the main thread
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"{function} did not return within {seconds} s"
    assert [] == failures


# Back-pressure.


def test_a_full_queue_makes_the_caller_wait(small_queue, caplog):
    """Five hundred records through a queue of ten: all arrive, the calls that waited are counted and said once."""
    memory = MemoryBackend()
    experiment = tracelet.start_logging(backend=memory)
    for step in range(500):
        experiment.log_metric("loss", step, step)
    assert experiment.flush(30)
    assert list(range(500)) == values(memory.records)
    stats = experiment.stats()
    assert_balanced(stats)
    assert 0 < stats.waited <= 500
    assert 0 == stats.backends["memory"].dropped
    assert 1 == len(warnings(caplog, "queue to the journal is full"))


def obstructed(experiment):
    """The spool is in the way of the journal: the disk takes pictures no more, nor what comes after them."""
    obstacle = experiment.folder / "files"
    obstacle.write_bytes(b"no folder")
    experiment.log_image("picture", [[0.0, 1.0]], 0, dataformats="HW")
    return obstacle


def test_a_disk_that_takes_nothing_is_bridged_from_memory(monkeypatch, caplog, memory, experiment):
    """Backends get everything all the same, in order; said once. With the disk back, the journal holds it all."""
    obstacle = obstructed(experiment)
    for step in range(6000):
        experiment.log_metric("loss", step, step)
    assert experiment.flush(30)
    assert [0.0, *range(6000)] == [0.0, *values(memory.of(Scalar))]
    assert 1 == len(warnings(caplog, "records stay in memory"))

    obstacle.unlink()
    experiment.stop()
    stats = experiment.stats()
    assert_balanced(stats)
    assert (6001, 6001, {}) == (stats.submitted, stats.backends["memory"].delivered, stats.causes)
    assert [*range(6000)] == values(journalled(experiment.folder)[1:])


def test_what_fits_neither_the_disk_nor_memory_is_delivered_and_counted(small_queue, memory, experiment):
    """Past the bound, what every backend has is let go of; the journal names the gap, and goes on behind it."""
    obstacle = obstructed(experiment)
    for step in range(500):
        experiment.log_metric("loss", step, step)
    assert experiment.flush(30)
    obstacle.unlink()
    experiment.stop()
    stats = experiment.stats()
    assert_balanced(stats)
    unkept = stats.causes["delivered, but not stored in the journal: the disk was not writable"]
    assert (501, 0) == (stats.backends["memory"].delivered, stats.backends["memory"].dropped)
    assert 501 - unkept == len(journalled(experiment.folder)) < 501
    with JournalReader(experiment.folder) as reader:
        first = reader.next_batch(0)
        assert (501, [], unkept) == (reader.last(), first.records, first.last)
        assert "were never stored" in first.damaged

    late = Faulty()
    tracelet.start_logging(run_id=experiment.run_id, backend=late).stop()
    assert 501 - unkept == len(late.records)


def test_a_journal_that_cannot_be_written_drops_after_the_limit(small_queue, caplog, gate):
    """No backend takes anything either: calls wait half a second in all, then drop, counted, said once. Once the disk
    is back, what waited arrives in order, and later calls wait and drop by the same rule."""
    backend = Faulty(write=gate)
    experiment = tracelet.start_logging(backend=backend)
    obstacle = obstructed(experiment)
    began = time.monotonic()
    assert gate.reached.wait(20)
    for step in range(6000):  # the journal's thread may take up to 4096 out of the queue without keeping them
        experiment.log_metric("loss", step, step)
    assert time.monotonic() - began < 5 + BUSY
    assert not experiment.flush(0.1)
    stats = experiment.stats()
    assert_balanced(stats)
    dropped = stats.backends["faulty"].dropped
    assert (6001, 0) == (stats.submitted, stats.backends["faulty"].delivered)
    assert 1000 < dropped < 6000
    assert dropped == sum(count for cause, count in stats.causes.items() if cause.startswith("dropped"))
    assert 1 == len(warnings(caplog, "records are dropped"))

    obstacle.unlink()
    gate._opened.set()
    assert experiment.flush(30)
    kept = values(backend.of(Scalar))
    assert 6000 - dropped == len(kept)
    assert sorted(set(kept)) == kept
    for step in range(1000, 1100):
        experiment.log_metric("loss", step, step)
    assert experiment.flush(30)
    stats = experiment.stats()
    assert_balanced(stats)
    assert (6101, dropped, 0) == (stats.submitted, stats.backends["faulty"].dropped, stats.backends["faulty"].pending)
    assert list(range(1000, 1100)) == values(backend.of(Scalar))[len(kept) :]


@pytest.mark.parametrize("reachable", [True, False])
def test_a_journal_that_cannot_be_written_does_not_hold_the_end(gate, reachable):
    """stop(1) returns; what no backend took and no disk kept is counted as dropped, and the books balance."""
    experiment = tracelet.start_logging(backend=Faulty() if reachable else Faulty(write=gate))
    (experiment.folder / "files").write_bytes(b"no folder")
    for step in range(10):
        experiment.log_image("picture", [[0.0, 1.0]], step, dataformats="HW")
        experiment.log_metric("loss", step, step)
    began = time.monotonic()
    experiment.stop(timeout=1)
    assert time.monotonic() - began < 2.5 + BUSY
    stats = experiment.stats()
    assert_balanced(stats)
    assert (
        20
        == stats.submitted
        == stats.causes.get("dropped: the disk was not writable until the end", 0) + stats.backends["faulty"].delivered
    )
    assert (0 if reachable else 20) == stats.backends["faulty"].dropped


def test_without_a_backend_and_a_disk_the_loss_is_counted(caplog):
    """Nobody has the records: their number is in the causes."""
    experiment = tracelet.start_logging()
    obstructed(experiment)
    experiment.stop(timeout=1)
    assert {"dropped: the disk was not writable until the end": 1} == experiment.stats().causes
    assert "1 records are lost" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write where nobody may")
def test_a_run_folder_without_permission_as_a_user(tmp_path):
    """A folder that may not be written to disturbs nobody."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    delivered_without_a_journal(closed)


def test_a_place_for_runs_that_cannot_be_made_disturbs_nobody(tmp_path):
    """The run begins, its backends get everything, and it ends; what was not kept is counted."""
    (tmp_path / "file").write_bytes(b"no folder")
    delivered_without_a_journal(tmp_path / "file")


def delivered_without_a_journal(place):
    memory = MemoryBackend()
    with tracelet.start_logging(backend=memory, dir=place) as experiment:
        for step in range(100):
            experiment.log_metric("loss", step, step)
        experiment.log_image("picture", [[0.0, 1.0]], 0, dataformats="HW")
    stats = experiment.stats()
    assert_balanced(stats)
    assert (101, 101) == (stats.submitted, stats.backends["memory"].delivered)
    assert list(range(100)) == values(memory.of(Scalar))


def test_a_place_for_runs_that_appears_later_gets_the_whole_run(tmp_path):
    """As a network folder that is mounted late."""
    obstacle = tmp_path / "place"
    obstacle.write_bytes(b"no folder")
    experiment = tracelet.start_logging(dir=obstacle)
    experiment.log_metric("loss", 1, 1)
    assert not experiment.flush(10)  # in memory alone
    obstacle.unlink()
    experiment.log_metric("loss", 2, 2)
    until(lambda: (experiment.folder / "journal.db").exists())
    experiment.log_metric("loss", 3, 3)
    experiment.stop()
    assert [1.0, 2.0, 3.0] == values(journalled(experiment.folder))
    assert {} == experiment.stats().causes


def test_a_failing_disk_is_not_filled_with_drafts(experiment):
    """Every turn that fails leaves nothing behind."""
    files = experiment.folder / "files"
    files.mkdir()
    experiment.log_image("picture", [[0.0, 1.0]], 0, dataformats="HW")
    assert experiment.flush(10)
    (stored,) = [path for path in files.rglob("*") if path.is_file()]
    for number in range(256):
        (files / f"{number:02x}").mkdir(exist_ok=True) if (files / f"{number:02x}") == stored.parent else (
            files / f"{number:02x}"
        ).write_bytes(b"in the way")
    experiment.log_image("picture", [[1.0, 0.0]], 1, dataformats="HW")
    assert experiment.flush(10)
    tried = experiment._orchestrator._writer._last_attempt
    until(lambda: experiment._orchestrator._writer._last_attempt > tried + 0.5)
    until(lambda: [] == list(files.glob("new-*")))  # one that is being tried has a draft for a moment
    for path in files.iterdir():
        if path.is_file():
            path.unlink()
    assert experiment.flush(10)


def test_memory_is_bounded_while_a_backend_is_stuck(gate):
    """A hundred thousand records for a backend that hangs are on the disk, not in memory."""
    experiment = tracelet.start_logging(backend=Faulty(write=gate))
    experiment.log_metric("loss", 0, 0)
    assert gate.reached.wait(30)

    def log(count):
        for step in range(count):
            experiment.log_metric("loss", step, step)
        with JournalReader(experiment.folder) as reader:
            until(lambda: reader.last() == experiment.stats().submitted)

    log(1000)
    tracemalloc.start()
    try:
        log(30_000)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 1_000_000
    assert 31_001 == experiment.stats().backends["faulty"].pending


def test_large_payloads_count_by_their_size(monkeypatch, experiment):
    """A queue of one megabyte never holds more than one picture above that."""
    experiment.stop()
    monkeypatch.setenv("TRACELET_QUEUE_BYTES", str(2**20))
    running = tracelet.start_logging()
    table = [["x" * 400_000]]
    for step in range(20):
        running.log_table("big", table, step, columns=["text"])
        assert running._orchestrator._queue.large_bytes < 2**20 + 2 * 400_100
    assert running.flush(30)
    assert 0 == running._orchestrator._queue.large_bytes
    assert 20 == len(journalled(running.folder))


# The books.


def test_the_books_balance_at_every_moment():
    """Whoever asks while four threads log and two backends read: no part is negative, the sum is what was submitted."""
    experiment = tracelet.start_logging(backend=[MemoryBackend(), Faulty()])
    logging = threading.Event()
    seen = []

    def log(name):
        for step in range(5000):
            experiment.log_metric(name, step, step)

    def ask():
        while not logging.is_set():
            seen.append(experiment.stats())

    threads = [threading.Thread(target=log, args=(f"m{number}",)) for number in range(4)]
    asking = threading.Thread(target=ask)
    for thread in [asking, *threads]:
        thread.start()
    for thread in threads:
        thread.join(60)
    logging.set()
    asking.join(60)
    assert experiment.flush(30)
    for stats in seen:
        assert_balanced(stats)
    submitted = [stats.submitted for stats in seen]
    assert sorted(submitted) == submitted
    assert 20_000 == experiment.stats().submitted == experiment.stats().backends["memory"].delivered


def test_a_record_without_encoding_costs_no_other(swallowed, memory, experiment):
    """What cannot be written down is dropped, counted and said; its neighbours arrive."""
    for step in range(10):
        experiment.log_metric("loss", step, step)
    experiment._orchestrator.submit(Scalar("lone \ud800", 1.0, 1, 1.0))
    for step in range(10, 20):
        experiment.log_metric("loss", step, step)
    assert experiment.flush(30)
    assert [UnicodeEncodeError] == [type(error) for error in swallowed]
    swallowed.clear()
    assert list(range(20)) == values(memory.records)
    stats = experiment.stats()
    assert_balanced(stats)
    assert (21, 20, 1) == (stats.submitted, stats.backends["memory"].delivered, stats.backends["memory"].dropped)


def test_what_comes_after_the_end_is_counted(memory, experiment):
    """A thread that still submits when the journal is closed loses its records, but not unsaid."""
    experiment.log_metric("loss", 1, 1)
    experiment.stop()
    experiment._orchestrator.submit(Scalar("late", 1.0, 1, 1.0))
    submitted, deliveries, causes, _ = experiment._orchestrator.stats()
    assert (2, 1, {"dropped: the run had ended": 1}) == (submitted, deliveries["memory"].dropped, causes)
    assert not experiment._orchestrator.flush(time.monotonic() + 10)


def test_threads_lose_nothing_and_keep_their_order(memory, experiment):
    """Eight threads at once: every record once, those of one thread in its order."""

    def log(name):
        for step in range(2000):
            experiment.log_metric(name, step, step)

    threads = [threading.Thread(target=log, args=(f"m{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert experiment.flush(30)
    for number in range(8):
        assert list(range(2000)) == [one.value for one in memory.records if one.tag == f"m{number}"]


# Calls from where no lock may be met.


def test_a_signal_handler_may_log(memory, experiment):
    """Signals in the middle of a tight loop of calls: no deadlock, nothing lost, nothing twice."""
    rung = itertools.count()
    previous = signal.signal(signal.SIGALRM, lambda *_: experiment.log_metric("rung", next(rung), 0))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for step in range(20_000):
            experiment.log_metric("loss", step, step)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert experiment.flush(30)
    told = next(rung)
    assert told > 10
    # A handler may itself be interrupted, between counting and logging.
    assert list(range(told)) == sorted(one.value for one in memory.records if one.tag == "rung")
    assert list(range(20_000)) == [one.value for one in memory.records if one.tag == "loss"]


def test_a_signal_handler_may_ask_and_flush(memory, experiment):
    """`stats` inside `stats`, and a text while a text is being logged."""
    asked = []

    def ring(*_):
        asked.append(experiment.stats())
        experiment.log_text("rung", "x" * 3000)

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for step in range(2000):
            experiment.log_text("note", "y" * 3000, step)
            experiment.stats()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert experiment.flush(30)
    assert 2000 + len(asked) == len(memory.records)


def test_a_finaliser_may_log(memory, experiment):
    """Objects that log in `__del__`, collected at any moment and on any thread, lose nothing."""
    gone = itertools.count()

    class Noisy:
        def __init__(self):
            self.me = self

        def __del__(self):
            experiment.log_metric("gone", next(gone), 0)

    thresholds = gc.get_threshold()
    gc.set_threshold(5)
    try:
        for step in range(5000):
            Noisy()
            experiment.log_metric("loss", step, step)
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert experiment.flush(30)
    assert 5000 == next(gone)
    assert list(range(5000)) == sorted(one.value for one in memory.records if one.tag == "gone")
    assert list(range(5000)) == [one.value for one in memory.records if one.tag == "loss"]


# The end.


def test_stopping_twice_is_harmless(memory, experiment):
    """The second stop does nothing, and the run's numbers stay."""
    experiment.log_metric("loss", 1, 1)
    tracelet.stop_logging()
    first = experiment.stats()
    tracelet.stop_logging()
    experiment.stop()
    assert first == experiment.stats()
    assert None is tracelet.get_active_experiment()
    assert ["loss"] == [one.tag for one in memory.records]


def test_stopping_from_several_threads(memory, experiment):
    """Whoever comes second waits for the first; afterwards the run is ended for all of them."""
    for step in range(1000):
        experiment.log_metric("loss", step, step)
    after = []

    def stop():
        experiment.stop()
        after.append((len(memory.records), memory.status))

    threads = [threading.Thread(target=within, args=(10, stop)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert 4 * [(1000, "finished")] == after


@pytest.mark.parametrize("hook", ["write", "flush", "durable"])
def test_stopping_inside_a_backends_callback(hook):
    """A backend (or a vendor's callback) that ends the run on the delivery's own thread: no deadlock."""
    backend = Faulty()
    experiment = tracelet.start_logging(backend=backend)
    backend.faults[hook] = lambda _: experiment.stop(timeout=5)
    experiment.log_metric("loss", 1, 1)
    within(10, experiment.flush, 2)
    within(10, experiment.stop)
    until(lambda: backend.status == "finished")
    assert [1.0] == values(backend.records)
    assert 1 == experiment.stats().backends["faulty"].delivered


def test_a_backend_that_logs_into_its_own_run_ends(memory):
    """A vendor's callback that logs a metric for every batch adds records, but no recursion."""
    backend = Faulty()
    experiment = tracelet.start_logging(backend=backend)
    backend.faults["write"] = lambda number: experiment.log_metric("batches", number) if number <= 5 else None
    experiment.log_metric("loss", 1, 1)
    until(lambda: len(backend.records) == 6)
    within(10, experiment.stop)
    assert [0, 1, 2, 3, 4, 5] == [one.value if one.tag == "batches" else 0 for one in backend.records]


def test_logging_goes_on_during_the_end(memory, experiment):
    """A thread that never pauses cannot hold the end; what the run says it took is what arrived."""
    ended = threading.Event()
    accepted = itertools.count()

    def log():
        while not ended.is_set():
            experiment.log_metric("loss", next(accepted), 0)

    thread = threading.Thread(target=log, daemon=True)
    thread.start()
    try:
        until(lambda: memory.records)
        within(20, experiment.stop)
    finally:
        ended.set()
        thread.join(20)
    stats = experiment.stats()
    assert_balanced(stats)
    assert stats.backends["memory"].delivered == len(memory.records)
    assert list(range(len(memory.records))) == values(memory.records)
    assert stats.submitted - stats.backends["memory"].dropped == len(journalled(experiment.folder))


def test_the_last_word_names_what_waits(caplog, gate):
    """At the end, one line counts the records of each backend, and one tells how to deliver what waits."""
    experiment = tracelet.start_logging(backend=Faulty(write=gate))
    for step in range(10):
        experiment.log_metric("loss", step, step)
    experiment.stop(timeout=0.3)
    (line,) = warnings(caplog, f"run {experiment.run_id} finished")
    assert "10 records; faulty: 0 delivered, 10 pending" in line.getMessage()
    (line,) = warnings(caplog, "10 records are not delivered yet; they are stored in the journal. Run: tracelet sync")
    assert experiment.run_id in line.getMessage()


def test_status_and_code_are_in_the_journal(experiment):
    """How the run ended can be read without a backend."""
    with JournalReader(experiment.folder) as reader:
        assert "running" == reader.facts()["status"]
        experiment.stop(status="failed", exit_code=7)
        facts = reader.facts()
    assert ("failed", 7) == (facts["status"], facts["exit_code"])
    assert abs(time.time() - facts["ended"]) < 60
