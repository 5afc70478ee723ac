"""Pauses between attempts to reach a backend that is unavailable: exponential, with jitter and a limit."""

from __future__ import annotations

import os

# First and longest pause between two attempts, in seconds; it doubles each time.
FIRST, _LONGEST = 0.5, 30.0
# The longest pause between two attempts to open a run that rank 0 is about to create.
LONGEST_FOR_RANK_0 = 5.0
# The longest `retry_after` in seconds that is respected: a server may send any number.
_RETRY_AFTER_MAX = 300.0


class Backoff:
    """The pauses of one delivery."""

    def __init__(self) -> None:
        self._pause = FIRST

    def reset(self) -> None:
        """Start again with the shortest pause, after an attempt that succeeded."""
        self._pause = FIRST

    def next_pause(self, retry_after: float | None) -> float:
        """Return the seconds until the next attempt; at least `retry_after`, if the server sent one."""
        # Jitter: many runs that lost one server must not reconnect at the same time.
        jitter = os.urandom(1)[0] / 255  # not `random`: its state belongs to the program
        seconds = max(min(retry_after or 0.0, _RETRY_AFTER_MAX), self._pause * (0.5 + jitter / 2))
        self._pause = min(self._pause * 2, _LONGEST)
        return seconds
