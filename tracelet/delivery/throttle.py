"""Choose how many records a delivery writes at once, and how long it pauses so that training gets the interpreter."""

from __future__ import annotations

# Records per write. A batch should take a moment: the end of a run waits for one batch at most, and a kill repeats one.
_FIRST_BATCH, _MAX_BATCH = 64, 4096
# Seconds per write, without those that every write takes: below the first the batch grows, above the second it is
# halved. A smaller batch would not make a distant or busy server faster.
_FAST, _SLOW = 0.1, 0.4
# The same at the end of the run, when nothing else waits: larger batches, since many vendors charge time per request.
_FINAL_FAST, _FINAL_SLOW = 0.25, 0.8
# Pause in multiples of the work done, and its maximum in seconds. An SDK takes interpreter time from the training loop;
# a thirtieth is enough for a live view of most programs. The end of the run ends the pauses.
_PAUSE_FACTOR, _MAX_PAUSE = 30.0, 5.0
# An SDK's own threads work too: up to so many times the delivery thread's work, and at most the elapsed time
# (measured: wandb 0.31 takes 300 us a row, 60 us of them on this thread).
_SDK_FACTOR = 8.0
# If the backlog needs more than so many seconds, pause only so many times the work: a fifth of this thread's time.
_LONG_BACKLOG, _BACKLOG_PAUSE_FACTOR = 5.0, 4.0
# The part that an earlier write keeps in the estimate of the seconds; and the variation of the sizes, in parts of their
# mean, that an estimate needs.
_MEMORY, _DISTINCT = 0.8, 0.15


class Throttle:
    """Adapt to the measured time of each write. If `pauses` is False, nothing else needs this interpreter."""

    def __init__(self, *, pauses: bool = True) -> None:
        self.batch_size = _FIRST_BATCH
        self.pauses = pauses
        self._seconds_each = self._latency = 0.0
        self._is_known = False
        self._sums: dict[str, float] = {}

    def measure(self, size: int, seconds: float, *, finishing: bool) -> None:
        """Adapt the batch size: writing `size` records took `seconds`."""
        self._estimate(size, seconds)
        fast, slow = (_FINAL_FAST, _FINAL_SLOW) if finishing else (_FAST, _SLOW)
        work = self._seconds_each * size
        if work > slow and size > 1:
            self.batch_size = size // 2
        elif (work < fast or not self._is_known) and size == self.batch_size:
            self.batch_size = min(size * 2, _MAX_BATCH)

    def _estimate(self, size: int, seconds: float) -> None:
        """Split the seconds of the last writes into those of each record and those of any write: a regression line."""
        for name, value in (("", 1.0), ("n", size), ("s", seconds), ("nn", size * size), ("ns", size * seconds)):
            self._sums[name] = self._sums.get(name, 0.0) * _MEMORY + value
        weight, mean, mean_seconds = self._sums[""], self._sums["n"] / self._sums[""], self._sums["s"] / self._sums[""]
        variance = self._sums["nn"] / weight - mean**2
        self._is_known = variance > (_DISTINCT * mean) ** 2
        if self._is_known:
            self._seconds_each = max(0.0, (self._sums["ns"] / weight - mean * mean_seconds) / variance)
        else:  # all writes had about the same size
            self._seconds_each = seconds / size
        self._latency = max(0.0, mean_seconds - self._seconds_each * mean)

    def fits_in(self, size: int, seconds: float) -> int:
        """Return how many of `size` records can be written within `seconds`, at the speed of the last write."""
        if not self._seconds_each:
            return size
        return min(size, max(0, int((seconds - self._latency) / self._seconds_each)))

    def pause_after(self, worked: float, elapsed: float, backlog: int) -> float:
        """Return the seconds to pause.

        `worked` is this thread's CPU seconds, `elapsed` the wall seconds, `backlog` the number of records to write.
        """
        if not self.pauses:
            return 0.0
        if backlog * (self._seconds_each + self._latency / self.batch_size) > _LONG_BACKLOG:
            return min(worked * _BACKLOG_PAUSE_FACTOR, _MAX_PAUSE)
        return min(min(worked * _SDK_FACTOR, elapsed) * _PAUSE_FACTOR, _MAX_PAUSE)
