"""Read and replace the small JSON note that a backend keeps in the run's folder, and that `gc` removes with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import msgspec

from tracelet.filesystem import replacing

T = TypeVar("T")


def note_path(folder: Path, backend: str) -> Path:
    """Return the path of a backend's note."""
    return folder / f"{backend}.json"


def read_note(path: Path, type: type[T]) -> T | None:
    """Return the note as a `type`; None if the file is missing or damaged.

    Raises:
        OSError: the file exists and cannot be read.
    """
    try:
        # The json module reads a path that is not valid UTF-8; msgspec rejects its surrogates.
        return msgspec.convert(json.loads(path.read_bytes()), type)
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None


def write_note(path: Path, content: bytes) -> None:
    """Replace the file in one step. Another process may write the same note.

    Raises:
        OSError: the folder is missing, or the disk is full.
    """
    with replacing(path) as file:
        file.write(content)
