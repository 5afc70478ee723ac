"""Decide which folders are runs: experiments, and the trials of a sweep."""

from __future__ import annotations

import contextlib
import functools
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from tracelet.capture.naming import SPLITS
from tracelet.errors import ConfigurationError
from tracelet.importer.folders import event_files
from tracelet.importer.reader import sample
from tracelet.importer.series_names import Session, session_of


def experiments(logdir: Path, *, as_one: bool = False) -> list[Path]:
    """Return the experiment folders in `logdir`, sorted by name.

    A folder is an experiment, with everything below it, if it has event files or if all its children are splits
    (train, val, ...). A folder below it is one of its own if its event files have a session of hyperparameters: it is a
    trial of a sweep. With `as_one`, `logdir` itself is one. Otherwise the same rule applies to its children.

    Raises:
        ConfigurationError: `logdir` is not a folder.
    """
    if not logdir.is_dir():
        raise ConfigurationError(f"LOGDIR must be a folder with event files, got {logdir}")
    files = {PurePosixPath(folder): names for folder, names in event_files(logdir).items()}
    if as_one and files:
        return [logdir]
    found = list(_experiments(files))
    return sorted(logdir / folder for folder in {*found, *_trials(logdir, found, files)})


def _experiments(files: Mapping[PurePosixPath, list[str]]) -> Iterator[PurePosixPath]:
    root = PurePosixPath()
    children = defaultdict(list)
    for folder in files.keys() | {parent for path in files for parent in path.parents}:
        if folder != root:
            children[folder.parent].append(folder)
    remaining = [root]
    while remaining:
        folder = remaining.pop()
        below = children[folder]
        if folder in files or (below and all(child.name.lower() in SPLITS for child in below)):
            yield folder
        else:
            remaining += below


def _trials(
    logdir: Path, found: list[PurePosixPath], files: Mapping[PurePosixPath, list[str]]
) -> Iterator[PurePosixPath]:
    """Yield the folders of writers with a session of their own, except splits: these belong to the folder above."""
    for folder, names in files.items():
        if folder in found or folder.name.lower() in SPLITS:
            continue
        above = next((parent for parent in folder.parents if parent in files), None)
        session = _session(logdir / folder, tuple(names))
        if session == "file":
            yield folder
        elif session == "call" and above is not None and above.name.lower() not in SPLITS:
            yield above


def _session(folder: Path, names: tuple[str, ...]) -> Session | None:
    sizes = []
    for name in names:
        with contextlib.suppress(OSError):  # a broken link
            sizes.append(os.path.getsize(folder / name))
    return _cached_session(folder, names, tuple(sizes))


@functools.lru_cache(maxsize=100_000)
def _cached_session(folder: Path, names: tuple[str, ...], sizes: tuple[int, ...]) -> Session | None:
    """Cache by size: `--watch` asks for each folder every two seconds."""
    return session_of(sample(folder, list(names)))
