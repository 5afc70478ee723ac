"""Collect the files of an artifact before it is logged.

Files are copied when they are added, since a program may change them before it logs the artifact.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

from tracelet.compat.wandb.errors import ArtifactFinalizedError, UnsupportedError
from tracelet.compat.wandb.manifest import Manifest, ManifestEntry, Staging, entry_path, files_below, local_entry
from tracelet.compat.wandb.references import reference_entries

Policy: TypeAlias = Literal["mutable", "immutable"]
StrPath: TypeAlias = "str | Path"

_NAME = re.compile(r"[A-Za-z0-9_\-.]+")
_MAX_NAME = 128
_TAG = re.compile(r"[A-Za-z0-9_\-]+( +[A-Za-z0-9_\-]+)*")


class Draft:
    """Files with a name, a type and metadata.

    Raises:
        ValueError: the name has other characters than letters, digits, "-", "_" and ".", or the type is reserved.
        TypeError: the metadata is not a dict of JSON values.
    """

    digest_algorithm = "MD5"

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
        if digest_algorithm != self.digest_algorithm:
            raise UnsupportedError(f"the digest of an artifact is MD5, got digest_algorithm={digest_algorithm!r}")
        self._name, self._type = checked_name(name), _checked_type(type)
        self._description, self._metadata = description, _checked_metadata(metadata)
        self._incremental, self._use_as = incremental, use_as
        self._manifest = Manifest()
        self._staging: Staging | None = None
        self._is_final = False
        self._ttl: timedelta | None = None

    def add_file(
        self,
        local_path: StrPath,
        name: str | None = None,
        is_tmp: bool | None = False,
        skip_cache: bool | None = False,
        policy: Policy | None = "mutable",
        overwrite: bool = False,
    ) -> ManifestEntry:
        """Add a copy of a file. With `policy="immutable"`, read the file itself when the artifact is logged.

        Raises:
            ValueError: it is no file, or the artifact has other content under this name.
            ArtifactFinalizedError: the artifact is logged already.
        """
        self._check_draft("add_file")
        source = Path(local_path)
        if not source.is_file():
            raise ValueError(f"add_file: local_path must be a file, got {str(local_path)!r}")
        return self._add_local(source, entry_path(name or source.name), policy, overwrite=overwrite)

    def add_dir(
        self,
        local_path: StrPath,
        name: str | None = None,
        skip_cache: bool | None = False,
        policy: Policy | None = "mutable",
        merge: bool = False,
    ) -> None:
        """Add copies of all files in a folder, at the top or in the folder `name`. With `merge`, replace known files.

        Raises:
            ValueError: it is no folder, or a file of it has other content than the one in the artifact.
            ArtifactFinalizedError: the artifact is logged already.
        """
        self._check_draft("add_dir")
        folder = Path(local_path)
        if not folder.is_dir():
            raise ValueError(f"add_dir: local_path must be a folder, got {str(local_path)!r}")
        for relative, path in files_below(folder):
            self._add_local(path, entry_path(f"{name or '.'}/{relative}"), policy, overwrite=merge)

    @contextlib.contextmanager
    def new_file(
        self, name: str, mode: str = "x", encoding: str | None = None, policy: Policy = "mutable"
    ) -> Iterator[IO[Any]]:
        """Open a new file of the artifact for writing, and add it when the block ends without an error.

        Raises:
            ValueError: the artifact has a file of this name, and `mode` is not "w".
            ArtifactFinalizedError: the artifact is logged already.
        """
        self._check_draft("new_file")
        path = entry_path(name)
        if path in self._manifest.entries and "w" not in mode:
            raise ValueError(f"new_file: the artifact already has a file {path!r}; pass mode='w' to replace it")
        target = self._staged().new_path(path)
        with open(target, mode, encoding=encoding) as file:
            yield file
        self._manifest.entries[path] = local_entry(path, target)

    def add(self, obj: Any, name: StrPath, overwrite: bool = False) -> ManifestEntry:
        """Add a table or a media object. `get(name)` returns a table again.

        Raises:
            TypeError: the object is of another type.
            ValueError: the artifact has other content under this name.
            ArtifactFinalizedError: the artifact is logged already.
        """
        self._check_draft("add")
        files = getattr(obj, "files", None)
        if isinstance(obj, Draft) or not callable(files):
            raise TypeError(f"add: obj must be a Table or a media object, got {type(obj).__name__}")
        first: ManifestEntry | None = None
        for file_name, data in files(entry_path(name)).items():
            path = entry_path(file_name)
            target = self._staged().new_path(path)
            target.write_bytes(data)
            entry = self._put(local_entry(path, target), overwrite=overwrite)
            first = first or entry
        if first is None:
            raise TypeError(f"add: this {type(obj).__name__} has no files")
        return first

    def add_reference(
        self,
        uri: str | ManifestEntry,
        name: StrPath | None = None,
        checksum: bool = True,
        max_objects: int | None = None,
    ) -> Sequence[ManifestEntry]:
        """Add the address of files elsewhere. Local files (`file://`) get a checksum; nothing else is read.

        Raises:
            ValueError: `uri` has no scheme, or its scheme needs a `name`, or there are more than `max_objects` files.
            ArtifactFinalizedError: the artifact is logged already.
        """
        self._check_draft("add_reference")
        address = uri.ref or Path(str(uri.local_path)).as_uri() if isinstance(uri, ManifestEntry) else str(uri)
        path = None if name is None else entry_path(name)
        return [self._put(entry) for entry in reference_entries(address, path, checksum, max_objects)]

    def remove(self, item: StrPath | ManifestEntry) -> None:
        """Remove a file, or all files of a folder.

        Raises:
            FileNotFoundError: there is no such file.
            ArtifactFinalizedError: the artifact is logged already.
        """
        self._check_draft("remove")
        path = item.path if isinstance(item, ManifestEntry) else entry_path(item)
        found = [known for known in self._manifest.entries if known == path or known.startswith(f"{path}/")]
        if not found:
            raise FileNotFoundError(f"the artifact has no file {path!r}")
        for known in found:
            del self._manifest.entries[known]

    def finalize(self) -> None:
        """Forbid further changes of the files."""
        self._is_final = True

    @property
    def type(self) -> str:
        return self._type

    @property
    def description(self) -> str | None:
        return self._description

    @description.setter
    def description(self, description: str | None) -> None:
        self._description = description

    @property
    def metadata(self) -> dict[str, Any]:
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: Mapping[str, Any] | None) -> None:
        self._metadata = _checked_metadata(metadata)

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    @property
    def digest(self) -> str:
        """The digest of all files, equal to the one that wandb computes."""
        return self._manifest.digest()

    @property
    def size(self) -> int:
        """The bytes of all files, with those of references that are known."""
        return sum(entry.size or 0 for entry in self._manifest.entries.values())

    @property
    def incremental(self) -> bool:
        return self._incremental

    @property
    def use_as(self) -> str | None:
        return self._use_as

    def _check_draft(self, method: str) -> None:
        if self._is_final:
            raise ArtifactFinalizedError(f"{method}: artifact {self._name} is logged; change a copy: new_draft()")

    def _staged(self) -> Staging:
        if self._staging is None:
            self._staging = Staging()
        return self._staging

    def _add_local(self, source: Path, path: str, policy: str | None, *, overwrite: bool) -> ManifestEntry:
        if policy not in (None, "mutable", "immutable"):
            raise ValueError(f"policy must be 'mutable' or 'immutable', got {policy!r}")
        is_copied = policy != "immutable"
        entry = self._staged().copy(source, path) if is_copied else local_entry(path, source.absolute())
        return self._put(entry, overwrite=overwrite)

    def _put(self, entry: ManifestEntry, *, overwrite: bool = False) -> ManifestEntry:
        known = self._manifest.entries.get(entry.path)
        if known is not None and not overwrite and known.digest != entry.digest:
            raise ValueError(f"the artifact already has other content as {entry.path!r}")
        self._manifest.entries[entry.path] = entry
        return entry


def checked_name(name: str) -> str:
    """Return the name of an artifact.

    Raises:
        ValueError: it is too long, or has other characters than letters, digits, "-", "_" and ".".
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of an artifact must be a str, got {type(name).__name__}")
    if len(name) > _MAX_NAME:
        raise ValueError(f"the name of an artifact must have at most {_MAX_NAME} characters, got {len(name)}")
    if not _NAME.fullmatch(name):
        raise ValueError(f"the name of an artifact must be letters, digits, '-', '_' and '.', got {name!r}")
    return name


