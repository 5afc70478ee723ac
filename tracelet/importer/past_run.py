"""Append the new records of a run in another tracker's store to the journal of its run here."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

import msgspec

from tracelet.errors import JournalError
from tracelet.importer.run import END_OF_TIME, Imported
from tracelet.journal.sizes import record_bytes
from tracelet.journal.spool import Spool
from tracelet.journal.store import FILE_NAME, Journal, JournalReader
from tracelet.records import Artifact, File, Record, RunInfo, RunRecord, Tags, kind
from tracelet.runs.folders import run_folder

_BATCH_RECORDS, _BATCH_BYTES = 4096, 8 * 2**20
_MAX_DAMAGE = 100
_FORMATS = {"jpg": "jpeg"}
_encode = msgspec.msgpack.Encoder().encode

Status: TypeAlias = Literal["finished", "failed", "killed"]


@dataclass
class PastRun:
    """One run as a reader of a store returns it.

    `records(started)` yields its records, and may be called once. A record without a time of its own gets `started`.
    Files of an `Artifact` have a `path` and no digest, and need to exist only until the next record.
    `status`, `exit_code`, `ended` and `damage` are read after the last record.
    """

    store: str
    id: str
    """Identifies the run in all stores of this kind."""
    source: str
    """The place of the run, for messages; without credentials."""
    records: Callable[[float], Iterator[Record]] = lambda started: iter(())
    project: str | None = None
    name: str | None = None
    started: float = 0.0
    tags: tuple[str, ...] = ()
    notes: str | None = None
    group: str | None = None
    program: str | None = None
    status: Status = "killed"
    """As long as the store has no end of the run, it counts as killed, as by `tracelet sync`."""
    exit_code: int | None = None
    ended: float | None = None
    """None: at the time of its last record."""
    latest: float = 0.0
    """The time of the last record that was read."""
    damage: dict[str, None] = field(default_factory=dict)
    """The reasons why parts of the run are not imported, in order."""

    def damaged(self, reason: str) -> None:
        """Add a reason to `damage`, once."""
        self.damage[reason] = None

    def file_below(self, folder: Path, path: str) -> Path | None:
        """Return a file below `folder`; None, with the reason in `damage`, if it is missing, outside, or behind a link.

        A store can come from anywhere, and must not name other files of this machine.
        """
        parts = PurePosixPath(path).parts
        found = folder.joinpath(*parts)
        if not parts or ".." in parts or PurePosixPath(path).is_absolute():
            self.damaged(f"{path}: outside of the run's folder")
        elif any(os.path.islink(folder.joinpath(*parts[: end + 1])) for end in range(len(parts))):
            self.damaged(f"{path}: skipped, because it is a link; replace it by its file to import it")
        elif not os.path.isfile(found):
            self.damaged(f"{path}: the file is missing")
        else:
            return found
        return None


def import_past_run(past: PastRun, *, base: Path, project: str | None = None) -> Imported:
    """Append the new records of `past` to its run, which has `project`, or else the project of the store.

    The run's id derives from that in the store. The journal itself shows which records are new, so neither a second
    import nor one after a kill repeats a record.

    Raises:
        RunInUse: another process is importing the same run.
        JournalError: the run's folder cannot be written.
    """
    project = project or past.project
    if not 0 <= past.started < END_OF_TIME:  # a damaged one
        past.started = 0.0
    folder = _folder(base.absolute(), project, past)
    earlier = _info(folder)
    started = earlier.created if earlier is not None else past.started
    records = itertools.chain(_new_tags(past, earlier), past.records(started))
    first = next(records, None)
    added, series = 0, set[str]()
    if first is not None:
        with contextlib.closing(Journal(folder)) as journal:
            known = _known(folder)
            journal.put_info(earlier or _described(past, folder, project))
            journal.annotate("status", "running")
            for batch in _batches(_new(itertools.chain((first,), records), known, Spool(folder / "files"), past)):
                journal.append(batch)
                added += len(batch)
                series |= {record.tag for record in batch if not isinstance(record, RunRecord)}
            journal.annotate("ended", past.ended or past.latest or started)
            journal.annotate("exit_code", past.exit_code)
            journal.annotate("status", past.status)
    return Imported(source=past.source, folder=folder, records=added, series=len(series), damage=_damage(past))


def _folder(base: Path, project: str | None, past: PastRun) -> Path:
    """Return the folder of an earlier import; else one whose name sorts by the run's start, like other ids."""
    digest = hashlib.sha256("\0".join((past.store, past.id)).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime(past.started))
    folder = run_folder(base, project, f"{moment}-{digest}")
    earlier = sorted(path for path in folder.parent.glob(f"*-{digest}") if (path / FILE_NAME).exists())
    return earlier[0] if earlier else folder


