"""How a delivery shares the interpreter: what it writes at once, how long it rests, and what ends a rest."""

import random
import time

import pytest

import tracelet
from tracelet.backends.base import Backend
from tracelet.delivery import throttle as pace
from tracelet.delivery.throttle import Throttle

DEADLINE = 30


def test_portions_grow_while_they_are_quick():
    found = Throttle()
    sizes = []
    for _ in range(10):
        sizes.append(found.batch_size)
        found.measure(found.batch_size, 0.001, finishing=False)
    assert [64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096, 4096] == sizes


def test_a_slow_portion_is_halved():
    found = Throttle()
    found.measure(64, 1.0, finishing=False)
    assert 32 == found.batch_size
    for _ in range(8):
        found.measure(found.batch_size, found.batch_size * 2.0, finishing=False)
    assert 1 == found.batch_size


def settled(latency: float, each: float, noise: float = 0.0) -> int:
    """Return the batch size after many writes to a server."""
    found, chance = Throttle(), random.Random(0)
    for _ in range(100):
        seconds = latency + each * found.batch_size + chance.uniform(0, noise)
        found.measure(found.batch_size, seconds, finishing=False)
    return found.batch_size


def test_a_distant_server_gets_large_portions():
    """A request takes a second, whatever is in it."""
    assert 4096 == settled(latency=1.0, each=0.0)
    assert 100 < settled(latency=1.0, each=0.001) < 800
    assert 4 <= settled(latency=1.0, each=0.03) <= 16


def test_a_busy_server_gets_large_portions():
    """Requests of others make each one last up to two seconds longer. One record in each would never end."""
    assert settled(latency=0.1, each=0.0001, noise=2.0) >= 64


def test_a_part_of_a_portion_does_not_make_it_grow():
    found = Throttle()
    found.measure(3, 0.001, finishing=False)
    assert 64 == found.batch_size


def test_what_fits_into_the_time_left():
    found = Throttle()
    assert 64 == found.fits_in(64, 0.0)  # nothing is known yet
    found.measure(64, 6.4, finishing=True)
    assert (10, 32, 0) == (found.fits_in(32, 1.0), found.fits_in(32, 100.0), found.fits_in(32, -1.0))


def test_a_rest_is_many_times_the_work():
    found = Throttle()
    found.measure(64, 0.064, finishing=False)
    assert pytest.approx(0.3) == found.pause_after(0.01, 0.01, backlog=100)
    assert pace._MAX_PAUSE == found.pause_after(10.0, 10.0, backlog=100)


def test_a_vendors_own_threads_count():
    """Up to eight times what the delivery worked; waiting for a slow server is no work."""
    found = Throttle()
    found.measure(64, 0.064, finishing=False)
    assert pytest.approx(0.6) == found.pause_after(0.01, 0.02, backlog=100)
    assert pytest.approx(0.24) == found.pause_after(0.001, 2.0, backlog=100)


def test_a_long_backlog_shortens_the_rest():
    """At a millisecond each, ten thousand records would hold up the end of the run for ten seconds."""
    found = Throttle()
    found.measure(64, 0.064, finishing=False)
    assert pytest.approx(0.04) == found.pause_after(0.01, 0.02, backlog=10_000)


def test_a_process_of_its_own_does_not_rest():
    assert 0.0 == Throttle(pauses=False).pause_after(1.0, 1.0, backlog=0)


class Slow(Backend):
    """Takes a while of the interpreter for each portion."""

    name = "slow"

    def __init__(self):
        super().__init__()
        self.values = []

    def open(self, run):
        return

    def write(self, batch):
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass
        self.values += [record.value for record in batch]


def test_a_flush_and_the_end_do_not_wait_for_a_rest(monkeypatch):
    """Each portion asks for a rest of 1,000 seconds."""
    monkeypatch.setattr(pace, "_PAUSE_FACTOR", 5000.0)
    monkeypatch.setattr(pace, "_MAX_PAUSE", 1000.0)
    backend = Slow()
    with tracelet.start_logging(backend=backend) as exp:
        for step in range(3):
            exp.log_metric("loss", step, step)
            assert exp.flush(DEADLINE)
            assert list(range(step + 1)) == backend.values
        exp.log_metric("loss", 9.0, 9)
        began = time.monotonic()
    assert time.monotonic() - began < DEADLINE
    assert 9.0 == backend.values[-1]
