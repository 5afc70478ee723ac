"""Content-addressed files of one run: each file is stored once, under the SHA-256 of its bytes."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from tracelet.errors import JournalError
from tracelet.records import Artifact, File, Record, Scalar, kind

_CHUNK = 1 << 20


def _sha256(data: bytes = b"") -> Any:
    import hashlib  # here and not at `import tracelet`: OpenSSL takes milliseconds

    return hashlib.sha256(data)


class Spool:
    """The folder of one run's files. Safe to write from several threads; a file is never changed once it is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes, suffix: str) -> File:
        """Keep `data` as a file whose name ends in `suffix` (vendors read the format off the name).

        Raises:
            JournalError: the folder cannot be written.
        """
        digest = _sha256(data).hexdigest()
        name = f"{digest}{suffix}"
        if not self._path(name).exists():
            with self._draft() as draft:
                draft.write(data)
                draft.keep_as(name)
        return File(name=name, digest=digest, size=len(data))

    def snapshot(self, source: Path, name: str) -> File:
        """Keep the bytes that `source` has now; `name` is its path inside the artifact.

        Raises:
            JournalError: the folder cannot be written.
            OSError: `source` cannot be read.
        """
        hasher, size = _sha256(), 0
        with open(source, "rb") as original, self._draft() as draft:
            while chunk := original.read(_CHUNK):
                hasher.update(chunk)
                draft.write(chunk)
                size += len(chunk)
            digest = hasher.hexdigest()
            draft.keep_as(digest)
        return File(name=name, digest=digest, size=size)

    def keep(self, record: Record) -> Record:
        """The record with every payload of bytes replaced by its `File`."""
        match record:
            case Artifact():
                return record
            case _:
                changes: dict[str, object] = {}
                data = getattr(record, "data", None)
                if isinstance(data, bytes):
                    changes["data"] = self.put(data, _suffix(record))
                parts = getattr(record, "parts", None)
                if parts is not None:
                    names = getattr(record, "names", None) or [_suffix(record)] * len(parts)
                    changes["parts"] = tuple(
                        self.put(part, os.path.splitext(name)[1] or name) if isinstance(part, bytes) else part
                        for part, name in zip(parts, names, strict=True)
                    )
                return msgspec.structs.replace(record, **changes) if changes else record

    def resolve(self, record: Record) -> Record:
        """The record with the path of every file filled in, for a backend."""
        match record:
            case Artifact(files=files):
                located = tuple(self._located(file, file.digest) for file in files)
                return msgspec.structs.replace(record, files=located)
            case _:
                changes: dict[str, object] = {}
                data = getattr(record, "data", None)
                if isinstance(data, File):
                    changes["data"] = self._located(data, data.name)
                parts = getattr(record, "parts", None)
                if parts:
                    changes["parts"] = tuple(self._located(part, part.name) for part in parts)
                return msgspec.structs.replace(record, **changes) if changes else record

    def _located(self, file: File, name: str) -> File:
        return msgspec.structs.replace(file, path=str(self._path(name)))

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    def _draft(self) -> _Draft:
        return _Draft(self._folder, self._path)


class Files:
    """Where a delivery finds the files of its records: in the run's folder, and in a temporary one of its own for those
    that are in memory alone because the run's takes nothing."""

    def __init__(self, folder: Path) -> None:
        self._spool = Spool(folder)
        self._stack = contextlib.ExitStack()
        self._spare: Spool | None = None

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def locate(self, record: Record) -> Record:
        """The record with the path of every file; with its bytes, where no disk takes them."""
        if isinstance(record, Scalar):
            return record
        try:
            return self._spool.resolve(self._spool.keep(record))
        except JournalError:
            with contextlib.suppress(OSError):
                return self._elsewhere().resolve(self._elsewhere().keep(record))
            return record

    def _elsewhere(self) -> Spool:
        if self._spare is None:
            import tempfile  # as below

            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tracelet-"))
            self._spare = Spool(Path(folder))
        return self._spare


class _Draft:
    """A file on its way into the spool; one that does not get there leaves nothing behind.

    The journal's thread tries a full disk again every 40 ms, and must not fill it with drafts.
    """

    def __init__(self, folder: Path, place: Callable[[str], Path]) -> None:
        self._folder, self._place = folder, place

    def __enter__(self) -> _Draft:
        import tempfile  # here and not at `import tracelet`

        with _translated(self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, self._path = tempfile.mkstemp(dir=self._folder, prefix="new-")
            self._file: io.FileIO | None = io.FileIO(handle, "wb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            os.unlink(self._path)

    def write(self, data: bytes) -> None:
        assert self._file is not None
        rest = memoryview(data)
        with _translated(self._folder):
            while rest:  # an almost full disk takes a part, and refuses the next
                rest = rest[self._file.write(rest) :]

    def keep_as(self, name: str) -> None:
        assert self._file is not None
        path = self._place(name)
        with _translated(self._folder):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            os.replace(self._path, path)
        self._file.close()
        self._file = None


@contextlib.contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JournalError(f"cannot write {folder}: {error}") from error


def payload_bytes(record: Record) -> int:
    """Bytes that a record in memory carries beside its own few."""
    data = getattr(record, "data", b"")
    size = len(data) if isinstance(data, bytes) else 0
    size += sum(len(part) for part in getattr(record, "parts", ()) if isinstance(part, bytes))
    match kind(record):
        case "text":
            size += len(getattr(record, "text", ""))
        case "histogram" | "pr_curve":
            size += 10_000
        case _:
            pass
    return size


def _suffix(record: Record) -> str:
    form = getattr(record, "format", None)
    if form:
        return f".{form}"
    return {"table": ".json", "mesh": ".ply", "graph": ".pb", "raw": ".pb", "tensor": ".bin"}.get(kind(record), ".bin")
