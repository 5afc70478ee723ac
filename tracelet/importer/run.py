"""Import an experiment folder as a run: append the new records of its event files to the run's journal."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tracelet.capture.naming import root_of
from tracelet.capture.trials import Trial, Trials
from tracelet.errors import ConfigurationError, JournalError
from tracelet.importer.folders import event_files, is_text, plain_name, stamp, without
from tracelet.importer.metadata import KnownMetadata, TagMetadata
from tracelet.importer.reader import Item, Reader, sample
from tracelet.importer.series_names import FileSeriesNames, Role, Series
from tracelet.journal.sizes import record_bytes
from tracelet.journal.spool import Spool
from tracelet.journal.store import FILE_NAME, Journal, JournalReader
from tracelet.records import Record, RunInfo, RunRecord, Scalar
from tracelet.runs.folders import run_folder

_BATCH_RECORDS = 4096
_BATCH_BYTES = 8 * 2**20
_FACT = "import"
END_OF_TIME = 253402300800.0  # the year 10000


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """Report the data that one import added to a run."""

    source: Path | str
    """The folder of event files, or the place of the run in another store."""
    folder: Path
    """The run's folder, which does not exist if no record was ever read."""
    records: int = 0
    series: int = 0
    """Number of series that have new records."""
    damage: tuple[str, ...] = ()
    """Corrupt ranges, as `file, byte offset: reason`."""

    @property
    def readable(self) -> bool:
        """False if there is only damage, and no record was ever read."""
        return not self.damage or (self.folder / FILE_NAME).exists()


class _Progress(msgspec.Struct):
    """The read positions of an experiment folder, and the names and metadata of its series."""

    seen: dict[str, tuple[int, int]] = {}
    """Maps `Item.path` to `Item.position`."""
    roles: dict[str, Role] = {}
    claimed: list[Series] = []
    trials: dict[str, Trial] = {}
    tabled: int = 0
    """The number of trials in the latest table."""
    metadata: list[KnownMetadata] = []
    ended: float = 0.0
    """The latest wall time."""


class _Intent(msgspec.Struct):
    """Journaled before each batch. If the journal's last number reaches `last`, the batch was committed.

    So a killed import neither repeats nor loses records.
    """

    last: int
    before: _Progress
    after: _Progress


