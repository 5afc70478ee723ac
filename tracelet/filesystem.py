"""Find the file system type of a folder."""

from __future__ import annotations

import os
from pathlib import Path

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
