"""Collect scalars of one writer and step into one row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tracelet.backends.wandb.durability import Fingerprint, Pending
from tracelet.records import Scalar, shown_step

ROW_SPAN = 1.0
"""Maximum seconds between the scalars of a row. The row has the wall time of its first scalar."""
_ROW_AGE = 5.0

SendRow = Callable[[dict[str, float], int, float], Fingerprint]


@dataclass(eq=False)
class _Row:
    step: int
    wall_time: float
    created: float
    values: dict[str, float] = field(default_factory=dict)
    pending: Pending = field(init=False)


class OpenRows:
    """Hold one unsent row per writer."""

    def __init__(
        self, add: Callable[[Pending], Pending], send_pending: Callable[[Pending], None], send_row: SendRow
    ) -> None:
        self._add, self._send_pending, self._send_row = add, send_pending, send_row
        self._rows: dict[str, _Row] = {}

    def add(self, key: str, scalar: Scalar) -> None:
        """Add a scalar to its writer's open row. If it does not fit, send that row and start another."""
        step, row = shown_step(scalar.step), self._rows.get(scalar.writer)
        fits = row is not None and row.step == step and abs(row.wall_time - scalar.wall_time) <= ROW_SPAN
        complete = [writer for writer, other in self._rows.items() if key in other.values]
        if not fits and scalar.writer not in complete:
            complete.append(scalar.writer)
        self.send(complete)
        if scalar.writer not in self._rows:
            row = self._rows[scalar.writer] = _Row(step, scalar.wall_time, time.monotonic())
            row.pending = self._add(Pending(lambda: self._send_row(row.values, row.step, row.wall_time)))
        self._rows[scalar.writer].values[key] = scalar.value

    def send(self, writers: Iterable[str]) -> None:
        for writer in writers:
            if writer in self._rows:
                self._send_pending(self._rows[writer].pending)
                del self._rows[writer]

    def send_all(self) -> None:
        self.send(list(self._rows))

    def send_old(self) -> None:
        """Send rows older than five seconds: an open row blocks the confirmation of its batch."""
        now = time.monotonic()
        self.send([writer for writer, row in self._rows.items() if now - row.created >= _ROW_AGE])
