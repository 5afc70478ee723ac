"""Which records of the journal a wandb run holds. Each row of its history says so, in the key `MARK`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from tracelet import records as r
from tracelet.backends.wandb.values import MARK

__all__ = ["MARK", "Mark", "OpenRows", "Row"]

ROW_SPAN = 1.0
"""Maximum seconds between the scalars of a row. The row has the wall time of its first scalar."""
_ROW_AGE = 5.0


class Mark:
    """All sequence numbers of one journal up to `seen`, without the `missing` ones.

    As a text: "a1b2 9", or "a1b2 9 2 4-6" if 2, 4, 5 and 6 of the journal a1b2 are missing. Other journals may write to
    the same run.
    """

    def __init__(self, journal: str, seen: int = 0, missing: Iterable[int] = ()) -> None:
        self.journal, self.seen, self.missing = journal, seen, set(missing)

    @classmethod
    def parse(cls, text: str, journal: str) -> Mark | None:
        """Return the mark; None if it is another journal's."""
        owner, seen, *ranges = text.split()
        bounds = [[int(bound) for bound in part.split("-")] for part in ranges]
        missing = (number for first, *last in bounds for number in range(first, (last or [first])[0] + 1))
        return cls(journal, int(seen), missing) if owner == journal else None

    def text(self, holding: Collection[int] = ()) -> str:
        """Return the text of the mark once the run also holds the numbers in `holding`."""
        numbers = sorted(self.missing.difference(holding))
        ends = [0, *(at for at, (one, other) in enumerate(pairwise(numbers), 1) if other > one + 1), len(numbers)]
        parts = [numbers[start:end] for start, end in pairwise(ends) if end > start]
        ranges = (f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
        return " ".join((self.journal, str(self.seen), *ranges))

    @property
    def low(self) -> int:
        """The last number up to which none is missing."""
        return min(self.missing, default=self.seen + 1) - 1

    def __contains__(self, number: int) -> bool:
        return number <= self.seen and number not in self.missing

    def begin(self, number: int) -> None:
        """Add a number that is missing until `done`."""
        self.seen = max(self.seen, number)
        self.missing.add(number)

    def done(self, numbers: Iterable[int]) -> None:
        self.missing.difference_update(numbers)

    def limited(self, last: int | None = None) -> Mark:
        """Return a copy without the numbers after `last`."""
        last = self.seen if last is None else last
        return Mark(self.journal, min(self.seen, last), (number for number in self.missing if number <= last))


@dataclass(eq=False)
class Row:
    """Scalars of one writer and step."""

    step: int | None
    wall_time: float
    created: float = field(default_factory=time.monotonic)
    values: dict[str, float] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)


class OpenRows:
    """Hold one unsent row per writer."""

    def __init__(self, send: Callable[[Row], None]) -> None:
        self._send = send
        self._rows: dict[str, Row] = {}

    def add(self, key: str, scalar: r.Scalar, number: int) -> None:
        """Add a scalar to its writer's open row. If it does not fit, send that row and start another."""
        row = self._rows.get(scalar.writer)
        fits = (
            row is not None
            and r.shown_step(row.step) == r.shown_step(scalar.step)
            and abs(row.wall_time - scalar.wall_time) <= ROW_SPAN
        )
        complete = [writer for writer, other in self._rows.items() if key in other.values]
        if not fits and scalar.writer not in complete:
            complete.append(scalar.writer)
        self.send(complete)
        row = self._rows.setdefault(scalar.writer, Row(scalar.step, scalar.wall_time))
        row.values[key] = scalar.value
        row.numbers.append(number)

    def send(self, writers: Iterable[str]) -> None:
        for writer in writers:
            row = self._rows.pop(writer, None)
            if row is not None:
                self._send(row)

    def clear(self) -> None:
        """Forget the rows of a run that was lost: their records are written again."""
        self._rows.clear()

    @property
    def are_empty(self) -> bool:
        return not self._rows

    def send_all(self) -> None:
        self.send(list(self._rows))

    def send_old(self) -> None:
        """Send rows older than five seconds: a record in an open row is not confirmed."""
        now = time.monotonic()
        self.send([writer for writer, row in self._rows.items() if now - row.created >= _ROW_AGE])
