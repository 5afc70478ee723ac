"""The guard: nothing of ours reaches the host, everything is counted, and each cause is said once."""

import logging
import threading

import pytest

from tracelet.errors import BackendUnavailable
from tracelet.guard import Guard


class Trouble:
    def defect(self):
        raise KeyError("no such key")

    def outage(self):
        raise BackendUnavailable("away")

    def leave(self):
        raise SystemExit(3)


def test_a_result_comes_through(swallowed):
    assert 3 == Guard().call(max, 1, 3)
    assert None is Guard().attempt(max, 1, 3)


def test_a_defect_is_counted_and_said_once(swallowed, caplog):
    """With its traceback, once; and the suite sees each."""
    guard = Guard()
    for _ in range(3):
        assert None is guard.call(Trouble().defect)
    assert KeyError is type(guard.attempt(Trouble().defect))
    assert {"error in Trouble.defect: KeyError": 4} == guard.counts()
    (record,) = caplog.records
    assert "no such key" in record.getMessage()
    assert 'raise KeyError("no such key")' in record.getMessage()
    assert 4 == len(swallowed)
    swallowed.clear()


def test_an_adapters_trouble_is_no_defect(swallowed, caplog):
    """What a backend may let out is said in one sentence, and counts as nothing lost."""
    guard = Guard()
    assert None is guard.call(Trouble().outage)
    assert BackendUnavailable is type(guard.attempt(Trouble().outage))
    assert {} == guard.counts()
    assert ["tracelet: Trouble.outage: away"] == [record.getMessage() for record in caplog.records]
    assert [] == swallowed


def test_the_programs_own_end_is_not_held():
    """KeyboardInterrupt and SystemExit pass."""
    with pytest.raises(SystemExit):
        Guard().call(Trouble().leave)


def test_an_exit_on_our_own_thread_is_held(caplog):
    """There SystemExit would only end the thread, without a word."""
    guard = Guard()
    assert None is guard.isolate(Trouble().leave)
    assert {"error in Trouble.leave: SystemExit": 1} == guard.counts()
    assert "raise SystemExit(3)" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("broken handler"), SystemExit(3)])
@pytest.mark.parametrize("place", ["handler", "filter"])
def test_a_broken_log_handler_costs_nothing(error, place):
    """The program's own handlers and filters run inside our log calls, on our threads as well."""

    def broken(record):
        raise error

    logger, handler = logging.getLogger("tracelet"), logging.Handler()
    handler.emit = broken
    hooks = {"handler": (logger.addHandler, logger.removeHandler), "filter": (logger.addFilter, logger.removeFilter)}
    hook, undo = hooks[place]
    hook(handler if place == "handler" else broken)
    guard = Guard()
    try:
        thread = threading.Thread(target=lambda: (guard.log_once("cause", "tracelet: %s", 1), guard.count("after")))
        thread.start()
        thread.join(30)
    finally:
        undo(handler if place == "handler" else broken)
    assert {"after": 1} == guard.counts()


def test_an_error_that_cannot_be_printed_is_held(swallowed, caplog):
    """An exception of a vendor may raise in its own `__str__`."""

    class Mute(Exception):
        def __str__(self):
            raise ValueError("no text")

    def fail():
        raise Mute

    guard = Guard()
    assert None is guard.call(fail)
    guard.log_once("cause", "tracelet: %s", Mute())
    assert 1 == sum(guard.counts().values())
    assert "tracelet: <Mute>" == caplog.records[-1].getMessage()
    swallowed.clear()


def test_a_cause_is_said_once(caplog):
    guard = Guard()
    for number in range(5):
        guard.log_once("cause", "tracelet: %s", number)
    guard.log_once("another", "tracelet: other", level=logging.INFO)
    assert ["tracelet: 0"] == [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize(
    ("first", "second", "count"),
    [
        ("cannot write /r/files/new-ab12cd_9", "cannot write /r/files/new-zz_9k2lm", 1),
        ("<HTTPConnection object at 0x7f31aa02b190>: refused", "<HTTPConnection object at 0x7f31aa02bfd0>: refused", 1),
        ("no answer after 2.503 s from port 41873", "no answer after 2.498 s from port 39004", 1),
        (
            "request 3f2b1c9e-0d4a-4c57-9a11-6f1f0a7b2c3d failed",
            "request 90aa1c9e-1111-4c57-9a11-6f1f0a7b2cff failed",
            1,
        ),
        ("the server returned 500", "the server returned 503", 2),
        ("step 1 is not valid", "step 2 is not valid", 2),
    ],
)
def test_a_cause_is_one_whatever_changes_in_its_text(first, second, count, caplog):
    """Names of temporary files, addresses, times and identifiers differ at each attempt; a status does not."""
    guard = Guard()
    guard.log_once(first, first)
    guard.log_once(second, second)
    assert [first, second][:count] == [record.getMessage() for record in caplog.records]


def test_counting_from_many_threads_is_exact():
    """Also past the thousand, where the events are folded."""
    guard = Guard()
    threads = [threading.Thread(target=lambda: [guard.count("x") for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {"x": 20_000} == guard.counts()
