"""Convert any text to a path inside a folder, and store files without replacing others."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections import Counter
from pathlib import Path

from tracelet.backends.paths import Paths, hashed, is_short
from tracelet.errors import RecordRejected
from tracelet.filesystem import make_private

_FORBIDDEN = re.compile(r'[<>:"|?*\\/\x00-\x1f\x7f\ud800-\udfff]')
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")
# Names that this backend creates itself: for an earlier version of a file, and for a medium.
_OURS = re.compile(r".*~\d+(\.[^.]*)?$|\d{6,}_step")
_LONGEST_PATH, _DEEPEST = 800, 16


def safe_path(name: str) -> str:
    """Return a relative path for any text: the text if it is safe, else a safe one with eight digits of its digest."""
    parts = name.split("/")
    if len(parts) > _DEEPEST or len(name) * 4 > _LONGEST_PATH:
        return hashed(name, name)
    return "/".join(part if _is_plain(part) else hashed(part, part) for part in parts)


class FileNames:
    """Assign paths in one folder to names, as `Paths`, also where a file system takes "A" and "a" for one name."""

    def __init__(self, folder: Path, suffix: str = "") -> None:
        self.folder = folder
        self._suffix = suffix
        self._paths = Paths(_folded)
        self._counts: Counter[str] = Counter()

    def claim(self, name: str) -> tuple[str, int]:
        """Return the path for a file called `name`, and the number of earlier files of that name."""
        path = self._paths.assign(name, safe_path(name) + self._suffix)
        self._counts[name] += 1
        return path, self._counts[name] - 1

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


def copy(source: str, target: Path) -> None:
    """Copy a file from the spool. Never link it: a user may edit the copy, and the spool must not change.

    Raises:
        RecordRejected: the file is missing from the spool.
    """
    if not os.path.isfile(source):
        raise RecordRejected(f"the file {source!r} is missing")
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
        or not is_short(part)
    )


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
