"""Define the base classes of the data types, and the files that are logged beside the records."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import msgspec

from tracelet.capture.values import to_plain
from tracelet.compat.wandb.errors import UnsupportedError
from tracelet.guard import logger
from tracelet.records import Record, shown_step

_REFERENCE = re.compile(r"(gs|s3|https?)://")
_UNSAFE = re.compile(r'[\\:*?"<>|\x00-\x1f]')


class FileValue(msgspec.Struct, frozen=True):
    """A file that a value logs in place of a record; `path` is its path among the run's artifacts."""

    path: str
    data: bytes


Entry: TypeAlias = Record | FileValue


class StoredPath(str):
    """The path of a file inside an artifact, with its content."""

    data: bytes


class Value:
    """Base class of all data types."""

    _log_type: ClassVar[str]

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        """Yield the records and files that carry this value under the tag `name`."""
        raise NotImplementedError

    def summary(self) -> dict[str, Any]:
        """Return the value's entry in the run's summary."""
        return {"_type": self._log_type}

    def files(self, stem: str) -> dict[str, bytes]:
        """Return the files by which an artifact stores this value; `<stem>.<type>.json` describes it."""
        described, files = self.described()
        return {f"{stem}.{self._log_type}.json": to_json(described), **files}

    def described(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return the description in an artifact, as plain data, and the files that it names."""
        return self.summary(), {}

    def to_data_array(self) -> Any:
        """Return the value as the cell of a numpy column.

        Raises:
            UnsupportedError: the data type has no array form.
        """
        raise UnsupportedError(f"{type(self).__name__} has no array form")


class Media(Value):
    """A value with a file, whose bytes are read when the value is created.

    `_extension` begins with a dot. `_reference` is the address of a file that only artifacts can have.
    """

    _folder: ClassVar[str]
    _data: bytes = b""
    _extension: str = ""
    _reference: str | None = None
    _path: str | None = None

    def __init__(self, caption: str | None = None) -> None:
        self._caption = caption

    @property
    def caption(self) -> str | None:
        return self._caption

    @property
    def _sha256(self) -> str:
        data = self._data if self._reference is None else self._reference.encode()
        return hashlib.sha256(data).hexdigest()

    @property
    def _size(self) -> int:
        return len(self._data)

    def summary(self) -> dict[str, Any]:
        described = {"_type": self._log_type, **self._properties()}
        return {**described, "sha256": self._sha256, "size": self._size}

    def described(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        described = {"_type": self._log_type, **self._properties(), "sha256": self._sha256}
        if self._reference is not None:
            return {**described, "path": self._reference}, {}
        path = f"media/{self._folder}/{self._sha256[:20]}{self._extension}"
        return {**described, "path": path}, {path: self._data}

    def _properties(self) -> dict[str, Any]:
        return {} if self._caption is None else {"caption": self._caption}

    def _read(self, path: str) -> None:
        if is_reference(path):
            self._reference = path
        elif isinstance(path, StoredPath):
            self._data = path.data
        else:
            self._path, self._data = path, Path(path).read_bytes()

    def _require_data(self) -> None:
        if self._reference is not None:
            raise ValueError(
                f"a {type(self).__name__} that references {self._reference} cannot be logged to a run. "
                "Add it to an Artifact, or download the file first"
            )

    def _file_value(self, name: str, step: int | None, extension: str | None = None, data: bytes = b"") -> FileValue:
        path = f"media/{self._folder}/{safe_path(name)}_{shown_step(step)}{extension or self._extension}"
        return FileValue(path, data or self._data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._sha256))

    def _identity(self) -> tuple[Any, ...]:
        return (self._sha256, self._caption)


@functools.lru_cache(maxsize=256)
def warn_once(message: str) -> None:
    """Log a warning, unless this one was logged before."""
    logger.warning("tracelet: %s", message)


def is_reference(path: str) -> bool:
    """Return True for the address of an object store or a web server."""
    return _REFERENCE.match(path) is not None


def is_path(value: object) -> bool:
    """Return True for the types of a path to a file."""
    return isinstance(value, str | os.PathLike)


def safe_path(name: str) -> str:
    """Return a metric name as a relative path: no part leads out of the folder, none is invalid on Windows."""
    parts = [_UNSAFE.sub("_", part) for part in name.split("/")]
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)


def to_json(value: Mapping[str, Any]) -> bytes:
    """Encode plain data as the JSON of an artifact's file, with sorted keys as in wandb."""
    return json.dumps(to_plain(value), sort_keys=True).encode()


def to_array(value: Any) -> Any:
    """Return an array, tensor or sequence as a numpy array in host memory."""
    import numpy as np

    if callable(getattr(value, "detach", None)):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # numpy has no such type
            value = value.float()
    if callable(getattr(value, "numpy", None)):
        value = value.numpy()
    return np.asarray(value)


def library(value: object) -> str:
    """Return the name of the package that defines the type of a value, such as `torch`."""
    return type(value).__module__.partition(".")[0]


def derives_from(value: object, package: str) -> bool:
    """Return True if the type of a value, or one of its base classes, is defined in `package`."""
    return any(base.__module__.partition(".")[0] == package for base in type(value).__mro__)
