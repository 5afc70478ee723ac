"""List the versions of artifacts by name and by type."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracelet.compat.wandb.artifact import Artifact, of_version
from tracelet.compat.wandb.errors import CommError
from tracelet.compat.wandb.versions import NO_ENTITY, Version, collections


class ArtifactCollection:
    """All versions of an artifact."""

    def __init__(self, base: Path, project: str, name: str, known: Sequence[Version]) -> None:
        self.project, self.name, self.type = project, name, known[-1].record.type
        self.entity = NO_ENTITY
        self._base, self._known = base, known

    @property
    def aliases(self) -> list[str]:
        return [alias for version in self._known for alias in version.aliases]

    def artifacts(self, per_page: int = 50) -> list[Artifact]:
        """Return the versions, the last one first."""
        return [of_version(version, self._base) for version in reversed(self._known)]

    versions = artifacts

    def __repr__(self) -> str:
        return f"<ArtifactCollection {self.name} ({self.type})>"


class ArtifactType:
    """All artifacts of one type in a project."""

    def __init__(self, name: str, collections: Sequence[ArtifactCollection]) -> None:
        self.name = self.type = name
        self._collections = list(collections)

    def collections(self, *args: Any, **kwargs: Any) -> list[ArtifactCollection]:
        return list(self._collections)

    def collection(self, name: str) -> ArtifactCollection:
        """Return the collection of a name.

        Raises:
            CommError: there is none.
        """
        for collection in self._collections:
            if collection.name == name:
                return collection
        raise CommError(f"no artifact {name!r} of type {self.name!r}")

    def __repr__(self) -> str:
        return f"<ArtifactType {self.name}>"


def collection_of(base: Path, project: str, name: str) -> ArtifactCollection:
    """Return all versions of an artifact that was logged."""
    return ArtifactCollection(base, project, name, collections(base, project)[project, name])
