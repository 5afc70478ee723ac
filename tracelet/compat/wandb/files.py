"""Log files that the program saves: those of `save`, and those that it writes to `run.dir`."""

from __future__ import annotations

import glob
import os
import tempfile
from functools import cached_property
from pathlib import Path

from tracelet.experiment import Experiment
from tracelet.filesystem import make_private
from tracelet.guard import logger, shown

_POLICIES = ("live", "end", "now")
_FOLDER = "program-files"


class ProgramFiles:
    """The files of one run. A file is an artifact of the path below its base."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._saved: dict[Path, tuple[str, tuple[int, int] | None]] = {}

    @cached_property
    def folder(self) -> Path:
        """The folder `run.dir`, which exists."""
        if not self._experiment:
            return Path(tempfile.mkdtemp(prefix="tracelet-"))
        folder = self._experiment.folder / _FOLDER
        make_private(folder)
        return folder

    def save(
        self, pattern: str | Path | None, base_path: str | Path | None, policy: str, is_pattern: bool = True
    ) -> list[str]:
        """Log the files that match, and return their paths in `run.dir`.

        Raises:
            ValueError: the policy is unknown, or the files are not below `base_path`.
        """
        if policy not in _POLICIES:
            raise ValueError(f"save: policy must be one of {', '.join(_POLICIES)}, got {shown(policy)}")
        if pattern is None:
            return []
        text = os.fspath(pattern)
        if text.startswith(("gs://", "s3://")):
            logger.warning("tracelet: wandb: save: %s is not a local file", text)
            return []
        path = Path(os.path.abspath(text))
        if base_path is not None:
            base = Path(os.path.abspath(base_path))
        else:
            base = path.parent.parent if os.path.isabs(text) else Path.cwd()
        if not path.is_relative_to(base):
            raise ValueError(f"save: {text!r} must be below the base_path {str(base)!r}")
        targets = []
        for found in sorted(glob.glob(str(path))) if is_pattern else [str(path)]:
            if os.path.isfile(found):
                name = Path(found).relative_to(base).as_posix()
                self._log(Path(found), name, again=policy != "now")
                targets.append(str(self.folder / name))
        return targets

    def save_changed(self) -> None:
        """Log the files that changed since they were saved, and the new ones in `run.dir`."""
        for path, (name, state) in list(self._saved.items()):
            if path.is_file() and _state(path) != state:
                self._log(path, name, again=True)
        if "folder" in self.__dict__:
            for path in sorted(self.folder.rglob("*")):
                if path.is_file() and path not in self._saved:
                    self._log(path, path.relative_to(self.folder).as_posix(), again=True)

    def _log(self, path: Path, name: str, *, again: bool) -> None:
        if again:
            self._saved[path] = (name, _state(path))
        folder, _, _ = name.rpartition("/")
        self._experiment.log_artifact(path, f"{folder}/" if folder else None)


def _state(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
