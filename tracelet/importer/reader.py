"""What is new in an experiment folder, as records in the order of their time."""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec

from tracelet.capture.tensorboard import events
from tracelet.importer.folders import Projection, projections, stamp
from tracelet.importer.series_names import FileSeriesNames
from tracelet.importer.tfrecord import CorruptRange, Frame, frames
from tracelet.records import Embedding, Graph, Record

# What is read of all files together, and the least and the most of one at a time.
_MEMORY, _LEAST, _MOST = 64 * 2**20, 16 * 2**10, 2**20
# As many values say whose folder it is.
_SAMPLE = 64


class Item(NamedTuple):
    """The records of one event or embedding; none where it is the file's own matter, or damaged."""

    path: str
    """The file, below the experiment folder."""
    position: tuple[int, int]
    """How far the file is read with this item, and the size that it had then; an embedding's size and change time."""
    wall_time: float
    records: tuple[Record, ...]


class _Found(NamedTuple):
    """What is not decoded yet: series get their names in the order of time, as they did when the program ran."""

    moment: float
    order: int
    """Where two moments are equal, the first file's comes first."""
    folder: str
    path: str
    start: int
    position: tuple[int, int]
    wall_time: float
    content: tuple[Any, ...] | Projection


class Reader:
    """Reads from where `seen` says; `damage` grows while `items` is taken."""

    def __init__(
        self, root: Path, holders: Mapping[str, list[str]], seen: Mapping[str, tuple[int, int]], names: FileSeriesNames
    ) -> None:
        from google.protobuf.message import DecodeError

        self.damage: list[str] = []
        self.read = 0
        self._root = root
        self._seen = seen
        self._undecodable = DecodeError
        self._names = names
        self._renames = {folder: functools.partial(names, folder) for folder in holders}
        self._files = list(self._changed(holders))
        self._projections = [
            (folder, one, path)
            for folder in holders
            for one in projections(root / folder)
            if seen.get(path := _path(folder, one.folder)) != self._state(path)
        ]
        self.total = sum(max(0, size - seen.get(path, (0, 0))[0]) for *_, path, size in self._files)
        self._chunk = min(_MOST, max(_LEAST, _MEMORY // max(1, len(self._files))))

    def items(self) -> Iterator[Item]:
        """Events of one file stay in its order; between files, and embeddings, the earlier goes first."""
        order = itertools.count()
        sources = [self._events(next(order), *one) for one in self._files]
        embeddings = [self._embeddings(next(order), *one) for one in self._projections]
        for found in heapq.merge(*sources, *embeddings):
            yield Item(found.path, found.position, found.wall_time, self._records(found))

    def _changed(self, holders: Mapping[str, list[str]]) -> Iterator[tuple[str, str, str, int]]:
        """Folder, name, path and size of the event files that have not the size they had."""
        for folder, names in holders.items():
            for name in names:
                path = _path(folder, name)
                try:
                    size = (self._root / path).stat().st_size
                except OSError as error:  # a link to a file that is gone
                    self._damaged(path, 0, f"cannot be read: {error.strerror}")
                    continue
                if size != self._seen.get(path, (0, -1))[1]:
                    yield folder, name, path, size

    def _events(self, order: int, folder: str, name: str, path: str, size: int) -> Iterator[_Found]:
        start = self._seen.get(path, (0, 0))[0]
        if size < start:
            self._damaged(path, size, f"the file had {start} bytes when it was imported; it is not read again")
        # A program may have given times of its own, but the name has the clock's: what a later file has stays later.
        begun = moment = stamp(name)
        graph: _Found | None = None
        for frame, event in self._decoded(path, start):
            self.read += frame.end - start
            start = frame.end
            what = event.WhichOneof("what") if event is not None else None
            if graph is not None:
                if what == "tagged_run_metadata":  # the second half of what add_graph said
                    yield graph._replace(position=(start, -1), content=(*graph.content, event))
                    graph = None
                    continue
                yield graph
                graph = None
            wall_time = 0.0
            if event is not None:
                wall_time = event.wall_time
                moment = max(begun, wall_time)
            content = () if event is None else (event,)
            found = _Found(moment, order, folder, path, frame.start, (start, -1), wall_time, content)
            if what == "graph_def":
                graph = found
            else:
                yield found
        if graph is not None:
            yield graph
        yield _Found(moment, order, folder, path, start, (start, size), 0.0, ())

    def _decoded(self, path: str, start: int) -> Iterator[tuple[Frame | CorruptRange, Any | None]]:
        event_class = _event_class()
        for frame in self._frames(path, start):
            event = None
            if isinstance(frame, CorruptRange):
                self._damaged(path, frame.start, frame.reason)
            else:
                try:
                    event = event_class.FromString(frame.data)
                except self._undecodable:
                    self._damaged(path, frame.start, "not an event")
            yield frame, event

    def _frames(self, path: str, start: int) -> Iterator[Frame | CorruptRange]:
        """A file that cannot be read hides no other."""
        try:
            yield from frames(self._root / path, start, chunk=self._chunk)
        except OSError as error:
            yield CorruptRange(start, start, f"cannot be read: {error.strerror}")

    def _embeddings(self, order: int, folder: str, one: Projection, path: str) -> Iterator[_Found]:
        size, changed = self._state(path)
        moment = changed / 1e9
        yield _Found(moment, order, folder, path, 0, (size, changed), moment, one)

    def _records(self, found: _Found) -> tuple[Record, ...]:
        content = found.content
        try:
            if isinstance(content, Projection):
                return (self._embedding(found, content),)
            records = tuple(record for event in content for record in self._read(found, event))
            return (_joined(*records),) if len(content) == 2 else records
        except OSError as error:
            self._damaged(found.path, found.start, f"cannot be read: {error.strerror}")
        except (self._undecodable, LookupError, TypeError, ValueError) as error:  # made by something that nobody knows
            self._damaged(found.path, found.start, f"not understood ({type(error).__name__}: {error})")
        return ()

    def _read(self, found: _Found, event: Any) -> Iterator[Record]:
        return events.read(event, event.step, event.wall_time, self._renames[found.folder])

    def _embedding(self, found: _Found, one: Projection) -> Record:
        parts = tuple((self._root / found.path / name).read_bytes() for name in one.files)
        name, writer = self._names(found.folder, one.tag, "embedding")
        return Embedding(name, one.files, parts, one.step, found.wall_time, writer)

    def _state(self, path: str) -> tuple[int, int]:
        found = (self._root / path / "tensors.tsv").stat()
        return found.st_size, found.st_mtime_ns

    def _damaged(self, path: str, offset: int, reason: str) -> None:
        self.damage.append(f"{path}, byte {offset}: {reason}")


def sample(folder: Path, names: list[str]) -> list[Any]:
    """The first summary values in a folder's event files."""
    from google.protobuf.message import DecodeError

    found: list[Any] = []
    for name in names:
        with contextlib.suppress(OSError):
            for frame in frames(folder / name, chunk=_LEAST):
                if isinstance(frame, Frame):
                    with contextlib.suppress(DecodeError):
                        found += _event_class().FromString(frame.data).summary.value
                if len(found) >= _SAMPLE:
                    return found
    return found


def _event_class() -> Any:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event


def _joined(graph: Record, metadata: Record) -> Record:
    """One record, as it is when the program runs."""
    assert isinstance(graph, Graph)
    assert isinstance(metadata, Graph)
    return msgspec.structs.replace(graph, parts=tuple(part for part in (*graph.parts, *metadata.parts) if part))


def _path(folder: str, name: str) -> str:
    return (PurePosixPath(folder) / name).as_posix()
