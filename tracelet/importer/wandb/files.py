"""Find the files of a wandb run: media, artifacts and saved files."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tracelet.capture.values import to_plain
from tracelet.filesystem import no_follow
from tracelet.importer.past_run import PastRun
from tracelet.records import Artifact, File, Record

_INTERNAL = ("run_table", "job", "wandb-history", "wandb-run-incremental-table")
"""Types of artifacts that wandb makes itself; a table is a record of its own."""
_CHUNK = 1 << 20
_CLIENT_ADDRESS = "wandb-client-artifact://"
_CONSOLE = "output.log"


class RunFiles:
    """The folder `files` of a run, and what its records name elsewhere.

    A run folder can come from anywhere, so neither its links nor its paths are trusted: only files below the folder
    are read, and the files of an artifact if they have the digest that was logged.
    """

    def __init__(self, folder: Path, run: PastRun) -> None:
        self.run = run
        self._folder = folder
        self._saved: dict[str, None] = {}
        self._tables: dict[str, dict[str, Any]] = {}
        self._entries: dict[str, Any] = {}

    def of_table(self, address: str) -> RunFiles:
        """Return these files with those of the artifact of a table before them.

        The table among a run's media has only the type of each medium in its cells.
        """
        client_id, _, _ = address.removeprefix(_CLIENT_ADDRESS).partition("/")
        files = copy.copy(self)
        files._entries = self._tables.get(client_id, {})
        return files

    def table(self, address: str) -> bytes | None:
        """Return the whole table of `of_table`; None if its file is gone or changed."""
        entry = self._entries.get(address.rpartition("/")[2])
        return None if entry is None else _content(entry)

    def read(self, path: str) -> bytes | None:
        """Return the content of a file below the folder. If it cannot be read, report that and return None."""
        if path in self._entries and (data := _content(self._entries[path])) is not None:
            return data
        found = self.run.file_below(self._folder, path)
        try:
            if found is not None:
                with open(found, "rb", opener=no_follow) as file:
                    return file.read()
        except OSError as error:
            self.run.damaged(f"{path}: cannot be read: {error.strerror}")
        return None

    def file(self, path: str, wall_time: float) -> Iterator[Record]:
        """Yield a file below the folder as an artifact."""
        found = self.run.file_below(self._folder, path)
        if found is not None:
            name = "console.log" if path == _CONSOLE else path
            yield Artifact(name, (File(PurePosixPath(name).name, "", 0, str(found)),), wall_time)

    def note(self, files: Any) -> None:
        """Remember the files that the program saved."""
        for item in files.files:
            if item.type == 0 and not item.path.startswith(("media/", "artifact/")):
                self._saved[item.path] = None

    def saved(self, wall_time: float) -> Iterator[Record]:
        """Yield the saved files, and the console output."""
        if (self._folder / _CONSOLE).is_file():
            self._saved[_CONSOLE] = None
        for path in self._saved:
            yield from self.file(path, wall_time)

    def artifact(self, artifact: Any, wall_time: float) -> Iterator[Record]:
        """Yield an artifact that the program logged, with the files that are still there unchanged."""
        if artifact.type in _INTERNAL:
            self._tables[artifact.client_id] = {entry.path: entry for entry in artifact.manifest.contents}
            return
        metadata = json.loads(artifact.metadata) if artifact.metadata else {}
        if artifact.description:
            metadata["description"] = artifact.description
        if artifact.manifest.manifest_file_path and not artifact.manifest.contents:
            self.run.damaged(f"artifact {artifact.name}: its list of files is in a separate file, which is not read")
        files, references = [], {}
        for entry in artifact.manifest.contents:
            if not entry.local_path:
                references[entry.path] = entry.ref
            elif _digest(entry.local_path) == entry.digest:
                files.append(File(entry.path, "", 0, entry.local_path))
            else:
                reason = "changed" if os.path.isfile(entry.local_path) else "missing"
                self.run.damaged(f"artifact {artifact.name}: {entry.path} is {reason} at {entry.local_path}")
        if references:
            metadata["references"] = references
        if files or references:
            yield Artifact(artifact.name, tuple(files), wall_time, artifact.type or "unspecified", to_plain(metadata))


def _content(entry: Any) -> bytes | None:
    """Return the content of an artifact's file; None if it is not the logged one."""
    return Path(entry.local_path).read_bytes() if entry.digest == _digest(entry.local_path) else None


def _digest(path: str) -> str | None:
    """Return the MD5 of a file as wandb's manifests have it; None if the file cannot be read."""
    md5 = hashlib.md5(usedforsecurity=False)
    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                md5.update(chunk)
    except OSError:
        return None
    return base64.b64encode(md5.digest()).decode()
