"""The framing of an event file (TFRecord): length, its checksum, data, its checksum. Reads on behind damage."""

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
_SCAN = 1 << 20
# A length below 4 GiB that is not 0: a tail of zeros, which a power cut may leave, is passed over in one stroke.
_LENGTH = re.compile(rb"(?!\0{4}).{4}\0{4}", re.DOTALL)


class Frame(NamedTuple):
    """One whole record; `end` is the offset where the next begins."""

    start: int
    end: int
    data: bytes


class CorruptRange(NamedTuple):
    """Bytes that are no record. With `end == start` nothing whole follows yet: a file that grows is read from there."""

    start: int
    end: int
    reason: str


def frames(path: Path, start: int = 0, *, chunk: int = 1 << 20) -> Iterator[Frame | CorruptRange]:
    """What stands in the file from offset `start` to the end that it has now.

    The file is open only while `chunk` bytes are read: a run may have thousands of files, and all are read at once.

    Raises:
        OSError: the file cannot be read.
    """
    window = _Window(path, chunk)
    offset = start
    while offset < window.size:
        header = window.read(offset, _HEADER)
        whole = _is_header(header)
        end = _end(offset, header)
        if len(header) < _HEADER or (whole and end > window.size):
            yield CorruptRange(offset, offset, f"the last record is cut off after {window.size - offset} bytes")
            return
        if whole:
            body = window.read(offset + _HEADER, end - offset - _HEADER)
            data, wanted = body[:-_FOOTER], int.from_bytes(body[-_FOOTER:], "little")
            if masked_crc32c(data) == wanted:
                yield Frame(offset, end, data)
                offset = end
                continue
            if end == window.size or _is_header(window.read(end, _HEADER)):
                yield CorruptRange(offset, end, "a record's checksum is wrong")
                offset = end
                continue
        yield (damage := _lost(window, offset))
        if damage.end == offset:
            return
        offset = damage.end


class _Window:
    """The part of the file that is in memory."""

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


def _lost(window: _Window, start: int) -> CorruptRange:
    """The damage at `start`, up to the next header that is whole."""
    offset = start + 1
    while offset + _HEADER <= window.size:
        block = window.read(offset, min(_SCAN, window.size - offset))
        at = 0
        while (found := _LENGTH.search(block, at)) and found.start() + _HEADER <= len(block):
            at = found.start()
            if _is_header(block[at : at + _HEADER]):
                return CorruptRange(
                    start, offset + at, f"no record can be read here; {offset + at - start} bytes are skipped"
                )
            at += 1
        offset += max(1, len(block) - _HEADER + 1)
    return CorruptRange(start, start, "no record can be read from here on")


def _end(offset: int, header: bytes) -> int:
    return offset + _HEADER + int.from_bytes(header[:8], "little") + _FOOTER


@functools.lru_cache(4096)  # lengths repeat
def _is_header(header: bytes) -> bool:
    return len(header) == _HEADER and masked_crc32c(header[:8]) == int.from_bytes(header[8:], "little")
