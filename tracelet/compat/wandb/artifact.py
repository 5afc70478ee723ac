"""Provide `Artifact`: named and versioned files of a run, with the methods of wandb's class.

After `artifacts.log`, an artifact has a version, which the journals of the local runs determine; see `versions`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracelet.compat.wandb import versions
from tracelet.compat.wandb.contents import restored
from tracelet.compat.wandb.draft import Draft, StrPath, checked_aliases, checked_tags
from tracelet.compat.wandb.errors import ArtifactNotLoggedError, CommError, UnsupportedError
from tracelet.compat.wandb.manifest import Manifest, ManifestEntry, entry_path, file_digests, files_below
from tracelet.compat.wandb.versions import Extras, Version
from tracelet.guard import logger
from tracelet.runs.folders import folder_of_run
from tracelet.settings import environment_of

if TYPE_CHECKING:
    from tracelet.compat.wandb.api_runs import Run
    from tracelet.compat.wandb.collections import ArtifactCollection

_TIMEOUT = 30.0


class Artifact(Draft):
    """Files with a name, a type and metadata. Log it with `run.log_artifact`, read it with `run.use_artifact`.

    Raises:
        ValueError: the name has other characters than letters, digits, "-", "_" and ".", or the type is reserved.
        TypeError: the metadata is not a dict of JSON values.
    """

    def __init__(
        self,
        name: str,
        type: str,
        description: str | None = None,
        metadata: Mapping[str, Any] | str | None = None,
        incremental: bool = False,
        use_as: str | None = None,
        storage_region: str | None = None,
        digest_algorithm: str = "MD5",
    ) -> None:
        super().__init__(name, type, description, metadata, incremental, use_as, storage_region, digest_algorithm)
        self._aliases: list[str] = []
        self._tags: list[str] = []
        self._base: Path | None = None
        self._project: str | None = None
        self._version: Version | None = None
        self._wait: Callable[[float], bool] = lambda deadline: True
        """Returns True if the journal has the record before a deadline."""
        self._log_again: Callable[[Artifact], None] | None = None

    def is_draft(self) -> bool:
        """Return True until the artifact is logged."""
        return self.state == "PENDING"

    @property
    def name(self) -> str:
        """The name, with the version once the artifact is logged."""
        version = self._logged_version()
        return self._name if version is None else f"{self._name}:{version.label}"

    source_name = name

    @property
    def state(self) -> str:
        return "PENDING" if self._logged_version() is None else "COMMITTED"

    @property
    def id(self) -> str | None:
        version = self._logged_version()
        return None if version is None else f"{version.info.run_id}/{self._name}:{version.label}"

    @property
    def is_link(self) -> bool:
        return False

    # Properties of a logged artifact.

    @property
    def version(self) -> str:
        return self._logged("version").label

    source_version = version

    @property
    def entity(self) -> str:
        self._logged("entity")
        return versions.NO_ENTITY

    @property
    def project(self) -> str:
        return versions.project_of(self._logged("project").info)

    source_entity, source_project = entity, project

    @property
    def qualified_name(self) -> str:
        return f"{self.entity}/{self.project}/{self.name}"

    source_qualified_name = qualified_name

    @property
    def collection_name(self) -> str:
        """The name without the version."""
        return self._name

    @property
    def created_at(self) -> str:
        return iso_time(self._logged("created_at").record.wall_time)

    @property
    def updated_at(self) -> str:
        return iso_time(self._logged("updated_at").updated)

    @property
    def file_count(self) -> int:
        self._logged("file_count")
        return len(self._manifest)

    @property
    def url(self) -> str:
        """The address of the run's folder, which holds the files."""
        return self._logged("url").folder.absolute().as_uri()

    @property
    def ttl(self) -> timedelta | None:
        """How long the program wants to keep the artifact. Nothing is deleted: see `tracelet gc`."""
        self._logged("ttl")
        return self._ttl

    @ttl.setter
    def ttl(self, ttl: timedelta | None) -> None:
        if ttl is not None and not (isinstance(ttl, timedelta) and ttl > timedelta(0)):
            raise ValueError(f"ttl must be a positive timedelta or None, got {ttl!r}")
        self._ttl = ttl

    @property
    def aliases(self) -> list[str]:
        self._logged("aliases")
        return self._aliases

    @aliases.setter
    def aliases(self, aliases: Collection[str]) -> None:
        self._logged("aliases")
        self._aliases = checked_aliases(aliases)

    @property
    def tags(self) -> list[str]:
        self._logged("tags")
        return self._tags

    @tags.setter
    def tags(self, tags: Collection[str]) -> None:
        self._logged("tags")
        self._tags = checked_tags(tags)

    # Methods of a logged artifact.

    def wait(self, timeout: float | None = None) -> Artifact:
        """Wait until the journal has the artifact.

        Raises:
            ArtifactNotLoggedError: it was not logged.
            CommError: the journal does not have it after `timeout` seconds (default: 30).
        """
        self._logged("wait", _TIMEOUT if timeout is None else timeout)
        return self

    def get_entry(self, name: StrPath) -> ManifestEntry:
        """Return a file by its path.

        Raises:
            KeyError: there is no such file.
        """
        self._logged("get_entry")
        path = entry_path(name)
        entry = self._manifest.entries.get(path)
        if entry is None:
            raise KeyError(f"artifact {self.name} has no file {path!r}")
        return entry

    get_path = get_entry

    def get(self, name: str) -> Any:
        """Return the table that was added as `name`; None if there is none.

        Raises:
            UnsupportedError: it is a media object. Its file is in `get_entry`.
        """
        self._logged("get")
        return restored(self._manifest, entry_path(name))

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def files(self, names: Collection[str] | None = None, per_page: int = 50, start: str | None = None) -> list[Any]:
        """Return the files, or those of the given names. Each has `name`, `size` and `download`."""
        from tracelet.compat.wandb.api_files import File  # an import cycle otherwise

        self._logged("files")
        entries = self._manifest.entries.values()
        return [File(entry) for entry in entries if names is None or entry.path in names]

    def file(self, root: StrPath | None = None) -> str:
        """Download the only file and return its path.

        Raises:
            ValueError: the artifact has several files, or none.
        """
        self._logged("file")
        if len(self._manifest) != 1:
            raise ValueError(f"artifact {self.name} has {len(self._manifest)} files; use download()")
        (entry,) = self._manifest.entries.values()
        return entry.download(root or self._default_root())

    def download(
        self,
        root: StrPath | None = None,
        allow_missing_references: bool = False,
        skip_cache: bool | None = None,
        path_prefix: StrPath | None = None,
        multipart: bool | None = None,
    ) -> str:
        """Copy the files below `root` (default: `artifacts/NAME:VERSION`) and return it.

        References to other machines are not followed; they are logged, and in `manifest.entries`.
        """
        self._logged("download")
        folder = Path(root) if root is not None else self._default_root()
        folder.mkdir(parents=True, exist_ok=True)
        for path, entry in self._manifest.entries.items():
            if path_prefix is not None and not path.startswith(str(path_prefix)):
                continue
            if entry.is_local:
                entry.download(folder)
            else:
                logger.warning("tracelet: artifact %s refers to %s, which is not downloaded", self.name, entry.ref)
        return str(folder)

    def checkout(self, root: StrPath | None = None) -> str:
        """Copy the files below `root`, and remove all other files there."""
        self._logged("checkout")
        folder = Path(root) if root is not None else self._default_root()
        if folder.is_dir():
            for relative, path in files_below(folder):
                if relative not in self._manifest.entries:
                    path.unlink()
        return self.download(folder)

    def verify(self, root: StrPath | None = None) -> None:
        """Check that a downloaded copy has the same files.

        Raises:
            ValueError: a file is missing, was added, or has another digest.
        """
        self._logged("verify")
        folder = Path(root) if root is not None else self._default_root()
        extra = [relative for relative, _ in files_below(folder) if relative not in self._manifest.entries]
        if extra:
            raise ValueError(f"{folder} has files that artifact {self.name} has not: {', '.join(extra)}")
        for path, entry in self._manifest.entries.items():
            if entry.ref is None and (not (folder / path).is_file() or file_digests(folder / path)[0] != entry.digest):
                raise ValueError(f"{folder / path} is missing, or differs from the file in artifact {self.name}")

    def new_draft(self) -> Artifact:
        """Return an artifact with the same files, which can be changed and logged as the next version."""
        self._logged("new_draft")
        draft = Artifact(self._name, self._type, self._description, self._metadata)
        draft._manifest = Manifest(self._manifest.entries)
        return draft

    def save(self, project: str | None = None, settings: Any = None) -> None:
        """Store changed aliases, tags, metadata and description of an artifact of a run that has not ended.

        Raises:
            UnsupportedError: its run has ended, or is that of another process, or an alias was removed.
        """
        if self._log_again is None:
            raise UnsupportedError(
                "save needs a run that this process logs: use run.log_artifact(artifact); a changed copy of an "
                "artifact of a past run is artifact.new_draft()"
            )
        removed = {*self._logged("save").aliases} - {*self._aliases, "latest"}
        if removed:
            raise UnsupportedError(f"an alias moves when another version gets it; cannot remove {sorted(removed)}")
        self._log_again(self)

    def logged_by(self) -> Run | None:
        """Return the run that logged the artifact first."""
        from tracelet.compat.wandb.api_runs import Run  # an import cycle otherwise

        return Run(folder_of_run(self._logged("logged_by").folder))

    def used_by(self) -> list[Run]:
        """Return the runs that called `use_artifact` with this version."""
        from tracelet.compat.wandb.run_list import runs_that_used  # an import cycle otherwise

        self._logged("used_by")
        return [] if self._base is None else runs_that_used(self._base, self.qualified_name)

    def link(self, target_path: str, aliases: Collection[str] | None = None) -> None:
        """Raise UnsupportedError: registries are on a server."""
        raise UnsupportedError(f"cannot link to {target_path!r}: there is no registry; give the version an alias")

    @property
    def linked_artifacts(self) -> list[Artifact]:
        return []

    @property
    def collection(self) -> ArtifactCollection:
        """All versions of this name."""
        from tracelet.compat.wandb.collections import collection_of  # an import cycle otherwise

        self._logged("collection")
        assert self._base is not None
        return collection_of(self._base, self.project, self._name)

    source_collection = collection

    def unlink(self) -> None:
        """Raise UnsupportedError: registries are on a server."""
        raise UnsupportedError("there is no registry, and no link to remove")

    def delete(self, delete_aliases: bool = False) -> None:
        """Raise UnsupportedError: artifacts are removed with their run."""
        raise UnsupportedError("an artifact is part of its run's journal; remove the run with: tracelet rm RUN")

    def __repr__(self) -> str:
        return f"<Artifact {self._name}>" if self._version is None else f"<Artifact {self.qualified_name}>"

    def _default_root(self) -> Path:
        variables = environment_of(("WANDB_ARTIFACT_DIR",))
        return Path(variables.get("WANDB_ARTIFACT_DIR") or "artifacts").absolute() / self.name

    def _extras(self) -> Extras:
        references = [
            {"name": entry.path, "uri": entry.ref, "digest": entry.digest, "size": entry.size}
            for entry in self._manifest.entries.values()
            if entry.ref is not None
        ]
        return Extras(aliases=self._aliases, description=self._description, references=references, tags=self._tags)

    def _logged(self, member: str, timeout: float = _TIMEOUT) -> Version:
        """Return the version, once the journal has it."""
        if self._version is None:
            if self._base is None:
                raise ArtifactNotLoggedError(f"Artifact.{member} needs a logged artifact; use run.log_artifact first")
            is_committed = self._wait(time.monotonic() + timeout)
            content = self._manifest.content()
            known = versions.collections(self._base, self._project).get((self._project or "", self._name), ())
            self._version = next((each for each in known if versions.record_content(each.record) == content), None)
            if self._version is None:
                reason = "is not in the journal" if is_committed else f"is not stored after {timeout:g} s"
                raise CommError(f"artifact {self._name} {reason}")
            self._aliases, self._tags = list(self._version.aliases), list(self._version.extras.tags)
        return self._version

    def _logged_version(self) -> Version | None:
        """Return the version, or None before the artifact is logged."""
        with contextlib.suppress(ArtifactNotLoggedError, CommError):
            return self._logged("version")
        return None


def iso_time(seconds: float) -> str:
    """Return a time in UTC, in the form of wandb's server."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def of_version(version: Version, base: Path) -> Artifact:
    """Return a version that the journals below `base` have."""
    artifact = Artifact("stored", "stored", version.extras.description, version.metadata)
    artifact._name, artifact._type, artifact._is_final = version.name, version.record.type, True
    artifact._manifest, artifact._version = version.manifest(), version
    artifact._base, artifact._project = base, versions.project_of(version.info)
    artifact._aliases, artifact._tags = list(version.aliases), list(version.extras.tags)
    return artifact
