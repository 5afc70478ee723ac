"""Keep tensorboard's event files open; it opens and closes a local file for each record."""

from __future__ import annotations

import functools
import os
import time
import weakref
from pathlib import Path
from typing import Any

from tracelet.filesystem import on_network
from tracelet.guard import Guard
from tracelet.proxy import Proxy

_FILES = ("tensorboard.compat.tensorflow_stub.io.gfile", "GFile", "LocalFileSystem")
# At most this many open files, so that the program does not run out of descriptors.
_MAX_OPEN = 64
_CHECK_EVERY = 1.0


class OpenFiles:
    """Wrap the file of each new RecordWriter, except on network file systems.

    There, other hosts do not see the data in a file that stays open.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.is_on = True
        self.open_files: weakref.WeakSet[_OpenFile] = weakref.WeakSet()

    def tee_init(self, original: Any) -> Any:
        """Wrap RecordWriter's `__init__`, which receives the file."""

        @functools.wraps(original)
        def __init__(record_writer: Any, writer: Any) -> None:
            original(record_writer, self._guard.call(self.wrap, writer) or writer)

        return __init__

    def wrap(self, file: Any) -> Any:
        """Return the replacement of `file`, or `file` itself if it must not stay open."""
        cls = file.__class__
        is_local = (cls.__module__, cls.__name__, getattr(file, "fs", None).__class__.__name__) == _FILES
        if not is_local or not file.binary_mode or not file.write_mode or os.name != "posix" or not self.is_on:
            return file
        folder = Path(os.fsdecode(file.filename)).absolute().parent
        return file if on_network(folder) else _OpenFile(file, self)


class _OpenFile(Proxy):
    """A GFile that appends through its own descriptor, after the library wrote the first record.

    One thread at a time writes to it. Each record is written at once and whole, without a buffer, as in the library.
    """

    def __init__(self, file: Any, files: OpenFiles) -> None:
        super().__init__(file)
        self._files = files
        self._descriptor: int | None = None
        self._checked = 0.0

    def write(self, data: bytes) -> None:
        descriptor = self._open_descriptor()
        if descriptor is None:
            self._original.write(data)
            return
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[os.write(descriptor, remaining) :]

    def close(self) -> None:
        self._close_descriptor()
        self._original.close()

    def __del__(self) -> None:
        self._close_descriptor()

    def _open_descriptor(self) -> int | None:
        """Return the open descriptor; None if the library must write the file."""
        if self._descriptor is not None:
            if not self._files.is_on:
                self._close_descriptor()
            elif time.monotonic() - self._checked >= _CHECK_EVERY and not self._is_same_file():
                self._close_descriptor()  # moved or deleted: the library creates a new one
            return self._descriptor
        if self._files.is_on and self._original.write_started and len(self._files.open_files) < _MAX_OPEN:
            try:
                self._descriptor = os.open(self._original.filename, os.O_WRONLY | os.O_APPEND)
            except OSError:  # the library's own attempt raises the reason
                return None
            self._files.open_files.add(self)
            self._checked = time.monotonic()
        return self._descriptor

    def _is_same_file(self) -> bool:
        self._checked = time.monotonic()
        try:
            at_path, ours = os.stat(self._original.filename), os.fstat(self._descriptor or 0)
        except OSError:
            return False
        return (at_path.st_dev, at_path.st_ino) == (ours.st_dev, ours.st_ino)

    def _close_descriptor(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._files.open_files.discard(self)
            os.close(descriptor)
