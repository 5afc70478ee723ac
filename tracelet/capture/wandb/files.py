"""Find the files of `save` and `log_artifact`."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_INTERNAL = ("run_table", "job", "wandb-run-incremental-table")
"""Types of artifacts that wandb makes itself: from a table, which has a record of its own, and for its jobs."""


class ArtifactFiles(NamedTuple):
    """The files of an artifact by their names in it, and the references, which have no file."""

    paths: dict[str, Path]
    references: dict[str, str]


def artifact_files(artifact: Any) -> ArtifactFiles | None:
    """Return the files of a `wandb.Artifact`, or of a path as `log_artifact` accepts it.

    Return None for an artifact that wandb makes itself, and for any other object, which wandb rejects.
    """
    if isinstance(artifact, str | os.PathLike):
        return ArtifactFiles(dict(_tree(Path(artifact))), {})
    if not hasattr(artifact, "manifest") or artifact.type in _INTERNAL:
        return None
    entries = artifact.manifest.entries
    paths = {str(path): Path(entry.local_path) for path, entry in entries.items() if entry.local_path}
    return ArtifactFiles(
        paths, {str(path): str(entry.ref) for path, entry in entries.items() if entry.ref and not entry.local_path}
    )


def _tree(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield path.name, path
    for folder, _, names in os.walk(path, followlinks=True):
        for name in names:
            file = Path(folder, name)
            yield file.relative_to(path).as_posix(), file


def saved_files(pattern: str | bytes | os.PathLike[str], base_path: Any = None) -> dict[str, Path]:
    """Return the files that `save(pattern, base_path)` means, by their names in the run."""
    text = os.path.abspath(os.fsdecode(pattern))
    if base_path is not None:
        base = os.path.abspath(os.fspath(base_path))
    else:
        base = os.path.dirname(os.path.dirname(text)) if os.path.isabs(os.fsdecode(pattern)) else os.getcwd()
    paths = [Path(path) for path in sorted(glob.glob(text)) if os.path.isfile(path)]
    return {Path(os.path.relpath(path, base)).as_posix(): path for path in paths}
