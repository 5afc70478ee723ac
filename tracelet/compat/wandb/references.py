"""Turn addresses of files elsewhere into the entries of an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from tracelet.compat.wandb.manifest import ManifestEntry, entry_path, file_digests, files_below, path_of_uri

_MAX_OBJECTS = 10_000_000
_WEB, _BUCKETS = ("http", "https"), ("s3", "gs")
"""Schemes whose references have a name without being given one: the last part of the path, or all of it."""


def reference_entries(uri: str, name: str | None, checksum: bool, max_objects: int | None) -> Iterator[ManifestEntry]:
    """Yield the entries of a reference: one, or one for each file of a local folder.

    The digest is the MD5 of a local file if `checksum` is true, and otherwise the address.

    Raises:
        ValueError: `uri` has no scheme, or its scheme needs a `name`, or there are more than `max_objects` files.
    """
    parts = urlsplit(uri)
    if not parts.scheme:
        raise ValueError(f"a reference must be a URI, got {uri!r}; for a local file use file://")
    if parts.scheme == "file":
        yield from _local(path_of_uri(uri), uri, name, checksum, max_objects)
        return
    if name is None:
        if parts.scheme not in (*_WEB, *_BUCKETS):
            raise ValueError(f"add_reference needs a name for {uri!r}")
        path = unquote(parts.path).strip("/")
        name = entry_path((PurePosixPath(path).name if parts.scheme in _WEB else path) or parts.netloc)
    yield ManifestEntry(name, ref=uri, digest=uri)


def _local(path: Path, uri: str, name: str | None, checksum: bool, max_objects: int | None) -> Iterator[ManifestEntry]:
    if path.is_dir():
        files = [(f"{name}/{relative}" if name else relative, file) for relative, file in files_below(path)]
    elif path.is_file():
        files = [(name or path.name, path)]
    else:
        raise ValueError(f"add_reference: no file or folder {str(path)!r}")
    limit = _MAX_OBJECTS if max_objects is None else max_objects
    if len(files) > limit:
        raise ValueError(f"{uri!r} has {len(files)} files, more than max_objects={limit}")
    for relative, file in files:
        address = file.absolute().as_uri()
        digest = file_digests(file)[0] if checksum else address
        yield ManifestEntry(relative, ref=address, digest=digest, size=file.stat().st_size)
