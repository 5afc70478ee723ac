"""What was handed to wandb, and how much of it stands in the run's `.wandb` file."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from tracelet.backends.wandb.transaction_log import TransactionLog
from tracelet.backends.wandb.values import AXIS

Fingerprint: TypeAlias = tuple[Any, ...]
"""What a handed-over piece looks like in the file: its kind, then what tells it from others of that kind."""

KNOWN: Fingerprint = ("known", None)
"""The sign of a piece that an earlier process had handed over, and that was not sent again."""


@dataclass(eq=False)
class Pending:
    """One thing that was, or will be, handed to wandb: `send` does it (again) and tells its sign."""

    send: Callable[[], Fingerprint]
    number: int = 0
    sent: bool = False
    held: bool = False
    at: int = 0
    """Up to where in the file it was found."""
    upload: Any = None
    """An online run's artifact: it goes straight to the server and never stands in the file."""


class Durability:
    """Which pieces wandb holds durably, and so up to which sequence number the journal may forget."""

    def __init__(self) -> None:
        self._open: deque[Pending] = deque()
        self._settled: deque[Pending] = deque()
        self._marks: deque[tuple[int, int]] = deque()
        self._waiting: dict[Fingerprint, list[tuple[Pending, Any]]] = {}
        self._count = 0
        self.confirmed: int | None = None
        self.at = 0
        """Up to where in the file the confirmed pieces reach."""

    def add(self, piece: Pending) -> Pending:
        """Count on a piece, after all others; it may be sent later."""
        self._count += 1
        piece.number = self._count
        self._open.append(piece)
        return piece

    def send(self, piece: Pending) -> None:
        """Hand a piece over, and from then on look for its sign in the file. What wandb refuses is not counted on."""
        kind, *sign, detail = piece.send()
        if not piece.number:
            self.add(piece)
        piece.sent = True
        if kind == "upload":
            piece.upload = detail
        elif kind == "known":
            piece.held = True
        else:
            self._waiting.setdefault((kind, *sign), []).append((piece, detail))

    def mark(self, last: int) -> None:
        """All pieces so far together are the records up to `last`."""
        if self._marks and self._marks[-1][1] == self._count:
            self._marks.pop()
        self._marks.append((last, self._count))
        self._advance()

    def absorb(self, log: TransactionLog) -> None:
        """Look what the file holds by now."""
        for record in log.records():
            sign = sign_of(record)
            if sign is not None:
                self._found(sign[:-1], sign[-1], log.at)
        self._advance()

    def uploaded(self, is_up: Callable[[Any], bool]) -> None:
        """Ask after the artifacts that go to the server."""
        for piece in self._open:
            if piece.upload is not None and not piece.held and is_up(piece.upload):
                piece.held = True
        self._advance()

    def unsettled(self, *, uploads: bool = True) -> list[Pending]:
        """Pieces handed over that are not known to be held; `uploads`: also those that stand in no file."""
        return [piece for piece in self._open if piece.sent and not piece.held and (uploads or piece.upload is None)]

    def begin_file(self) -> None:
        """The file will not grow any more, and another begins: what has no sign must be handed over again."""
        self._waiting.clear()
        self.at = 0
        for piece in (*self._open, *self._settled):
            piece.at = 0

    def settle(self) -> None:
        """Everything handed over is held."""
        for piece in self._open:
            piece.held = piece.sent
        self._waiting.clear()
        self._advance()

    def _found(self, sign: Fingerprint, detail: Any, at: int) -> None:
        waiting = self._waiting.get(sign)
        if waiting is None:
            return
        for entry in waiting:
            piece, expected = entry
            if _agrees(sign[0], expected, detail):
                piece.held, piece.at = True, at
                waiting.remove(entry)
                break
        if not waiting:
            del self._waiting[sign]

    def _advance(self) -> None:
        while self._open and self._open[0].held:
            self._settled.append(self._open.popleft())
        first = self._open[0].number if self._open else self._count + 1
        while self._marks and self._marks[0][1] < first:
            self.confirmed, count = self._marks.popleft()
            while self._settled and self._settled[0].number <= count:
                self.at = max(self.at, self._settled.popleft().at)


class AlreadyWritten:
    """What a process that died had handed over, beyond what it could still confirm: not to be sent again."""

    def __init__(self, records: Iterable[Any] = ()) -> None:
        self._points: dict[tuple[Any, str, str], list[float]] = {}
        self._artifacts: list[Fingerprint] = []
        self._alerts: list[Fingerprint] = []
        for record in records:
            match sign_of(record):
                case ("row", step, wall_time, row):
                    for key, value in row.items():
                        self._points.setdefault((step, key, _plain(value)), []).append(wall_time)
                case ("artifact", *_) as sign:
                    self._artifacts.append(sign)
                case ("alert", *_) as sign:
                    self._alerts.append(sign)

    def has_point(self, step: int, key: str, value: float, wall_time: float, within: float) -> bool:
        """Whether this scalar is there; each is found once. A row has one time, that of its first scalar."""
        walls = self._points.get((step, key, repr(float(value))), [])
        near = [wall for wall in walls if abs(wall - wall_time) <= within]
        if near:
            walls.remove(near[0])
        return bool(near)

    def has_row(self, step: int, wall_time: float, key: str) -> bool:
        """Whether a row that is no scalar's is there."""
        return any(wall_time in walls for (at, name, _), walls in self._points.items() if (at, name) == (step, key))

    def has_artifact(self, name: str, digest: str) -> bool:
        return ("artifact", name, digest) in self._artifacts

    def has_alert(self, sign: Fingerprint) -> bool:
        """Whether this alert is there; each is found once."""
        found = sign in self._alerts
        if found:
            self._alerts.remove(sign)
        return found


def sign_of(record: Any) -> Fingerprint | None:
    """The sign of a record of the file; None for what is none of ours."""
    kind = record.WhichOneof("record_type")
    if kind == "history":
        row = {_label(item): item.value_json for item in record.history.item}
        if AXIS in row and "_timestamp" in row:
            return "row", json.loads(row[AXIS]), json.loads(row["_timestamp"]), row
    elif kind == "config":
        return "config", {_label(item): json.loads(item.value_json) for item in record.config.update}
    elif kind == "summary":
        return "summary", {_label(item): json.loads(item.value_json) for item in record.summary.update}
    elif kind == "run":
        return "tags", tuple(record.run.tags)
    elif kind == "alert":
        return "alert", record.alert.title, record.alert.text, record.alert.level, None
    elif kind == "artifact":
        return "artifact", record.artifact.name, record.artifact.digest
    return None


def _plain(text: str) -> str:
    """A scalar's JSON as Python shows the number; anything else as it is."""
    # wandb writes -0.0 as "-0", which json.loads reads as the integer 0.
    value = json.loads(text, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))
    return repr(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else text


def _agrees(kind: str, expected: Any, found: Any) -> bool:
    if kind == "row":  # the program's own rows may share a step and a time with ours
        return expected in found
    if kind == "config":  # keys that a sweep has locked are left out by wandb
        return all(key in expected and expected[key] == value for key, value in found.items())
    if kind == "summary":
        return all(key in found and found[key] == value for key, value in expected.items())
    if kind == "tags":
        return set(expected) <= set(found)
    return bool(expected == found)


def _label(item: Any) -> str:
    return item.nested_key[0] if item.nested_key else str(item.key)