def _info(folder: Path) -> RunInfo | None:
    """Return the description of an earlier import; None if there is none."""
    if not (folder / FILE_NAME).exists():
        return None
    with JournalReader(folder) as reader, contextlib.suppress(JournalError):  # killed at the start
        return reader.info()
    return None


def _described(past: PastRun, folder: Path, project: str | None) -> RunInfo:
    return RunInfo(
        run_id=folder.name,
        project=project,
        name=past.name or past.id,
        folder=str(folder),
        tags=past.tags,
        notes=past.notes or None,
        group=past.group or None,
        created=past.started,
        program=past.program or None,
    )


def file_format(name: object) -> str:
    """Return the format of a media file as the end of a file name may have it, and in the words of records."""
    plain = "".join(letter for letter in str(name).lower() if letter.isascii() and letter.isalnum())[:16]
    return _FORMATS.get(plain, plain)


def _new_tags(past: PastRun, earlier: RunInfo | None) -> Iterator[Record]:
    """Yield the tags that the run got since the first import, which are not in its description."""
    if earlier is not None and (new := tuple(tag for tag in past.tags if tag not in earlier.tags)):
        yield Tags(new, earlier.created)


def _known(folder: Path) -> Counter[int]:
    """Count the records of earlier imports, by a hash of their content.

    Records that are read again use up their counts, so that a new one meets those of removed records at most.
    """
    with JournalReader(folder) as reader:
        return Counter(hash(_encode(record)) for record in reader.records())


def _new(records: Iterable[Record], known: Counter[int], spool: Spool, past: PastRun) -> Iterator[Record]:
    for record in records:
        if past.latest < record.wall_time < END_OF_TIME:
            past.latest = record.wall_time
        stored = _stored(record, spool, past)
        if stored is None:
            continue
        try:
            content = hash(_encode(stored))
        except (ValueError, TypeError, OverflowError) as error:  # a text that is not Unicode, an integer over 64 bits
            past.damaged(f"a {kind(record)} cannot be stored: {error}")
            continue
        if known[content]:
            known[content] -= 1
        else:
            del known[content]
            yield stored


def _stored(record: Record, spool: Spool, past: PastRun) -> Record | None:
    """Return the record with its files in the spool; None for an artifact without any readable file."""
    if not isinstance(record, Artifact):
        return spool.store(record)
    files = []
    for file in record.files:
        try:
            files.append(spool.snapshot(Path(file.path), file.name))
        except JournalError:
            raise
        except OSError as error:
            past.damaged(f"{_shown(record, file)} cannot be read: {error.strerror}")
    return msgspec.structs.replace(record, files=tuple(files)) if files or not record.files else None


def _shown(record: Artifact, file: File) -> str:
    return f"artifact {record.name}" if len(record.files) == 1 else f"artifact {record.name}: {file.name}"


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch, size = list[Record](), 0
    for record in records:
        batch.append(record)
        size += record_bytes(record)
        if len(batch) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _damage(past: PastRun) -> tuple[str, ...]:
    rest = len(past.damage) - _MAX_DAMAGE
    return (*itertools.islice(past.damage, _MAX_DAMAGE), *([f"{rest} more"] if rest > 0 else []))
