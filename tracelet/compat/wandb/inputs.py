"""Make artifacts from the arguments of `log_artifact` and `log_code`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tracelet.compat.wandb.artifacts import Artifact
from tracelet.compat.wandb.util import make_artifact_name_safe

_SKIPPED = frozenset(("__pycache__", ".git", ".venv", "node_modules", "wandb", "tracelet_runs", "site-packages"))


def prepared(artifact_or_path: Any, name: str | None, type: str | None, prefix: str) -> Artifact:
    """Return an artifact as it is, or a new one of a file or folder.

    Raises:
        ValueError: there is no such file.
    """
    if isinstance(artifact_or_path, Artifact):
        return artifact_or_path
    path = Path(artifact_or_path)
    artifact = Artifact(name or prefix + make_artifact_name_safe(path.name), type or "unspecified")
    if path.is_dir():
        artifact.add_dir(str(path))
    elif path.is_file():
        artifact.add_file(str(path))
    else:
        raise ValueError(f"log_artifact: there is no file or folder {os.fspath(artifact_or_path)!r}")
    return artifact


def of_code(
    root: str, name: str, include: Callable[..., bool] | None, exclude: Callable[..., bool] | None
) -> Artifact | None:
    """Return an artifact of type `code` with the files below `root` that `include` accepts, by default Python's.

    Return None if there is none.
    """
    artifact = Artifact(make_artifact_name_safe(name), "code")
    base = os.path.abspath(root)
    found = False
    for path in _files(base):
        is_wanted = path.endswith(".py") if include is None else _decides(include, path, base)
        if is_wanted and not (exclude is not None and _decides(exclude, path, base)):
            artifact.add_file(path, os.path.relpath(path, base))
            found = True
    return artifact if found else None


def _files(base: str) -> Iterator[str]:
    for folder, folders, names in os.walk(base):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        yield from (os.path.join(folder, name) for name in sorted(names))


def _decides(function: Callable[..., bool], path: str, root: str) -> bool:
    """Call a filter of one argument, the path, or of two: the path and the root."""
    code = getattr(function, "__code__", None)
    return bool(function(path, root) if code is not None and code.co_argcount > 1 else function(path))
