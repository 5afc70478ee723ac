"""Name the series in event files as live capture of the same program would.

For example, `add_scalars("loss", {"a": 1})` writes to a folder of its own. If the files have enough information, the
names that the program used are restored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Literal, TypeAlias

from tracelet.capture.naming import tensorboardx_tag
from tracelet.capture.series import SeriesNames

Role: TypeAlias = Literal["writer", "scalars", "hparams"]
"""Creator of a folder: a SummaryWriter, or add_scalars or add_hparams of the writer above it."""
Series: TypeAlias = tuple[str, str, bool]
"""Folder, tag, and whether it is a scalar."""

# Both libraries name the folder of add_hparams str(time.time()) if no name is given.
_CLOCK = re.compile(r"\d{9,11}\.\d+")


class FileSeriesNames:
    """Return (name, writer) for `names(folder, tag, kind)`. A later import needs `roles` and `claimed` to resume."""

    def __init__(
        self,
        root: str,
        event_folders: Iterable[str],
        roles: Mapping[str, Role],
        claimed: Iterable[Series],
        sample: Callable[[str], list[Any]],
    ) -> None:
        self.roles: dict[str, Role] = dict(roles)
        self.claimed: list[Series] = []
        self._root = root
        self._event_folders = set(event_folders)
        self._sample = sample
        self._series = SeriesNames(root, lambda root: None)
        self._known: dict[Series, tuple[str, str]] = {}
        for series in claimed:  # in the original order, so that each name goes to the same series again
            self._claim(*series)

    def __call__(self, folder: str, tag: str, kind: str) -> tuple[str, str]:
        is_scalar = kind == "scalar"
        return self._known.get((folder, tag, is_scalar)) or self._claim(folder, tag, is_scalar)

    def _claim(self, folder: str, tag: str, is_scalar: bool) -> tuple[str, str]:
        role = self.roles.get(folder)
        if role is None:
            role = self.roles[folder] = self._role(folder, tag)
        log_dir = self._path(folder)
        member = _member(folder, tag, self._above(folder)) if role == "scalars" and is_scalar else None
        if role == "hparams" and log_dir not in self._series:
            self._series.alias(log_dir, os.path.join(os.path.dirname(log_dir), "hparams"))
        if member is not None:
            parent, main, key = member
            directory = self._series[self._path(parent)]
            name = directory.member(main, key), directory.namespace
        else:
            directory = self._series[log_dir]
            name = directory[tag], directory.namespace
        self._known[folder, tag, is_scalar] = name
        self.claimed.append((folder, tag, is_scalar))
        return name

    def _role(self, folder: str, tag: str) -> Role:
        """Infer the role from the folder's name and its first values, which are read only if the name is ambiguous."""
        if _CLOCK.fullmatch(PurePosixPath(folder).name):
            plugins = {value.metadata.plugin_data.plugin_name for value in self._sample(folder)}
            return "hparams" if "hparams" in plugins else "writer"
        above = list(self._above(folder))
        if _member(folder, tag, above) is None:
            return "writer"
        matches = [
            value.WhichOneof("value") == "simple_value" and _member(folder, value.tag, above) is not None
            for value in self._sample(folder)
        ]
        return "scalars" if matches and all(matches) else "writer"

    def _above(self, folder: str) -> Iterator[str]:
        """Yield the parent folders with event files, the nearest first. One of them is the writer's."""
        return (
            parent.as_posix() for parent in PurePosixPath(folder).parents if parent.as_posix() in self._event_folders
        )

    def _path(self, folder: str) -> str:
        return os.path.normpath(os.path.join(self._root, folder))


def _member(folder: str, tag: str, above: Iterable[str]) -> tuple[str, str, str] | None:
    """Return (writer's folder, main tag, key) if add_scalars may have created `folder`, else None.

    torch names it `<main>_<key>`, with "/" in `<main>` as "_", and writes the main tag to the file. tensorboardX names
    it `<main>/<key>`, and writes the main tag with unsupported characters as "_".
    """
    for parent in above:
        path = PurePosixPath(folder).relative_to(parent).as_posix()
        flat = tag.replace("/", "_") + "_"
        if path.startswith(flat) and path != flat:
            return parent, tag, path.removeprefix(flat)
        parts = path.split("/")
        for length in range(1, len(parts)):
            main = "/".join(parts[:length])
            if tensorboardx_tag(main) == tag:
                return parent, main, "/".join(parts[length:])
    return None
