"""Which folders are experiments, and which files of theirs hold events."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tracelet.errors import ConfigurationError

logger = logging.getLogger("tracelet")

_TRAINING = ("train", "training")
_CHECKS = (
    "val",
    "valid",
    "validation",
    "validate",
    "dev",
    "holdout",
    "test",
    "testing",
    "eval",
    "evaluation",
    "predict",
)
SPLITS = frozenset(_TRAINING + _CHECKS)
"""Folder names that say a part of one experiment, and not an experiment of its own."""

PROJECTOR = "projector_config.pbtxt"
"""What add_embedding leaves beside the event files."""

_STAMP = re.compile(r"tfevents\.(\d{9,11})(?!\d)")
_ENCODED = re.compile(r"%(25|2f|5c)")


class Projection(NamedTuple):
    """The files of one add_embedding; paths are relative to the writer's folder."""

    folder: str
    tag: str
    step: int
    files: tuple[str, ...]


def experiments(logdir: Path, *, as_one: bool = False) -> list[Path]:
    """The experiment folders in `logdir`, in the order of their names.

    A folder with event files of its own is one, with all that lies below it. So is a folder whose children have only
    the names of splits (train, val, ...), and `logdir` itself with `as_one`. Else each child that has event files
    somewhere below it is looked at in the same way.

    Raises:
        ConfigurationError: there is no such folder.
    """
    if not logdir.is_dir():
        raise ConfigurationError(f"{logdir} is not a folder; `tracelet import` takes folders with event files in them")
    holders = {PurePosixPath(folder) for folder in event_files(logdir)}
    trees = holders | {parent for holder in holders for parent in holder.parents}
    if as_one and holders:
        return [logdir]
    return [logdir / folder for folder in _experiments(PurePosixPath(), holders, trees)]


def event_files(root: Path) -> dict[str, list[str]]:
    """Folder below `root` ("." for itself) -> the names of its event files, the oldest first.

    Links to folders are not followed.
    """
    found = {}
    for folder, folders, files in os.walk(root, onerror=_say):
        folders.sort()
        below = PurePosixPath(os.path.relpath(folder, root)).as_posix()
        names = sorted(name for name in files if _holds_events(name))
        told = [name for name in names if is_text(below + name)]
        if told:
            found[below] = told
        if told != names:
            logger.warning("tracelet: event files in %r are left out: a name there is not UTF-8", folder)
    return found


def state(root: Path) -> object:
    """Another value than before where something was written that an import may want."""
    found = event_files(root)
    paths = [root / folder / name for folder, names in found.items() for name in (*names, PROJECTOR)]
    told = []
    for path in paths:
        with contextlib.suppress(OSError):  # most folders have no embeddings
            status = path.stat()
            told.append((path, status.st_size, status.st_mtime_ns))
    return told


def is_text(path: str) -> bool:
    """Whether a path is UTF-8, as names of series and the journal are."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def stamp(name: str) -> float:
    """When the file was begun, as its name says, in seconds since the epoch; 0 where it does not."""
    found = _STAMP.search(name)
    return float(found[1]) if found else 0.0


def projections(folder: Path) -> Iterator[Projection]:
    """What add_embedding left in a writer's folder: `<step>/<tag>/tensors.tsv`, and perhaps its labels and pictures."""
    if not (folder / PROJECTOR).is_file():
        return
    for tensors in sorted(folder.glob("*/*/tensors.tsv")):
        place = tensors.parent
        if re.fullmatch(r"-?\d{1,19}", place.parent.name) and tensors.is_file() and is_text(place.name):
            tag = _ENCODED.sub(lambda found: chr(int(found[1], 16)), place.name)
            names = ("tensors.tsv", "metadata.tsv", "sprite.png")
            files = tuple(name for name in names if (place / name).is_file())
            yield Projection(f"{place.parent.name}/{place.name}", tag, int(place.parent.name), files)


def _experiments(
    folder: PurePosixPath, holders: set[PurePosixPath], trees: set[PurePosixPath]
) -> Iterator[PurePosixPath]:
    children = sorted(one for one in trees if one.parent == folder and one != folder)
    if folder in holders or (children and all(one.name.lower() in SPLITS for one in children)):
        yield folder
        return
    for child in children:
        yield from _experiments(child, holders, trees)


def _holds_events(name: str) -> bool:
    """TensorBoard's own rule (tensorboard/backend/event_processing/io_wrapper.py, IsSummaryEventsFile)."""
    return "tfevents" in name and not name.endswith(".profile-empty")


def _say(error: OSError) -> None:
    logger.warning("tracelet: %s cannot be read: %s", error.filename, error.strerror)
