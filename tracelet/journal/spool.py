"""Store a run's files by content: each file once, under the SHA-256 of its bytes."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from tracelet.errors import JournalError, RecordRejected
from tracelet.filesystem import make_private
from tracelet.records import Artifact, File, Record, Scalar, kind

_CHUNK = 1 << 20
_NAME = re.compile(r"[0-9a-f]{64}[^/\0]*")
_PREFIX, _TEMPORARY = re.compile("[0-9a-f]{2}"), re.compile("new-[a-z0-9_]{8}")


def _sha256(data: bytes = b"") -> Any:
    import hashlib  # not at `import tracelet`: loading OpenSSL takes milliseconds

    return hashlib.sha256(data)


class Spool:
    """Store files in one folder. Safe to use from several threads; a stored file never changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes, suffix: str) -> File:
        """Store `data` as a file whose name ends in `suffix` (vendors derive the format from it).

        Raises:
            JournalError: the folder cannot be written.
        """
        digest = _sha256(data).hexdigest()
        name = f"{digest}{suffix}"
        if not self._path(name).exists():
            with self._new_file() as temp_file:
                temp_file.write(data)
                temp_file.rename_to(name)
        return File(name=name, digest=digest, size=len(data))

    def snapshot(self, source: Path, name: str) -> File:
        """Store the current bytes of `source`; `name` is its path inside the artifact.

        Raises:
            JournalError: the folder cannot be written.
            OSError: `source` cannot be read.
        """
        sha256, size = _sha256(), 0
        with open(source, "rb") as original, self._new_file() as temp_file:
            while chunk := original.read(_CHUNK):
                sha256.update(chunk)
                temp_file.write(chunk)
                size += len(chunk)
            digest = sha256.hexdigest()
            temp_file.rename_to(digest)
        return File(name=name, digest=digest, size=size)

    def store(self, record: Record) -> Record:
        """Store every payload of bytes and return the record with `File` objects in their place."""
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
        """Return the record with the path of every file filled in, for a backend.

        Raises:
            RecordRejected: a name is not that of a stored file.
        """
        match record:
            case Artifact(files=files):
                located = tuple(self._with_path(file, file.digest) for file in files)
                return msgspec.structs.replace(record, files=located)
            case _:
                changes: dict[str, object] = {}
                data = getattr(record, "data", None)
                if isinstance(data, File):
                    changes["data"] = self._with_path(data, data.name)
                parts = getattr(record, "parts", None)
                if parts:
                    changes["parts"] = tuple(self._with_path(part, part.name) for part in parts)
                return msgspec.structs.replace(record, **changes) if changes else record

    def _with_path(self, file: File, name: str) -> File:
        path = stored_path(self._folder, name)
        if path is None:
            raise RecordRejected(f"the journal names a file outside of its run: {name!r}")
        return msgspec.structs.replace(file, path=str(path))

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    def _new_file(self) -> _TempFile:
        return _TempFile(self._folder, self._path)


def stored_path(folder: Path, name: str) -> Path | None:
    """Return the path of a stored file. Return None for a link, or for a name that is not a digest and a suffix.

    A run folder can come from anywhere, and must not name files of this machine.
    """
    path = folder / name[:2] / name
    return path if _NAME.fullmatch(name) and not path.is_symlink() else None


def stored_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a spool, by their names: nothing else in its folder, and nothing behind a link."""
    for path in _children(folder):
        if _TEMPORARY.fullmatch(path.name):
            yield path
        elif _PREFIX.fullmatch(path.name):
            yield from (child for child in _children(path) if stored_path(folder, child.name) == child)


def _children(folder: Path) -> list[Path]:
    return [] if folder.is_symlink() or not folder.is_dir() else [*folder.iterdir()]


class Files:
    """Provide a delivery with the files of its records.

    Use a temporary folder for payloads in memory if the run's folder is not writable.
    """

    def __init__(self, folder: Path) -> None:
        self._spool = Spool(folder)
        self._stack = contextlib.ExitStack()
        self._fallback: Spool | None = None

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def locate(self, record: Record) -> Record:
        """Return the record with the path of every file, or with its bytes if no disk is writable.

        Raises:
            RecordRejected: see `Spool.resolve`.
        """
        if isinstance(record, Scalar):
            return record
        try:
            return self._spool.resolve(self._spool.store(record))
        except JournalError:
            with contextlib.suppress(OSError):
                return self._fallback_spool().resolve(self._fallback_spool().store(record))
            return record

    def _fallback_spool(self) -> Spool:
        if self._fallback is None:
            import tempfile  # imported late, as below

            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tracelet-"))
            self._fallback = Spool(Path(folder))
        return self._fallback


class _TempFile:
    """Write a temporary file in the spool; delete it on exit unless it was renamed.

    The journal thread retries a full disk many times a second, and must not fill it with temporary files.
    """

    def __init__(self, folder: Path, path_of: Callable[[str], Path]) -> None:
        self._folder, self._path_of = folder, path_of

    def __enter__(self) -> _TempFile:
        import tempfile  # not at `import tracelet`

        with _translated(self._folder):
            make_private(self._folder)
            descriptor, self._path = tempfile.mkstemp(dir=self._folder, prefix="new-")
            self._file: io.FileIO | None = io.FileIO(descriptor, "wb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            os.unlink(self._path)

    def write(self, data: bytes) -> None:
        assert self._file is not None
        remaining = memoryview(data)
        with _translated(self._folder):
            while remaining:  # an almost full disk may write only a part
                remaining = remaining[self._file.write(remaining) :]

    def rename_to(self, name: str) -> None:
        assert self._file is not None
        path = self._path_of(name)
        with _translated(self._folder):
            make_private(path.parent)
            os.replace(self._path, path)
        self._file.close()
        self._file = None


@contextlib.contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Without the name of the temporary file, which differs at each attempt.
        raise JournalError(f"cannot write {folder}: {error.strerror or error}") from error


def _suffix(record: Record) -> str:
    file_format = getattr(record, "format", None)
    if file_format:
        return f".{file_format}"
    return {"table": ".json", "mesh": ".ply", "graph": ".pb", "raw": ".pb", "tensor": ".bin"}.get(kind(record), ".bin")
