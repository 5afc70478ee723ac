"""Pauses between attempts: they double up to a limit, differ between runs, and respect the server's wish."""

from tracelet.delivery.backoff import Backoff


def test_pauses_double_up_to_a_limit():
    """Each is within the jitter, from a half to the whole."""
    backoff = Backoff()
    for longest in (0.5, 1, 2, 4, 8, 16, 30, 30):
        assert longest / 2 <= backoff.next_pause(None) <= longest


def test_a_success_starts_again():
    backoff = Backoff()
    for _ in range(5):
        backoff.next_pause(None)
    backoff.reset()
    assert backoff.next_pause(None) <= 0.5


def test_a_server_may_ask_for_longer():
    """At most five minutes; a shorter wish does not shorten the pause."""
    assert 60.0 == Backoff().next_pause(60.0)
    assert 300.0 == Backoff().next_pause(86_400.0)
    assert Backoff().next_pause(0.001) >= 0.25
