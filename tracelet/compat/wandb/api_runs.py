"""Provide past and live runs of this machine, with the methods of wandb's `apis.public.Run`."""

from __future__ import annotations

import fnmatch
import getpass
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

from tracelet.compat.wandb import versions
from tracelet.compat.wandb.api_data import RunData, nested, read
from tracelet.compat.wandb.api_files import File
from tracelet.compat.wandb.api_history import HistoryScan, as_frame, sampled
from tracelet.compat.wandb.artifact import Artifact, iso_time, of_version
from tracelet.compat.wandb.errors import CommError, UnsupportedError
from tracelet.compat.wandb.unsupported import unsupported
from tracelet.journal.store import JournalReader
from tracelet.runs.folders import runs_of
from tracelet.runs.summary import summarise

USED = "used "
"""Begins the facts of a run about the artifacts that it used."""
_PAGE = "write a page with: tracelet show RUN --html FILE"
_UNSUPPORTED = {
    "console_logs": "the console is one of run.files(), if it is collected: start_logging(collect=['console'])",
    "create": "use init, which begins a run",
    "display": _PAGE,
    "download_history_exports": "use scan_history, which has all rows",
    "to_html": _PAGE,
    "update_state": "the state of a run is that of its process",
    "wait_until_finished": "check run.state, or wait for the process",
}
"""Methods that need a server, and their alternatives."""


