"""Find event files and embeddings below a folder."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tracelet.guard import logger

PROJECTOR = "projector_config.pbtxt"
"""The file that add_embedding writes next to the event files."""

_STAMP = re.compile(r"tfevents\.(\d{9,11})(?!\d)")
_ENCODED = re.compile(r"%(25|2f|5c)")


class Projection(NamedTuple):
    """The files of one add_embedding; paths are relative to the writer's folder."""

    folder: str
    tag: str
    step: int
    files: tuple[str, ...]


def event_files(root: Path) -> dict[str, list[str]]:
    """Map each folder below `root` ("." for itself) to the names of its event files, the oldest first.

    Do not follow links to folders.
    """
    files_by_folder = {}
    for folder, files in _walk(root):
        below = PurePosixPath(os.path.relpath(folder, root)).as_posix()
        names = sorted(name for name in files if _is_event_file(name))
        doubles = {name for name in names if plain_name(name) != name and plain_name(name) in names}
        if doubles:  # `gzip --keep` wrote them
            _warn(f"skipped {', '.join(sorted(doubles))} in {folder!r}: the files without .gz are read")
            names = [name for name in names if name not in doubles]
        valid = [name for name in names if is_text(below + name)]
        if valid:
            files_by_folder[below] = valid
        if valid != names:
            _warn(f"skipped event files in {folder!r}: a name there is not UTF-8")
    return files_by_folder


def _walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder with the names of its files, as `os.walk`, which before Python 3.12 recurses."""
    remaining = [os.fspath(root)]
    while remaining:
        folder = remaining.pop()
        folders, files = [], []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif not os.path.isdir(entry.path):
                        files.append(entry.name)
        except OSError as error:
            _warn(f"cannot read {error.filename}: {error.strerror}")
        yield folder, files
        remaining += sorted(folders, reverse=True)


def without(files: dict[str, list[str]], root: Path, apart: Collection[Path]) -> dict[str, list[str]]:
    """Return the event files below `root` except those in folders of `apart`, or below them."""
    prefix = os.path.join(root, "")
    below = {str(path)[len(prefix) :] for path in apart if str(path).startswith(prefix)}  # quick: `apart` may be long
    return {
        folder: names
        for folder, names in files.items()
        if below.isdisjoint((folder, *(parent.as_posix() for parent in PurePosixPath(folder).parents)))
    }


def state(root: Path, apart: Collection[Path] = ()) -> object:
    """Return a value that changes if an import may find new data, not counting the folders in `apart`."""
    files = without(event_files(root), root, apart)
    paths = [root / folder / name for folder, names in files.items() for name in (*names, PROJECTOR)]
    stats = []
    for path in paths:
        with contextlib.suppress(OSError):  # most folders have no embeddings
            status = path.stat()
            stats.append((path, status.st_size, status.st_ctime_ns))  # also if its permissions change
    return stats


def plain_name(name: str) -> str:
    """Return the name or path that a file had before gzip. Both are one file: an import after it resumes."""
    return name.removesuffix(".gz")


def is_text(path: str) -> bool:
    """Return True if `path` can be encoded as UTF-8, as the journal requires."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def stamp(name: str) -> float:
    """Return the start time in a file's name as a Unix timestamp, or 0 if there is none."""
    match = _STAMP.search(name)
    return float(match[1]) if match else 0.0


def projections(folder: Path) -> Iterator[Projection]:
    """Yield the embeddings in a writer's folder: `<step>/<tag>/tensors.tsv` with optional labels and sprite."""
    if not os.path.isfile(folder / PROJECTOR):  # `Path.is_file` raises if the folder cannot be entered
        return
    for tensors in sorted(folder.glob("*/*/tensors.tsv")):
        path = tensors.parent
        if re.fullmatch(r"-?\d{1,19}", path.parent.name) and tensors.is_file() and is_text(path.name):
            tag = _ENCODED.sub(lambda match: chr(int(match[1], 16)), path.name)
            paths = [path / name for name in ("tensors.tsv", "metadata.tsv", "sprite.png")]
            # TensorBoard writes no links: a link may lead to any file of this user.
            links = [link for link in (path.parent, path, *paths) if link.is_symlink()]
            for link in links:
                _warn(f"skipped {link}, because it is a link")
            files = tuple(file.name for file in paths if file.is_file() and file not in links)
            if not {path.parent, path, tensors} & set(links):
                yield Projection(f"{path.parent.name}/{path.name}", tag, int(path.parent.name), files)


def _is_event_file(name: str) -> bool:
    """Apply TensorBoard's rule (tensorboard/backend/event_processing/io_wrapper.py, IsSummaryEventsFile)."""
    return "tfevents" in name and not name.endswith(".profile-empty")


@functools.lru_cache(maxsize=10_000)
def _warn(message: str) -> None:
    """Log a warning once: `--watch` looks every two seconds."""
    logger.warning("tracelet: %s", message)
