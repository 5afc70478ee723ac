"""Import runs of other trackers for the tests, and read their journals back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from tracelet.importer import Imported, PastRun, Selection, import_past_run, past_runs
from tracelet.journal.spool import Spool
from tracelet.journal.store import JournalReader
from tracelet.records import Artifact, Record, RunInfo, Scalar

R = TypeVar("R", bound=Record)


def imports(store: str, source: object, base: Path, **selection: Any) -> list[Imported]:
    """Import the selected runs of a store."""
    chosen = Selection(**selection)
    return [import_past_run(run, base=base) for run in past_runs(store, str(source), chosen)]


class Journal:
    """The description and the records of an imported run."""

    def __init__(self, imported: Imported) -> None:
        self.damage = imported.damage
        with JournalReader(imported.folder) as reader:
            self.info: RunInfo = reader.info()
            self.facts = reader.facts()
            spool = Spool(imported.folder / "files")
            self.records = [spool.resolve(record) for record in reader.records()]

    def of(self, kind: type[R]) -> list[R]:
        """Return the records of a kind, without system metrics."""
        found = (record for record in self.records if isinstance(record, kind))
        return [record for record in found if not str(getattr(record, "tag", "")).startswith("system/")]

    def points(self) -> list[tuple[str, int | None, str, float]]:
        """Return tag, step, value as text (NaN equals NaN) and time of each scalar."""
        return [(record.tag, record.step, repr(record.value), record.wall_time) for record in self.of(Scalar)]

    def files(self) -> dict[str, bytes]:
        """Return the files of all artifacts by the names of both."""
        files = [(artifact.name, file) for artifact in self.of(Artifact) for file in artifact.files]
        return {f"{name}: {file.name}": Path(file.path).read_bytes() for name, file in files}


def only(imported: list[Imported]) -> Journal:
    """Return the only run of an import."""
    (one,) = imported
    return Journal(one)


def made(records: list[Record], **fields: Any) -> PastRun:
    """Return a run of a store that has these records."""

    def read(started: float) -> Iterator[Record]:
        yield from records

    return PastRun("csv", "one", "a store", read, **fields)


def tree(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder with their content."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
