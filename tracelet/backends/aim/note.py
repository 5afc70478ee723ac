"""In the run's folder: which run of Aim's holds it, in each repository it was sent to."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

_NOTE = "aim.json"


class Note:
    """Of one repository."""

    def __init__(self, folder: Path, repo: str) -> None:
        self._path, self._repo = folder / _NOTE, repo
        told = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else {}
        self.journal: str = told.get("journal") or uuid.uuid4().hex
        self._runs: dict[str, str] = told.get("runs", {})

    @property
    def hash(self) -> str | None:
        return self._runs.get(self._repo)

    def write(self, hash: str) -> None:
        if self.hash == hash:
            return
        self._runs[self._repo] = hash
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps({"journal": self.journal, "runs": self._runs}), encoding="utf-8")
        os.replace(draft, self._path)
