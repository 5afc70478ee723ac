"""Find the versions of artifacts in the journals of local runs.

The Artifact records of one name and one project are versions in the order of their wall time. A record with the
content of an earlier version adds its aliases to that version, as in wandb.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tracelet.compat.wandb.manifest import Manifest, ManifestEntry
from tracelet.errors import JournalError
from tracelet.guard import logger
from tracelet.journal.spool import stored_path
from tracelet.journal.store import JournalReader
from tracelet.records import Artifact, RunInfo
from tracelet.runs.folders import all_runs, journals

NO_PROJECT = "uncategorized"
"""The project of runs without one, by the name that wandb gives it."""
NO_ENTITY = "local"
"""The entity of runs without one: local runs have no owner."""
_EXTRAS = ("aliases", "description", "references", "tags")


class Extras(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Properties of an artifact that its record holds in the metadata."""

    aliases: list[str] = []
    description: str | None = None
    references: list[dict[str, Any]] = []
    tags: list[str] = []


class Version:
    """One version of an artifact: its first record, and the properties from all records with the same content."""

    def __init__(self, number: int, record: Artifact, folder: Path, info: RunInfo) -> None:
        self.number, self.record, self.folder, self.info = number, record, folder, info
        self.extras, self.metadata = split_metadata(record.metadata)
        self.aliases: list[str] = []
        self.updated = record.wall_time

    @property
    def name(self) -> str:
        return artifact_name(self.record)

    @property
    def label(self) -> str:
        return f"v{self.number}"

    def manifest(self) -> Manifest:
        """Return the files in the run's spool, and the references."""
        files = [
            ManifestEntry(
                file.name, local_path=_spool_path(self.folder, file.digest), sha256=file.digest, size=file.size
            )
            for file in self.record.files
        ]
        references = [
            ManifestEntry(
                str(reference.get("name")),
                digest=str(reference.get("digest")),
                size=reference.get("size"),
                ref=str(reference.get("uri")),
            )
            for reference in self.extras.references
        ]
        return Manifest({entry.path: entry for entry in (*files, *references)})

    def _add(self, record: Artifact) -> None:
        extras, self.metadata = split_metadata(record.metadata)
        description = self.extras.description if extras.description is None else extras.description
        tags = list(dict.fromkeys([*self.extras.tags, *extras.tags]))
        self.extras = msgspec.structs.replace(extras, description=description, tags=tags)
        self.updated = record.wall_time


class _Collection:
    """The versions of one name."""

    def __init__(self) -> None:
        self.versions: list[Version] = []
        self._by_content: dict[Any, Version] = {}

    def add(self, record: Artifact, folder: Path, info: RunInfo) -> None:
        content = record_content(record)
        version = self._by_content.get(content)
        if version is None:
            version = self._by_content[content] = Version(len(self.versions), record, folder, info)
            self.versions.append(version)
        else:
            version._add(record)
        for alias in dict.fromkeys((*split_metadata(record.metadata)[0].aliases, "latest")):
            for other in self.versions:  # an alias belongs to the version that got it last
                if alias in other.aliases and other is not version:
                    other.aliases.remove(alias)
            if alias not in version.aliases:
                version.aliases.append(alias)


class Logged(NamedTuple):
    """An Artifact record, the folder of its journal, and the run."""

    record: Artifact
    folder: Path
    info: RunInfo


def collections(base: Path, project: str | None = None) -> dict[tuple[str, str], Sequence[Version]]:
    """Return the versions of each artifact, by project and name, in the order of first logging."""
    found: dict[tuple[str, str], _Collection] = {}
    for record, folder, info in sorted(_logged(base), key=lambda logged: logged.record.wall_time):
        if project is None or is_of_project(info, project):
            key = (project_of(info), artifact_name(record))
            found.setdefault(key, _Collection()).add(record, folder, info)
    return {key: collection.versions for key, collection in found.items()}


def record_content(record: Artifact) -> tuple[tuple[str, str], ...]:
    """Return the names and digests that identify a version; see `Manifest.content`."""
    references = split_metadata(record.metadata)[0].references
    listed = [(str(reference.get("name")), str(reference.get("digest"))) for reference in references]
    return tuple(sorted([*((file.name, file.digest) for file in record.files), *listed]))


def artifact_name(record: Artifact) -> str:
    """Return the name of an artifact. A record of a folder ends in a slash."""
    return record.name.rstrip("/")


def join_metadata(metadata: Mapping[str, Any], extras: Extras) -> dict[str, Any]:
    """Return the metadata of the record, which is that of the program if there is nothing else to store.

    If a key has both meanings, that of the program moves to `metadata`.
    """
    added = msgspec.to_builtins(extras)
    if added and not metadata.keys().isdisjoint({*_EXTRAS, "metadata"}):
        return {"metadata": dict(metadata), **added}
    return {**metadata, **added}


def split_metadata(stored: Mapping[str, Any]) -> tuple[Extras, dict[str, Any]]:
    """Return the properties and the program's metadata of a record."""
    added = {key: value for key, value in stored.items() if key in _EXTRAS}
    rest = {key: value for key, value in stored.items() if key not in _EXTRAS}
    try:
        extras = msgspec.convert(added, Extras)
    except msgspec.ValidationError:  # the program's own keys
        return Extras(), dict(stored)
    if added and rest.keys() == {"metadata"} and isinstance(rest["metadata"], dict):
        return extras, rest["metadata"]
    return extras, rest


def project_of(info: RunInfo) -> str:
    """Return the name of a run's project."""
    return info.project or NO_PROJECT


def is_of_project(info: RunInfo, project: str) -> bool:
    return project_of(info) == project


def _logged(base: Path) -> Iterator[Logged]:
    for run in all_runs(base):
        for folder in journals(run):
            try:
                yield from _index.read(folder)
            except JournalError as error:
                logger.info("tracelet: artifacts of %s are not readable: %s", folder, error)


class _Index:
    """Read the Artifact records of journals, each journal from where the last reading ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[tuple[float, int], int, list[Logged]]] = {}

    def read(self, folder: Path) -> list[Logged]:
        with self._lock, JournalReader(folder) as reader:
            info = reader.info()
            identity = (info.created, reader.path.stat().st_ino)
            known, position, records = self._known.get(folder, (identity, 0, []))
            if known != identity or reader.last() < position:  # another journal of this name
                position, records = 0, []
            records = list(records)
            while batch := reader.next_batch(position):
                records += [Logged(record, folder, info) for record in batch.records if isinstance(record, Artifact)]
                position = batch.last
            self._known[folder] = (identity, position, records)
            return records


_index = _Index()


def _spool_path(folder: Path, digest: str) -> str:
    path = stored_path(folder / "files", digest)
    if path is None:
        raise ValueError(f"the journal in {folder} names a file outside of its run: {digest!r}")
    return str(path)