class Summary(dict[str, Any]):
    """The summary of a past run. The values of a nested dict are read by `summary["a"]["b"]` and `summary["a.b"]`."""

    def __missing__(self, name: str) -> Any:
        inner = {key.removeprefix(f"{name}."): value for key, value in self.items() if key.startswith(f"{name}.")}
        if inner:
            return nested(inner)
        outer, _, rest = name.rpartition(".")
        if outer and isinstance(found := self.get(outer), Mapping) and rest in found:
            return found[rest]
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    @property
    def _json_dict(self) -> dict[str, Any]:
        return dict(self)

    def update(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise UnsupportedError: the summary of a past run cannot change."""
        raise UnsupportedError("the journal of a past run is not changed; set run.summary while the run is active")


class Run:
    """A run in the folder `folder`. Its journal is read at the first use, and again by `load(force=True)`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with JournalReader(folder) as reader:
            self._info = reader.info()
        self._data: RunData | None = None

    # The description.

    @property
    def id(self) -> str:
        return self._info.run_id

    @property
    def storage_id(self) -> str:
        return self.id

    @property
    def name(self) -> str:
        """The name or, if the run has none, the id."""
        return self._info.name or self._info.run_id

    display_name = name

    @property
    def project(self) -> str:
        return versions.project_of(self._info)

    @property
    def entity(self) -> str:
        return str(self._facts.get("entity") or versions.NO_ENTITY)

    @property
    def path(self) -> list[str]:
        return [self.entity, self.project, self.id]

    @property
    def url(self) -> str:
        """The web page of a backend or, without one, the address of the run's folder."""
        pages = (value for key, value in self._facts.items() if key.startswith("url ") and value)
        return str(next(pages, self._folder.absolute().as_uri()))

    @property
    def group(self) -> str | None:
        return self._info.group

    @property
    def job_type(self) -> str | None:
        found = self._facts.get("job_type")
        return None if found is None else str(found)

    @property
    def notes(self) -> str | None:
        return self._info.notes

    @property
    def tags(self) -> list[str]:
        return self._loaded.tags

    @property
    def created_at(self) -> str:
        return iso_time(self._info.created)

    @property
    def heartbeat_at(self) -> str:
        """The time of the end, or of the last sign of life."""
        return iso_time(summarise(self._folder).seen)

    @property
    def state(self) -> str:
        """`running`, `finished`, `failed`, `crashed` or `killed`, at this moment."""
        return summarise(self._folder).status

    @property
    def user(self) -> User:
        return User(user_name())

    @property
    def username(self) -> str:
        return self.user.username

    @property
    def metadata(self) -> dict[str, Any]:
        """What was collected about the program: its host, Python, packages and commit."""
        collected = dict(self._facts.get("environment") or {})
        git = self._facts.get("git")
        return {**collected, **({"git": git} if git else {}), "program": self._info.program}

    # The data.

    @property
    def config(self) -> dict[str, Any]:
        return self._loaded.nested_config()

    rawconfig = config

    @property
    def json_config(self) -> str:
        return json.dumps({name: {"value": value, "desc": None} for name, value in self.config.items()})

    @property
    def summary(self) -> Summary:
        return Summary(self._loaded.summary())

    summary_metrics = summary

    @property
    def system_metrics(self) -> dict[str, float]:
        """The last value of each system metric."""
        return {f"system.{name}": value for name, value in self._loaded.system.items()}

    @property
    def lastHistoryStep(self) -> int:  # noqa: N802 -- the name in wandb's API
        """The highest step; -1 if nothing was logged."""
        return self._loaded.last_step

    def scan_history(
        self,
        keys: Collection[str] | None = None,
        page_size: int = 1000,
        min_step: int | None = None,
        max_step: int | None = None,
        use_cache: bool = True,
    ) -> HistoryScan:
        """Iterate over all rows, in bounded memory.

        Args:
            keys: Select the rows that have all of them, with these values only.
            page_size: Rows that are in memory at the same time; see `HistoryScan`.
            min_step: The first step.
            max_step: The step before which the rows end.
            use_cache: Ignored: the journal is on this machine.
        """
        return HistoryScan(
            self._folder, self._info.created, keys=keys, page_size=page_size, min_step=min_step, max_step=max_step
        )

    beta_scan_history = scan_history

    def history(
        self,
        samples: int = 500,
        keys: Collection[str] | None = None,
        x_axis: str = "_step",
        pandas: bool = True,
        stream: Literal["default", "system", "events"] = "default",
    ) -> Any:
        """Return at most `samples` evenly spread rows, as a DataFrame or a list of dicts. `scan_history` has all."""
        if stream not in ("default", "system", "events"):
            raise ValueError(f"stream must be 'default' or 'system', got {stream!r}")
        selected = None if keys is None else list(dict.fromkeys([x_axis, *keys]))
        scan = HistoryScan(self._folder, self._info.created, keys=selected, system=stream != "default")
        rows = sampled(scan, samples)
        return as_frame(rows) if pandas else rows

    def files(self, names: Collection[str] | None = None, pattern: str | None = None, per_page: int = 50) -> list[File]:
        """Return the saved files, or those of the given names, or those that match a pattern with `%` as wildcard."""
        data = self._loaded
        return [
            File(entry, iso_time(data.file_times[name]))
            for name, entry in data.files.items()
            if (not names or name in names)
            and (pattern is None or fnmatch.fnmatchcase(name, pattern.replace("%", "*")))
        ]

    def file(self, name: str) -> File:
        """Return a saved file.

        Raises:
            CommError: the run has no such file.
        """
        files = self.files([name])
        if not files:
            raise CommError(f"run {self.id} has no file {name!r}. Files: {', '.join(self._loaded.files) or 'none'}")
        return files[0]

    def logged_artifacts(self, per_page: int = 100) -> list[Artifact]:
        """Return the versions whose first record is of this run."""
        base = runs_of(self._folder)
        return [
            of_version(version, base)
            for known in versions.collections(base, self.project).values()
            for version in known
            if version.info.run_id == self.id and version.record.type not in ("file", "directory")
        ]

    def used_artifacts(self, per_page: int = 100) -> list[Artifact]:
        """Return the versions that the run got from `use_artifact`."""
        base = runs_of(self._folder)
        names = {key.removeprefix(USED) for key in self._facts if key.startswith(USED)}
        artifacts = (of_version(version, base) for known in versions.collections(base).values() for version in known)
        return [artifact for artifact in artifacts if artifact.qualified_name in names]

    def load(self, force: bool = False) -> dict[str, Any]:
        """Read the journal, again if `force` is set, and return the description of the run."""
        if force:
            self._data = None
        return {
            "name": self.id,
            "displayName": self.name,
            "state": self.state,
            "config": self.config,
            "summaryMetrics": dict(self.summary),
            "tags": self.tags,
            "createdAt": self.created_at,
        }

    load_full_data = load

    # Changes, which a journal does not allow.

    def update(self) -> NoReturn:
        """Raise UnsupportedError: a past run cannot change."""
        raise UnsupportedError("the journal of a past run is not changed; resume the run with init(id=..., resume=...)")

    save = update

    def delete(self, delete_artifacts: bool = False) -> NoReturn:
        """Raise UnsupportedError: `tracelet rm` removes runs."""
        raise UnsupportedError(f"remove the run with: tracelet rm {self.id}")

    def upload_file(self, path: str, root: str = ".") -> NoReturn:
        """Raise UnsupportedError: a past run cannot change."""
        raise UnsupportedError("a past run gets no files; resume it with init(id=..., resume=...), then call save")

    def stop(self) -> NoReturn:
        """Raise UnsupportedError: there is no server that could end the program."""
        raise UnsupportedError("nothing can stop the program of another run from here; send it a signal")

    def log_artifact(self, artifact: Artifact, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise UnsupportedError: a past run cannot change."""
        raise UnsupportedError("a past run gets no artifacts; resume it with init(id=..., resume=...)")

    use_artifact = log_artifact

    sweep = sweep_name = None
    """Local runs belong to no sweep."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        return unsupported("Run", name, _UNSUPPORTED)

    # Inside.

    @property
    def _loaded(self) -> RunData:
        if self._data is None:
            self._data = read(self._folder)
        return self._data

    @property
    def _facts(self) -> Mapping[str, Any]:
        if self._data is not None:
            return self._data.facts
        with JournalReader(self._folder) as reader:
            return reader.facts()

    def __repr__(self) -> str:
        return f"<Run {'/'.join(self.path)} ({self.state})>"


class User:
    """The user of this machine."""

    def __init__(self, username: str) -> None:
        self.username = self.name = username
        self.entity = versions.NO_ENTITY
        self.email: str | None = None
        self.teams: list[str] = []

    def __repr__(self) -> str:
        return f"<User {self.username}>"


def user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "unknown"
