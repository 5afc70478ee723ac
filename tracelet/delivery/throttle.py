"""How much a delivery writes at once, and how long it leaves the interpreter to the training in between."""

from __future__ import annotations

# Written in portions that take a moment each: the end of a run, and what a kill repeats, wait for one portion at most.
_PORTION_FIRST, _PORTION_MOST = 64, 4096
_SHORT, _LONG = 0.1, 0.4
# Where the end of the run waits for nothing else, larger portions: many vendors have a price for each request.
_LAST_SHORT, _LAST_LONG = 0.25, 0.8
# Beside a busy loop, the interpreter time that an SDK takes is the loop's loss. A thirtieth is enough for a live view
# of what most programs log; the end of the run ends the pauses.
_REST, _REST_MOST = 30.0, 5.0
# An SDK has threads of its own, which take more than the one that hands over: up to so many times as much, and no more
# than passes meanwhile (measured: wandb 0.31 takes 300 us a row, 60 of them here).
_HIDDEN = 8.0
# A backlog that the end of the run would work at for longer than this is worth a fifth of this thread's time.
_BACKLOG, _REST_BEHIND = 5.0, 4.0


class Throttle:
    """Learns from each portion that was written. `yields=False`: nothing shares the interpreter, so no rest."""

    def __init__(self, *, yields: bool = True) -> None:
        self.portion = _PORTION_FIRST
        self.yields = yields
        self._seconds_each = 0.0

    def wrote(self, size: int, seconds: float, *, finishing: bool) -> None:
        """`size` records took `seconds`."""
        self._seconds_each = seconds / size
        short, long = (_LAST_SHORT, _LAST_LONG) if finishing else (_SHORT, _LONG)
        if seconds > long:
            self.portion = max(1, size // 2)
        elif seconds < short and size == self.portion:
            self.portion = min(size * 2, _PORTION_MOST)

    def fitting(self, size: int, seconds: float) -> int:
        """As many of `size` records as are written within `seconds`, if they take as long as the last ones."""
        if not self._seconds_each:
            return size
        return min(size, max(0, int(seconds / self._seconds_each)))

    def rest(self, worked: float, passed: float, behind: int) -> float:
        """Seconds to pause after `worked` seconds of this thread's own, in which `passed` went by on the clock, with
        `behind` records still to write."""
        if not self.yields:
            return 0.0
        if behind * self._seconds_each > _BACKLOG:
            return min(worked * _REST_BEHIND, _REST_MOST)
        return min(min(worked * _HIDDEN, passed) * _REST, _REST_MOST)
