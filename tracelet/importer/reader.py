"""Read the new events of an experiment folder as records, in the order of time."""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec

from tracelet.capture.tensorboard import events
from tracelet.filesystem import no_follow
from tracelet.importer.folders import Projection, plain_name, projections, stamp
from tracelet.importer.joining import is_incomplete, is_open, join
from tracelet.importer.metadata import TagMetadata
from tracelet.importer.parsing import MAX_FIELDS, parse
from tracelet.importer.series_names import FileSeriesNames
from tracelet.importer.tfrecord import CorruptRange, Frame, frames
from tracelet.records import Embedding, Graph, Params, Record, Scalar

_MAX_DAMAGE = 100
"""Corrupt ranges of one file that are reported one by one."""
_MAX_REASON = 200

# Bytes of the buffers of all files together; minimum and maximum of one.
_TOTAL_BUFFER, _MIN_BUFFER, _MAX_BUFFER = 64 * 2**20, 16 * 2**10, 2**20
# Number of values that decide the role of a folder.
_SAMPLE_SIZE = 64


class Item(NamedTuple):
    """The records of one event or embedding; empty if it is damaged or carries no data."""

    path: str
    """The file, relative to the experiment folder, without ".gz"."""
    position: tuple[int, int]
    """The offset behind this item and the file's size then. For an embedding: size and modification time."""
    wall_time: float
    records: Iterable[Record]
    """Can be iterated once. A record is decoded when it is reached, as a small event may have many large ones."""


class _Pending(NamedTuple):
    """An item before decoding. Series are named in the order of time, as in live capture."""

    moment: float
    order: int
    """Index of the file, which orders equal moments."""
    folder: str
    path: str
    start: int
    position: tuple[int, int]
    wall_time: float
    content: tuple[Any, ...] | Projection


