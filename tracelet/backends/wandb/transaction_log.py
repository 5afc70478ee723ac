"""What wandb already wrote to a run's `.wandb` file, and what of ours is in it."""

from __future__ import annotations

import json
import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tracelet.backends.wandb.values import AXIS

_FILE_HEADER = 7
_BLOCK = 32 * 1024
_FRAGMENT_HEADER = struct.Struct("<IHB")  # crc, length, type
_FULL, _LAST = 1, 4

Sign: TypeAlias = tuple[Any, ...]
"""What a handed-over piece looks like in the file: its kind, then what tells it from others of that kind."""


class TransactionLog:
    """A `.wandb` file read while wandb writes it: a LevelDB log of protobuf records."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = _FILE_HEADER
        self.ended = False
        """Whether wandb wrote the end of the run, after which nothing comes."""

    def records(self) -> Iterator[Any]:
        """The complete records that came since the last call."""
        from wandb.proto.wandb_internal_pb2 import Record

        for payload in self._payloads():
            record = Record()
            record.ParseFromString(payload)
            self.ended = self.ended or record.HasField("exit")
            yield record

    def _payloads(self) -> Iterator[bytes]:
        if not self._path.exists():  # wandb makes it at its first flush
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            at, parts = self._at, []
            while True:
                room = _BLOCK - at % _BLOCK
                if room < _FRAGMENT_HEADER.size:  # padding at a block's end
                    file.seek(room, 1)
                    at += room
                    continue
                header = file.read(_FRAGMENT_HEADER.size)
                if len(header) < _FRAGMENT_HEADER.size:
                    return
                _, length, kind = _FRAGMENT_HEADER.unpack(header)
                data = file.read(length)
                if kind == 0 or len(data) < length:  # wandb is in the middle of it; from `_at` again next time
                    return
                at += _FRAGMENT_HEADER.size + length
                parts.append(data)
                if kind in (_FULL, _LAST):
                    self._at = at
                    yield b"".join(parts)
                    parts = []


@dataclass(eq=False)
class Piece:
    """One thing that was, or will be, handed to wandb: `send` does it (again) and tells its sign."""

    send: Callable[[], Sign]
    number: int = 0
    sent: bool = False
    held: bool = False
    upload: Any = None
    """An online run's artifact: it goes straight to the server and never stands in the file."""


class Ledger:
    """Which pieces wandb holds durably, and so up to which sequence number the journal may forget."""

    def __init__(self) -> None:
        self._open: deque[Piece] = deque()
        self._marks: deque[tuple[int, int]] = deque()
        self._waiting: dict[Sign, list[tuple[Piece, Any]]] = {}
        self._count = 0
        self.confirmed: int | None = None

    def add(self, piece: Piece) -> Piece:
        """Count on a piece, after all others; it may be sent later."""
        self._count += 1
        piece.number = self._count
        self._open.append(piece)
        return piece

    def send(self, piece: Piece) -> None:
        """Hand a piece over, and from then on look for its sign in the file. What wandb refuses is not counted on."""
        kind, *sign, detail = piece.send()
        if not piece.number:
            self.add(piece)
        piece.sent = True
        if kind == "upload":
            piece.upload = detail
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
            kind = record.WhichOneof("record_type")
            if kind == "history":
                self._found_row(record.history.item)
            elif kind == "config":
                self._found(("config",), {_label(item): json.loads(item.value_json) for item in record.config.update})
            elif kind == "artifact":
                self._found(("artifact", record.artifact.name), record.artifact.digest)
        self._advance()

    def uploaded(self, is_up: Callable[[Any], bool]) -> None:
        """Ask after the artifacts that go to the server."""
        for piece in self._open:
            if piece.upload is not None and not piece.held and is_up(piece.upload):
                piece.held = True
        self._advance()

    def unsettled(self) -> list[Piece]:
        """Pieces handed over whose sign was not seen."""
        return [piece for piece in self._open if piece.sent and not piece.held]

    def forget_signs(self) -> None:
        """The file will not grow any more: what has no sign in it must be handed over again."""
        self._waiting.clear()

    def settle(self) -> None:
        """Everything handed over is held."""
        for piece in self._open:
            piece.held = piece.sent
        self._waiting.clear()
        self._advance()

    def _found_row(self, items: Any) -> None:
        row = {_label(item): item.value_json for item in items}
        if AXIS in row and "_timestamp" in row:
            self._found(("row", json.loads(row[AXIS]), json.loads(row["_timestamp"])), row)

    def _found(self, sign: Sign, detail: Any) -> None:
        waiting = self._waiting.get(sign)
        if waiting is None:
            return
        for entry in waiting:
            piece, expected = entry
            if _agrees(sign[0], expected, detail):
                piece.held = True
                waiting.remove(entry)
                break
        if not waiting:
            del self._waiting[sign]

    def _advance(self) -> None:
        while self._open and self._open[0].held:
            self._open.popleft()
        first = self._open[0].number if self._open else self._count + 1
        while self._marks and self._marks[0][1] < first:
            self.confirmed = self._marks.popleft()[0]


def _agrees(kind: str, expected: Any, found: Any) -> bool:
    if kind == "row":  # the program's own rows may share a step and a time with ours
        return expected in found
    if kind == "config":  # keys that a sweep has locked are left out by wandb
        return all(key in expected and expected[key] == value for key, value in found.items())
    return bool(expected == found)


def _label(item: Any) -> str:
    return item.nested_key[0] if item.nested_key else str(item.key)
