"""Read the parameters, the summary and the series of a run, and store them beside the journal for the next time.

A journal only grows, so the stored digest stays true up to its position, and a later reading begins there.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec

from tracelet.backends.notes import write_note
from tracelet.errors import JournalError
from tracelet.guard import logger
from tracelet.journal.store import JournalReader
from tracelet.records import Params, Scalar, Summary, Tags, is_system_metric
from tracelet.runs.folders import journals
from tracelet.runs.summary import check_journal

FILE_NAME = "digest.msgpack"
_VERSION = 1


class Digest(msgspec.Struct, kw_only=True):
    """The content of a journal that lists of runs show, up to the record number `position`."""

    version: int = _VERSION
    created: float = 0.0
    position: int = 0
    params: dict[str, Any] = {}
    final: dict[str, Any] = {}
    """The summary metrics that the program set."""
    last: dict[str, float] = {}
    """The last value of each series."""
    tags: dict[str, None] = {}
    """Those added after the start, in their order."""

    @property
    def summary(self) -> dict[str, Any]:
        """The last value of each series but system metrics, and the summary metrics in place of those of that name."""
        return {tag: value for tag, value in self.last.items() if not is_system_metric(tag)} | self.final

    def extend(self, reader: JournalReader) -> None:
        """Read on from `position`."""
        while batch := reader.next_batch(self.position):
            self.last.update([(record.tag, record.value) for record in batch.records if record.__class__ is Scalar])
            for record in [record for record in batch.records if record.__class__ is not Scalar]:
                match record:
                    case Params(values=values):
                        self.params.update(values)
                    case Summary(values=values):
                        self.final.update(values)
                    case Tags(tags=tags):
                        self.tags.update(dict.fromkeys(tags))
                    case _:
                        pass
            self.position = batch.last


def read(folder: Path, created: float, records: int) -> Digest:
    """Return the digest of the run in `folder`, that of its other ranks included.

    `created` and `records` are those of its journal: a stored digest of as many records is read alone.

    Raises:
        JournalError: its own journal cannot be read; those of other ranks are left out, with a warning.
    """
    digest = Digest()
    for part in journals(folder):
        own = _stored(part)
        if part != folder or own.created != created or own.position != records:
            try:
                own = _extended(part, own)
            except JournalError as error:
                if part == folder:
                    raise
                logger.warning("tracelet: skipped an unreadable journal of the run: %s", error)
        for field in ("params", "final", "last", "tags"):
            getattr(digest, field).update(getattr(own, field))
    return digest


def _extended(folder: Path, digest: Digest) -> Digest:
    check_journal(folder)
    with JournalReader(folder) as reader:
        created = reader.info().created
        if digest.created != created or digest.position > reader.last():  # of another run of this id
            digest = Digest(created=created)
        position = digest.position
        digest.extend(reader)
    if digest.position > position:
        with contextlib.suppress(OSError):  # a folder that is only readable is read each time
            write_note(folder / FILE_NAME, msgspec.msgpack.encode(digest))
    return digest


def _stored(folder: Path) -> Digest:
    try:
        digest = msgspec.msgpack.decode((folder / FILE_NAME).read_bytes(), type=Digest)
    except (OSError, ValueError, RecursionError):
        return Digest()
    return digest if digest.version == _VERSION else Digest()