class Reader:
    """Read from the positions in `seen`. `damage` and `read` grow while `items` is iterated."""

    def __init__(
        self,
        root: Path,
        files: Mapping[str, list[str]],
        seen: Mapping[str, tuple[int, int]],
        names: FileSeriesNames,
        metadata: TagMetadata,
    ) -> None:
        self.read = 0
        self._root = root
        self._seen = seen
        self._names = names
        self._metadata = metadata
        self._damage: list[str] = []
        self._damage_counts: Counter[str] = Counter()
        self._unreadable: set[str] = set()
        self._renames = {folder: functools.partial(names, folder) for folder in files}
        self._files = list(self._changed(files))
        self._projections = [
            (folder, projection, path)
            for folder in files
            for projection in projections(root / folder)
            if seen.get(path := _path(folder, projection.folder)) != self._state(path)
        ]
        self.total = sum(max(0, size - seen.get(plain_name(path), (0, 0))[0]) for *_, path, size in self._files)
        self._chunk = min(_MAX_BUFFER, max(_MIN_BUFFER, _TOTAL_BUFFER // max(1, len(self._files))))

    @property
    def damage(self) -> tuple[str, ...]:
        """Corrupt ranges, at most 100 of one file, and the number of the others."""
        counts = self._damage_counts.items()
        rest = [f"{path}: {count - _MAX_DAMAGE} more corrupt ranges" for path, count in counts if count > _MAX_DAMAGE]
        return (*self._damage, *rest)

    def items(self) -> Iterator[Item]:
        """Yield the items of all files, merged by time. The order within each file stays."""
        order = itertools.count()
        sources = [self._events(next(order), *file) for file in self._files]
        embeddings = [self._embeddings(next(order), *projection) for projection in self._projections]
        for pending in heapq.merge(*sources, *embeddings):
            records = self._records(pending)
            first = next(records, None)
            rest = () if first is None else itertools.chain((first,), records)
            end, size = pending.position
            # Size -1: the next import reads this path again.
            position = (end, -1 if pending.path in self._unreadable else size)
            yield Item(plain_name(pending.path), position, pending.wall_time, rest)

    def _changed(self, files: Mapping[str, list[str]]) -> Iterator[tuple[str, str, str, int]]:
        """Yield folder, name, path and size of each event file whose size has changed."""
        for folder, names in files.items():
            for name in names:
                path = _path(folder, name)
                try:
                    size = (self._root / path).stat().st_size
                except OSError as error:  # a broken link
                    self._damaged(path, 0, f"cannot be read: {error.strerror}")
                    continue
                if size != self._seen.get(plain_name(path), (0, -1))[1]:
                    yield folder, name, path, size

    def _events(self, order: int, folder: str, name: str, path: str, size: int) -> Iterator[_Pending]:
        start = self._seen.get(plain_name(path), (0, 0))[0]
        # A program may pass its own wall times, but the file's name has the clock's: a later file stays later.
        created = moment = stamp(name)
        held: _Pending | None = None
        for frame, event in self._decoded(path, start):
            self.read += frame.end - start
            start = frame.end
            if held is not None:
                joined = None if event is None else join(held.content, event)
                if joined is not None:
                    held = held._replace(position=(start, -1), content=joined)
                    if not is_open(event):
                        yield held
                        held = None
                    continue
                if isinstance(frame, CorruptRange) and frame.end == frame.start:
                    break
                yield held
                held = None
            wall_time = 0.0
            if event is not None:
                wall_time = event.wall_time
                moment = max(created, wall_time)
            content = () if event is None else (event,)
            pending = _Pending(moment, order, folder, path, frame.start, (start, -1), wall_time, content)
            if event is not None and is_open(event):
                held = pending
            else:
                yield pending
        if held is not None and not is_incomplete(held.content[0]):
            yield held
        elif held is not None:  # read it again when the file grows
            start = held.start
            self._damaged(path, start, "a part of a mesh is missing at the end of the file")
        yield _Pending(moment, order, folder, path, start, (start, size), 0.0, ())

    def _decoded(self, path: str, start: int) -> Iterator[tuple[Frame | CorruptRange, Any | None]]:
        for frame in self._frames(path, start):
            event = None
            if isinstance(frame, CorruptRange):
                self._damaged(path, frame.start, frame.reason)
            else:
                event = parse(frame.data)
                if event is None:
                    self._damaged(path, frame.start, f"not an event, or one with more than {MAX_FIELDS} fields")
            yield frame, event

    def _frames(self, path: str, start: int) -> Iterator[Frame | CorruptRange]:
        """Yield the frames of a file. A read error becomes a corrupt range, so that the other files are still read."""
        try:
            for frame in frames(self._root / path, start, chunk=self._chunk):
                start = frame.end
                yield frame
        except OSError as error:
            self._unreadable.add(path)
            yield CorruptRange(start, start, f"cannot be read: {error.strerror}")

    def _embeddings(self, order: int, folder: str, projection: Projection, path: str) -> Iterator[_Pending]:
        size, changed = self._state(path)
        moment = changed / 1e9
        yield _Pending(moment, order, folder, path, 0, (size, changed), moment, projection)

    def _records(self, pending: _Pending) -> Iterator[Record]:
        content = pending.content
        try:
            if isinstance(content, Projection):
                yield self._embedding(pending, content)
            elif len(content) == 2:
                yield _joined(*(record for event in content for record in self._read(pending, event)))
            else:
                for event in content:
                    self._metadata.complete(pending.folder, event)
                    yield from self._read(pending, event)
        except OSError as error:
            self._unreadable.add(pending.path)
            self._damaged(pending.path, pending.start, f"cannot be read: {error.strerror}")
        except events.undecodable() as error:
            self._damaged(pending.path, pending.start, f"cannot be decoded ({type(error).__name__})")

    def _read(self, pending: _Pending, event: Any) -> Iterator[Record]:
        def failed(reason: str) -> None:
            self._damaged(pending.path, pending.start, f"cannot be decoded, imported as raw ({reason[:_MAX_REASON]})")

        for record in events.read(event, event.step, event.wall_time, self._renames[pending.folder], failed):
            if isinstance(record, Params):
                yield from self._names.split(pending.folder, record)
            else:
                if record.__class__ is Scalar:
                    self._names.trials.add_scalar(record)
                yield record

    def _embedding(self, pending: _Pending, projection: Projection) -> Record:
        parts = tuple(_bytes(self._root / pending.path / name) for name in projection.files)
        name, writer = self._names(pending.folder, projection.tag, "embedding")
        return Embedding(name, projection.files, parts, projection.step, pending.wall_time, writer)

    def _state(self, path: str) -> tuple[int, int]:
        status = (self._root / path / "tensors.tsv").stat()
        return status.st_size, status.st_mtime_ns

    def _damaged(self, path: str, offset: int, reason: str) -> None:
        self._damage_counts[path] += 1
        if self._damage_counts[path] <= _MAX_DAMAGE:
            self._damage.append(f"{path}, byte {offset}: {reason}")


def sample(folder: Path, names: list[str]) -> list[Any]:
    """Return the first summary values in a folder's event files."""
    values: list[Any] = []
    for name in names:
        with contextlib.suppress(OSError):
            for frame in frames(folder / name, chunk=_MIN_BUFFER):
                event = parse(frame.data) if isinstance(frame, Frame) else None
                if event is not None:
                    values += event.summary.value[:_SAMPLE_SIZE]
                if len(values) >= _SAMPLE_SIZE:
                    return values
    return values


def _joined(graph: Record, metadata: Record) -> Record:
    """Join both parts of add_graph into one record, as in live capture."""
    assert isinstance(graph, Graph)
    assert isinstance(metadata, Graph)
    return msgspec.structs.replace(graph, parts=tuple(part for part in (*graph.parts, *metadata.parts) if part))


def _bytes(path: Path) -> bytes:
    with open(path, "rb", opener=no_follow) as file:
        return file.read()


def _path(folder: str, name: str) -> str:
    return (PurePosixPath(folder) / name).as_posix()
