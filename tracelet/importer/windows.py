"""Read parts of a file through a small buffer, also if the file is compressed with gzip."""

from __future__ import annotations

import errno
import os
import stat
import zlib
from pathlib import Path
from typing import Protocol

_INPUT_BYTES = 1 << 16
_GZIP = b"\x1f\x8b"
_UNSUPPORTED = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"\x78\x9c": "zlib",
}


class Window(Protocol):
    """A file as if it were not compressed. It is open only while it is read, as a run may have thousands of files."""

    size: int
    """Number of bytes, of a compressed file those that were read."""
    failure: str
    """The reason if compressed data ended early."""

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes, or fewer at the end of the file."""

    def reaches(self, end: int) -> bool:
        """Return whether the file has at least `end` bytes."""

    def release(self, offset: int) -> None:
        """Never read before `offset` again."""


def open_window(path: Path, start: bytes, chunk: int) -> Window:
    """Return the window of a file that begins with `start`, and reads at least `chunk` bytes at once."""
    return GzipWindow(path, chunk) if start.startswith(_GZIP) else PlainWindow(path, chunk)


def unsupported(start: bytes) -> str | None:
    """Return the compression of a file that begins with `start`, if it cannot be read."""
    return next((name for magic, name in _UNSUPPORTED.items() if start.startswith(magic)), None)


def first_bytes(path: Path, length: int) -> bytes:
    """Return the start of a file.

    Raises:
        OSError: the file cannot be read, or is a pipe or device, which might block forever.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    with open(path, "rb") as file:
        return file.read(length)


class PlainWindow:
    """A file without compression."""

    failure = ""

    def __init__(self, path: Path, chunk: int) -> None:
        self.size = os.path.getsize(path)
        self._path, self._chunk = path, chunk
        self._base, self._buffer = 0, b""

    def read(self, offset: int, length: int) -> bytes:
        begin = offset - self._base
        if begin < 0 or begin + length > len(self._buffer):
            self._buffer = b""  # before the next one is allocated
            with open(self._path, "rb") as file:
                file.seek(offset)
                self._buffer = file.read(max(0, min(max(length, self._chunk), self.size - offset)))
            self._base, begin = offset, 0
        return self._buffer[begin : begin + length]

    def reaches(self, end: int) -> bool:
        return end <= self.size

    def release(self, offset: int) -> None:
        pass


class GzipWindow:
    """The content of a gzip file, which is decompressed in order, and kept from the last released offset."""

    def __init__(self, path: Path, chunk: int) -> None:
        self.size = 0
        self.failure = ""
        self._path, self._chunk = path, chunk
        self._base, self._buffer = 0, bytearray()
        self._released = 0
        self._position, self._input = 0, b""
        self._inflater = _inflater()
        self._in_member = self._ended = False

    def read(self, offset: int, length: int) -> bytes:
        self._fill(offset + length)
        begin = offset - self._base
        return bytes(self._buffer[begin : begin + length])

    def reaches(self, end: int) -> bool:
        self._fill(end)
        return end <= self.size

    def release(self, offset: int) -> None:
        self._released = offset

    def _fill(self, end: int) -> None:
        while self.size < end and not self._ended:
            data = self._next()
            self._buffer += data
            self.size += len(data)
            unused = min(self._released - self._base, len(self._buffer))
            del self._buffer[:unused]
            self._base += unused

    def _next(self) -> bytes:
        if not self._input:
            with open(self._path, "rb") as file:
                file.seek(self._position)
                self._input = file.read(_INPUT_BYTES)
            self._position += len(self._input)
        is_last = not self._input
        try:
            data = self._inflater.decompress(self._input, self._chunk)
        except zlib.error:
            self._ended, self.failure = True, "the gzip data is damaged from here"
            return b""
        self._in_member = self._in_member or not is_last
        self._input = self._inflater.unconsumed_tail
        if self._inflater.eof:  # another member may follow, or padding
            self._input = self._inflater.unused_data.lstrip(b"\0")
            self._inflater, self._in_member = _inflater(), False
        elif is_last and not data:
            self._ended = True
            if self._in_member:
                self.failure = "the gzip data is cut off here"
        return data


def _inflater() -> zlib._Decompress:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
