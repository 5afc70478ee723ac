"""The contract of a backend: one vendor, without threads, retries, journal or knowledge of other backends."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, overload

import msgspec

from tracelet.backends.config import BackendConfig, NoConfig
from tracelet.backends.filters import Filter
from tracelet.errors import BackendError
from tracelet.records import KINDS, Definition, Record, RunInfo

__all__ = ["Backend", "BackendConfig", "Batch", "NoConfig", "Status", "Written", "write_each"]

Status: TypeAlias = Literal["finished", "failed", "killed"]


class Batch(Sequence[Record]):
    """Records in program order, with their sequence numbers in the journal: ascending, from 1, with gaps."""

    def __init__(self, records: Sequence[Record], numbers: Sequence[int]) -> None:
        self._records = records
        self.numbers = numbers

    @classmethod
    def up_to(cls, records: Sequence[Record], last: int) -> Batch:
        """Return a batch without gaps, whose last record has the number `last`."""
        return cls(records, range(last - len(records) + 1, last + 1))

    @property
    def last(self) -> int:
        """The sequence number of the last record."""
        return self.numbers[-1]

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        return self._records[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)


class Written(msgspec.Struct, frozen=True):
    """What became of a batch that was not written whole: the first `count` records were; the next met `error`."""

    count: int
    error: BackendError


class Backend:
    """Base class of every backend. A subclass must define `name`, `open` and `write`.

    The backend's delivery thread calls all methods. Files arrive as `records.File` with `path` set. They must not be
    changed, and they exist as long as the run's folder does. What only some vendors need is in `capabilities`.

    A method may raise only `BackendUnavailable` and `RecordRejected`; see `tracelet.errors`.
    """

    name: ClassVar[str]
    accepts: ClassVar[Collection[type[Record]]] = tuple(kind for kind in KINDS if kind is not Definition)
    """Kinds of record that the vendor can store; others are counted as filtered. A mapping also has the location of
    each kind at the vendor, in a few words, for `tracelet doctor`. The default is every kind of value."""
    Config: ClassVar[type[Any]] = NoConfig
    """The keys of `config` for this backend, with their types: a `BackendConfig`."""

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config

    def open(self, run: RunInfo) -> int | None:
        """Connect to the vendor's run for `run.run_id`; create it if it does not exist.

        Return the last sequence number that need not be written again, as the vendor's own run tells it: 0 for a new
        run. If None, the journal's cursor is used. Called again after `BackendUnavailable` from `open`, or with
        `reopen` from `write`, `flush` or `close`.
        """
        raise NotImplementedError(f"{type(self).__name__}.open")

    def write(self, batch: Batch) -> Written | None:
        """Write the records, in order. Return None if all are written; see `write_each`.

        `RecordRejected`, if it is raised, means one of the records: the batch is then split to find it.
        """
        raise NotImplementedError(f"{type(self).__name__}.write")

    def durable(self) -> int | None:
        """Return the last sequence number that a kill of this process cannot take back; None for all written ones."""
        return None

    def flush(self) -> None:
        """Make all written records durable at the vendor, as far as it supports that."""

    def close(self, status: Status, exit_code: int) -> None:
        """End the vendor's run if this backend created it. Afterwards all written records are durable."""

    @property
    def url(self) -> str | None:
        """The address of the run for a browser, or its folder."""
        return None

    # Set by tracelet.

    filter: Filter = Filter()
    """The filter of its delivery, from the keys of `config` that every backend has."""
    last_known: int | None = None
    """The last sequence number that was handed over before `open`. The store may have higher ones, of records that a
    full disk has lost: their numbers are used again."""
    run_ended: float | None = None
    """The end of the run, in seconds since the epoch, long before `close` if the run is delivered later."""


def write_each(batch: Batch, write: Callable[[Record], object]) -> Written | None:
    """Call `write` for each record; for a backend that stores one at a time. Return the result of `Backend.write`."""
    for index, record in enumerate(batch):
        try:
            write(record)
        except BackendError as error:
            return Written(index, error)
    return None
