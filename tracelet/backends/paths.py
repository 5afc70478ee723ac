"""Give files paths that a store can hold together: none is a file and a folder at once."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable

# Common file systems allow names of 255 bytes; a digest and a "~12" must still fit.
_MAX_NAME_BYTES = 200
_MAX_PATH_BYTES = 800
_UNSAFE = re.compile(r"[^\w.\-+=@ ]")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")


class Paths:
    """Assign paths to names. The same names in the same order get the same paths.

    A path gets a digest where an earlier name has a file in place of its folder, or a folder in its own place. `folded`
    returns the same text for two paths that a file system may take for one.
    """

    def __init__(self, folded: Callable[[str], str] = str) -> None:
        self._folded = folded
        self._assigned: dict[str, str] = {}
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def assign(self, name: str, safe_path: str) -> str:
        """Return the path of `name`: `safe_path`, or a similar one if that is taken."""
        if name not in self._assigned:
            self._assigned[name] = self._unassigned(name, safe_path)
        return self._assigned[name]

    def _unassigned(self, name: str, safe_path: str) -> str:
        *folders, leaf = safe_path.split("/")
        path = ""
        for part in folders:
            if self._folded(path + part) in self._files:
                part = hashed(part, f"{part}/")
            path += part
            self._folders.add(self._folded(path))
            path += "/"
        if self._folded(path + leaf) in self._files | self._folders:
            leaf = hashed(leaf, name)
        self._files.add(self._folded(path + leaf))
        return path + leaf


def shortened(path: str) -> str:
    """Return a path that is not too long for common file systems, nor any part of it."""
    if len(path.encode("utf-8", "surrogatepass")) > _MAX_PATH_BYTES:
        return hashed(path, path)
    return "/".join(part if is_short(part) else hashed(part, part) for part in path.split("/"))


def is_short(part: str) -> bool:
    return len(part.encode("utf-8", "surrogatepass")) <= _MAX_NAME_BYTES


def hashed(part: str, identity: str) -> str:
    """Return a safe name for one part of a path, with eight digits of the digest of `identity`."""
    stem, suffix = os.path.splitext(part)
    if not _SUFFIX.fullmatch(suffix):
        stem, suffix = part, ""
    clean = _UNSAFE.sub("_", stem)[:48].strip(" .") or "_"
    return f"{clean}-{hashlib.sha256(identity.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}{suffix}"
