"""A `.wandb` file: a LevelDB log of protobuf records, read while wandb writes it, or copied without its beginning."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_FILE_HEADER = 7
_BLOCK = 32 * 1024
_FRAGMENT_HEADER = struct.Struct("<IHB")  # crc, length, type
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
# What becomes numbered lines on the server: those that go with the rows it has are not sent a second time.
_STREAMED = ("history", "output", "output_raw", "stats")


class TransactionLog:
    """A `.wandb` file, read from `at` on."""

    def __init__(self, path: Path, at: int = 0) -> None:
        self._path = path
        self.at = max(at, _FILE_HEADER)
        """Up to where it was read."""
        self.ended = False
        """Whether wandb wrote the end of the run, after which nothing comes."""

    def records(self) -> Iterator[Any]:
        """The complete records that came since the last call."""
        from wandb.proto.wandb_internal_pb2 import Record

        for payload in self.payloads():
            record = Record()
            record.ParseFromString(payload)
            self.ended = self.ended or record.HasField("exit")
            yield record

    def payloads(self) -> Iterator[bytes]:
        """The same, not decoded."""
        if not self._path.exists():  # wandb makes it at its first flush
            return
        with self._path.open("rb") as file:
            file.seek(self.at)
            at, parts = self.at, []
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
                if kind == 0 or len(data) < length:  # wandb is in the middle of it; from `at` again next time
                    return
                at += _FRAGMENT_HEADER.size + length
                parts.append(data)
                if kind in (_FULL, _LAST):
                    self.at = at
                    yield b"".join(parts)
                    parts = []


def row_count(path: Path) -> int:
    """How many rows of history stand in the file."""
    return sum(record.HasField("history") for record in TransactionLog(path).records())


def without_first_rows(path: Path, copy: Path, rows: int) -> None:
    """Copy a file without its first `rows` rows, and without the console and system lines before them."""
    _write(copy, path.read_bytes()[:_FILE_HEADER], _without(path, rows))


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


def _write(path: Path, header: bytes, payloads: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.write(header)
        for payload in payloads:
            kinds = (_FULL, _FIRST)
            while True:
                room = _BLOCK - file.tell() % _BLOCK
                if room < _FRAGMENT_HEADER.size:
                    file.write(bytes(room))
                    continue
                data, payload = payload[: room - _FRAGMENT_HEADER.size], payload[room - _FRAGMENT_HEADER.size :]
                kind = kinds[1] if payload else kinds[0]
                crc = zlib.crc32(data, zlib.crc32(bytes([kind])))
                file.write(_FRAGMENT_HEADER.pack(crc, len(data), kind) + data)
                kinds = (_LAST, _MIDDLE)
                if not payload:
                    break
