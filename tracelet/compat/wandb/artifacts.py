"""Log artifacts to a run, and find them in the local runs."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from tracelet.api import get_active_experiment
from tracelet.backends.capabilities import AdoptedArtifact
from tracelet.compat.wandb import versions
from tracelet.compat.wandb.api_runs import USED
from tracelet.compat.wandb.artifact import Artifact, of_version
from tracelet.compat.wandb.draft import checked_aliases, checked_tags
from tracelet.compat.wandb.errors import CommError, UnsupportedError
from tracelet.compat.wandb.manifest import files_below, path_below
from tracelet.compat.wandb.run_list import find_run
from tracelet.compat.wandb.versions import Version
from tracelet.experiment.experiment import Experiment
from tracelet.runs.folders import runs_of

__all__ = ["Artifact", "find", "log", "mark_used", "of_code", "prepared", "restore", "use"]

_RECORD_TYPES = {"file": "files"}
"""Types with another meaning in the journal: a record of type `file` is one file."""
_COMMIT_TIMEOUT = 5.0
"""Seconds to wait for the journal of the active run."""


def log(
    artifact: Artifact,
    experiment: Experiment,
    aliases: Collection[str] | str | None = None,
    tags: Collection[str] | str | None = None,
) -> None:
    """Log an artifact to a run. Its files are in the run's folder when this returns.

    Raises:
        ValueError: an alias or a tag has an illegal character.
        OSError: a file that was added with `policy="immutable"` is missing.
    """
    artifact._aliases, artifact._tags = checked_aliases(aliases), checked_tags(tags)
    artifact.finalize()
    files = {entry.path: str(entry.local_path) for entry in artifact.manifest.entries.values() if entry.ref is None}
    metadata = versions.join_metadata(artifact.metadata, artifact._extras())
    record_type = _RECORD_TYPES.get(artifact.type, artifact.type)
    experiment.log_artifact(
        AdoptedArtifact(name=artifact.collection_name, files=files, type=record_type, metadata=metadata)
    )
    orchestrator = experiment._orchestrator
    if orchestrator is None:  # mode="disabled"
        return

    def log_again(changed: Artifact) -> None:
        if experiment._stopped.is_set():
            raise UnsupportedError(f"run {experiment.run_id} has ended; its artifacts cannot change")
        log(changed, experiment, changed._aliases, changed._tags)

    artifact._base, artifact._project = runs_of(experiment.folder), experiment.project or versions.NO_PROJECT
    artifact._version, artifact._wait, artifact._log_again = None, orchestrator.wait_committed, log_again


def use(
    name_or_artifact: str | Artifact,
    type: str | None,
    base: Path,
    project: str | None,
    experiment: Experiment | None = None,
) -> Artifact:
    """Return an artifact of a local run, and note that `experiment` used it. A draft is logged to `experiment` first.

    Args:
        name_or_artifact: `name:latest`, `name:v3`, `name:alias`, `project/name:...` or `entity/project/name:...`.
        type: The expected type, if any.
        base: The folder of the runs.
        project: The project of a name without one.

    Raises:
        CommError: no local run has logged it. The message lists the existing names.
        ValueError: it is of another type.
    """
    if isinstance(name_or_artifact, Artifact):
        artifact = name_or_artifact
        if artifact.is_draft() and experiment is not None:
            log(artifact, experiment)
    else:
        artifact = find(name_or_artifact, type, base, project)
    if experiment is not None:
        mark_used(artifact, experiment)
    return artifact


def mark_used(artifact: Artifact, experiment: Experiment) -> None:
    """Store in the journal of a run that it used an artifact."""
    orchestrator = experiment._orchestrator
    if orchestrator is not None and not experiment._stopped.is_set() and not artifact.is_draft():
        orchestrator.annotate(f"{USED}{artifact.qualified_name}", True)


def find(name: str, type: str | None, base: Path, project: str | None) -> Artifact:
    """Return an artifact by its name; see `use`."""
    _commit_active_run()
    path, _, alias = name.partition(":")
    collections = versions.collections(base)
    for key in _candidates(path, project):
        if key in collections:
            version = _by_alias(collections[key], name, alias or "latest")
            if type is not None and _RECORD_TYPES.get(type, type) != version.record.type:
                raise ValueError(f"artifact {name!r} is of type {version.record.type!r}, not {type!r}")
            return of_version(version, base)
    raise CommError(f"no local run has logged an artifact {name!r}. Artifacts: {_listed(collections)}")


def restore(
    name: str, run_path: str | None = None, replace: bool = False, root: str | None = None, *, base: Path
) -> TextIO:
    """Copy a saved file of a run below `root` (default: the working directory) and return it, open for reading.

    Without `replace`, an existing file is returned as it is.

    Raises:
        ValueError: there is no `run_path`, or the run has no such file.
        CommError: there is no such run.
    """
    if run_path is None:
        raise ValueError("restore needs run_path, the id of a run, if no run is active")
    target = path_below(root or ".", name)
    if target.is_file() and not replace:
        return open(target, encoding="utf-8")
    _commit_active_run()
    run = find_run(base, run_path)
    files = run.files([name])
    if not files:
        raise ValueError(f"run {run.id} has no file {name!r}")
    return files[0].download(root or ".", replace=True)


def prepared(
    artifact_or_path: Artifact | str | os.PathLike[str], name: str | None, type: str | None, *, default: str = ""
) -> Artifact:
    """Return an artifact, or a new one with the files of a path or a reference. `default` begins its automatic name.

    Raises:
        ValueError: the path is no file, folder or address.
    """
    if isinstance(artifact_or_path, Artifact):
        return artifact_or_path
    text = os.fspath(artifact_or_path)
    path, is_address = Path(text), "://" in text
    if not is_address and not path.exists():
        raise ValueError(f"log_artifact needs a file, a folder or an address such as s3://bucket/path, got {text!r}")
    stem = text.rstrip("/").rpartition("/")[2] if is_address else path.resolve().name
    safe = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "_" for char in stem)
    artifact = Artifact(name or f"{default}{safe}", type or "unspecified")
    if is_address:
        artifact.add_reference(text)
    elif path.is_dir():
        artifact.add_dir(path)
    else:
        artifact.add_file(path)
    return artifact


def of_code(
    root: str | os.PathLike[str] = ".",
    name: str = "source",
    include_fn: Callable[..., bool] | None = None,
    exclude_fn: Callable[..., bool] | None = None,
) -> Artifact | None:
    """Return an artifact of type `code` with the Python files below `root`; None if there are none.

    `include_fn` and `exclude_fn` get the path of a file and, if they have a second parameter, `root`.
    """
    folder = Path(root).absolute()
    safe = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "_" for char in name)
    artifact = Artifact(safe, "code")
    for relative, path in files_below(folder):
        is_included = _call(include_fn, path, folder) if include_fn is not None else path.suffix == ".py"
        if is_included and not (exclude_fn is not None and _call(exclude_fn, path, folder)):
            artifact.add_file(path, relative)
    return artifact if len(artifact.manifest) else None


def _commit_active_run() -> None:
    """Wait until the journal has the records of this process: a program reads what it logged in the line before."""
    experiment = get_active_experiment()
    if experiment is not None and experiment._orchestrator is not None:
        experiment._orchestrator.wait_committed(time.monotonic() + _COMMIT_TIMEOUT)


def _call(chosen: Callable[..., bool], path: Path, root: Path) -> bool:
    arguments = (str(path), str(root))
    return chosen(*arguments[: len(inspect.signature(chosen).parameters)])


def _candidates(path: str, project: str | None) -> list[tuple[str, str]]:
    """Return the projects and names that a path can mean. Names of files have slashes as well."""
    parts = path.strip("/").split("/")
    found = [(project or versions.NO_PROJECT, "/".join(parts))]
    for end in range(1, min(3, len(parts))):
        found.append((parts[end - 1], "/".join(parts[end:])))
    return found


def _by_alias(known: Sequence[Version], name: str, alias: str) -> Version:
    for version in known:
        if alias == version.label or alias in version.aliases:
            return version
    aliases = [each for version in known for each in (version.label, *version.aliases)]
    raise CommError(f"no version {name!r}. Versions and aliases: {', '.join(aliases)}")


def _listed(collections: Mapping[tuple[str, str], Sequence[Version]]) -> str:
    return ", ".join(f"{project}/{name}:{known[-1].label}" for (project, name), known in collections.items()) or "none"
