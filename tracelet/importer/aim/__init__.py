"""Read the runs of a local Aim repository."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracelet.backends.aim.errors import translated
from tracelet.errors import ConfigurationError
from tracelet.importer.aim.run import RunReader
from tracelet.importer.past_run import PastRun

if TYPE_CHECKING:
    from tracelet.importer.stores import Selection


def runs(source: str, selection: Selection) -> Iterator[PastRun]:
    """Yield the runs of the repository in the folder `source`, which contains `.aim`, or is it.

    Raises:
        ConfigurationError: there is no repository, it is on a server, or of another version of Aim.
        BackendUnavailable: Aim cannot read it.
    """
    repo = _opened(source)
    for hash in sorted(repo.list_all_runs()):
        run = PastRun("aim", hash, f"{source} {hash}")
        with translated():
            _describe(run, repo.structured_db.find_run(hash))
        reader = RunReader(repo, run)
        run.records = reader.records
        yield run


def _opened(source: str) -> Any:
    if "://" in source:
        raise ConfigurationError(f"only a local repository of Aim can be imported, got {source}")
    path = Path(source).absolute()
    path = path.parent if path.name == ".aim" else path
    if not (path / ".aim").is_dir():
        raise ConfigurationError(f"no Aim repository in {source}: it has no folder .aim")
    with translated():
        from aim.sdk.repo import Repo, RepoStatus

        is_current = bool(Repo.check_repo_status(str(path)) == RepoStatus.UPDATED)
        if is_current:  # else `Repo` itself would upgrade it
            return Repo(str(path))
    raise ConfigurationError(
        f"the repository {source} is of an older version of Aim; upgrade a copy of it with `aim upgrade`"
    )


def _describe(run: PastRun, props: Any) -> None:
    """Set the fields of a run from Aim's database, which may not have it."""
    if props is None:
        return
    run.name, run.project, run.notes = props.name or None, props.experiment or None, props.description or None
    run.tags = tuple(props.tags)
    if props.created_at is not None:
        run.started = props.created_at.replace(tzinfo=timezone.utc).timestamp()
