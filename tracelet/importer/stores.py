"""Find the runs in the stores of other trackers, by the name of the tracker."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import NamedTuple

from tracelet.backends import check_installed
from tracelet.errors import ConfigurationError, suggest
from tracelet.importer.past_run import PastRun

_READERS = {
    "aim": "tracelet.importer.aim",
    "csv": "tracelet.importer.csv_table",
    "mlflow": "tracelet.importer.mlflow",
    "wandb": "tracelet.importer.wandb",
}
STORES = tuple(_READERS)


class Selection(NamedTuple):
    """Which runs of a store to import, and for a CSV file the column of the steps. Empty means all."""

    runs: tuple[str, ...] = ()
    """Ids or names."""
    experiment: str | None = None
    """The name of an experiment, or project."""
    step_column: str | None = None

    def has(self, run: PastRun) -> bool:
        """Return whether a run is selected."""
        if self.experiment is not None and run.project != self.experiment:
            return False
        return not self.runs or run.id in self.runs or run.name in self.runs


ALL = Selection()


def check_store(store: str) -> None:
    """Check the name of a store, and that the package to read it is installed.

    Raises:
        ConfigurationError: the name is unknown.
        MissingDependency: the package is missing or too old.
    """
    if store not in _READERS:
        raise ConfigurationError(f"unknown store {store!r}. {suggest(store, STORES)}")
    check_installed(store)


def past_runs(store: str, source: str, selection: Selection = ALL) -> Iterator[PastRun]:
    """Yield the selected runs of the store at `source`. Read the records of each before the next one.

    Raises:
        ConfigurationError: there is no such store at `source`, or it cannot be read.
        BackendUnavailable: its server does not answer.
    """
    check_store(store)
    reader = importlib.import_module(_READERS[store])
    yield from filter(selection.has, reader.runs(source, selection))
