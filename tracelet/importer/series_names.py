"""The names of series in event files: those that live capture of the same program gives them.

A program says `add_scalars("loss", {"a": 1})`; its files say a folder. What the libraries make of a name on its way
into the files is undone here where the files still tell.
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
"""Whose folder it is: a SummaryWriter's own, or one that add_scalars or add_hparams of the writer above made."""
Series: TypeAlias = tuple[str, str, bool]
"""Folder, tag, and whether it is a scalar."""

# What both libraries call add_hparams' folder where it is given no name: str(time.time()).
_CLOCK = re.compile(r"\d{9,11}\.\d+")


class FileSeriesNames:
    """`names(folder, tag, kind)` is (name, writer). `roles` and `claimed` are what a later import needs to go on."""

    def __init__(
        self,
        root: str,
        holders: Iterable[str],
        roles: Mapping[str, Role],
        claimed: Iterable[Series],
        sample: Callable[[str], list[Any]],
    ) -> None:
        self.roles: dict[str, Role] = dict(roles)
        self.claimed: list[Series] = []
        self._root = root
        self._holders = set(holders)
        self._sample = sample
        self._series = SeriesNames(root, lambda root: None)
        self._known: dict[Series, tuple[str, str]] = {}
        for one in claimed:  # in the order of the first time: of two series that want one name, the same gets it
            self._claim(*one)

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
        """Told by the folder's name and what stands first in its files; looked at only where the name may mean it."""
        if _CLOCK.fullmatch(PurePosixPath(folder).name):
            plugins = {value.metadata.plugin_data.plugin_name for value in self._sample(folder)}
            return "hparams" if "hparams" in plugins else "writer"
        above = list(self._above(folder))
        if _member(folder, tag, above) is None:
            return "writer"
        ours = [
            value.WhichOneof("value") == "simple_value" and _member(folder, value.tag, above) is not None
            for value in self._sample(folder)
        ]
        return "scalars" if ours and all(ours) else "writer"

    def _above(self, folder: str) -> Iterator[str]:
        """The folders above that hold event files, the nearest first: one of them is the writer's."""
        return (parent.as_posix() for parent in PurePosixPath(folder).parents if parent.as_posix() in self._holders)

    def _path(self, folder: str) -> str:
        return os.path.normpath(os.path.join(self._root, folder))


def _member(folder: str, tag: str, above: Iterable[str]) -> tuple[str, str, str] | None:
    """(the writer's folder, main tag, key) where add_scalars may have made `folder`.

    torch: `<main with "/" as "_">_<key>`, and the main tag in the file. tensorboardX: `<main>/<key>`, and in the file
    the main tag with what it does not like as "_".
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
