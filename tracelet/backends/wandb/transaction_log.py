"""Read and copy `.wandb` files: LevelDB logs of protobuf records, which wandb may still be writing."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tracelet.backends.wandb.watermark import MARK, Mark

FILE_HEADER = 7
BLOCK = 32 * 1024
FRAGMENT_HEADER = struct.Struct("<IHB")  # crc, length, type
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
# Records that the server stores as numbered lines. Those before the rows that it has are not uploaded again.
_STREAMED = ("history", "output", "output_raw", "stats")
_FIRST_TAIL = 8  # blocks


class TransactionLog:
    """Read a `.wandb` file from the offset of a record or of a block."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._offset = max(offset, FILE_HEADER)
        self.ended = False
        """True if the end of the run was read. It is the last record."""

    def last_mark(self, journal: str) -> Mark | None:
        """Return the journal's mark in the last complete row since the last call that has one, or None."""
        texts = (
            json.loads(item.value_json)
            for record in self.records()
            for item in record.history.item
            if MARK in (item.key, *item.nested_key)
        )
        last = None
        for text in texts:
            last = Mark.parse(text, journal) or last
        return last

    def records(self) -> Iterator[Any]:
        """Yield the complete records since the last call."""
        from wandb.proto.wandb_internal_pb2 import Record

        for payload in self.payloads():
            record = Record()
            record.ParseFromString(payload)
            self.ended = self.ended or record.HasField("exit")
            yield record

    def payloads(self) -> Iterator[bytes]:
        """Yield the bytes of the complete records since the last call."""
        if not self._path.exists():  # wandb creates it at its first flush
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            offset, parts = self._offset, list[bytes]()
            while True:
                room = BLOCK - offset % BLOCK
                if room < FRAGMENT_HEADER.size:  # padding at the end of a block
                    file.seek(room, 1)
                    offset += room
                    continue
                header = file.read(FRAGMENT_HEADER.size)
                if len(header) < FRAGMENT_HEADER.size:
                    return
                _, length, kind = FRAGMENT_HEADER.unpack(header)
                data = file.read(length)
                if kind == 0 or len(data) < length:  # wandb is still writing this record: retry at the next call
                    return
                offset += FRAGMENT_HEADER.size + length
                if kind in (FULL, FIRST) or parts:  # otherwise it is the rest of a record of an earlier block
                    parts.append(data)
                if kind in (FULL, LAST):
                    self._offset = offset
                    if parts:
                        yield b"".join(parts)
                    parts = []


def last_mark(path: Path, journal: str) -> Mark | None:
    """Return the journal's last mark in the file, reading as little of it as possible; None if there is none."""
    size, blocks = path.stat().st_size, _FIRST_TAIL
    while True:
        start = max(0, size // BLOCK + 1 - blocks) * BLOCK
        found = TransactionLog(path, start).last_mark(journal)
        if found is not None or not start:
            return found
        blocks *= 4


def row_count(path: Path) -> int:
    """Return the number of history rows in the file."""
    return sum(record.HasField("history") for record in TransactionLog(path).records())


def without_first_rows(path: Path, copy: Path, rows: int) -> None:
    """Copy a file without its first `rows` rows, and without the console output and system metrics before them."""
    write_log(copy, path.read_bytes()[:FILE_HEADER], _without(path, rows))


def _without(path: Path, rows: int) -> Iterator[bytes]:
    from wandb.proto.wandb_internal_pb2 import Record

    for payload in TransactionLog(path).payloads():
        if rows > 0:
            record = Record()
            record.ParseFromString(payload)
            kind = record.WhichOneof("record_type")
            rows -= kind == "history"
            if kind in _STREAMED:
                continue
        yield payload


def write_log(path: Path, header: bytes, payloads: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.write(header)
        for payload in payloads:
            kinds = (FULL, FIRST)
            while True:
                room = BLOCK - file.tell() % BLOCK
                if room < FRAGMENT_HEADER.size:
                    file.write(bytes(room))
                    continue
                data, payload = payload[: room - FRAGMENT_HEADER.size], payload[room - FRAGMENT_HEADER.size :]
                kind = kinds[1] if payload else kinds[0]
                crc = zlib.crc32(data, zlib.crc32(bytes([kind])))
                file.write(FRAGMENT_HEADER.pack(crc, len(data), kind) + data)
                kinds = (LAST, MIDDLE)
                if not payload:
                    break
