"""Old event files become runs: through the same decoder, the same names and the same journal as a program that runs."""

from __future__ import annotations

from tracelet.importer.folders import experiments, state
from tracelet.importer.run import Imported, import_run

__all__ = ["Imported", "experiments", "import_run", "state"]
