"""Import event files as runs, with the decoder, names and journal of live capture."""

from __future__ import annotations

from tracelet.importer.experiments import experiments
from tracelet.importer.folders import state
from tracelet.importer.run import Imported, import_run

__all__ = ["Imported", "experiments", "import_run", "state"]
