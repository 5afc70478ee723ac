"""List the files of an artifact: their paths, digests and sizes, and the local files that hold their bytes."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from tracelet.compat.wandb.errors import UnsupportedError
from tracelet.filesystem import make_private

_CHUNK = 1 << 20
_MANIFEST_HEADER = b"wandb-artifact-manifest-v1\n"


class ManifestEntry:
    """A file of an artifact, or a reference to one elsewhere (`ref`). `digest` is the MD5 in base64, as in wandb."""

    def __init__(
        self,
        path: str,
        *,
        local_path: str | None = None,
        digest: str | None = None,
        sha256: str | None = None,
        size: int | None = None,
        ref: str | None = None,
    ) -> None:
        self.path, self.local_path, self.size, self.ref = path, local_path, size, ref
        self.extra: dict[str, Any] = {}
        self._digest, self._sha256 = digest, sha256

    @property
    def digest(self) -> str:
        if self._digest is None:
            self._digest = file_digests(self._file())[0]
        return self._digest

    @property
    def sha256(self) -> str:
        """The key of the file in the spool; for a reference its digest."""
        if self._sha256 is None:
            self._sha256 = self.digest if self.ref is not None else file_digests(self._file())[1]
        return self._sha256

    def ref_target(self) -> str:
        """Return the URI of a reference.

        Raises:
            ValueError: it is a file.
        """
        if self.ref is None:
            raise ValueError(f"{self.path!r} is a file, not a reference")
        return self.ref

    def download(self, root: str | os.PathLike[str] | None = None, skip_cache: bool | None = None) -> str:
        """Copy the file below `root` (default: the working directory) and return its path.

        Raises:
            UnsupportedError: it is a reference to a file that is not on this machine.
            FileNotFoundError: the local file was deleted.
        """
        source = self._file()
        target = path_below(root or ".", self.path)
        if not target.is_file() or not target.samefile(source):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        return str(target)

    @property
    def is_local(self) -> bool:
        """True if the bytes are on this machine."""
        return self.local_path is not None or (self.ref is not None and urlsplit(self.ref).scheme == "file")

    def _file(self) -> Path:
        if self.local_path is not None:
            return Path(self.local_path)
        if self.ref is not None and self.is_local:
            return path_of_uri(self.ref)
        raise UnsupportedError(f"tracelet does not download references; fetch {self.ref!r} with its own client")

    def __repr__(self) -> str:
        target = f", ref={self.ref!r}" if self.ref is not None else ""
        return f"ManifestEntry(path={self.path!r}, size={self.size!r}{target})"


class Manifest:
    """The entries of an artifact, by path."""

    def __init__(self, entries: Mapping[str, ManifestEntry] = {}) -> None:
        self.entries = dict(entries)

    def digest(self) -> str:
        """Return the digest that wandb computes for the same files."""
        md5 = hashlib.md5(_MANIFEST_HEADER, usedforsecurity=False)
        for path in sorted(self.entries):
            md5.update(f"{path}:{self.entries[path].digest}\n".encode())
        return md5.hexdigest()

    def content(self) -> tuple[tuple[str, str], ...]:
        """Return the paths with the digests of the spool, which identify a version."""
        return tuple(sorted((path, entry.sha256) for path, entry in self.entries.items()))

    def __len__(self) -> int:
        return len(self.entries)


class Staging:
    """Hold copies of files in a private temporary folder. It is removed with this object, or at the process's end."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="tracelet-artifact-")
        self._count = 0
        weakref.finalize(self, _remove, self._folder, os.getpid())

    def new_path(self, name: str) -> Path:
        """Return a free path that ends in the name of the file."""
        self._count += 1
        folder = Path(self._folder) / str(self._count)
        make_private(folder)
        return folder / PurePosixPath(name).name

    def copy(self, source: Path, name: str) -> ManifestEntry:
        """Copy a file, and return its entry. The bytes are read once."""
        target = self.new_path(name)
        with open(target, "wb") as copied:
            md5, sha256 = file_digests(source, copied.write)
        return ManifestEntry(name, local_path=str(target), digest=md5, sha256=sha256, size=target.stat().st_size)


def _remove(folder: str, pid: int) -> None:
    if os.getpid() == pid:  # not in a forked child, which ends first
        shutil.rmtree(folder, ignore_errors=True)


def local_entry(name: str, path: Path) -> ManifestEntry:
    """Return the entry of a file of this machine."""
    md5, sha256 = file_digests(path)
    return ManifestEntry(name, local_path=str(path), digest=md5, sha256=sha256, size=path.stat().st_size)


def file_digests(path: Path, write: Callable[[bytes], object] = lambda chunk: None) -> tuple[str, str]:
    """Return the MD5 of a file in base64, and its SHA-256 in hexadecimal digits. Pass its bytes to `write`."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            md5.update(chunk)
            sha256.update(chunk)
            write(chunk)
    return base64.b64encode(md5.digest()).decode(), sha256.hexdigest()


def path_of_uri(uri: str) -> Path:
    """Return the path of a `file://` URI."""
    parts = urlsplit(uri)
    return Path(unquote(parts.netloc + parts.path))


def files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files below a folder with their relative paths, sorted. Links to folders are not followed."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            if path.is_file():
                yield path.relative_to(folder).as_posix(), path


def entry_path(name: str | os.PathLike[str]) -> str:
    """Return a path inside an artifact in normal form.

    Raises:
        ValueError: the path is absolute, or leaves the artifact.
    """
    path = PurePosixPath(os.fspath(name).replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"a path inside an artifact must be relative and without '..', got {os.fspath(name)!r}")
    return path.as_posix()


def path_below(root: str | os.PathLike[str], name: str) -> Path:
    """Return the path of a file below `root`. A journal can come from anywhere, and must not write outside of it.

    Raises:
        ValueError: the name leaves `root`.
    """
    return Path(os.path.abspath(root), entry_path(name))
