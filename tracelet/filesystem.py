"""What kind of file system a folder lies on."""

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
    """Whether `folder` lies on a network file system (Linux's mount table; elsewhere assumed local)."""
    return file_system(folder, mounts) in _NETWORK


def file_system(folder: Path, mounts: str = _TABLE) -> str:
    """The kind of file system that `folder` lies on, as Linux's mount table calls it; "" elsewhere."""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as table:
            entries = [line.split() for line in table]
    except OSError:
        return ""
    place = os.path.realpath(folder)
    best, kind = "", ""
    for entry in entries:
        if len(entry) < 3:
            continue
        point = entry[1].replace("\\040", " ")
        if os.path.commonpath([place, point]) == point and len(point) >= len(best):
            best, kind = point, entry[2]
    return kind
