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

from tracelet.capture.naming import HPARAMS, tensorboardx_tag
from tracelet.capture.series import Directory, SeriesNames
from tracelet.capture.tensorboard.events import hparams_of
from tracelet.capture.trials import Trials
from tracelet.records import Params

Role: TypeAlias = str
"""Creator of a folder: a "writer", or "scalars" or "hparams" (the first trial; then "hparams-2", ...) of one above."""
Session: TypeAlias = Literal["call", "file"]
"""Origin of a folder's hyperparameters: a call of add_hparams, or a writer's own event file."""
Series: TypeAlias = tuple[str, str, bool]
"""Folder, tag, and whether it is a scalar."""

# Both libraries name the folder of add_hparams str(time.time()) if no name is given.
_CALL = ("experiment", "session_start_info", "session_end_info")
_CLOCK = re.compile(r"\d{9,11}\.\d+")


class FileSeriesNames:
    """Return (name, writer) for `names(folder, tag, kind)`. A later import needs `roles` and `claimed` to resume."""

    def __init__(
        self,
        source: str,
        root: str,
        event_folders: Iterable[str],
        roles: Mapping[str, Role],
        claimed: Iterable[Series],
        sample: Callable[[str], list[Any]],
        trials: Trials,
    ) -> None:
        self.roles: dict[str, Role] = dict(roles)
        self.claimed: list[Series] = []
        self._source = source
        self.trials = trials
        self._sessions: dict[str, Session | None] = {}
        self._event_folders = set(event_folders)
        self._sample = sample
        self.facts: dict[str, str] = {}
        """Facts of the run that follow from its names."""
        self._series = SeriesNames(root, self.facts.__setitem__)
        self._known: dict[Series, tuple[str, str]] = {}
        for series in claimed:  # in the original order, so that each name goes to the same series again
            self._claim(*series)

    def __call__(self, folder: str, tag: str, kind: str) -> tuple[str, str]:
        is_scalar = kind == "scalar"
        return self._known.get((folder, tag, is_scalar)) or self._claim(folder, tag, is_scalar)

    def split(self, folder: str, params: Params) -> Iterator[Params]:
        """Yield the parameters of a folder under the name of their trial, as in live capture."""
        if folder not in self._sessions:
            self._sessions[folder] = session_of(self._sample(folder))
        return self.trials.split(params, is_new_call=self._sessions[folder] == "call")

    def trials_tag(self) -> str:
        return self._series.collected("trials")

    def _claim(self, folder: str, tag: str, is_scalar: bool) -> tuple[str, str]:
        role = self.roles.get(folder)
        if role is None:
            role = self.roles[folder] = self._role(folder, tag)
        member = _member(folder, tag, self._above(folder)) if role == "scalars" and is_scalar else None
        if member is not None:
            parent, main, key = member
            directory = self._series[self._path(parent)]
            name = directory.member(main, key), directory.namespace
        else:
            directory = self._directory(folder, role)
            name = directory[tag], directory.namespace
        self._known[folder, tag, is_scalar] = name
        self.claimed.append((folder, tag, is_scalar))
        return name

    def _role(self, folder: str, tag: str) -> Role:
        """Infer the role from the folder's name and its first values, which are read only if the name is ambiguous."""
        if _CLOCK.fullmatch(PurePosixPath(folder).name):
            values = self._sample(folder)
            return self._trial(folder, values) if session_of(values) else "writer"
        above = list(self._above(folder))
        if _member(folder, tag, above) is None:
            return "writer"
        matches = [
            value.WhichOneof("value") == "simple_value" and _member(folder, value.tag, above) is not None
            for value in self._sample(folder)
        ]
        return "scalars" if matches and all(matches) else "writer"

    def _trial(self, folder: str, values: list[Any]) -> Role:
        """Return the directory that live capture would use for this add_hparams instead of the time."""
        name = self._directory(folder, HPARAMS).namespace
        session = next(value for value in values if _hparams_kind(value) == "session_start_info")
        return HPARAMS + self.trials.unused(name, hparams_of(session) or {}).removeprefix(name)

    def _directory(self, folder: str, role: Role) -> Directory:
        path = self._path(folder)
        return self._series[os.path.join(os.path.dirname(path), role) if role.startswith(HPARAMS) else path]

    def _above(self, folder: str) -> Iterator[str]:
        """Yield the parent folders with event files, the nearest first. One of them is the writer's."""
        return (
            parent.as_posix() for parent in PurePosixPath(folder).parents if parent.as_posix() in self._event_folders
        )

    def _path(self, folder: str) -> str:
        return os.path.normpath(os.path.join(self._source, folder))


def session_of(values: list[Any]) -> Session | None:
    """Return the origin of the hyperparameters in a folder's first values; None if it has none.

    add_hparams writes three summaries, then each metric once.
    """
    kinds = [_hparams_kind(value) for value in values]
    if "session_start_info" not in kinds:
        return None
    expected = list(_CALL)
    metrics: set[str] = set()
    for value, kind in zip(values, kinds, strict=True):
        if not expected and kind == _CALL[0]:  # a later call with the same name
            expected, metrics = list(_CALL), set()
        if kind != (expected.pop(0) if expected else None) or value.tag in metrics:
            return "file"
        metrics.add(value.tag)
    return "call"


def _hparams_kind(value: Any) -> str | None:
    """Return the kind of a summary of the hparams plugin; None for any other summary."""
    if value.metadata.plugin_data.plugin_name != "hparams":
        return None
    from google.protobuf.message import DecodeError
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    try:
        return str(HParamsPluginData.FromString(value.metadata.plugin_data.content).WhichOneof("data"))
    except DecodeError:
        return None


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
