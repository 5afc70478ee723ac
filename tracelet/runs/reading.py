"""Read back what runs have recorded: `open_run` and `list_runs`."""

from __future__ import annotations

import contextlib
import heapq
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from tracelet import records as r
from tracelet import settings
from tracelet.errors import JournalError, RecordRejected
from tracelet.guard import logger
from tracelet.journal.selection import Selection
from tracelet.journal.spool import Spool
from tracelet.journal.status import BackendStatus
from tracelet.journal.store import JournalReader
from tracelet.runs import digest, edits
from tracelet.runs.comparison import MISSING
from tracelet.runs.folders import all_runs, find_run, journals
from tracelet.runs.query import Condition, Order
from tracelet.runs.scalars import Scalars, in_parts, joined
from tracelet.runs.summary import RunStatus, RunSummary, check_journal, summarise

AnyRecord = TypeVar("AnyRecord", bound=r.Record)


def open_run(which: str | os.PathLike[str], *, dir: str | os.PathLike[str] | None = None) -> Run:
    """Open a past or active run for reading.

    Args:
        which: An id, the start of one, a name, `project/` before any of these, a run's folder, or `latest`.
        dir: The folder of the runs; by default the setting `dir`.

    Raises:
        RunNotFound: no run matches, or more than one; the error lists these.
        JournalError: the run cannot be read.
    """
    return Run(summarise(find_run(_base(dir), os.fspath(which))))


def list_runs(
    where: str | None = None, sort: str | None = None, dir: str | os.PathLike[str] | None = None
) -> list[Run]:
    """Return the runs of a folder by the time of their start. Unreadable ones are left out, with a warning.

    Args:
        where: A condition, such as `params.lr < 1e-3 and status == "finished"`. Fields are those of `Run`; a comparison
            with a missing value is false. `created` can be compared with a date such as "2026-01-31".
        sort: Fields, separated by commas, such as `-summary.accuracy` for the highest first.
        dir: The folder of the runs; by default the setting `dir`.

    Raises:
        ConfigurationError: `where`, `sort` or the folder is invalid. The error shows where.
    """
    condition = None if where is None else Condition(where)
    order = Order[Run]("created" if sort is None else sort)
    runs = []
    for folder in all_runs(_base(dir), removed=True):
        try:
            runs.append(Run(summarise(folder)))
        except JournalError as error:
            logger.warning("tracelet: skipped a run that cannot be read: %s", error)
    found = runs if condition is None else [run for run in runs if condition.matches(run)]
    sought = order.columns if condition is None or found else condition.columns
    for column in sought:
        if runs and all(column.value(run) is MISSING for run in found or runs):
            logger.warning("tracelet: no run has %s", column.text)
    return order.sorted(found)


def _base(dir: str | os.PathLike[str] | None) -> Path:
    return Path(settings.load({}).dir if dir is None else dir)


