"""Find runs below a folder: by their path, or by conditions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from tracelet.compat.wandb.api_filters import check_filters, matches, sort_key
from tracelet.compat.wandb.api_history import as_frame
from tracelet.compat.wandb.api_runs import USED, Run
from tracelet.compat.wandb.errors import CommError, UnsupportedError
from tracelet.errors import JournalError
from tracelet.guard import logger
from tracelet.runs.folders import all_runs


class Runs(Sequence[Run]):
    """The runs below a folder that fulfil conditions. They are looked for at the first use."""

    def __init__(self, base: Path, project: str | None, filters: Mapping[str, Any] | None, order: str) -> None:
        check_filters(filters)
        self._base, self._project, self._filters = base, project, filters
        self._key, self._is_descending = sort_key(order)
        self._found: list[Run] | None = None

    def _runs(self) -> list[Run]:
        if self._found is None:
            runs = (run for run in every_run(self._base) if self._project in (None, run.project))
            found = [run for run in runs if matches(run, self._filters)]
            self._found = sorted(found, key=self._key, reverse=self._is_descending)
        return self._found

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> list[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | list[Run]:
        return self._runs()[index]

    def __len__(self) -> int:
        return len(self._runs())

    def histories(
        self,
        samples: int = 500,
        keys: Collection[str] | None = None,
        x_axis: str = "_step",
        format: Literal["default", "pandas"] = "default",
        stream: Literal["default", "system", "events"] = "default",
    ) -> Any:
        """Return the histories of all runs, each row with its `run_id`; see `Run.history`.

        Raises:
            UnsupportedError: `format` is neither "default" nor "pandas".
        """
        if format not in ("default", "pandas"):
            raise UnsupportedError(f"histories: format must be 'default' or 'pandas', got {format!r}")
        rows = [
            {"run_id": run.id, **row}
            for run in self._runs()
            for row in run.history(samples, keys, x_axis, pandas=False, stream=stream)
        ]
        return as_frame(rows) if format == "pandas" else rows

    def __repr__(self) -> str:
        return f"<Runs {self._project or 'of all projects'}>"


def every_run(base: Path) -> Iterator[Run]:
    """Yield the runs below a folder by the time of their start. Unreadable ones are logged."""
    runs: list[Run] = []
    for folder in all_runs(base):
        try:
            runs.append(Run(folder))
        except JournalError as error:
            logger.warning("tracelet: skipped a run that cannot be read: %s", error)
    yield from sorted(runs, key=lambda run: run._info.created)


def find_run(base: Path, path: str, project: str | None = None) -> Run:
    """Return the run of a path: `id`, `project/id` or `entity/project/id`, also in the form of a web page.

    Raises:
        CommError: there is no such run.
    """
    parts = [part for part in path.rpartition("://")[2].strip("/").split("/") if part not in ("", "runs")]
    if not parts:
        raise CommError("the path of a run must end in its id, got an empty one")
    run_id, wanted = parts[-1], parts[-2] if len(parts) > 1 else project
    found = [folder for folder in all_runs(base) if folder.name == run_id]
    try:
        runs = [run for run in map(Run, found) if len(parts) == 1 or run.project == wanted]
    except JournalError as error:
        raise CommError(f"cannot read run {path!r}: {error}") from error
    preferred = [run for run in runs if run.project == wanted] or runs
    if not preferred:
        raise CommError(f"no run {path!r} in {base}. List runs with: tracelet runs")
    return preferred[0]


def runs_that_used(base: Path, qualified_name: str) -> list[Run]:
    """Return the runs that used a version of an artifact."""
    return [run for run in every_run(base) if USED + qualified_name in run._facts]