def import_run(
    source: Path,
    *,
    base: Path,
    project: str | None = None,
    name: str | None = None,
    apart: Collection[Path] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Imported | None:
    """Append the new records of the experiment folder `source` to its run. Return None if it has no event files.

    The run's id derives from the folder's path, the name of its first event file and the project, so importing again
    resumes the run. Folders in `apart` are other runs, and not read. `progress(bytes_read, total)` is called after each
    batch.

    Raises:
        ConfigurationError: the folder's path is not UTF-8.
        RunInUse: another process is importing the same folder.
        JournalError: the run's folder cannot be written.
    """
    files = without(event_files(source), source, apart)
    source = source.resolve()
    if not is_text(str(source)):
        raise ConfigurationError(f"the path of an imported folder must be UTF-8, got {source}")
    if not files:
        return None
    run_id = _run_id(source, files, project)
    folder = run_folder(base.absolute(), project, run_id)
    previous, root = _load_progress(folder), _root(folder, source, files)
    trials = Trials(previous.trials)
    names = FileSeriesNames(str(source), root, files, previous.roles, previous.claimed, _sampler(source, files), trials)
    metadata = TagMetadata(previous.metadata)
    reader = Reader(source, files, previous.seen, names, metadata)
    items = reader.items()
    head = list(_to_first_record(items))
    is_new = not (folder / FILE_NAME).exists()
    if not head or (is_new and not head[-1].records):
        # Nothing new; or a program has just started, which creates no run.
        return Imported(source=source, folder=folder, damage=reader.damage)
    with contextlib.closing(Journal(folder)) as journal:
        if _load_progress(folder) == previous:
            started = next((item.wall_time for item in head if item.wall_time and _is_time(item.wall_time)), 0.0)
            info = RunInfo(
                run_id=run_id, project=project, name=name or source.name, folder=str(folder), created=started
            )
            _describe(journal, folder, info, root)
            writer = _BatchWriter(journal, folder, previous, names, metadata)
            for item in itertools.chain(head, items):
                if writer.add(item):
                    progress(min(reader.read, reader.total), reader.total)
            writer.finish()
            return Imported(
                source=source,
                folder=folder,
                records=writer.records,
                series=len(writer.series),
                damage=reader.damage,
            )
    # Another import ran between reading the progress and taking the lock.
    return import_run(source, base=base, project=project, name=name, apart=apart, progress=progress)


class _BatchWriter:
    """Append items to the journal in batches, each with the progress that it reaches."""

    def __init__(
        self, journal: Journal, folder: Path, progress: _Progress, names: FileSeriesNames, metadata: TagMetadata
    ) -> None:
        self.records = 0
        self.series: set[str] = set()
        self._journal = journal
        self._spool = Spool(folder / "files")
        self._names, self._metadata = names, metadata
        self._progress = progress
        self._before = msgspec.to_builtins(progress)
        self._batch: list[Record] = []
        self._bytes = 0

    def add(self, item: Item) -> bool:
        """Add an item and return True if a batch is full. The records of one item stay together."""
        full = len(self._batch) >= _BATCH_RECORDS or self._bytes >= _BATCH_BYTES
        if full and self._batch:
            self._commit()
        for record in item.records:
            if record.__class__ is not Scalar:
                self._bytes += record_bytes(record)
                record = self._spool.store(record)
            self._batch.append(record)
            if not isinstance(record, RunRecord):
                self.series.add(record.tag)
        self._progress.seen[item.path] = item.position
        if item.wall_time > self._progress.ended and _is_time(item.wall_time):
            self._progress.ended = item.wall_time
        return full

    def finish(self) -> None:
        self._add_table()
        if self._batch:
            self._commit()
        for key, value in self._names.facts.items():
            if key != "root":  # stored at the start
                self._journal.annotate(key, value)
        after = self._snapshot()
        self._journal.annotate(_FACT, {"last": self._journal.last, "before": {}, "after": after})
        self._journal.annotate("ended", self._progress.ended)
        self._journal.annotate("exit_code", 0)
        self._journal.annotate("status", "finished")

    def _add_table(self) -> None:
        trials = self._names.trials
        if len(trials.known) > self._progress.tabled:
            self._progress.tabled = len(trials.known)
            table = trials.table(self._names.trials_tag(), self._progress.ended)
            if table is not None:
                self._batch.append(self._spool.store(table))
                self.series.add(table.tag)

    def _commit(self) -> None:
        after, last = self._snapshot(), self._journal.last + len(self._batch)
        self._journal.annotate(_FACT, {"last": last, "before": self._before, "after": after})
        self._journal.append(self._batch)
        self.records += len(self._batch)
        self._before, self._batch, self._bytes = after, [], 0

    def _snapshot(self) -> Any:
        self._progress.roles, self._progress.claimed = self._names.roles, self._names.claimed
        self._progress.trials = self._names.trials.known
        self._progress.metadata = self._metadata.known
        return msgspec.to_builtins(self._progress)


def _to_first_record(items: Iterator[Item]) -> Iterator[Item]:
    for item in items:
        yield item
        if item.records:
            return


def _is_time(wall_time: float) -> bool:
    """Return whether a wall time is in the calendar. A program's own, or a damaged one, may be any number."""
    return abs(wall_time) < END_OF_TIME


def _sampler(source: Path, files: Mapping[str, list[str]]) -> Callable[[str], list[Any]]:
    return lambda folder: sample(source / folder, files[folder])


def _root(folder: Path, source: Path, files: Mapping[str, list[str]]) -> str:
    """Return the root of the names: that of the first import, or else that of a live run of the same program."""
    if (folder / FILE_NAME).exists():
        with JournalReader(folder) as reader:
            return str(reader.facts().get("root", source))
    return root_of(str(source)) if "." in files else str(source)


def _describe(journal: Journal, folder: Path, info: RunInfo, root: str) -> None:
    with JournalReader(folder) as reader, contextlib.suppress(JournalError):
        info = reader.info()  # keep the name of the first import
    journal.put_info(info)
    journal.annotate("root", root)
    journal.annotate("status", "running")


def _load_progress(folder: Path) -> _Progress:
    """Return the progress of the previous import, also if it was killed."""
    if not (folder / FILE_NAME).exists():
        return _Progress()
    with JournalReader(folder) as reader:
        fact, last = reader.facts().get(_FACT), reader.last()
    if fact is None:
        return _Progress()
    try:
        intent = msgspec.convert(fact, _Intent)
    except msgspec.ValidationError as error:
        raise JournalError(
            f"{folder}: the position of the last import is damaged ({error}). Remove the run with `tracelet rm`, and "
            "import it again"
        ) from error
    return intent.after if last >= intent.last else intent.before


def _run_id(source: Path, files: Mapping[str, list[str]], project: str | None) -> str:
    """Return an id that sorts by the run's start, like other ids.

    The first file's name contains time and host. So a folder that was emptied and reused, or the same path on another
    host, is a new run.
    """
    first, folder = min((plain_name(name), folder) for folder, names in files.items() for name in names)
    moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime(stamp(first)))
    identity = "\0".join((str(source), folder, first, project or ""))
    return f"{moment}-{hashlib.sha256(identity.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
