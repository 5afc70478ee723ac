"""Provide `Api`: past and live runs of this machine, read from the folder of runs instead of a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tracelet.compat.wandb import versions
from tracelet.compat.wandb.api_runs import Run, User, user_name
from tracelet.compat.wandb.artifact import Artifact
from tracelet.compat.wandb.artifacts import find
from tracelet.compat.wandb.collections import ArtifactCollection, ArtifactType
from tracelet.compat.wandb.errors import CommError
from tracelet.compat.wandb.run_list import Runs, every_run, find_run
from tracelet.compat.wandb.unsupported import unsupported
from tracelet.settings import load

_QUEUES = "there are no queues; start the program with `tracelet run` or a scheduler"
_TEAMS = "there are no users and teams; the folder of runs belongs to the user of this machine"
_SWEEPS = "there is no sweep server; start a run for each trial, in one group, and compare: tracelet compare"
_AUTOMATIONS = "there is no server that could react to events; call alert in the program"
_REGISTRIES = "there are no registries; give versions aliases with log_artifact(artifact, aliases=[...])"
_UNSUPPORTED = {
    "sweep": _SWEEPS,
    "sweeps": _SWEEPS,
    "reports": "there are no reports; compare runs with: tracelet compare",
    "create_run": "use init, which begins a run",
    "create_project": "a project exists when it has a run; use init(project=...)",
    "create_custom_chart": "there are no charts on a server; log an image or a table",
    "sync_tensorboard": "import event files with: tracelet import FOLDER",
    "from_path": "use run, runs or artifact",
    **dict.fromkeys(("user", "users", "team", "organization", "create_team", "create_user"), _TEAMS),
    **dict.fromkeys(("job", "list_jobs", "queued_run", "run_queue", "create_run_queue", "upsert_run_queue"), _QUEUES),
    **dict.fromkeys(
        ("automation", "automations", "create_automation", "update_automation", "delete_automation"), _AUTOMATIONS
    ),
    **dict.fromkeys(("integrations", "slack_integrations", "webhook_integrations"), _AUTOMATIONS),
    **dict.fromkeys(("registry", "registries", "create_registry"), _REGISTRIES),
}
"""Methods that need a server, and their alternatives."""


class Project:
    """A project that has runs."""

    def __init__(self, name: str) -> None:
        self.name = self.id = name
        self.entity = versions.NO_ENTITY

    @property
    def path(self) -> list[str]:
        return [self.entity, self.name]

    def __repr__(self) -> str:
        return f"<Project {self.entity}/{self.name}>"


class Api:
    """Read the runs of the folder of runs (`TRACELET_DIR`, `dir` in tracelet.toml, or `tracelet_runs`).

    Each object holds the state at the time of its first use; `Run.load(force=True)` and `Api.runs` read again. All
    methods that need a server raise UnsupportedError, which names the alternative.

    Args:
        overrides: `project` and `entity` for paths without them.
        timeout: Ignored: nothing is asked of a server.
        api_key: Ignored.
    """

    def __init__(
        self, overrides: Mapping[str, Any] | None = None, timeout: float | None = None, api_key: str | None = None
    ) -> None:
        settings = load({})
        overrides = overrides or {}
        self._base = Path(settings.dir).absolute()
        self._project: str | None = overrides.get("project") or settings.project
        self.settings: dict[str, Any] = {
            "entity": overrides.get("entity") or versions.NO_ENTITY,
            "project": self._project,
            "run": None,
            "base_url": self._base.as_uri(),
        }

    @property
    def default_entity(self) -> str:
        return str(self.settings["entity"])

    @property
    def viewer(self) -> User:
        return User(user_name())

    @property
    def user_agent(self) -> str:
        return "tracelet"

    def flush(self) -> None:
        """Do nothing: the API holds no runs."""

    # Runs.

    def run(self, path: str = "") -> Run:
        """Return a run by `id`, `project/id` or `entity/project/id`.

        Raises:
            CommError: there is no such run.
        """
        return find_run(self._base, path, self._project)

    def runs(
        self,
        path: str | None = None,
        filters: Mapping[str, Any] | None = None,
        order: str = "+created_at",
        per_page: int = 50,
        include_sweeps: bool = False,
        lazy: bool = True,
    ) -> Runs:
        """Return the runs of a project (`project` or `entity/project`); without one, of all projects.

        Args:
            path: The project; by default that of the settings.
            filters: Conditions such as `{"config.lr": {"$gt": 0.1}, "state": "finished"}`.
            order: `created_at`, `config.NAME` or `summary_metrics.NAME`, with "-" before it for descending order.
            per_page: Ignored, as the following ones.
            include_sweeps: Ignored.
            lazy: Ignored.

        Raises:
            UnsupportedError: an operator or a field is unknown.
        """
        return Runs(self._base, self._project_of(path), filters, order)

    def projects(self, entity: str | None = None, per_page: int = 200) -> list[Project]:
        """Return the projects that have runs, by name."""
        return [Project(name) for name in sorted({run.project for run in every_run(self._base)})]

    def project(self, name: str, entity: str | None = None) -> Project:
        return Project(name)

    # Artifacts.

    def artifact(self, name: str, type: str | None = None) -> Artifact:
        """Return an artifact by `name:alias`, `project/name:alias` or `entity/project/name:alias`.

        Raises:
            CommError: there is none.
            ValueError: it is of another type.
        """
        return find(name, type, self._base, self._project)

    def artifact_exists(self, name: str, type: str | None = None) -> bool:
        try:
            self.artifact(name, type)
        except (CommError, ValueError):
            return False
        return True

    def artifacts(
        self,
        type_name: str,
        name: str,
        order: str | None = None,
        per_page: int = 50,
        tags: Sequence[str] | None = None,
        start: str | None = None,
    ) -> list[Artifact]:
        """Return the versions of an artifact, the last one first, or those that have all of `tags`.

        Raises:
            CommError: there is none.
        """
        listed = self.artifact_collection(type_name, name).artifacts()
        return [artifact for artifact in listed if set(tags or ()) <= set(artifact.tags)]

    artifact_versions = artifacts

    def artifact_collection(self, type_name: str, name: str) -> ArtifactCollection:
        """Return all versions of an artifact.

        Raises:
            CommError: there is none.
        """
        project, _, own_name = name.rpartition("/")
        collections = self.artifact_collections(project, type_name)
        return ArtifactType(type_name, collections).collection(own_name)

    def artifact_collection_exists(self, name: str, type: str) -> bool:
        try:
            self.artifact_collection(type, name)
        except CommError:
            return False
        return True

    def artifact_collections(
        self, project_name: str, type_name: str, order: str | None = None, per_page: int = 50, start: str | None = None
    ) -> list[ArtifactCollection]:
        """Return the artifacts of one type in a project."""
        return self.artifact_type(type_name, project_name).collections()

    def artifact_type(self, type_name: str, project: str | None = None) -> ArtifactType:
        """Return a type of artifacts, also one without artifacts."""
        types = {found.name: found for found in self.artifact_types(project)}
        return types.get(type_name, ArtifactType(type_name, ()))

    def artifact_types(self, project: str | None = None, start: str | None = None) -> list[ArtifactType]:
        """Return the types of the artifacts in a project."""
        found: dict[str, list[ArtifactCollection]] = {}
        wanted = self._project_of(project) or versions.NO_PROJECT
        for (owner, name), known in versions.collections(self._base, wanted).items():
            collection = ArtifactCollection(self._base, owner, name, known)
            found.setdefault(collection.type, []).append(collection)
        return [ArtifactType(name, collections) for name, collections in found.items()]

    # Inside.

    def _project_of(self, path: str | None) -> str | None:
        return (path or "").strip("/").rpartition("/")[2] or self._project

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        return unsupported("Api", name, _UNSUPPORTED)

    def __dir__(self) -> Iterator[str]:
        yield from super().__dir__()
        yield from _UNSUPPORTED
