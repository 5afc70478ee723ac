"""Read the framing of an event file (TFRecord): length, checksum, data, checksum. Skip corrupt ranges."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tracelet.capture.tensorboard.checksum import masked_crc32c

_HEADER = 12
_FOOTER = 4
_SCAN_BYTES = 1 << 20
# A nonzero length below 4 GiB. A tail of zeros, left by a power failure, never matches and is skipped fast.
_LENGTH = re.compile(rb"(?!\0{4}).{4}\0{4}", re.DOTALL)


class Frame(NamedTuple):
    """One complete record. `end` is the offset of the next."""

    start: int
    end: int
    data: bytes


class CorruptRange(NamedTuple):
    """Bytes without a valid record. If `end == start`, no complete record follows: resume there when the file grows."""

    start: int
    end: int
    reason: str


def frames(path: Path, start: int = 0, *, chunk: int = 1 << 20) -> Iterator[Frame | CorruptRange]:
    """Yield the records and corrupt ranges from offset `start` to the current end of the file.

    The file is open only while it reads `chunk` bytes, since a run may read thousands of files at the same time.

    Raises:
        OSError: the file cannot be read.
    """
    window = _Window(path, chunk)
    offset = start
    while offset < window.size:
        header = window.read(offset, _HEADER)
        is_valid = _is_header(header)
        end = _end(offset, header)
        if len(header) < _HEADER or (is_valid and end > window.size):
            yield CorruptRange(offset, offset, f"the last record is cut off after {window.size - offset} bytes")
            return
        if is_valid:
            body = window.read(offset + _HEADER, end - offset - _HEADER)
            data, checksum = body[:-_FOOTER], int.from_bytes(body[-_FOOTER:], "little")
            if masked_crc32c(data) == checksum:
                yield Frame(offset, end, data)
                offset = end
                continue
            if end == window.size or _is_header(window.read(end, _HEADER)):
                yield CorruptRange(offset, end, "the checksum of a record is wrong")
                offset = end
                continue
        yield (corrupt := _corrupt_range(window, offset))
        if corrupt.end == offset:
            return
        offset = corrupt.end


class _Window:
    """A buffered part of the file."""

    def __init__(self, path: Path, chunk: int) -> None:
        self.size = os.path.getsize(path)
        self._path, self._chunk = path, chunk
        self._base, self._buffer = 0, b""

    def read(self, offset: int, length: int) -> bytes:
        begin = offset - self._base
        if begin < 0 or begin + length > len(self._buffer):
            with open(self._path, "rb") as file:
                file.seek(offset)
                self._buffer = file.read(min(max(length, self._chunk), self.size - offset))
            self._base, begin = offset, 0
        return self._buffer[begin : begin + length]


def _corrupt_range(window: _Window, start: int) -> CorruptRange:
    """Return the corrupt range at `start`, up to the next valid header."""
    offset = start + 1
    while offset + _HEADER <= window.size:
        block = window.read(offset, min(_SCAN_BYTES, window.size - offset))
        index = 0
        while (match := _LENGTH.search(block, index)) and match.start() + _HEADER <= len(block):
            index = match.start()
            if _is_header(block[index : index + _HEADER]):
                end = offset + index
                return CorruptRange(start, end, f"no valid record; skipped {end - start} bytes")
            index += 1
        offset += max(1, len(block) - _HEADER + 1)
    return CorruptRange(start, start, "no valid record from here to the end")


def _end(offset: int, header: bytes) -> int:
    return offset + _HEADER + int.from_bytes(header[:8], "little") + _FOOTER


@functools.lru_cache(4096)  # lengths repeat
def _is_header(header: bytes) -> bool:
    return len(header) == _HEADER and masked_crc32c(header[:8]) == int.from_bytes(header[8:], "little")
