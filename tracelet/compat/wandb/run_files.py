"""Define the methods of a run that are about files and artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tracelet.compat.wandb import artifacts
from tracelet.compat.wandb.errors import UnsupportedError
from tracelet.compat.wandb.files import ProgramFiles
from tracelet.compat.wandb.state import while_open
from tracelet.experiment import Experiment
from tracelet.runs.folders import runs_of

P = ParamSpec("P")
T = TypeVar("T")


class RunFiles:
    """Save files and log artifacts. `Run` adds what else a run is."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._files = ProgramFiles(experiment)
        self._used: list[artifacts.Artifact] = []
        self._logged: list[artifacts.Artifact] = []

    @property
    def id(self) -> str:
        raise NotImplementedError

    @property
    def project(self) -> str:
        raise NotImplementedError

    @property
    def sync_dir(self) -> str:
        """The run's folder."""
        return str(self._experiment.folder)

    @property
    def dir(self) -> str:
        """A folder for files of the program. They are logged when the run ends."""
        return str(self._files.folder)

    @while_open
    def save(
        self,
        glob_str: str | Path | None = None,
        base_path: str | Path | None = None,
        policy: str = "live",
        glob: bool = True,
    ) -> list[str] | bool:
        """Log files now. With the policies `live` and `end`, log them again at the end if they changed.

        Without `glob`, `glob_str` is the path of one file.
        """
        return self._files.save(glob_str, base_path, policy, glob)

    def restore(self, name: str, run_path: str | None = None, replace: bool = False, root: str | None = None) -> Any:
        """Return a saved file of this run, or of another local run, open for reading."""
        own = f"{self.project}/{self.id}"
        return artifacts.restore(name, run_path or own, replace, root or self.dir, base=self._base)

    @while_open
    def log_artifact(
        self,
        artifact_or_path: Any,
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
    ) -> artifacts.Artifact:
        """Log an Artifact, or the files of a path as one. Without aliases, it is `latest`."""
        artifact = artifacts.prepared(artifact_or_path, name, type, default=f"run-{self.id}-")
        artifacts.log(artifact, self._experiment, aliases, tags)
        self._logged.append(artifact)
        return artifact

    def upsert_artifact(
        self,
        artifact_or_path: Any,
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | None = None,
        distributed_id: str | None = None,
    ) -> artifacts.Artifact:
        """Log an artifact, as one of several processes: each logs a version of its own."""
        return self.log_artifact(artifact_or_path, name, type, aliases)

    finish_artifact = upsert_artifact

    @while_open
    def use_artifact(
        self, artifact_or_name: Any, type: str | None = None, aliases: Any = None, use_as: str | None = None
    ) -> artifacts.Artifact:
        """Return an artifact that this run, or another local run, has logged: `name:latest`, `name:v0`."""
        found = artifacts.use(artifact_or_name, type, self._base, self._experiment.project, self._experiment)
        self._used.append(found)
        return found

    def log_model(self, path: str | Path, name: str | None = None, aliases: Sequence[str] | None = None) -> None:
        self.log_artifact(path, name, "model", aliases)

    def use_model(self, name: str) -> str:
        """Download a model. Return the path of its file, or of its folder."""
        folder = Path(self.use_artifact(name).download())
        files = [path for path in folder.rglob("*") if path.is_file()]
        return str(files[0] if len(files) == 1 else folder)

    def link_artifact(self, artifact: Any, target_path: str, aliases: Any = None) -> Any:
        raise UnsupportedError("link_artifact: there is no registry. Use log_artifact with aliases, and use_artifact")

    def link_model(self, path: Any, registered_model_name: str, name: str | None = None, aliases: Any = None) -> Any:
        raise UnsupportedError("link_model: there is no registry. Use log_model with aliases, and use_model")

    @while_open
    def log_code(
        self,
        root: str | None = ".",
        name: str | None = None,
        include_fn: Any = None,
        exclude_fn: Any = None,
    ) -> artifacts.Artifact | None:
        """Log the Python files below `root` as an artifact of type `code`."""
        found = artifacts.of_code(root or ".", name or f"source-{self.project}", include_fn, exclude_fn)
        return None if found is None else self.log_artifact(found)

    def logged_artifacts(self) -> list[artifacts.Artifact]:
        return list(self._logged)

    def used_artifacts(self) -> list[artifacts.Artifact]:
        return list(self._used)

    @property
    def _base(self) -> Path:
        """The folder of the local runs."""
        return runs_of(self._experiment.folder)
