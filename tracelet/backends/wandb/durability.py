"""Track which records sent to wandb are in the run's `.wandb` file."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from tracelet.backends.wandb.transaction_log import TransactionLog
from tracelet.backends.wandb.values import AXIS

Fingerprint: TypeAlias = tuple[Any, ...]
"""Identity of a sent item in the file: its kind, then the values that distinguish it from others of that kind."""

SKIPPED: Fingerprint = ("skipped", None)
"""Fingerprint of an item that was not sent, because an earlier process had sent it."""


@dataclass(eq=False)
class Pending:
    """One item for wandb. `send` sends it, again if necessary, and returns its fingerprint."""

    send: Callable[[], Fingerprint]
    number: int = 0
    sent: bool = False
    durable: bool = False
    offset: int = 0
    """End of the item in the file."""
    upload: Any = None
    """The artifact of an online run. It goes straight to the server and is never in the file."""


class Durability:
    """Match sent items with the file, and compute the sequence number up to which all are durable."""

    def __init__(self) -> None:
        self._open: deque[Pending] = deque()
        self._durable: deque[Pending] = deque()
        self._marks: deque[tuple[int, int]] = deque()
        self._expected: dict[Fingerprint, list[tuple[Pending, Any]]] = {}
        self._count = 0
        self.confirmed: int | None = None
        self.offset = 0
        """End of the confirmed items in the file."""

    def add(self, item: Pending) -> Pending:
        """Register an item after all others. It may be sent later."""
        self._count += 1
        item.number = self._count
        self._open.append(item)
        return item

    def send(self, item: Pending) -> None:
        """Send an item, and expect its fingerprint in the file. An item that wandb rejects is not registered."""
        kind, *values, detail = item.send()
        if not item.number:
            self.add(item)
        item.sent = True
        if kind == "upload":
            item.upload = detail
        elif kind == "skipped":
            item.durable = True
        else:
            self._expected.setdefault((kind, *values), []).append((item, detail))

    def mark(self, last: int) -> None:
        """Record that the items so far contain all records up to `last`."""
        if self._marks and self._marks[-1][1] == self._count:
            self._marks.pop()
        self._marks.append((last, self._count))
        self._advance()

    def read(self, log: TransactionLog) -> None:
        """Read new records of the file, and mark their items as durable."""
        for record in log.records():
            fingerprint = fingerprint_of(record)
            if fingerprint is not None:
                self._match(fingerprint[:-1], fingerprint[-1], log.offset)
        self._advance()

    def check_uploads(self, is_uploaded: Callable[[Any], bool]) -> None:
        """Mark uploaded artifacts as durable."""
        for item in self._open:
            if item.upload is not None and not item.durable and is_uploaded(item.upload):
                item.durable = True
        self._advance()

    def unconfirmed(self, *, uploads: bool = True) -> list[Pending]:
        """Return sent items that are not known to be durable. `uploads`: include artifacts of an online run."""
        return [item for item in self._open if item.sent and not item.durable and (uploads or item.upload is None)]

    def start_file(self) -> None:
        """Start another file. Items missing in the previous one must be sent again."""
        self._expected.clear()
        self.offset = 0
        for item in (*self._open, *self._durable):
            item.offset = 0

    def confirm_sent(self) -> None:
        """Mark all sent items as durable."""
        for item in self._open:
            item.durable = item.sent
        self._expected.clear()
        self._advance()

    def _match(self, key: Fingerprint, detail: Any, offset: int) -> None:
        candidates = self._expected.get(key)
        if candidates is None:
            return
        for candidate in candidates:
            item, expected = candidate
            if _matches(key[0], expected, detail):
                item.durable, item.offset = True, offset
                candidates.remove(candidate)
                break
        if not candidates:
            del self._expected[key]

    def _advance(self) -> None:
        while self._open and self._open[0].durable:
            self._durable.append(self._open.popleft())
        first = self._open[0].number if self._open else self._count + 1
        while self._marks and self._marks[0][1] < first:
            self.confirmed, count = self._marks.popleft()
            while self._durable and self._durable[0].number <= count:
                self.offset = max(self.offset, self._durable.popleft().offset)


class AlreadyWritten:
    """Find items that a killed process sent after the last sequence number it could confirm."""

    def __init__(self, records: Iterable[Any] = ()) -> None:
        self._points: dict[tuple[Any, str, str], list[float]] = {}
        self._artifacts: list[Fingerprint] = []
        self._alerts: list[Fingerprint] = []
        for record in records:
            match fingerprint_of(record):
                case ("row", step, wall_time, row):
                    for key, value in row.items():
                        self._points.setdefault((step, key, _normalized(value)), []).append(wall_time)
                case ("artifact", *_) as fingerprint:
                    self._artifacts.append(fingerprint)
                case ("alert", *_) as fingerprint:
                    self._alerts.append(fingerprint)

    def has_point(self, step: int, key: str, value: float, wall_time: float, within: float) -> bool:
        """Check if the file has this scalar; each match counts once. A row has the wall time of its first scalar."""
        wall_times = self._points.get((step, key, repr(float(value))), [])
        near = [candidate for candidate in wall_times if abs(candidate - wall_time) <= within]
        if near:
            wall_times.remove(near[0])
        return bool(near)

    def has_row(self, step: int, wall_time: float, key: str) -> bool:
        """Check if the file has this row, if it is no row of scalars."""
        return any(
            wall_time in wall_times
            for (row_step, name, _), wall_times in self._points.items()
            if (row_step, name) == (step, key)
        )

    def has_artifact(self, name: str, digest: str) -> bool:
        return ("artifact", name, digest) in self._artifacts

    def has_alert(self, fingerprint: Fingerprint) -> bool:
        """Check if the file has this alert; each match counts once."""
        found = fingerprint in self._alerts
        if found:
            self._alerts.remove(fingerprint)
        return found


def fingerprint_of(record: Any) -> Fingerprint | None:
    """Return the fingerprint of a record in the file; None if tracelet does not write such records."""
    kind = record.WhichOneof("record_type")
    if kind == "history":
        row = {_key(item): item.value_json for item in record.history.item}
        if AXIS in row and "_timestamp" in row:
            return "row", json.loads(row[AXIS]), json.loads(row["_timestamp"]), row
    elif kind == "config":
        return "config", {_key(item): json.loads(item.value_json) for item in record.config.update}
    elif kind == "summary":
        return "summary", {_key(item): json.loads(item.value_json) for item in record.summary.update}
    elif kind == "run":
        return "tags", tuple(record.run.tags)
    elif kind == "alert":
        return "alert", record.alert.title, record.alert.text, record.alert.level, None
    elif kind == "artifact":
        return "artifact", record.artifact.name, record.artifact.digest
    return None


def _normalized(text: str) -> str:
    """Return a number's JSON as Python's `repr`, and any other JSON unchanged."""
    # wandb writes -0.0 as "-0", which json.loads reads as the integer 0.
    value = json.loads(text, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))
    return repr(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else text


def _matches(kind: str, expected: Any, found: Any) -> bool:
    if kind == "row":  # the program's own rows may have the same step and wall time
        return expected in found
    if kind == "config":  # wandb omits keys that a sweep has locked
        return all(key in expected and expected[key] == value for key, value in found.items())
    if kind == "summary":
        return all(key in found and found[key] == value for key, value in expected.items())
    if kind == "tags":
        return set(expected) <= set(found)
    return bool(expected == found)


def _key(item: Any) -> str:
    return item.nested_key[0] if item.nested_key else str(item.key)
