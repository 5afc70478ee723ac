"""Create private folders, open files that somebody else may have placed, and find the file system type of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_TABLE = "/proc/self/mounts"
_NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb2",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "gpfs",
    "beegfs",
}
_NETWORK |= {"pvfs2", "orangefs", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.juicefs", "fuse.glusterfs"}


def no_follow(path: str, flags: int) -> int:
    """Open a file, but no link: the `opener` of `open`."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def create(path: Path, mode: str = "wb", **options: Any) -> IO[Any]:
    """Open a new file. A file or link that somebody else placed there is removed and never followed."""
    path.unlink(missing_ok=True)
    return open(path, mode.replace("w", "x"), **options)


@contextmanager
def replacing(path: Path, mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """Yield a new file that replaces `path` in one step at the end of the block. An error leaves `path` unchanged."""
    draft = path.with_name(f".{path.name[:100]}.{os.getpid()}")
    try:
        with create(draft, mode, **options) as file:
            yield file
        os.replace(draft, path)
    finally:
        with suppress(OSError):
            draft.unlink()


def make_private(folder: Path, *, parents: bool = True) -> None:
    """Create a folder and its missing parents for this user alone, whatever the umask. Do nothing if it exists."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        if not parents:
            raise
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def on_network(folder: Path, mounts: str = _TABLE) -> bool:
    """Return True if `folder` is on a network file system. Systems other than Linux always return False."""
    return file_system(folder, mounts) in _NETWORK


def file_system(folder: Path, mounts: str = _TABLE) -> str:
    """Return the file system type from Linux's mount table, or "" on other systems."""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as table:
            entries = [line.split() for line in table]
    except OSError:
        return ""
    path = os.path.realpath(folder)
    best, kind = "", ""
    for entry in entries:
        if len(entry) < 3:
            continue
        point = entry[1].replace("\\040", " ")
        if os.path.commonpath([path, point]) == point and len(point) >= len(best):
            best, kind = point, entry[2]
    return kind
