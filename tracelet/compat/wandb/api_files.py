"""Provide the files of a run or an artifact, with the methods of wandb's `File`."""

from __future__ import annotations

import os
from typing import TextIO

from tracelet.compat.wandb.errors import UnsupportedError
from tracelet.compat.wandb.manifest import ManifestEntry, path_below


class File:
    """A file in the folder of a run."""

    def __init__(self, entry: ManifestEntry, updated_at: str | None = None) -> None:
        self._entry, self.updated_at = entry, updated_at

    @property
    def name(self) -> str:
        return self._entry.path

    @property
    def size(self) -> int:
        return self._entry.size or 0

    @property
    def md5(self) -> str:
        """The MD5 in base64."""
        return self._entry.digest

    @property
    def path_uri(self) -> str:
        """The address of the file or, of a reference, the one that it holds."""
        return self._entry.ref or f"file://{self._entry.local_path}"

    url = direct_url = path_uri

    def download(
        self,
        root: str | os.PathLike[str] = ".",
        replace: bool = False,
        exist_ok: bool = False,
        api: object = None,
    ) -> TextIO:
        """Copy the file below `root` and return it, open for reading as text.

        Raises:
            ValueError: it exists, and neither `replace` nor `exist_ok` is set.
        """
        target = path_below(root, self.name)
        if target.exists() and not replace:
            if not exist_ok:
                raise ValueError(f"{target} exists; pass replace=True or exist_ok=True")
            return open(target, encoding="utf-8")
        return open(self._entry.download(root), encoding="utf-8")

    def delete(self) -> None:
        """Raise UnsupportedError: files are removed with their run."""
        raise UnsupportedError("a file is part of its run's journal; remove the run with: tracelet rm RUN")

    def __repr__(self) -> str:
        return f"<File {self.name} ({self.size} bytes)>"
