"""One experiment folder to one run: what is new in its event files goes into the run's journal."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tracelet.errors import ConfigurationError, JournalError
from tracelet.importer.folders import event_files, is_text, stamp
from tracelet.importer.reader import Item, Reader, sample
from tracelet.importer.series_names import FileSeriesNames, Role, Series
from tracelet.journal.spool import Spool, payload_bytes
from tracelet.journal.store import FILE_NAME, Journal, JournalReader
from tracelet.records import Record, RunInfo, RunRecord, Scalar
from tracelet.runs.folders import run_folder

_BATCH_RECORDS = 4096
_BATCH_BYTES = 8 * 2**20
_FACT = "import"


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What one import added to a run."""

    source: Path
    folder: Path
    """The run's folder; not there where nothing was ever read."""
    records: int = 0
    series: int = 0
    """How many series the records belong to."""
    damage: tuple[str, ...] = ()
    """Where bytes were no records, as `file, byte offset: reason`."""


class _Progress(msgspec.Struct):
    """How far the experiment folder is read, and how its series were named."""

    seen: dict[str, tuple[int, int]] = {}
    """`Item.path` -> `Item.position`."""
    roles: dict[str, Role] = {}
    claimed: list[Series] = []
    ended: float = 0.0
    """The latest wall time of all."""


class _Step(msgspec.Struct):
    """Written before each batch. The journal's last number then tells whether the batch came to be, also after a kill:
    nothing is imported twice, and nothing is left out."""

    last: int
    before: _Progress
    after: _Progress


def import_run(
    source: Path,
    *,
    base: Path,
    project: str | None = None,
    name: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Imported | None:
    """Journal what is new in the experiment folder `source`; None where it holds no event file.

    The run's id follows from the folder's path, the name of its first event file and the project, so that importing
    again goes on with the run. `progress(bytes read, of)` is called after every batch.

    Raises:
        ConfigurationError: the folder's name is no text.
        RunInUse: another process imports the same folder just now.
        JournalError: the run's folder cannot be written.
    """
    source = source.resolve()
    if not is_text(str(source)):
        raise ConfigurationError(f"{source}: a folder whose name is not UTF-8 cannot be a run")
    holders = event_files(source)
    if not holders:
        return None
    run_id = _run_id(source, holders, project)
    folder = run_folder(base.absolute(), project, run_id)
    place = _reached(folder)
    names = FileSeriesNames(str(source), holders, place.roles, place.claimed, _sampler(source, holders))
    reader = Reader(source, holders, place.seen, names)
    items = reader.items()
    head = list(_to_first_record(items))
    is_new = not (folder / FILE_NAME).exists()
    if not head or (is_new and not head[-1].records):
        # Nothing was written since; or a program has only begun, which makes no run.
        return Imported(source=source, folder=folder, damage=tuple(reader.damage))
    with contextlib.closing(Journal(folder)) as journal:
        if _reached(folder) == place:
            began = next((item.wall_time for item in head if item.wall_time), 0.0)
            info = RunInfo(run_id=run_id, project=project, name=name or source.name, folder=str(folder), created=began)
            _describe(journal, folder, info, source)
            keeper = _BatchWriter(journal, folder, place, names)
            for item in itertools.chain(head, items):
                if keeper.take(item):
                    progress(reader.read, reader.total)
            keeper.finish()
            return Imported(
                source=source,
                folder=folder,
                records=keeper.records,
                series=len(keeper.series),
                damage=tuple(reader.damage),
            )
    # Another import did it between our look and our lock.
    return import_run(source, base=base, project=project, name=name, progress=progress)


class _BatchWriter:
    """Puts items into the journal, a batch at a time, each with the place that is reached by it."""

    def __init__(self, journal: Journal, folder: Path, place: _Progress, names: FileSeriesNames) -> None:
        self.records = 0
        self.series: set[str] = set()
        self._journal = journal
        self._spool = Spool(folder / "files")
        self._names = names
        self._place = place
        self._before = msgspec.to_builtins(place)
        self._batch: list[Record] = []
        self._bytes = 0

    def take(self, item: Item) -> bool:
        """Whether a batch was committed. The records of one item stay together."""
        full = len(self._batch) + len(item.records) > _BATCH_RECORDS or self._bytes >= _BATCH_BYTES
        if full and self._batch:
            self._commit()
        for record in item.records:
            if record.__class__ is not Scalar:
                self._bytes += payload_bytes(record)
                record = self._spool.store(record)
            self._batch.append(record)
            if not isinstance(record, RunRecord):
                self.series.add(record.tag)
        self._place.seen[item.path] = item.position
        if item.wall_time > self._place.ended:
            self._place.ended = item.wall_time
        return full

    def finish(self) -> None:
        if self._batch:
            self._commit()
        place = self._reached()
        self._journal.annotate(_FACT, {"last": self._journal.last, "before": {}, "after": place})
        self._journal.annotate("ended", self._place.ended)
        self._journal.annotate("exit_code", 0)
        self._journal.annotate("status", "finished")

    def _commit(self) -> None:
        after, last = self._reached(), self._journal.last + len(self._batch)
        self._journal.annotate(_FACT, {"last": last, "before": self._before, "after": after})
        self._journal.append(self._batch)
        self.records += len(self._batch)
        self._before, self._batch, self._bytes = after, [], 0

    def _reached(self) -> Any:
        self._place.roles, self._place.claimed = self._names.roles, self._names.claimed
        return msgspec.to_builtins(self._place)


def _to_first_record(items: Iterator[Item]) -> Iterator[Item]:
    for item in items:
        yield item
        if item.records:
            return


def _sampler(source: Path, holders: Mapping[str, list[str]]) -> Callable[[str], list[Any]]:
    return lambda folder: sample(source / folder, holders[folder])


def _describe(journal: Journal, folder: Path, info: RunInfo, source: Path) -> None:
    with JournalReader(folder) as reader, contextlib.suppress(JournalError):
        info = reader.info()  # what it was called the first time stays
    journal.put_info(info)
    journal.annotate("root", str(source))
    journal.annotate("status", "running")


def _reached(folder: Path) -> _Progress:
    """Where an earlier import of the run ended, or was ended."""
    if not (folder / FILE_NAME).exists():
        return _Progress()
    with JournalReader(folder) as reader:
        fact, last = reader.facts().get(_FACT), reader.last()
    if fact is None:
        return _Progress()
    step = msgspec.convert(fact, _Step)
    return step.after if last >= step.last else step.before


def _run_id(source: Path, holders: Mapping[str, list[str]], project: str | None) -> str:
    """Sorts by the run's start, as other ids do. The first file's name has the time and host in it: a folder that was
    emptied and used again is another run, and so is one of the same path on another machine."""
    first, folder = min((name, folder) for folder, names in holders.items() for name in names)
    moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime(stamp(first)))
    told = "\0".join((str(source), folder, first, project or ""))
    return f"{moment}-{hashlib.sha256(told.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
