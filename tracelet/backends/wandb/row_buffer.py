"""Scalars of one writer and step wait for each other: together they are one row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tracelet.backends.wandb.durability import Fingerprint, Pending
from tracelet.records import Scalar, shown_step

ROW_SPAN = 1.0
"""Scalars of a row are at most so many seconds apart; the row has the time of the first."""
_ROW_AGE = 5.0

SendRow = Callable[[dict[str, float], int, float], Fingerprint]


@dataclass(eq=False)
class _Row:
    step: int
    wall_time: float
    born: float
    values: dict[str, float] = field(default_factory=dict)
    piece: Pending = field(init=False)


class OpenRows:
    """The row of each writer that is not handed over yet."""

    def __init__(
        self, add: Callable[[Pending], Pending], upload_offline: Callable[[Pending], None], send: SendRow
    ) -> None:
        self._add, self._hand_over, self._send = add, upload_offline, send
        self._rows: dict[str, _Row] = {}

    def join(self, key: str, scalar: Scalar) -> None:
        """Put a scalar into its writer's open row, or send that and begin another."""
        step, row = shown_step(scalar.step), self._rows.get(scalar.writer)
        fits = row is not None and row.step == step and abs(row.wall_time - scalar.wall_time) <= ROW_SPAN
        ended = [writer for writer, other in self._rows.items() if key in other.values]
        if not fits and scalar.writer not in ended:
            ended.append(scalar.writer)
        self.send(ended)
        if scalar.writer not in self._rows:
            row = self._rows[scalar.writer] = _Row(step, scalar.wall_time, time.monotonic())
            row.piece = self._add(Pending(lambda: self._send(row.values, row.step, row.wall_time)))
        self._rows[scalar.writer].values[key] = scalar.value

    def send(self, writers: Iterable[str]) -> None:
        for writer in writers:
            if writer in self._rows:
                self._hand_over(self._rows[writer].piece)
                del self._rows[writer]

    def send_all(self) -> None:
        self.send(list(self._rows))

    def send_old(self) -> None:
        """A row that nobody adds to must not hold its batch back for ever."""
        now = time.monotonic()
        self.send([writer for writer, row in self._rows.items() if now - row.born >= _ROW_AGE])
