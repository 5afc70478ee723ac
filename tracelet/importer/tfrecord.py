"""Read the framing of an event file (TFRecord): length, checksum, data, checksum. Skip corrupt ranges."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tracelet.capture.tensorboard.checksum import masked_crc32c
from tracelet.importer.windows import Window, first_bytes, open_window, unsupported

MAX_RECORD = 128 * 2**20
"""Bytes of the longest record that is read. A record needs several times its size in memory."""

_HEADER = 12
_FOOTER = 4
_SCAN_BYTES = 1 << 20
# A nonzero length below 4 GiB. A tail of zeros, left by a power failure, never matches.
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
    """Yield the records and corrupt ranges from offset `start` to the current end of the file, read `chunk`-wise.

    Offsets of a gzip file are those of its content.

    Raises:
        OSError: the file cannot be read.
    """
    first = first_bytes(path, _HEADER)
    if _is_header(first):
        first = b""  # a length may look like a compression
    compression = unsupported(first)
    if compression is not None:
        yield CorruptRange(start, start, f"the file is compressed with {compression}; decompress it, or use gzip")
        return
    window = open_window(path, first, chunk)
    window.release(start)
    if not window.reaches(start):
        yield CorruptRange(start, start, "the file was longer at the last import; it was skipped")
        return
    offset = start
    while header := window.read(offset, _HEADER):
        window.release(offset)
        is_valid = _is_header(header)
        end = _end(offset, header)
        is_too_long = is_valid and end - offset > MAX_RECORD
        if is_too_long:
            window.release(end)
        if len(header) < _HEADER or (is_valid and not window.reaches(end)):
            cut = f"the last record is cut off after {window.size - offset} bytes"
            yield CorruptRange(offset, offset, window.failure or cut)
            return
        if is_too_long:
            reason = f"a record of {end - offset} bytes is over the limit of {MAX_RECORD >> 20} MiB"
            yield CorruptRange(offset, end, reason)
            offset = end
            continue
        if is_valid:
            body = window.read(offset + _HEADER, end - offset - _HEADER)
            data, checksum = body[:-_FOOTER], int.from_bytes(body[-_FOOTER:], "little")
            del body
            if masked_crc32c(data) == checksum:
                yield Frame(offset, end, data)
                offset = end
                continue
            following = window.read(end, _HEADER)
            if not following or _is_header(following):
                yield CorruptRange(offset, end, "the checksum of a record is wrong")
                offset = end
                continue
        yield (corrupt := _corrupt_range(window, offset))
        if corrupt.end == offset:
            return
        offset = corrupt.end
    if window.failure:
        yield CorruptRange(offset, offset, window.failure)


def _corrupt_range(window: Window, start: int) -> CorruptRange:
    """Return the corrupt range at `start`, up to the next valid header."""
    offset = start + 1
    while len(block := window.read(offset, _SCAN_BYTES)) >= _HEADER:
        index = max(0, len(block) - len(block.lstrip(b"\0")) - 3)  # a length has at most three zeros first
        while (match := _LENGTH.search(block, index)) and match.start() + _HEADER <= len(block):
            index = match.start()
            if _is_header(block[index : index + _HEADER]):
                end = offset + index
                return CorruptRange(start, end, f"no valid record; skipped {end - start} bytes")
            index += 1
        offset += len(block) - _HEADER + 1
        window.release(offset)
    return CorruptRange(start, start, window.failure or "no valid record from here to the end")


def _end(offset: int, header: bytes) -> int:
    return offset + _HEADER + int.from_bytes(header[:8], "little") + _FOOTER


@functools.lru_cache(4096)  # lengths repeat
def _is_header(header: bytes) -> bool:
    return len(header) == _HEADER and masked_crc32c(header[:8]) == int.from_bytes(header[8:], "little")
