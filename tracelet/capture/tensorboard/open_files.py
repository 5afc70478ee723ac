"""tensorboard's event files, kept open: it opens and closes a local file for each record."""

from __future__ import annotations

import functools
import os
import time
import weakref
from pathlib import Path
from typing import Any

from tracelet.filesystem import on_network
from tracelet.guard import Guard

_FILES = ("tensorboard.compat.tensorflow_stub.io.gfile", "GFile", "LocalFileSystem")
# A program with more writers than this keeps its descriptors for itself.
_MOST = 64
_LOOK_EVERY = 1.0


class OpenFiles:
    """Stands between a RecordWriter and its file, from when it is made; on a network file system not at all, where a
    file that stays open hides from other hosts what is written."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.is_on = True
        self.kept: weakref.WeakSet[_OpenFile] = weakref.WeakSet()

    def tee_init(self, original: Any) -> Any:
        """RecordWriter's `__init__`, which takes the file."""

        @functools.wraps(original)
        def __init__(record_writer: Any, writer: Any) -> None:
            original(record_writer, self._guard.call(self.around, writer) or writer)

        return __init__

    def around(self, file: Any) -> Any:
        """What shall be written to in `file`'s place."""
        cls = file.__class__
        known = (cls.__module__, cls.__name__, getattr(file, "fs", None).__class__.__name__) == _FILES
        if not known or not file.binary_mode or not file.write_mode or os.name != "posix" or not self.is_on:
            return file
        folder = Path(os.fsdecode(file.filename)).absolute().parent
        return file if on_network(folder) else _OpenFile(file, self)


class _OpenFile:
    """A GFile that appends through a descriptor of its own, once the library has written the first record.

    Written to by one thread at a time. Each record goes out at once and whole, as by the library, which has no buffer
    either.
    """

    def __init__(self, file: Any, files: OpenFiles) -> None:
        self._file, self._files = file, files
        self._number: int | None = None
        self._looked = 0.0

    def write(self, data: bytes) -> None:
        number = self._opened()
        if number is None:
            self._file.write(data)
            return
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(number, rest) :]

    def close(self) -> None:
        self._let_go()
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __del__(self) -> None:
        self._let_go()

    def _opened(self) -> int | None:
        """The descriptor; None where the library shall write by itself."""
        if self._number is not None:
            if not self._files.is_on:
                self._let_go()
            elif time.monotonic() - self._looked >= _LOOK_EVERY and not self._is_there():
                self._let_go()  # moved or deleted: the library makes a new one
            return self._number
        if self._files.is_on and self._file.write_started and len(self._files.kept) < _MOST:
            try:
                self._number = os.open(self._file.filename, os.O_WRONLY | os.O_APPEND)
            except OSError:  # the library's own attempt says why
                return None
            self._files.kept.add(self)
            self._looked = time.monotonic()
        return self._number

    def _is_there(self) -> bool:
        self._looked = time.monotonic()
        try:
            there, ours = os.stat(self._file.filename), os.fstat(self._number or 0)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def _let_go(self) -> None:
        number, self._number = self._number, None
        if number is not None:
            self._files.kept.discard(self)
            os.close(number)