class Run:
    """A run on this machine, for reading. Its ranks, and the processes that resumed it, are one run.

    The description and the status are those of the time of opening, `params` and `summary` of their first use.
    Scalars and other records are read from the journal at each call, those of an active run as far as it has come.
    If `tracelet gc` removed the journal, they raise JournalError, which names the backends that have the records.
    """

    def __init__(self, state: RunSummary) -> None:
        self.state = state
        """The run as `tracelet runs` lists it."""

    # The description.

    @property
    def id(self) -> str:
        return self.state.info.run_id

    @property
    def name(self) -> str | None:
        return self.state.info.name

    @property
    def project(self) -> str | None:
        return self.state.info.project

    @property
    def group(self) -> str | None:
        return self.state.info.group

    @property
    def notes(self) -> str | None:
        return self.state.info.notes

    @property
    def folder(self) -> Path:
        return self.state.folder

    @property
    def status(self) -> RunStatus:
        """`running`, `finished`, `failed`, `killed` or `crashed`."""
        return self.state.status

    @property
    def exit_code(self) -> int | None:
        return self.state.exit_code

    @property
    def created(self) -> float:
        """The start, in seconds since the epoch."""
        return self.state.info.created

    @property
    def duration(self) -> float:
        """The seconds from the start to the end, or to the last sign of life."""
        return self.state.duration

    @property
    def records(self) -> int:
        """The number of records in the journal of the first rank."""
        return self.state.records

    @property
    def backends(self) -> dict[str, BackendStatus]:
        """How far each backend is, by its name."""
        return {status.name: status for status in self.state.backends}

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the run: from its start, added later, and edited."""
        added: Iterable[str] = ()
        with contextlib.suppress(JournalError):  # removed by a version that left no digest
            added = self._digest.tags
        return edits.read(self.folder).tags([*self.state.info.tags, *added])

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, by their dotted names."""
        return self._digest.params

    @property
    def summary(self) -> dict[str, Any]:
        """The summary metrics; for each other series but system metrics, its last value."""
        return self._summary

    @property
    def series(self) -> list[str]:
        """The tags of all scalars, in the order of their first points."""
        return list(self._digest.last)

    @cached_property
    def _digest(self) -> digest.Digest:
        return digest.read(self.folder, self.created, self.state.records)

    @cached_property
    def _summary(self) -> dict[str, Any]:
        return self._digest.summary

    def edit(
        self,
        *,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
        name: str | None = None,
        notes: str | None = None,
    ) -> None:
        """Edit the run, also an active one. Backends do not get the edits. An empty text restores the program's.

        Raises:
            JournalError: the folder cannot be written.
        """
        edits.edit(self.folder, add_tags=add_tags, remove_tags=remove_tags, name=name, notes=notes)
        self.state = summarise(self.folder)

    # The records.

    def scalars(self, tag: str | None = None) -> Scalars:
        """Return all points of a series, or of all series, as numpy arrays.

        Those of a tag that was never logged are empty. All series of a long run take 28 bytes per point.
        """
        return joined(self.iter_scalars(tag))

    def iter_scalars(self, tag: str | None = None) -> Iterator[Scalars]:
        """Yield the points of a series, or of all series, in parts of some 65,000 points: in bounded memory."""
        select = Selection((r.Scalar,), tag)
        return in_parts(chain.from_iterable(_batches(folder, select) for folder in self._journals()))

    def images(self, tag: str | None = None) -> Iterator[r.Image]:
        """Yield the images of a tag, or of all. `image.data.path` is the path of the file; so with all files below."""
        return self.iter_records(r.Image, tag=tag)

    def videos(self, tag: str | None = None) -> Iterator[r.Video]:
        return self.iter_records(r.Video, tag=tag)

    def audio(self, tag: str | None = None) -> Iterator[r.Audio]:
        return self.iter_records(r.Audio, tag=tag)

    def texts(self, tag: str | None = None) -> Iterator[r.Text]:
        return self.iter_records(r.Text, tag=tag)

    def tables(self, tag: str | None = None) -> Iterator[r.Table]:
        return self.iter_records(r.Table, tag=tag)

    def histograms(self, tag: str | None = None) -> Iterator[r.Histogram]:
        return self.iter_records(r.Histogram, tag=tag)

    def pr_curves(self, tag: str | None = None) -> Iterator[r.PRCurve]:
        return self.iter_records(r.PRCurve, tag=tag)

    def embeddings(self, tag: str | None = None) -> Iterator[r.Embedding]:
        return self.iter_records(r.Embedding, tag=tag)

    def meshes(self, tag: str | None = None) -> Iterator[r.Mesh]:
        return self.iter_records(r.Mesh, tag=tag)

    def alerts(self) -> Iterator[r.Alert]:
        return self.iter_records(r.Alert)

    @property
    def artifacts(self) -> dict[str, r.Artifact]:
        """The last version of each artifact by its name. `file.path` of its `files` is the path of the stored copy."""
        return {artifact.name: artifact for artifact in self.iter_records(r.Artifact)}

    def iter_records(self, kind: type[AnyRecord], *, tag: str | None = None) -> Iterator[AnyRecord]:
        """Yield the records of a kind of `tracelet.records`, in the order of logging, in bounded memory.

        A file that is not one of the run's folder has an empty `path`.
        """
        streams = [_located(folder, Selection((kind,), tag)) for folder in self._journals()]
        merged: Iterable[Any] = heapq.merge(*streams, key=lambda record: record.wall_time)
        yield from streams[0] if len(streams) == 1 else merged

    def _journals(self) -> list[Path]:
        check_journal(self.folder)
        return journals(self.folder)

    def __repr__(self) -> str:
        return f"<Run {self.project or 'default'}/{self.id}{f' ({self.name})' if self.name else ''}: {self.status}>"


def _batches(folder: Path, select: Selection) -> Iterator[list[Any]]:
    """Yield the selected records of a journal. Damaged parts are logged."""
    position = 0
    with JournalReader(folder) as reader:
        while batch := reader.next_batch(position, select):
            if batch.damaged:
                logger.warning("tracelet: %s: %s", reader.path, batch.damaged)
            if batch.records:
                yield batch.records
            position = batch.last


def _located(folder: Path, select: Selection) -> Iterator[Any]:
    """Yield the selected records, with the paths of their files."""
    spool = Spool(folder / "files")
    for batch in _batches(folder, select):
        for record in batch:
            with contextlib.suppress(RecordRejected):
                record = spool.resolve(record)
            yield record
