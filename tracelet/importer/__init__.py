"""Import runs: event files, with the decoder, names and journal of live capture, and the stores of other trackers."""

from __future__ import annotations

from tracelet.importer.experiments import experiments
from tracelet.importer.folders import state
from tracelet.importer.past_run import PastRun, import_past_run
from tracelet.importer.run import Imported, import_run
from tracelet.importer.stores import STORES, Selection, past_runs

__all__ = [
    "STORES",
    "Imported",
    "PastRun",
    "Selection",
    "experiments",
    "import_past_run",
    "import_run",
    "past_runs",
    "state",
]
