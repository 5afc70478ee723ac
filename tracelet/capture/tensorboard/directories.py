"""Keep the directory of each writer, resolved once: a relative path must not follow a later `chdir`."""

from __future__ import annotations

import weakref
from typing import Any

from tracelet.capture.series import Directory, SeriesNames


class WriterDirectories:
    """Map SummaryWriters and FileWriters to directories, without keeping them alive."""

    def __init__(self, series: SeriesNames) -> None:
        self.series = series
        # By `id`: a subclass may define `__eq__` and so have no hash. An entry is removed before its id is reused.
        self._known: dict[int, tuple[weakref.ref[Any], Directory]] = {}

    def of(self, file_writer: Any, writer: Any = None) -> Directory:
        """Return a FileWriter's directory. `writer`: the SummaryWriter of the running call, or None.

        The directory of a SummaryWriter's own FileWriter is the SummaryWriter's: it may be a new one in each call.
        """
        known = self._known.get(id(file_writer))
        if known is not None:
            return known[1]
        owner = writer if getattr(writer, "file_writer", None) is file_writer else file_writer
        known = self._known.get(id(owner))
        return known[1] if known is not None else self._put(owner, self.series[file_writer.get_logdir()])

    def meet(self, writer: Any, path: str | None = None) -> Directory:
        """Resolve the directory of a new SummaryWriter, or name its series as if it were in `path`."""
        directory = self.series[writer.file_writer.get_logdir() if path is None else path]
        self._put(writer.file_writer, directory)
        return self._put(writer, directory)

    def _put(self, owner: Any, directory: Directory) -> Directory:
        key, known = id(owner), self._known
        known[key] = (weakref.ref(owner, lambda _: known.pop(key, None)), directory)
        return directory
