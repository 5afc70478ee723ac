"""Convert any text to a path inside a folder, and store files without replacing others."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import unicodedata
from pathlib import Path

from tracelet.errors import RecordRejected
from tracelet.filesystem import make_private

_FORBIDDEN = re.compile(r'[<>:"|?*\\/\x00-\x1f\x7f\ud800-\udfff]')
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")
# Names that this backend creates itself: for an earlier version of a file, and for a medium.
_OURS = re.compile(r".*~\d+(\.[^.]*)?$|\d{6,}_step")
_UNSAFE = re.compile(r"[^\w.\-+=@ ]")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")
# Common file systems allow names of 255 bytes; a digest and a "~12" must still fit.
_LONGEST_NAME, _LONGEST_PATH, _DEEPEST = 200, 800, 16


def safe_path(name: str) -> str:
    """Return a relative path for any text: the text if it is safe, else a safe one with eight digits of its digest."""
    parts = name.split("/")
    if len(parts) > _DEEPEST or len(name) * 4 > _LONGEST_PATH:
        return _hashed(name, name)
    return "/".join(part if _is_plain(part) else _hashed(part, part) for part in parts)


class FileNames:
    """Assign paths in one folder to names. The same names in the same order get the same paths.

    The second name gets a digest if a file system cannot store both: "A" and "a", or a file and a folder of one name.
    """

    def __init__(self, folder: Path, suffix: str = "") -> None:
        self.folder = folder
        self._suffix = suffix
        self._claimed: dict[str, tuple[str, int]] = {}
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def claim(self, name: str) -> tuple[str, int]:
        """Return the path for a file called `name`, and the number of earlier files of that name."""
        path, earlier = self._claimed.get(name, ("", 0))
        if not path:
            path = self._unclaimed(name)
        self._claimed[name] = (path, earlier + 1)
        return path, earlier

    def put(self, name: str, source: Path) -> str:
        """Move `source` to the path of `name`. An earlier file is renamed to `stem~1.suffix`, `stem~2.suffix`, ..."""
        path, earlier = self.claim(name)
        target = self.folder / path
        make_private(target.parent)
        if earlier:
            renamed = target.with_name(f"{target.stem}~{earlier}{target.suffix}")
            # It exists if a killed process came this far. Then `target` is the file of that process.
            if target.exists() and not renamed.exists():
                os.replace(target, renamed)
        os.replace(source, target)
        return path

    def _unclaimed(self, name: str) -> str:
        *folders, leaf = safe_path(name).split("/")
        path = ""
        for part in folders:
            if _folded(path + part) in self._files:
                part = _hashed(part, f"{part}/")
            path += part
            self._folders.add(_folded(path))
            path += "/"
        leaf += self._suffix
        if _folded(path + leaf) in self._files | self._folders:
            leaf = _hashed(leaf, name)
        self._files.add(_folded(path + leaf))
        return path + leaf


def copy(source: str, target: Path) -> None:
    """Copy a file from the spool. Never link it: a user may edit the copy, and the spool must not change.

    Raises:
        RecordRejected: the file is missing from the spool.
    """
    if not os.path.isfile(source):
        raise RecordRejected(f"csv: the file {source!r} is missing", whole=True)
    target.unlink(missing_ok=True)  # never write through a link
    shutil.copyfile(source, target)


def _is_plain(part: str) -> bool:
    return not (
        part in ("", ".", "..")
        or part != part.strip(" ")
        or part.endswith(".")
        or _FORBIDDEN.search(part)
        or _DEVICE.match(part)
        or _OURS.match(part)
        or len(part.encode("utf-8", "surrogatepass")) > _LONGEST_NAME
    )


def _hashed(part: str, identity: str) -> str:
    stem, suffix = os.path.splitext(part)
    if not _SUFFIX.fullmatch(suffix):
        stem, suffix = part, ""
    clean = _UNSAFE.sub("_", stem)[:48].strip(" .") or "_"
    return f"{clean}-{hashlib.sha256(identity.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}{suffix}"


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