def checked_aliases(aliases: Collection[str] | str | None) -> list[str]:
    """Return the aliases as a list.

    Raises:
        ValueError: an alias has a "/" or a ":".
    """
    listed = [aliases] if isinstance(aliases, str) else list(aliases or ())
    wrong = next((alias for alias in listed if "/" in alias or ":" in alias), None)
    if wrong is not None:
        raise ValueError(f"an alias must not contain '/' or ':', got {wrong!r}")
    return list(dict.fromkeys(listed))


def checked_tags(tags: Collection[str] | str | None) -> list[str]:
    """Return the tags as a list.

    Raises:
        ValueError: a tag has other characters than letters, digits, "-", "_" and spaces between them.
    """
    listed = [tags] if isinstance(tags, str) else list(tags or ())
    wrong = next((tag for tag in listed if not _TAG.fullmatch(tag)), None)
    if wrong is not None:
        raise ValueError(f"a tag must be letters, digits, '-', '_' and spaces between them, got {wrong!r}")
    return list(dict.fromkeys(listed))


def _checked_type(type: str) -> str:
    if not isinstance(type, str):
        raise TypeError(f"the type of an artifact must be a str, got {type!r}")
    if type == "job" or type.startswith("wandb-"):
        raise ValueError(f"the type {type!r} is reserved; use another type")
    return type


def _checked_metadata(metadata: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """Return the metadata as JSON values: a later change of the program's dict changes nothing."""
    if isinstance(metadata, str):
        metadata = json.loads(metadata)
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a dict, got {type(metadata).__name__}")
    plain: dict[str, Any] = json.loads(json.dumps(dict(metadata), default=_plain))
    return plain


def _plain(value: Any) -> Any:
    """Return the numbers of an array or a tensor, and the items of a set."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, Mapping):
        return dict(value)
    convert = getattr(value, "tolist", None)
    if not callable(convert):
        raise TypeError(f"metadata must be JSON values, got {type(value).__name__}")
    return convert()
